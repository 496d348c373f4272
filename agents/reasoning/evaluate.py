"""Measure a reasoning model as MAYE lays it out, and whether its answers come from seeing.

sightline evaluate-reasoner model=FOLDER data=FOLDER                  questions of the test split
sightline evaluate-reasoner model=FOLDER data=FOLDER 'also=[val]'     other splits or .jsonl files beside it
sightline evaluate-reasoner model=FOLDER data=FOLDER before=FOLDER    against the model before training
sightline evaluate-reasoner ... 'compare=[runs/grpo-*,runs/dapo-*]'   learning curves of training runs, by arm

Each set of questions is asked in five ways: k answers at temperature 1 (pass@k), one at 0.6, one at 0.01; and at 0.01
with grey pictures and with those of other questions. Leaves result.json, page.html and answers.parquet (a row per
answer). Where model= lies in the folder of its training run, its curves are drawn without being asked for. What was
answered is kept in the run folder: a killed run asks the rest with resume=auto, and ends with the same result.
"""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from agents.reasoning.answer_figures import (
    ALL,
    BEFORE,
    SEEN,
    TOLD,
    Judged,
    gains,
    manner,
    per_question,
    reflections,
    subsets,
    table,
)
from agents.reasoning.answers import STYLES, extract, stated
from agents.reasoning.asking import ask
from agents.reasoning.curve_panels import curves_of
from agents.reasoning.curves import arms_of, read_runs
from agents.reasoning.kept_answers import KeptAnswers
from agents.reasoning.question_sets import open_beside, set_file, set_name
from agents.reasoning.reasoner_page import Said, Shown, percent, reasoner_page, row_names
from agents.reasoning.rewards import RewardConfig, check_samples, reward_of
from agents.reasoning.shown_answers import Focus, choose, focus_of
from agents.reasoning.task_files import SampleSet, open_samples
from agents.reasoning.types import Sample
from agents.reasoning.vlm import VLM
from agents.reasoning.ways import WAYS, Answered
from core.errors import InputError, check_choice
from core.files import atomic_file, atomic_write, fingerprint, folder_fingerprint
from core.job import JobConfig, job_main
from core.progress import track
from core.run import CONFIG as RUN_CONFIG
from core.run import RunFolder, read_config

PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass
class EvaluateReasonerConfig(JobConfig):
    """Measure a reasoning model: sightline evaluate-reasoner model=FOLDER data=FOLDER"""

    CUDA = True

    model: str = ""  # model folder of train-reasoner, or a folder or hub id of an image-text model
    data: str = ""  # folder of build-questions or of NLVR1, or a JSONL file of your own questions
    split: str = "test"  # of data=, measured first
    also: list[str] = field(default_factory=list)  # further splits of data=, or .jsonl files
    before: str = ""  # model before training: its accuracy and its answers stand beside
    compare: list[str] = field(default_factory=list)  # run folders of train-reasoner, or patterns: learning curves
    k: int = 8  # answers to each question at temperature 1
    questions: int = 0  # so many of each set, drawn once for all models; 0 = all
    max_new_tokens: int = 64  # of an answer
    style: str = "tags"  # where an answer is read: tags, boxed or whole
    batch_size: int = 64  # answers generated at once
    shown: int = 12  # questions on the page
    precision: str = "float32"  # of the weights: float32 or bfloat16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("style", self.style, STYLES)
        check_choice("precision", self.precision, PRECISIONS)
        for name in ("k", "max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("questions", "shown"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")


CONFIG = EvaluateReasonerConfig

KEPT: Final = "answers"
"""Where a run keeps what was answered until it is finished."""


def run(cfg: EvaluateReasonerConfig) -> dict[str, Any]:
    """Asks, judges, and writes table, answers and page."""
    for name in ("model", "data"):
        if not getattr(cfg, name):
            raise InputError(f"{name} is required: evaluate-reasoner model=FOLDER data=FOLDER")
    sets = open_sets(cfg)
    panels, beside, curves = curves_of(arms_of(read_runs(cfg.compare or own_run(cfg.model))))
    dtype = PRECISIONS[cfg.precision]
    vlm = VLM.from_pretrained(cfg.model, device=cfg.device, dtype=dtype)
    earlier = VLM.from_pretrained(cfg.before, device=cfg.device, dtype=dtype) if cfg.before else None
    folder = RunFolder.open(cfg, "evaluate-reasoner")
    finished = folder.result()
    if finished is not None:
        shutil.rmtree(folder.path / KEPT, ignore_errors=True)  # of a run that was killed right after its result
        folder.close()
        return finished
    began = time.perf_counter()
    with folder:
        kept = KeptAnswers(folder.path / KEPT, content_of(cfg, sets))
        judged = {
            name: judge_set(cfg, vlm, earlier, name, found, kept, number)
            for number, (name, found) in enumerate(sets.items())
        }
        write_answers(folder.file("answers.parquet"), sets, judged)
        result: dict[str, Any] = {
            "model": cfg.model, "before": cfg.before, "k": cfg.k, "max_new_tokens": cfg.max_new_tokens,
            "seed": cfg.seed, "style": cfg.style,
            "sets": {name: figures(cfg, name, sets[name].samples, judged[name]) for name in sets},
            "curves": curves,
        }  # fmt: skip
        first = next(iter(sets))
        show_table(result)
        drawn = judged[first]["sampled"]
        page = reasoner_page(
            cfg.model,
            result,
            (drawn.answered.length.ravel(), drawn.correct.ravel()),
            panels,
            show(cfg, vlm, sets[first], judged[first]),
            beside,
        )
        atomic_write(folder.file("page.html"), page)
        seconds = kept.seconds + time.perf_counter() - began
        result = folder.finish({**result, "seconds": round(seconds, 2)})
        kept.remove()
        return result


def open_sets(cfg: EvaluateReasonerConfig) -> dict[str, SampleSet]:
    """The sets of questions by name: the split of `data`, then what is given beside it.

    Raises:
        InputError: a set that is not there, two of one name, or an answer that its own check does not take.
    """
    first = Path(cfg.data).stem if cfg.data.endswith(".jsonl") else cfg.split
    sets = {first: open_samples(cfg.data, cfg.split)}
    check_samples(sets[first].samples)
    sets |= open_beside(cfg.data, cfg.also, "also", {set_file(cfg.data, cfg.split): "measured already"}, (first,))
    return {name: found.drawn(cfg.questions) if cfg.questions else found for name, found in sets.items()}


def content_of(cfg: EvaluateReasonerConfig, sets: Mapping[str, SampleSet]) -> dict[str, str]:
    """Fingerprints of what the configuration only names: models in folders, questions (not the pixels they are of)."""
    found = {f"questions of {name}": fingerprint(questions.samples) for name, questions in sets.items()}
    for name in ("model", "before"):
        place = Path(getattr(cfg, name)).expanduser()
        if getattr(cfg, name) and place.is_dir():
            found[f"{name}={getattr(cfg, name)}"] = folder_fingerprint(place)
    return found


def own_run(model: str) -> list[str]:
    """The training run that a model folder lies in, if it lies in one."""
    parent = Path(model).expanduser().parent
    if (parent / RUN_CONFIG).is_file() and read_config(parent).get("job") == "train-reasoner":
        return [str(parent)]
    return []


def judge_set(
    cfg: EvaluateReasonerConfig,
    vlm: VLM,
    earlier: VLM | None,
    name: str,
    questions: SampleSet,
    kept: KeptAnswers,
    number: int,
) -> dict[str, Judged]:
    """A set asked in every way, and judged; `BEFORE`: by the model before training, at T = 0.01.

    Args:
        kept: answers of this run so far; what is there is not asked again, what is not joins it.
        number: of the set.
    """
    asked = [(way, vlm, WAYS[way]) for way in WAYS]
    if earlier is not None:
        asked.append((BEFORE, earlier, WAYS["cold"]))
    found = {}
    with track(len(questions) * len(asked), f"questions of {name}") as progress:
        for way, model, how in asked:
            answered, began = kept.take(number, way), time.perf_counter()
            if answered is not None:
                progress.advance(len(questions))
            else:
                answered = ask(
                    model,
                    questions,
                    how,
                    k=cfg.k,
                    max_new_tokens=cfg.max_new_tokens,
                    batch_size=cfg.batch_size,
                    seed=cfg.seed,
                    advance=progress.advance,
                )
                kept.keep(number, way, answered, time.perf_counter() - began)
            found[way] = judge(questions.samples, answered, cfg.style)
    return found


def judge(samples: Sequence[Sample], answered: Answered, style: str) -> Judged:
    """Answers with what the checks of their questions say."""
    draws = answered.ended.shape[1]
    rows = [sample for sample in samples for _ in range(draws)]
    texts = [text for row in answered.texts for text in row]
    _, parts = reward_of(
        rows,
        texts,
        torch.from_numpy(answered.ended.ravel()),
        torch.from_numpy(answered.length.ravel()),
        RewardConfig(style=style),
    )
    score, right = (parts[name].double().numpy().reshape(-1, draws) for name in ("accuracy", "right"))
    said = tuple(tuple(extract(text, style).text for text in row) for row in answered.texts)
    return Judged(answered, said, score, right > 0)


def figures(
    cfg: EvaluateReasonerConfig, name: str, samples: Sequence[Sample], judged: dict[str, Judged]
) -> dict[str, Any]:
    """All figures of one set."""
    rows = per_question(samples, judged, cfg.k, oracle(samples, cfg.style))
    return {
        "data": next((item for item in cfg.also if item.endswith(".jsonl") and set_name(item) == name), cfg.data),
        "questions": len(samples),
        "groups": len({sample.group for sample in samples}),
        "need_pictures": sum(sample.needs_picture for sample in samples),
        "kinds": [part for part in subsets(samples) if part not in (ALL, SEEN, TOLD)],
        "accuracy": table(samples, rows),
        "gains": gains(samples, rows),
        "manner": manner(samples, judged),
        "reflection": reflections(judged["sampled"]),
    }


def oracle(samples: Sequence[Sample], style: str) -> np.ndarray:
    """What the checks give the exact answers, put where an answer is read."""
    texts = tuple((stated(sample.answer, style),) for sample in samples)
    none = tuple(((),) for _ in samples)
    ended = np.ones((len(samples), 1), dtype=bool)
    return judge(samples, Answered(texts, none, ended), style).correct[:, 0].astype(float)


def show(cfg: EvaluateReasonerConfig, vlm: VLM, questions: SampleSet, judged: dict[str, Judged]) -> list[Shown]:
    """The questions on the page with their pictures and answers."""
    after = judged["cold"]
    before = judged.get(BEFORE)
    chosen = choose(
        questions.samples,
        (before or after).correct[:, 0],
        after.correct[:, 0],
        min(cfg.shown, len(questions)),
        cfg.seed,
    )
    focus = focus_of(vlm, questions, after.answered, chosen)
    return [
        Shown(
            questions.samples[index],
            questions.pictures_of(index),
            said_of(after, index, focus.get(index, [])),
            said_of(before, index) if before else None,
        )
        for index in chosen
    ]


def said_of(judged: Judged, index: int, focus: Focus | None = None) -> Said:
    """The first answer to a question."""
    answered = judged.answered
    return Said(answered.texts[index][0], bool(judged.correct[index, 0]), bool(answered.ended[index, 0]), focus or [])


def write_answers(path: Path, sets: dict[str, SampleSet], judged: dict[str, dict[str, Judged]]) -> None:
    """One row per answer: which question, how it was asked, what was said, and what that is worth."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns: dict[str, list[Any]] = {
        name: []
        for name in ("set", "way", "question", "kind", "group", "needs_picture", "draw", "answer", "text", "said",
                     "score", "correct", "tokens", "ended")
    }  # fmt: skip
    for name, ways in judged.items():
        for way, found in ways.items():
            length = found.answered.length
            for index, sample in enumerate(sets[name].samples):
                for draw in range(found.correct.shape[1]):
                    row = (
                        name, way, sample.id, sample.kind, sample.group, sample.needs_picture, draw, sample.answer,
                        found.answered.texts[index][draw], found.said[index][draw], float(found.score[index, draw]),
                        bool(found.correct[index, draw]), int(length[index, draw]),
                        bool(found.answered.ended[index, draw]),
                    )  # fmt: skip
                    for column, value in zip(columns.values(), row):
                        column.append(value)
    with atomic_file(path) as file:
        parquet.write_table(pa.table(columns), file)


def show_table(result: dict[str, Any]) -> None:
    """Print accuracy with its intervals."""
    from rich.console import Console
    from rich.table import Table

    for name, figures in result["sets"].items():
        accuracy = figures["accuracy"]
        parts = [part for part in (ALL, SEEN, TOLD) if part in accuracy["cold"]]
        printed = Table(title=f"{name}: {figures['questions']} questions", title_justify="left")
        for column in ("asked", *parts):
            printed.add_column(column, justify="left" if column == "asked" else "right")
        for row, said in row_names(result["k"]).items():
            if row in accuracy:
                printed.add_row(said, *(percent(accuracy[row][part]) for part in parts))
        Console().print(printed)


if __name__ == "__main__":
    job_main("evaluate-reasoner")

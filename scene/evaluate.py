"""Measures a grounder by a published protocol or on a split of built scenes:

    sightline evaluate-grounding scenes=SCENES model=MODEL
    sightline evaluate-grounding scenes=SCANNET protocol=scanrefer annotations=ScanRefer_filtered_val.json model=MODEL
    sightline evaluate-grounding scenes=SCANNET protocol=nr3d annotations=nr3d.csv predictions=theirs.jsonl

Out come the protocol's table on the terminal, result.json with every number, and report.html: our row with 95 %
bootstrap intervals over scenes (sentences of one scene are not independent), baselines that understand less or nothing,
published rows with their sources, whether the test was zero-shot, how often the conformal sets hold what is meant, and
wrong answers as pictures. predictions.jsonl holds what the model said, in the form that predictions= reads: anybody's
model is measured without running it. docs/evaluation.md says what each protocol counts.
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from omegaconf import MISSING

from core.errors import InputError, check_choice, nearest
from core.files import atomic_file, atomic_write
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from scene.answering import Alternatives, Said, ask, ask_baselines, ask_questions, turns
from scene.conformal import Coverage, measure
from scene.evaluation_page import evaluation_page
from scene.evaluation_table import (
    BASELINE,
    OURS,
    OVERALL,
    Evaluation,
    Row,
    counts_of,
    published_rows,
    show,
    table_json,
)
from scene.failures import Failure, failures_html, worst
from scene.grounder import Grounder
from scene.model_folder import model_folder
from scene.proposed import PROPOSALS, StoreObjects, proposed
from scene.protocols.annotations import Loaded
from scene.protocols.predictions import boxes_of, complete, read_predictions, write_predictions
from scene.protocols.records import Example, Prediction
from scene.protocols.registry import PROTOCOLS, Protocol, rows
from scene.provenance import source_of, unseen_of_folder
from scene.store import SceneStore
from scene.types import Scene

BLIND = "no sentence"  # the same model reading an empty sentence
SHORT_NAMES = {
    "chance": "chance",
    "label": "label (oracle)",
    "label_color": "label + colour (oracle)",
    "no_text": BLIND,
}
"""Keys of result.json, and the rows they are taken from."""


@dataclass
class EvaluateGroundingConfig(JobConfig):
    """A grounder measured by a protocol, beside baselines and published rows."""

    CUDA = True

    scenes: str = MISSING  # folder made by build-scenes, of the scenes that the annotations speak of
    model: str = ""  # folder of a grounder, or of the run that trained it
    predictions: str = ""  # in place of a model: what anybody's model said, .jsonl, .json or .parquet
    protocol: str = "corpus"  # corpus, scanrefer, nr3d, sr3d, multi3drefer, scanqa, sqa3d or sceneverse-val
    annotations: str = ""  # the protocol's official file; none for corpus
    split: str = "test"  # of corpus: train, val or test
    options: dict[str, Any] = field(default_factory=dict)  # of the protocol's reader, e.g. options.unknown_scenes=skip
    missing: str = "error"  # sentences without a prediction in predictions: an error, or counted as wrong
    proposals: str = "ground-truth"  # what a model chooses from: ground-truth objects, predicted masks, or geometric
    masks: str = ""  # of proposals=masks: folder of <scene id>.mask.npz
    vl: str = ""  # two towers of pretrain-vl, or a CLIP or SigLIP folder: adds them on pictures of the objects
    baselines: bool = True  # measure them, too
    resamples: int = 1000  # bootstrap draws over scenes
    failures: int = 12  # wrong answers to draw

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("protocol", self.protocol, PROTOCOLS)
        check_choice("proposals", self.proposals, PROPOSALS)
        check_choice("missing", self.missing, ("error", "wrong"))
        own = self.protocol == "corpus"
        for wrong, said in (
            (self.resamples < 1, f"resamples={self.resamples}: expected at least 1"),
            (self.failures < 0, f"failures={self.failures}: expected 0 or more"),
            (bool(self.model and self.predictions), "model and predictions are both given; measure one of them"),
            (own and bool(self.annotations), "annotations are not read with protocol=corpus; name their protocol"),
            (not own and not self.annotations, f"protocol={self.protocol} needs annotations=FILE, its official file"),
            (not own and self.split != "test", f"split={self.split} is of protocol=corpus; the file is the split"),
            (
                bool(self.masks) != (self.proposals == "masks"),
                "masks=FOLDER goes with proposals=masks, and it with masks",
            ),
        ):
            if wrong:
                raise InputError(said)


CONFIG = EvaluateGroundingConfig


def run(cfg: EvaluateGroundingConfig) -> dict[str, Any]:
    """Measures, prints the table, writes the files named above and returns what is in result.json."""
    folder = RunFolder.open(cfg, "evaluate-grounding")
    if (finished := folder.result()) is not None:
        folder.close()
        return finished
    if not cfg.model and not cfg.predictions:
        raise InputError("give model=FOLDER, written by pretrain-grounding, or predictions=FILE of any model")
    started = time.monotonic()
    protocol = PROTOCOLS[cfg.protocol]
    store = SceneStore(cfg.scenes, cache=2)
    true = StoreObjects(SceneStore(cfg.scenes, cache=2, points=False))
    examples = read_examples(cfg, protocol, true)
    place = model_folder(cfg.model) if cfg.model else None
    verdict = unseen_of_folder(place, source_of(store), [(e.scene_id, e.text) for e in examples])

    def scene_of(scene_id: str) -> Scene:
        return proposed(store.load(scene_id), cfg.proposals, Path(cfg.masks) if cfg.masks else None, cfg.seed)

    grounder = None
    if place is not None:
        grounder = Grounder.from_pretrained(place)
        grounder.model.to(cfg.device)
    heard = listen(cfg, protocol, examples, grounder, scene_of)
    if cfg.predictions:
        heard.own = complete(examples, read_predictions(cfg.predictions), cfg.missing)
    write_predictions(folder.file("predictions.jsonl"), heard.own.values())

    evaluation = Evaluation(
        examples,
        tuple(rows(protocol, examples)),
        lambda asked, said: protocol.measure(asked, said, heard.objects if cfg.proposals != "ground-truth" else true),
        cfg.seed,
        cfg.resamples,
    )
    name = Path(cfg.predictions).name if cfg.predictions else "ours"
    table = [evaluation.row(name, OURS, {k: [p] for k, p in heard.own.items()})]
    for baseline, said in heard.others.items():
        table.append(evaluation.row(baseline, BASELINE, said, intervals=False))
    table += published_rows(cfg.protocol)

    coverage = None
    if grounder is not None and grounder.conformal is not None and heard.meant:
        coverage = coverage_of(grounder, examples, heard, cfg)
    counts = counts_of(evaluation)
    result: dict[str, Any] = {
        "protocol": cfg.protocol,
        "title": protocol.title,
        "split": cfg.split if cfg.protocol == "corpus" else "",
        "source": source_of(store),
        "proposals": cfg.proposals,
        "model": str(place or ""),
        "files": {key: sha256(path) for key in ("annotations", "predictions") if (path := getattr(cfg, key))},
        "examples": len(examples),
        "scenes": counts_of_scenes(examples),
        "left_out": examples.report() if isinstance(examples, Loaded) else "",
        "counts": counts,
        "table": table_json(table),
        "zero_shot": verdict.to_json(),
        "conformal": None if coverage is None else asdict(coverage),
        **short_numbers(table, counts, examples),
        "seconds": round(time.monotonic() - started, 1),
    }
    title = f"{protocol.title}, {result['source']} {result['split']}".rstrip()
    show(table, f"{title}: {len(examples):,} sentences in {result['scenes']:,} scenes")
    print(verdict)
    if coverage is not None:
        print(said_of(coverage))
    save_choices(folder.file("predictions.parquet"), examples, heard.own)
    pictures = failure_blocks(cfg, protocol, examples, heard.own, store)
    page = evaluation_page(title, result, table, verdict, coverage, pictures)
    atomic_write(folder.file("report.html"), page)
    print(f"report: {folder.path / 'report.html'}")
    return folder.finish(result)


def read_examples(cfg: EvaluateGroundingConfig, protocol: Protocol, true: StoreObjects) -> list[Example]:
    """The protocol's examples, and a line on what of its file is left out.

    Raises:
        MissingFileError, InputError: no such file, a damaged one, another protocol's, an unknown option, or a sentence
            about a scene or an object that is not there (see the protocol's `load`).
    """
    own = cfg.protocol == "corpus"
    options = {"split": cfg.split, **cfg.options} if own else dict(cfg.options)
    unknown = [key for key in options if key not in protocol.options]
    if unknown:
        raise InputError(f"options.{unknown[0]}: not read by {cfg.protocol}; {nearest(unknown[0], protocol.options)}")
    try:
        examples = protocol.load(cfg.scenes if own else cfg.annotations, true, **options)
    except InputError as error:
        said = re.sub(rf"(?<![.\w])({'|'.join(protocol.options)})=", r"options.\1=", str(error))
        raise type(error)(said) from error
    if isinstance(examples, Loaded) and examples.left_out:
        print(examples.report())
    return examples


@dataclass
class Heard:
    """What everybody said."""

    own: dict[str, Prediction] = field(default_factory=dict)  # by example id, in the order of the examples
    others: dict[str, dict[str, Alternatives]] = field(default_factory=dict)  # by name of the baseline
    meant: dict[str, np.ndarray] = field(default_factory=dict)  # of the calibrated grounder: probabilities
    ids: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of `meant`: which objects they are of
    objects: dict[str, Sequence[Any]] = field(default_factory=dict)  # of proposals: what there is to choose from


def listen(
    cfg: EvaluateGroundingConfig, protocol: Protocol, examples: Sequence[Example], grounder: Grounder | None, load: Any
) -> Heard:
    """Asks the grounder and the baselines, scene by scene."""
    heard = Heard()
    choose = protocol.kind != "answers"
    given = cfg.proposals == "ground-truth"
    crops = None
    if cfg.vl and choose:
        from scene.crops import CropScorer
        from vl.embedder import load_embedder

        crops = CropScorer(load_embedder(cfg.vl, cfg.device))
    if grounder is None and given and not (choose and (cfg.baselines or crops)):
        return heard
    rng = np.random.default_rng(cfg.seed)
    own: dict[str, Prediction] = {}
    blind: dict[str, Prediction] = {}
    with track(len(examples), "sentences") as progress:
        for turn in turns(examples, load, true=given):
            if not given:
                heard.objects[turn.scene.id] = turn.scene.objects
            if choose and cfg.baselines:
                for name, said in ask_baselines(turn, protocol.asks_for_set, rng, crops).items():
                    rows_of = heard.others.setdefault(name, {})
                    rows_of.update(
                        {e.id: _boxed(options, turn.scene, given) for e, options in zip(turn.examples, said)}
                    )
            if grounder is not None:
                said_now: Said = (
                    ask(grounder, turn, protocol.asks_for_set, cfg.seed)
                    if choose
                    else ask_questions(grounder, turn, cfg.seed)
                )
                own |= {p.id: _boxed([p], turn.scene, given)[0] for p in said_now.own}
                blind |= {p.id: _boxed([p], turn.scene, given)[0] for p in said_now.blind}
                if given and said_now.meant:
                    heard.meant |= {e.id: row for e, row in zip(turn.examples, said_now.meant)}
                    heard.ids |= dict.fromkeys((e.id for e in turn.examples), turn.ids)
            progress.advance(len(turn.examples))
    if own:
        heard.own = {example.id: own[example.id] for example in examples}
        heard.others[BLIND] = {example.id: [blind[example.id]] for example in examples}
    return heard


def _boxed(options: Alternatives, scene: Scene, given: bool) -> Alternatives:
    """Predictions among proposals that are not the annotated objects say boxes, which is what they are measured by."""
    if given or not any(option.objects for option in options):
        return options
    return [
        Prediction(o.id, boxes=tuple(map(tuple, boxes_of(o, scene.objects).tolist())), scores=o.scores) for o in options
    ]


def coverage_of(
    grounder: Grounder, examples: Sequence[Example], heard: Heard, cfg: EvaluateGroundingConfig
) -> Coverage | None:
    """Whether the conformal sets hold the target of sentences that have one, as those they were calibrated on, and how
    many are empty of sentences that mean nothing; None where no sentence has one target."""
    assert grounder.conformal is not None
    asked = [e for e in examples if not e.targets or (len(e.targets) == 1 and e.targets[0] in heard.ids[e.id])]
    if not any(example.targets for example in asked):
        return None
    slots = [[heard.ids[e.id].index(target) for target in e.targets] for e in asked]
    probabilities = [heard.meant[example.id] for example in asked]
    homes = [example.scene_id for example in asked]
    return measure(grounder.conformal, probabilities, slots, homes, seed=cfg.seed, resamples=cfg.resamples)


def said_of(coverage: Coverage) -> str:
    """One line."""
    low, high = coverage.interval
    none = (
        f"; of {coverage.sentences_of_none:,} sentences that mean nothing {coverage.empty_of_none:.1%} are empty"
        if coverage.empty_of_none is not None
        else ""
    )
    return (
        f"conformal sets: stated coverage {coverage.level:.0%}, measured {coverage.covered:.1%} ({low:.1%} to "
        f"{high:.1%}), {coverage.size:.1f} objects each; wrongly empty {coverage.empty:.1%}{none}"
    )


def short_numbers(table: Sequence[Row], counts: Mapping[str, int], examples: Sequence[Example]) -> dict[str, Any]:
    """The first metric as shares from 0 to 1, by group, for reports that show one number; empty of questions."""
    if not any(example.targets for example in examples):
        return {}
    ours = table[0]
    metric = next(iter(ours.cells))[1]
    by_name = {row.name: row for row in table}

    def of(group: str) -> dict[str, Any]:
        cell = ours.cells[group, metric]
        found: dict[str, Any] = {"accuracy": round(cell.value / 100, 4)}
        found["interval"] = [round(end / 100, 4) for end in cell.interval or (np.nan, np.nan)]
        for key, name in SHORT_NAMES.items():
            other = by_name[name].cells.get((group, metric)) if name in by_name else None
            if other is not None:
                found[key] = round(other.value / 100, 4)
        return found

    single = sum(len(example.targets) == 1 for example in examples)
    return {
        **of(OVERALL),
        "homes": counts_of_scenes(examples),
        "sentences": single,
        "groups": {
            group: of(group) | {"sentences": single if group == OVERALL else count}
            for group, count in counts.items()
            if (group, metric) in ours.cells
        },
    }


def counts_of_scenes(examples: Sequence[Example]) -> int:
    return len({example.scene_id for example in examples})


def sha256(path: str) -> str:
    with open(Path(path).expanduser(), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_choices(path: Path, examples: Sequence[Example], said: Mapping[str, Prediction]) -> None:
    """One row per sentence with one target: ids, text, kind, and object ids of target and first choice (-1 = none)."""
    chosen = [e for e in examples if len(e.targets) == 1 and not said[e.id].boxes]
    columns = {
        "id": [e.id for e in chosen],
        "scene_id": [e.scene_id for e in chosen],
        "room": [e.room for e in chosen],
        "utterance": [e.text for e in chosen],
        "kind": [kind_of(e) for e in chosen],
        "target": [e.targets[0] for e in chosen],
        "predicted": [said[e.id].objects[0] if said[e.id].objects else -1 for e in chosen],
    }
    with atomic_file(path) as file:
        pq.write_table(pa.table(columns), file)


def kind_of(example: Example) -> str:
    """The kind of a corpus' sentence; empty elsewhere."""
    return next((group.removeprefix("kind ") for group in example.groups if group.startswith("kind ")), "")


def failure_blocks(
    cfg: EvaluateGroundingConfig,
    protocol: Protocol,
    examples: Sequence[Example],
    said: Mapping[str, Prediction],
    store: SceneStore,
) -> list[str]:
    """The worst wrong answers as pictures; none of questions, and none of boxes that are no objects."""
    if protocol.kind == "answers" or cfg.proposals != "ground-truth" or not cfg.failures:
        return []
    wrong = [
        failure_of(e, said[e.id], protocol.asks_for_set(e))
        for e in examples
        if not said[e.id].boxes and not is_right(e, said[e.id], protocol.asks_for_set(e))
    ]
    return failures_html(worst(wrong, cfg.failures), store.load)


def is_right(example: Example, said: Prediction, whole: bool) -> bool:
    """Whether the first object, or the whole set, is what is meant."""
    if whole:
        return set(said.objects) == set(example.targets)
    return bool(said.objects) and said.objects[0] in example.targets


def failure_of(example: Example, said: Prediction, whole: bool) -> Failure:
    chosen = tuple(i for i in (said.objects if whole else said.objects[:1]) if i >= 0)
    scores = dict(zip(said.objects, said.scores))
    margin = 0.0
    if scores and not whole:  # a target beyond the kept ranking scored less than its last
        margin = said.scores[0] - max(scores.get(target, min(said.scores)) for target in example.targets)
    return Failure(
        example.scene_id, example.text, example.targets, chosen, float(margin), kind_of(example), example.room
    )


if __name__ == "__main__":
    job_main("evaluate-grounding")

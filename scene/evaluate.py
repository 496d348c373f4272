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
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from core.errors import InputError, check_choice, nearest
from core.files import atomic_write
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.conformal import Coverage
from scene.evaluation_answers import NO_SENTENCE, Heard, coverage_of, listen
from scene.evaluation_choices import failure_blocks, save_choices
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
    size_of,
    table_json,
)
from scene.grounder import Grounder
from scene.model_folder import model_folder
from scene.proposed import PROPOSALS, StoreObjects, proposed
from scene.protocols.annotations import Loaded
from scene.protocols.predictions import complete, read_predictions, write_predictions
from scene.protocols.records import Example
from scene.protocols.registry import PROTOCOLS, Protocol, rows
from scene.provenance import source_of, unseen_of_folder
from scene.store import SceneStore
from scene.types import Scene

OWN = ("corpus", "corpus-questions")  # protocols whose annotations are in the folder of scenes itself
SHORT_NAMES = {
    "chance": "chance",
    "label": "label (oracle)",
    "label_color": "label + colour (oracle)",
    "no_text": NO_SENTENCE,
}
"""Keys of result.json, and the rows they are taken from."""
OPTION_TYPES = {bool: "true or false", int: "a whole number", str: "text"}


@dataclass
class EvaluateGroundingConfig(JobConfig):
    """A grounder measured by a protocol, beside baselines and published rows."""

    CUDA = True

    scenes: str = ""  # folder made by build-scenes, of the scenes that the annotations speak of
    model: str = ""  # folder of a grounder, or of the run that trained it
    predictions: str = ""  # in place of a model: what anybody's model said, .jsonl, .json or .parquet
    # corpus, corpus-questions, scanrefer, nr3d, sr3d, multi3drefer, sceneverse-val, scanqa or sqa3d
    protocol: str = "corpus"
    annotations: str = ""  # the protocol's official file, or folder of sqa3d; none for corpus and corpus-questions
    split: str = "test"  # of corpus, corpus-questions and sqa3d; elsewhere the file is the split
    options: dict[str, Any] = field(default_factory=dict)  # of the protocol's reader, e.g. options.unknown_scenes=skip
    training: str = ""  # of scanqa, sqa3d: annotations of the training questions, for baselines that read no scene
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
        protocol, own = PROTOCOLS[self.protocol], self.protocol in OWN
        questions = protocol.kind == "answers"
        masked = self.proposals == "masks"
        for wrong, said in (
            (self.resamples < 1, f"resamples={self.resamples}: expected at least 1"),
            (self.failures < 0, f"failures={self.failures}: expected 0 or more"),
            (bool(self.model and self.predictions), "model and predictions are both given; measure one of them"),
            (own and bool(self.annotations), f"annotations are not read with protocol={self.protocol}; name theirs"),
            (not own and not self.annotations, f"protocol={self.protocol} needs annotations=FILE, its official file"),
            (self.split != "test" and "split" not in protocol.options,
             f"split={self.split}: a file of {self.protocol} is one split; name another file with annotations="),
            (masked and not self.masks, "proposals=masks needs masks=FOLDER with a <scene id>.mask.npz per scene"),
            (bool(self.masks) and not masked, f"masks={self.masks} is read with proposals=masks; add it"),
            (bool(self.training) and (own or not questions), "training=FILE is of protocol=scanqa and protocol=sqa3d"),
        ):  # fmt: skip
            if wrong:
                raise InputError(said)


CONFIG = EvaluateGroundingConfig


def run(cfg: EvaluateGroundingConfig) -> dict[str, Any]:
    """Measures, prints the table, writes the files named above and returns what is in result.json."""
    folder = RunFolder.open(cfg, "evaluate-grounding")
    if (finished := folder.result()) is not None:
        folder.close()
        return finished
    protocol = PROTOCOLS[cfg.protocol]
    if not cfg.model and not cfg.predictions:
        raise InputError("give model=FOLDER, written by pretrain-grounding, or predictions=FILE of any model")
    if not cfg.scenes and (cfg.model or protocol.kind != "answers" or cfg.protocol in OWN):
        raise InputError("scenes is required: scenes=FOLDER, made by build-scenes; only answers are measured without")
    started = time.monotonic()
    store = SceneStore(cfg.scenes, cache=2) if cfg.scenes else None
    split = "test" if protocol.mixes_splits else None
    true = StoreObjects(SceneStore(cfg.scenes, cache=2, points=False), split) if store else None
    examples = read_examples(cfg, protocol, true)
    place = model_folder(cfg.model) if cfg.model else None
    source = source_of(store) if store else protocol.title.lower()
    verdict = unseen_of_folder(place, source, [(e.scene_id, e.text) for e in examples])

    given = cfg.proposals == "ground-truth"
    heard = Heard()
    grounder = None
    if store is not None:
        homes = store  # the scenes, for the function below

        def scene_of(scene_id: str) -> Scene:
            return proposed(homes.load(scene_id), cfg.proposals, Path(cfg.masks) if cfg.masks else None, cfg.seed)

        if place is not None:
            grounder = Grounder.from_pretrained(place)
            grounder.model.to(cfg.device)
        crops = None
        if cfg.vl and cfg.baselines and protocol.kind != "answers":
            from scene.crops import CropScorer
            from vl.embedder import load_embedder

            crops = CropScorer(load_embedder(cfg.vl, cfg.device))
        heard = listen(
            protocol, examples, scene_of, grounder,
            given=given, baselines=cfg.baselines, crops=crops, seed=cfg.seed,
        )  # fmt: skip
    if cfg.baselines and protocol.kind == "answers":
        answer_blindly(cfg, protocol, examples, heard)
    if cfg.predictions:
        heard.own = complete(examples, read_predictions(cfg.predictions), cfg.missing)
    write_predictions(folder.file("predictions.jsonl"), heard.own.values())

    objects = (true if true is not None else {}) if given else heard.objects
    evaluation = Evaluation(
        examples,
        tuple(rows(protocol, examples)),
        lambda asked, said: protocol.measure(asked, said, objects),
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
        coverage = coverage_of(grounder.conformal, examples, heard, seed=cfg.seed, resamples=cfg.resamples)
    result: dict[str, Any] = {
        "protocol": cfg.protocol,
        "title": protocol.title,
        "split": cfg.split if "split" in protocol.options else "",
        "source": source,
        "proposals": "" if protocol.kind == "answers" else cfg.proposals,
        "model": str(place or ""),
        "files": {key: sha256(path) for key in ("annotations", "predictions") if (path := getattr(cfg, key))},
        "examples": len(examples),
        "scenes": count_scenes(examples),
        "left_out": examples.report() if isinstance(examples, Loaded) else "",
        "counts": counts_of(evaluation),
        "table": table_json(table),
        "zero_shot": verdict.to_json(),
        "conformal": None if coverage is None else asdict(coverage),
        **({} if protocol.kind == "answers" else short_numbers(table, examples)),
        "seconds": round(time.monotonic() - started, 1),
    }
    title = ", ".join(filter(None, [protocol.title, source if store else "", result["split"]]))
    show(table, f"{title}: {size_of(len(examples), result['scenes'])}")
    print(verdict)
    if coverage is not None:
        print(said_of(coverage))
    save_choices(folder.file("predictions.parquet"), examples, heard.own)
    pictures = failure_blocks(protocol, examples, heard.own, store, cfg.failures) if store and given else []
    page = evaluation_page(title, result, table, verdict, coverage, pictures)
    atomic_write(folder.file("report.html"), page)
    print(f"report: {folder.path / 'report.html'}")
    return folder.finish(result)


def read_examples(cfg: EvaluateGroundingConfig, protocol: Protocol, true: StoreObjects | None) -> list[Example]:
    """The protocol's examples, and a line on what of its file is left out.

    Raises:
        MissingFileError, InputError: no such file, a damaged one, another protocol's, an unknown option, or a sentence
            about a scene or an object that is not there (see the protocol's `load`).
    """
    known = protocol.options
    options = ({"split": cfg.split} if "split" in known else {}) | cfg.options
    unknown = [key for key in options if key not in known]
    if unknown:
        raise InputError(f"options.{unknown[0]}: not read by {cfg.protocol}; {nearest(unknown[0], known)}")
    for key, value in options.items():
        if type(value) is not type(known[key]):
            raise InputError(f"options.{key}={value}: expected {OPTION_TYPES[type(known[key])]}")
    try:
        examples = protocol.load(cfg.scenes if cfg.protocol in OWN else cfg.annotations, true, **options)
    except InputError as error:  # it names its own keywords
        said = re.sub(rf"(?<![.\w])({'|'.join({*known} - {'split'})})=", r"options.\1=", str(error))
        raise type(error)(said) from error
    if isinstance(examples, Loaded) and examples.left_out:
        print(examples.report())
    return examples


def answer_blindly(cfg: EvaluateGroundingConfig, protocol: Protocol, examples: Sequence[Example], heard: Heard) -> None:
    """Adds what the training questions give away without a scene; nothing where no training questions are at hand."""
    from scene.blind_answers import BLIND

    if cfg.protocol not in OWN and not cfg.training:
        return
    options = {"split": "train"} if "split" in protocol.options else {}
    trained = protocol.load(cfg.scenes if cfg.protocol in OWN else cfg.training, None, **options)
    for name, learn in BLIND.items():
        heard.others[name] = {key: [said] for key, said in learn(trained).predict(examples).items()}


def said_of(coverage: Coverage) -> str:
    """One line."""
    low, high = coverage.interval
    spread = f"({low:.1%} to {high:.1%})" if coverage.homes > 1 else "(one home, so no interval)"
    none = (
        f"; of {coverage.sentences_of_none:,} sentences that mean nothing {coverage.empty_of_none:.1%} are empty"
        if coverage.empty_of_none is not None
        else ""
    )
    return (
        f"conformal sets: stated coverage {coverage.level:.0%}, measured {coverage.covered:.1%} {spread}, "
        f"{coverage.size:.1f} objects each; wrongly empty {coverage.empty:.1%}{none}"
    )


def short_numbers(table: Sequence[Row], examples: Sequence[Example]) -> dict[str, Any]:
    """The first metric as shares from 0 to 1, by group, for reports that show one number."""
    ours = table[0]
    metric = next(iter(ours.cells))[1]
    by_name = {row.name: row for row in table}

    def of(group: str) -> dict[str, Any]:
        cell = ours.cells[group, metric]
        found: dict[str, Any] = {"accuracy": round(cell.value / 100, 4), "sentences": cell.count}
        if cell.interval:
            found["interval"] = [round(end / 100, 4) for end in cell.interval]
        for key, name in SHORT_NAMES.items():
            other = by_name[name].cells.get((group, metric)) if name in by_name else None
            if other is not None:
                found[key] = round(other.value / 100, 4)
        return found

    groups = [group for group, named in ours.cells if named == metric]
    return {**of(OVERALL), "homes": count_scenes(examples), "groups": {group: of(group) for group in groups}}


def count_scenes(examples: Sequence[Example]) -> int:
    return len({example.scene_id for example in examples})


def sha256(path: str) -> str:
    """Of a file; of a folder that of its files' names and digests."""
    place = Path(path).expanduser()
    if place.is_dir():
        inside = sorted(file for file in place.rglob("*") if file.is_file())
        listed = "".join(f"{file.relative_to(place)} {sha256(str(file))}\n" for file in inside)
        return hashlib.sha256(listed.encode()).hexdigest()
    with open(place, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    job_main("evaluate-grounding")

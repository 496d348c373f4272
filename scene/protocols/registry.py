"""The protocols by name: how each reads its annotations, measures predictions, and orders its table.

A new protocol is a file beside this one with `load(path, scenes, **options) -> list[Example]` and
`measure(examples, predictions, objects) -> list[Metric]`, and a line here.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scene.protocols import (
    corpus_questions,
    corpus_split,
    multi3drefer,
    referit3d,
    scanqa,
    scanrefer,
    sceneverse_val,
    sqa3d,
)
from scene.protocols.metric import Metric
from scene.protocols.records import Example

KINDS: Final = ("grounding", "set", "answers")


@dataclass(frozen=True)
class Protocol:
    """A benchmark: its files in, its table out."""

    title: str  # of the table
    kind: str  # grounding: one object or box; set: all that are meant; answers: of questions
    load: Callable[..., list[Example]]
    measure: Callable[..., list[Metric]]
    groups: tuple[str, ...]  # rows of the table below "overall", in this order; a run may lack some

    @property
    def options(self) -> Mapping[str, object]:
        """The keywords of `load` beside path and scenes, and their defaults."""
        parameters = inspect.signature(self.load).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    @property
    def mixes_splits(self) -> bool:
        """Whether the official file holds sentences of training scenes, too; only those of test scenes are measured."""
        return self.options.get("unknown_scenes") == "skip"

    def asks_for_set(self, example: Example) -> bool:
        """Whether the whole set of what is meant is to be predicted, not the best one; also of a corpus' sentences
        that mean several things or none."""
        return self.kind == "set" or (self.kind == "grounding" and len(example.targets) != 1)


PROTOCOLS: dict[str, Protocol] = {
    "corpus": Protocol("own split", "grounding", corpus_split.load, corpus_split.measure, corpus_split.GROUPS),
    "scanrefer": Protocol("ScanRefer", "grounding", scanrefer.load, scanrefer.measure, scanrefer.GROUPS),
    "nr3d": Protocol("Nr3D", "grounding", referit3d.load_nr3d, referit3d.measure, referit3d.GROUPS),
    "sr3d": Protocol("Sr3D", "grounding", referit3d.load_sr3d, referit3d.measure, referit3d.GROUPS),
    "multi3drefer": Protocol("Multi3DRefer", "set", multi3drefer.load, multi3drefer.measure, multi3drefer.GROUPS),
    "sceneverse-val": Protocol(
        "SceneVerse-val", "grounding", sceneverse_val.load, sceneverse_val.measure, sceneverse_val.GROUPS
    ),
    "corpus-questions": Protocol(
        "questions of the own split",
        "answers",
        corpus_questions.load,
        corpus_questions.measure,
        corpus_questions.GROUPS,
    ),
    "scanqa": Protocol("ScanQA", "answers", scanqa.load, scanqa.measure, scanqa.GROUPS),
    "sqa3d": Protocol("SQA3D", "answers", sqa3d.load, sqa3d.measure, sqa3d.GROUPS),
}
"""Every protocol by the name that evaluate-grounding knows it by."""


def rows(protocol: Protocol, examples: Sequence[Example]) -> list[str]:
    """The groups that some example is in, in the table's order; any beyond the protocol's own come last."""
    present = {group for example in examples for group in example.groups}
    return [group for group in protocol.groups if group in present] + sorted(present - set(protocol.groups))

"""Published results, as rows to stand beside ours, each with where it was read and how far it can be compared.

All figures are percentages, CIDEr times 100. ScanRefer's unique and multiple are counted in three ways
(scene/protocols/scanrefer.py). Which one a row follows is told by its own numbers: with a share u of unique targets,
overall = u unique + (1 - u) multiple, and u is about 19 % by the official count and 15 % by all objects of the scan in
18 classes. Rows are filed by that share. (About 24 %, all objects in NYU40, is the mark of ZSVG3D, SeeGround and Z3D;
of these only the overall figures are kept.) Only "overall" compares across counts. In the same way the easy and hard
of 3D-VisTA and GPS count labels in the scan, as their code does; those of other methods follow stimulus_id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scene.protocols.annotations import VIEWS

EVIDENCE: Final = {
    "P": "read in the paper that is named as source",
    "S": "the method's repository",
    "T": "a table of another paper or a page that quotes it",
    "M": "from memory, not looked up again",
}
OVERALL: Final = "overall"


@dataclass(frozen=True)
class Published:
    """A row of a published table.

    Attributes:
        protocol: key of PROTOCOLS.
        values: (group, metric) -> percent; names as in our tables.
        evidence: key of EVIDENCE.
        zero_shot: trained on no sentence of the benchmark.
        note: what differs from the full official protocol, as far as it is known.
    """

    protocol: str
    method: str
    values: Mapping[tuple[str, str], float]
    source: str
    evidence: str
    zero_shot: bool = False
    note: str = ""


PAPER: Final = "SceneVerse, arXiv:2401.09340"
VIDEO_3D: Final = "tables of Video-3D LLM, arXiv:2412.00493"
GRAPH: Final = "tables of 3DGraphLLM, arXiv:2412.18450"
UNSEEN: Final = "its scans were not trained on either"
SENTENCES: Final = "trained on the benchmark's scans with other sentences"
MASKS: Final = "proposals of Mask3D trained on ScanNet: its scans are not unseen"
SCAN: Final = "easy and hard by labels in the scan"
OF_SCAN: Final = "unique = alone in the scan, by its own figures: compare the overall one"
OF_FILE: Final = "unique = alone among the annotated objects (official)"
BOXES: Final = "chooses among 50 masks of Mask3D"


def _row(
    protocol: str,
    method: str,
    columns: Sequence[tuple[str, str]],
    figures: Sequence[float | None],
    source: str = PAPER,
    evidence: str = "P",
    note: str = "",
    zero_shot: bool = False,
) -> Published:
    """A row of figures below columns; None = not given."""
    values = {column: figure for column, figure in zip(columns, figures, strict=True) if figure is not None}
    return Published(protocol, method, values, source, evidence, zero_shot, note)


_STIMULUS = [(group, "Acc") for group in (OVERALL, "easy", "hard", *VIEWS)]
_SCAN = [(group, "Acc") for group in (OVERALL, "easy (scan)", "hard (scan)", *VIEWS)]
_ALL = [(OVERALL, "Acc")]
_BOTH = [(OVERALL, "Acc@0.25"), (OVERALL, "Acc@0.5")]
_OFFICIAL = [(group, "Acc@0.5") for group in (OVERALL, "unique", "multiple")]
_IN_SCAN = [(group, "Acc@0.5") for group in (OVERALL, "unique (scan, 18 classes)", "multiple (scan, 18 classes)")]
_F1 = [(OVERALL, "F1@0.25"), (OVERALL, "F1@0.5")]
_QA = [(OVERALL, "EM@1"), (OVERALL, "CIDEr")]
_EM = [(OVERALL, "EM@1")]

PUBLISHED: Final = (
    # Nr3D
    _row("nr3d", "BUTD-DETR", _STIMULUS, (54.6, 60.7, 48.4, 46.0, 58.0)),
    _row("nr3d", "ViL3DRel", _STIMULUS, (64.4, 70.2, 57.4, 62.0, 64.5)),
    _row("nr3d", "EDA", _STIMULUS, (52.1, 58.2, 46.1, 50.2, 53.1)),
    _row("nr3d", "3D-VisTA, from scratch", _SCAN, (57.5, 65.9, 49.4, 53.7, 59.4), note=SCAN),
    _row("nr3d", "3D-VisTA", _SCAN, (64.2, 72.1, 56.7, 61.5, 65.1), note=SCAN),
    _row("nr3d", "GPS, from scratch", _SCAN, (58.7, 67.0, 50.9, 55.8, 59.8), note=SCAN),
    _row("nr3d", "GPS, pre-trained, no head", _SCAN, (55.2, 62.8, 48.0, 45.5, 58.8), note=SCAN),
    _row("nr3d", "GPS, fine-tuned", _SCAN, (64.9, 72.5, 57.8, 56.9, 67.9), note=SCAN),
    _row("nr3d", "3D-VisTA, zero-shot", _ALL, (35.2,), note=UNSEEN, zero_shot=True),
    _row("nr3d", "3D-VisTA, zero-shot text", _ALL, (43.1,), note=SENTENCES, zero_shot=True),
    _row("nr3d", "GPS, zero-shot", _ALL, (32.4,), note=UNSEEN, zero_shot=True),
    _row("nr3d", "GPS, zero-shot text", _ALL, (41.9,), note=SENTENCES, zero_shot=True),
    _row("nr3d", "UniVLG", _ALL, (65.2,), "a copy of its leaderboard", "T"),
    _row(
        "nr3d", "UniVLG, detection", _BOTH, (58.3, 49.8), "a copy of its leaderboard", "T", "boxes, not given objects"
    ),
    _row("nr3d", "PQ3D, detection", _BOTH, (52.2, 45.0), "tables of later papers", "T", "boxes, not given objects"),
    _row("nr3d", "3D-VisTA, detection", _BOTH, (47.7, 42.2), "tables of later papers", "T", "boxes, not given objects"),
    _row("nr3d", "ZSVG3D", _ALL, (39.0,), "-", "M", zero_shot=True),
    _row("nr3d", "SeeGround", _ALL, (46.1,), "-", "M", zero_shot=True),
    _row("nr3d", "VLM-Grounder", _ALL, (48.0,), "-", "M", "250 samples", zero_shot=True),
    _row("nr3d", "SPAZER", _ALL, (63.8,), "tables of later papers", "T", "250 samples", zero_shot=True),
    _row("nr3d", "SPAZER, all of val", _ALL, (56.0,), "a page of results (wizwand)", "T", zero_shot=True),
    # Sr3D
    _row("sr3d", "BUTD-DETR", _STIMULUS, (67.0, 68.6, 63.2, 53.0, 67.6)),
    _row("sr3d", "ViL3DRel", _STIMULUS, (72.8, 74.9, 67.9, 63.8, 73.2)),
    _row("sr3d", "EDA", _STIMULUS, (68.1, 70.3, 62.9, 54.1, 68.7)),
    _row("sr3d", "3D-VisTA, from scratch", _SCAN, (69.6, 72.1, 63.6, 57.9, 70.1), note=SCAN),
    _row("sr3d", "3D-VisTA", _SCAN, (76.4, 78.8, 71.3, 58.9, 77.3), note=SCAN),
    _row("sr3d", "GPS, from scratch", _SCAN, (68.4, 70.5, 63.4, 53.1, 69.0), note=SCAN),
    _row("sr3d", "GPS, pre-trained, no head", _SCAN, (74.1, 76.4, 68.5, 54.1, 75.0), note=SCAN),
    _row("sr3d", "GPS, fine-tuned", _SCAN, (77.5, 80.1, 71.6, 62.8, 78.2), note=SCAN),
    _row("sr3d", "3D-VisTA, zero-shot", _ALL, (31.2,), note=UNSEEN, zero_shot=True),
    _row("sr3d", "3D-VisTA, zero-shot text", _ALL, (36.1,), note=SENTENCES, zero_shot=True),
    _row("sr3d", "GPS, zero-shot", _ALL, (33.3,), note=UNSEEN, zero_shot=True),
    _row("sr3d", "GPS, zero-shot text", _ALL, (38.1,), note=SENTENCES, zero_shot=True),
    # ScanRefer, validation
    _row("scanrefer", "BUTD-DETR", _IN_SCAN, (39.8, 66.3, 35.1), note=OF_SCAN),
    _row("scanrefer", "ViL3DRel", _OFFICIAL, (37.7, 68.6, 30.7), note=OF_FILE),
    _row("scanrefer", "EDA", _IN_SCAN, (42.3, 68.6, 37.6), note=OF_SCAN),
    _row("scanrefer", "3D-VisTA, from scratch", [*_OFFICIAL, *_BOTH[:1]], (41.5, 70.9, 34.8, 45.9), note=OF_FILE),
    _row("scanrefer", "3D-VisTA", _OFFICIAL, (45.8, 75.1, 39.1), note=OF_FILE),
    _row(
        "scanrefer",
        "GPS, from scratch",
        [*_IN_SCAN, *_BOTH[:1]],
        (40.4, 71.3, 34.7, 44.5),
        note=f"{OF_SCAN}; {BOXES}",
    ),
    _row("scanrefer", "GPS, pre-trained, no head", _IN_SCAN, (47.1, 77.4, 41.6), note=f"{OF_SCAN}; {BOXES}"),
    _row("scanrefer", "GPS, fine-tuned", _IN_SCAN, (48.1, 77.9, 42.7), note=f"{OF_SCAN}; {BOXES}"),
    _row("scanrefer", "3D-VisTA, zero-shot", _BOTH, (33.2, 29.6), note=UNSEEN, zero_shot=True),
    _row("scanrefer", "3D-VisTA, zero-shot text", _BOTH, (41.1, 36.4), note=SENTENCES, zero_shot=True),
    _row("scanrefer", "GPS, zero-shot", _BOTH, (35.2, 31.1), note=UNSEEN, zero_shot=True),
    _row("scanrefer", "GPS, zero-shot text", _BOTH, (40.7, 35.8), note=SENTENCES, zero_shot=True),
    _row(
        "scanrefer",
        "M3DRef-CLIP",
        [(group, f"Acc@{iou}") for group in (OVERALL, "unique", "multiple") for iou in ("0.25", "0.5")],
        (51.9, 44.7, 85.3, 77.2, 43.8, 36.8),
        "README of 3dlg-hcvc/M3DRef-CLIP",
        "S",
        OF_FILE,
    ),
    _row("scanrefer", "PQ3D", _BOTH, (57.0, 51.2), VIDEO_3D, "T"),
    _row("scanrefer", "3D-LLM (BLIP2)", _BOTH, (30.3, None), VIDEO_3D, "T"),
    _row("scanrefer", "Chat-Scene", _BOTH, (55.5, 50.2), "README of ZzZZCHS/Chat-Scene", "S"),
    _row("scanrefer", "LLaVA-3D", _BOTH, (54.1, 42.4), "tables of later papers", "T"),
    _row("scanrefer", "3D-LLaVA", _BOTH, (51.2, 40.6), "tables of 3DRS", "T"),
    _row("scanrefer", "Video-3D LLM", _BOTH, (58.1, 51.7), VIDEO_3D, "T"),
    _row("scanrefer", "3DGraphLLM", _BOTH, (58.6, 53.0), GRAPH, "T"),
    _row("scanrefer", "Robin3D", _BOTH, (60.8, 55.1), "tables of later papers", "T"),
    _row("scanrefer", "GPT4Scene-HDM", _BOTH, (62.6, 57.0), "tables of later papers", "T"),
    _row("scanrefer", "3DRS", _BOTH, (62.9, 56.1), "its own table, as quoted", "T"),
    _row("scanrefer", "UniVLG", _BOTH, (65.88, 57.49), "a copy of its leaderboard", "T", "test server, not val"),
    _row("scanrefer", "VGMamba", _BOTH, (60.0, 53.9), "tables of later papers", "T"),
    _row("scanrefer", "LLM-Grounder", _BOTH, (17.1, 5.3), "tables of later papers", "T", "998 samples", True),
    _row("scanrefer", "ZSVG3D", _BOTH, (36.4, 32.7), "tables of later papers", "T", MASKS, True),
    _row("scanrefer", "SeeGround", _BOTH, (44.1, 39.4), "tables of later papers", "T", MASKS, True),
    _row("scanrefer", "CSVG", _BOTH, (49.6, 39.8), "tables of later papers", "T", zero_shot=True),
    _row("scanrefer", "VLM-Grounder", _BOTH, (51.6, 32.8), "tables of later papers", "T", "250 samples", True),
    _row("scanrefer", "SPAZER", _BOTH, (57.2, None), "tables of later papers", "T", "250 samples", True),
    _row("scanrefer", "SPAZER", _BOTH, (None, 48.8), "-", "M", "250 samples", True),
    _row("scanrefer", "SPAZER, all of val", _BOTH, (51.7, None), "a page of results (wizwand)", "T", zero_shot=True),
    _row("scanrefer", "Z3D", _BOTH, (58.9, 52.7), "arXiv:2602.03361, as quoted", "T", MASKS, True),
    _row("scanrefer", "UniGround", _BOTH, (46.1, 34.1), "arXiv:2603.08131, abstract", "T", zero_shot=True),
    # Multi3DRefer, validation
    _row("multi3drefer", "M3DRef-CLIP", _F1, (42.8, 38.4), "README of 3dlg-hcvc/M3DRef-CLIP", "S"),
    _row("multi3drefer", "PQ3D", _F1, (None, 50.1), GRAPH, "T"),
    _row("multi3drefer", "Chat-Scene", _F1, (57.1, 52.4), "README of ZzZZCHS/Chat-Scene", "S"),
    _row("multi3drefer", "Video-3D LLM", _F1, (58.0, 52.7), VIDEO_3D, "T"),
    _row("multi3drefer", "3DGraphLLM", _F1, (61.9, 57.3), GRAPH, "T"),
    _row("multi3drefer", "Robin3D", _F1, (64.9, 59.7), "tables of later papers", "T"),
    _row("multi3drefer", "GPT4Scene-HDM", _F1, (64.5, 59.8), "tables of later papers", "T"),
    _row("multi3drefer", "3DRS", _F1, (60.4, 54.9), "its own table, as quoted", "T"),
    # SceneVerse-val
    _row("sceneverse-val", "3D-VisTA, from scratch", _STIMULUS, (40.7, 53.1, 21.6, 37.3, 44.3)),
    _row(
        "sceneverse-val", "3D-VisTA, zero-shot", _STIMULUS, (52.9, 59.6, 35.4, 53.7, 52.2), note=UNSEEN, zero_shot=True
    ),
    _row(
        "sceneverse-val",
        "3D-VisTA, zero-shot text",
        _STIMULUS,
        (58.1, 70.0, 39.6, 52.5, 64.1),
        note=SENTENCES,
        zero_shot=True,
    ),
    _row("sceneverse-val", "GPS, from scratch", _STIMULUS, (38.5, 50.2, 20.8, 33.7, 43.9)),
    _row("sceneverse-val", "GPS, zero-shot", _STIMULUS, (59.2, 69.4, 44.0, 53.1, 66.3), note=UNSEEN, zero_shot=True),
    _row(
        "sceneverse-val",
        "GPS, zero-shot text",
        _STIMULUS,
        (60.6, 70.9, 45.1, 54.8, 67.3),
        note=SENTENCES,
        zero_shot=True,
    ),
    # ScanQA, validation
    _row("scanqa", "ScanQA", _EM, (20.3,)),
    _row("scanqa", "3D-VisTA", _EM, (22.4,)),
    _row("scanqa", "GPS", _EM, (22.7,)),
    _row("scanqa", "3D-LLM (BLIP2)", _QA, (20.5, 69.4), VIDEO_3D, "T"),
    _row("scanqa", "PQ3D", _QA, (None, 87.8), VIDEO_3D, "T"),
    _row("scanqa", "LEO", _QA, (21.5, 101.4), VIDEO_3D, "T", "its EM may be the refined one"),
    _row("scanqa", "Chat-Scene", _QA, (21.6, 87.7), "README of ZzZZCHS/Chat-Scene", "S"),
    _row("scanqa", "LLaVA-3D", _QA, (27.0, 91.7), "tables of later papers", "T", "its EM may be the refined one"),
    _row("scanqa", "3D-LLaVA", _QA, (None, 92.6), "tables of 3DRS", "T"),
    _row("scanqa", "Video-3D LLM", _QA, (30.1, 102.1), VIDEO_3D, "T", "its EM may be the refined one"),
    _row("scanqa", "GPT4Scene-HDM", _QA, (None, 96.3), "tables of later papers", "T"),
    _row("scanqa", "3DRS", _QA, (30.3, 104.8), "its own table, as quoted", "T", "its EM may be the refined one"),
    # SQA3D, test
    _row("sqa3d", "ScanQA", _EM, (46.6,)),
    _row("sqa3d", "3D-VisTA", _EM, (48.5,)),
    _row("sqa3d", "GPS", _EM, (49.9,)),
    _row("sqa3d", "PQ3D", _EM, (47.1,), VIDEO_3D, "T"),
    _row("sqa3d", "LEO", _EM, (50.0,), VIDEO_3D, "T", "its EM may be the refined one"),
    _row("sqa3d", "Chat-Scene", _EM, (54.6,), "README of ZzZZCHS/Chat-Scene", "S"),
    _row("sqa3d", "LLaVA-3D", _EM, (55.6,), "tables of later papers", "T"),
    _row("sqa3d", "3D-LLaVA", _EM, (54.5,), "tables of 3DRS", "T"),
    _row("sqa3d", "Video-3D LLM", _EM, (58.6,), VIDEO_3D, "T"),
    _row("sqa3d", "Robin3D", _EM, (56.0,), "tables of later papers", "T"),
    _row("sqa3d", "GPT4Scene-HDM", _EM, (59.4,), "tables of later papers", "T"),
    _row("sqa3d", "3DRS", _EM, (60.6,), "its own table, as quoted", "T"),
)
"""Rows of the papers' tables, per protocol in the order of their tables."""


def published(protocol: str) -> list[Published]:
    """The rows of one protocol; none where nobody published any, as for one's own corpus."""
    return [row for row in PUBLISHED if row.protocol == protocol]

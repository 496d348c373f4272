"""Rewards for boxes in pictures, written as JSON: Vision-R1's for detection, VLM-R1's for one referred thing.

Sources: Vision-R1 (Zhan et al., arXiv:2503.18013), read in the released visionr1_qwen.py: format, recall and precision
after a Hungarian matching, with a rule that hardens during training. Changed: boxes beyond those matched count against
precision (the release averages over matches alone, so that a thousand boxes cost nothing). VLM-R1 (Shen et al.,
arXiv:2504.07615): the IoU of the one box asked for.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

LONGEST: Final = 8_000  # characters of an answer that is read as boxes
MOST: Final = 100  # boxes in one answer
FARTHEST: Final = 1e6  # pixels
_FENCED: Final = re.compile(r"```(?:json)?\s(.*)```", re.DOTALL)
_BOX_KEYS: Final = ("bbox_2d", "box")


@dataclass(frozen=True)
class LabelledBox:
    """A box in a picture."""

    corners: tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels, x right and y down, x1 < x2 and y1 < y2
    label: str = ""  # lower case; empty: none


@dataclass(frozen=True)
class DetectionReward:
    """The three parts of Vision-R1's reward, each in 0..1."""

    format: float
    recall: float
    precision: float

    @property
    def mean(self) -> float:
        """A third of the paper's sum, so that it weighs as much as other answers."""
        return (self.format + self.recall + self.precision) / 3


@dataclass(frozen=True)
class BoxRule:
    """From where on matches count. Vision-R1 exchanges EARLY for LATE after 1500 steps."""

    hit: float  # IoU from which a match is a true positive
    low: float  # GIoU of a match below which precision gets 0 for it
    high: float  # and above which it gets 1


EARLY: Final = BoxRule(hit=0.5, low=0.5, high=0.75)
LATE: Final = BoxRule(hit=0.75, low=0.75, high=0.9)


def read_boxes(text: str) -> list[LabelledBox] | None:
    """Boxes of an answer; None when it is not exactly a list of boxes.

    Forms: [x1, y1, x2, y2]; [[x1, y1, x2, y2], ...]; [{"bbox_2d": [...], "label": "chair"}, ...] ("box" is taken too);
    [] for none. One ```json fence may stand around it. A box must have finite corners and a positive area; one that
    has not spoils the answer, as do names that come twice, other keys, and more than MOST boxes.
    """
    if len(text) > LONGEST:
        return None
    text = text.strip()
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1]
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError):  # no JSON, or brackets in brackets in ...
        return None
    if not isinstance(found, list) or len(found) > MOST:
        return None
    if found and not isinstance(found[0], list | dict):
        found = [found]
    boxes = [_box(one) for one in found]
    return [box for box in boxes if box is not None] if None not in boxes else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names all differ."""
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name comes twice")
    return named


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no coordinate")


def _box(found: Any) -> LabelledBox | None:
    """What the JSON says, if that is one box."""
    label: Any = ""
    if isinstance(found, dict):
        keys = [key for key in _BOX_KEYS if key in found]
        if len(keys) != 1 or set(found) - {keys[0], "label"}:
            return None
        found, label = found[keys[0]], found.get("label", "")
    if not isinstance(found, list) or len(found) != 4 or not isinstance(label, str):
        return None
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in found):
        return None
    if any(abs(number) > FARTHEST for number in found):
        return None
    x1, y1, x2, y2 = (float(number) for number in found)
    if not (x1 < x2 and y1 < y2):
        return None
    return LabelledBox((x1, y1, x2, y2), " ".join(label.casefold().split()))


def overlaps(
    boxes: Float[ndarray, "P 4"], others: Float[ndarray, "G 4"]
) -> tuple[Float[ndarray, "P G"], Float[ndarray, "P G"]]:
    """IoU (0..1) and generalised IoU (-1..1) of every box with every other; corners x1, y1, x2, y2.

    Source: Rezatofighi et al., CVPR 2019, algorithm 1.
    """
    a, b = boxes[:, None], others[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    hull = (np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2])).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    iou = shared / union
    return iou, iou - (hull - union) / hull


def shaped(value: float, low: float, high: float) -> float:
    """0 below `low`, 1 above `high`, else the value itself (Vision-R1's criterion)."""
    return 0.0 if value < low else 1.0 if value > high else value


def match(predicted: Sequence[LabelledBox], truth: Sequence[LabelledBox]) -> list[tuple[int, int, float, float]]:
    """One-to-one pairs (predicted, true, IoU, GIoU) of least cost; min(P, G) of them.

    The cost is that of DETR (Carion et al., 2020): 5 L1 + 2 (1 - GIoU) + 1 where labels differ. L1 is measured in
    lengths of the picture there; here, where only boxes are known, in extents of all true boxes together. A truth
    without a label has no label to miss.
    """
    if not predicted or not truth:
        return []
    boxes = np.array([box.corners for box in predicted])
    others = np.array([box.corners for box in truth])
    iou, giou = overlaps(boxes, others)
    extent = np.tile(others[:, 2:].max(0) - others[:, :2].min(0), 2)
    distance = (np.abs(boxes[:, None] - others[None]) / extent).sum(-1)
    missed = np.array([[float(_mislabelled(p, g)) for g in truth] for p in predicted])
    rows, columns = linear_sum_assignment(5 * distance + 2 * (1 - giou) + missed)
    return [(int(i), int(j), float(iou[i, j]), float(giou[i, j])) for i, j in zip(rows, columns)]


def _mislabelled(predicted: LabelledBox, true: LabelledBox) -> bool:
    return bool(true.label) and predicted.label != true.label


def detection_reward(
    predicted: Sequence[LabelledBox] | None,
    truth: Sequence[LabelledBox],
    rule: BoxRule = EARLY,
    *,
    as_released: bool = False,
) -> DetectionReward:
    """Vision-R1's reward of an answer's boxes.

    Args:
        predicted: of the answer, None when it is not in the form.
        truth: what is there; nothing is a truth too: then only an empty list is right, and its format is the opposite
            (boxes are the wrong form).
        rule: EARLY or LATE.
        as_released: precision averages over the min(P, G) matches instead of max(P, G), so that surplus boxes are free.

    Returns:
        recall = the share of true boxes that are matched with IoU >= rule.hit and the right label, shaped between 0.5
        and 0.75 under both rules; precision = mean shaped GIoU of the matches with the right label, a missing or
        surplus box counting 0.
    """
    if predicted is None:
        return DetectionReward(0.0, 0.0, 0.0)
    if not truth:
        nothing = float(not predicted)
        return DetectionReward(nothing, nothing, nothing)
    if not predicted:
        return DetectionReward(1.0, 0.0, 0.0)
    pairs = match(predicted, truth)
    fitting = [(iou, giou) for i, j, iou, giou in pairs if not _mislabelled(predicted[i], truth[j])]
    recall = sum(iou >= rule.hit for iou, _ in fitting) / len(truth)
    near = math.fsum(shaped(giou, rule.low, rule.high) for _, giou in fitting)
    number = len(pairs) if as_released else max(len(predicted), len(truth))
    return DetectionReward(1.0, shaped(recall, 0.5, 0.75), near / number)


def box_iou(answer: str, truth: str) -> float:
    """IoU of the one box asked for, 0..1; 0 when the answer is not exactly one box (VLM-R1's reward of referring).

    Raises:
        ValueError: the truth is not one box.
    """
    true = read_boxes(truth)
    if true is None or len(true) != 1:
        raise ValueError(f"expected one box [x1, y1, x2, y2], got {truth!r}")
    boxes = read_boxes(answer)
    if boxes is None or len(boxes) != 1:
        return 0.0
    return float(overlaps(np.array([boxes[0].corners]), np.array([true[0].corners]))[0][0, 0])

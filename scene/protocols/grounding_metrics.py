"""Accuracy of a chosen object and F1 of a predicted set, by boxes or by ids, as metrics over examples."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError
from scene.protocols.annotations import Scenes
from scene.protocols.matching import IOU_THRESHOLDS, ROUNDING, box_ious, f1, matched, paired_iou
from scene.protocols.metric import Metric
from scene.protocols.predictions import boxes_of, check_best_first, complete
from scene.protocols.records import Example, Prediction

Predictions = Mapping[str, Prediction]


def accuracy_at_iou(examples: Sequence[Example], predictions: Predictions, proposals: Scenes) -> list[Metric]:
    """Acc@0.25 and Acc@0.5: share of examples whose first predicted box has such an IoU with the target's.

    No box predicted counts as wrong.

    Args:
        predictions: of every example.
        proposals: scene id -> what predicted objects index.

    Raises:
        InputError: an example without prediction, an object that is no proposal, or a first box that is not the best.

    Source: ScanRefer (Chen et al., ECCV 2020), section 5.
    """
    predictions = complete(examples, _of(examples, predictions))
    pairs: list[tuple[int, ndarray, tuple[float, ...]]] = []
    for k, example in enumerate(examples):
        prediction = predictions[example.id]
        check_best_first(prediction)
        for first in boxes_of(prediction, _proposals(proposals, example))[:1]:
            pairs += [(k, first, truth) for truth in example.boxes]
    place, predicted, true = zip(*pairs) if pairs else ((), (), ())
    iou = np.zeros(len(examples))
    found = paired_iou(np.array(predicted).reshape(-1, 7), np.array(true).reshape(-1, 7))
    np.maximum.at(iou, np.array(place, dtype=np.int64), found)
    return [Metric.mean(f"Acc@{threshold:g}", iou >= threshold - ROUNDING) for threshold in IOU_THRESHOLDS]


def accuracy_of_choice(examples: Sequence[Example], predictions: Predictions, name: str = "Acc") -> Metric:
    """Share of examples whose first predicted object is the target; candidates are the annotated objects themselves.

    Raises:
        InputError: an example without prediction, one with boxes in place of objects, or a first object that is not
            the best.

    Source: ReferIt3D (Achlioptas et al., ECCV 2020), section 5.
    """
    predictions = complete(examples, _of(examples, predictions))
    right = np.zeros(len(examples))
    for k, example in enumerate(examples):
        chosen = _objects(predictions[example.id])
        check_best_first(predictions[example.id])
        right[k] = bool(chosen) and chosen[0] in example.targets
    return Metric.mean(name, right)


def f1_at_iou(examples: Sequence[Example], predictions: Predictions, proposals: Scenes) -> list[Metric]:
    """F1@0.25 and F1@0.5 of predicted sets of boxes: mean over examples of 2 TP / (P + G).

    Predicted and true boxes are matched one to one for the greatest sum of IoUs; a pair counts where its IoU reaches
    the threshold. Where nothing is meant, 1 if nothing is predicted, else 0.

    Raises:
        InputError: an example without prediction, or an object that is no proposal.

    Source: Multi3DRefer (Zhang et al., ICCV 2023), section 5.
    """
    predictions = complete(examples, _of(examples, predictions))
    sets = [
        (
            boxes_of(predictions[example.id], _proposals(proposals, example)),
            np.array(example.boxes, dtype=np.float64).reshape(-1, 7),
        )
        for example in examples
    ]
    values = np.zeros((len(examples), len(IOU_THRESHOLDS)))
    for k, iou in enumerate(box_ious(sets)):
        pairs = matched(iou)
        values[k] = [f1(int((pairs >= t - ROUNDING).sum()), *iou.shape) for t in IOU_THRESHOLDS]
    return [Metric.mean(f"F1@{threshold:g}", column) for threshold, column in zip(IOU_THRESHOLDS, values.T)]


def f1_of_choice(examples: Sequence[Example], predictions: Predictions, name: str = "F1") -> Metric:
    """F1 of predicted sets of objects, by ids, in place of boxes; otherwise as `f1_at_iou`."""
    predictions = complete(examples, _of(examples, predictions))
    values = np.zeros(len(examples))
    for k, example in enumerate(examples):
        chosen = _objects(predictions[example.id])
        values[k] = f1(len(set(chosen) & set(example.targets)), len(chosen), len(example.targets))
    return Metric.mean(name, values)


def spread(metric: Metric, members: ndarray) -> Metric:
    """A metric over the members (E,) of a longer list of examples; the others neither add to it nor count."""
    statistics = np.zeros((len(members), metric.statistics.shape[1]))
    statistics[members] = metric.statistics
    return Metric(metric.name, statistics, _share, metric.scale)


def _share(total: Float[ndarray, "*r K"]) -> Float[ndarray, "*r"]:
    """First column over second; NaN where nothing counts."""
    nan = np.full(total.shape[:-1], np.nan)
    return np.divide(total[..., 0], total[..., 1], out=nan, where=total[..., 1] > 0)


def by_boxes(examples: Sequence[Example], predictions: Predictions, proposals: Scenes) -> bool:
    """Whether boxes are to be compared, not ids: some prediction is of boxes, or the proposals are others than the
    annotated objects, told by the boxes of the targets; ids say nothing there."""
    if any(predictions[example.id].boxes for example in examples if example.id in predictions):
        return True
    for example in examples:
        objects = _proposals(proposals, example)
        for target, box in zip(example.targets, example.boxes):
            if target >= len(objects) or tuple(map(float, objects[target].box)) != box:
                return True
    return False


def _of(examples: Sequence[Example], predictions: Predictions) -> Predictions:
    """The predictions of these examples alone: a metric may be of a part of them."""
    ids = {example.id for example in examples}
    return {name: prediction for name, prediction in predictions.items() if name in ids}


def _proposals(proposals: Scenes, example: Example) -> Sequence:
    if example.scene_id not in proposals:
        raise InputError(f"scene {example.scene_id} of example {example.id} has no proposals")
    return proposals[example.scene_id]


def _objects(prediction: Prediction) -> tuple[int, ...]:
    if prediction.boxes:
        raise InputError(
            f"prediction {prediction.id} has boxes; this measure compares ids, so give objects, or give boxes for all "
            "examples"
        )
    return prediction.objects

"""IoU of boxes, matching and F1: values by hand, and IoU of turned boxes against counting points."""

import itertools

import numpy as np
import pytest

from scene.protocols.matching import box_iou, box_ious, f1, matched


def iou(a: list[float], b: list[float]) -> float:
    return float(box_iou(np.array([a]), np.array([b]))[0, 0])


def test_boxes_along_the_axes_overlap_by_volume():
    # [0, 2] and [1, 3] in x share 1 of 3 metres
    assert iou([1, 0, 0, 2, 1, 1, 0], [2, 0, 0, 2, 1, 1, 0]) == pytest.approx(1 / 3)
    assert iou([0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 2, 2, 2, 0]) == pytest.approx(1 / 8)
    assert iou([0, 0, 0, 1, 1, 1, 0], [1, 0, 0, 1, 1, 1, 0]) == 0.0  # they touch


def test_a_square_and_the_same_square_turned_by_45_degrees_share_an_octagon():
    # area of the octagon: 2 sqrt(2) - 2 = 0.828; union 2 - 0.828
    assert iou([0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1, np.pi / 4]) == pytest.approx(0.828427 / 1.171573, abs=1e-5)


def test_turned_boxes_that_only_their_hulls_share_do_not_overlap():
    long = [0, 0, 0, 10, 0.2, 1, np.pi / 4]
    assert iou(long, [3, -3, 0, 1, 1, 1, 0]) == 0.0


def test_a_box_turned_by_a_quarter_or_half_is_the_box_with_sides_exchanged():
    assert iou([0, 0, 0, 2, 1, 1, np.pi / 2], [0, 0, 0, 1, 2, 1, 0]) == pytest.approx(1.0)
    assert iou([0, 0, 0, 2, 1, 1, 0.3 + np.pi], [0, 0, 0, 2, 1, 1, 0.3]) == pytest.approx(1.0)


def test_turned_boxes_agree_with_counting_points():
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, (60_000, 3))

    def inside(box: np.ndarray) -> np.ndarray:
        offset = points - box[:3]
        cos, sin = np.cos(box[6]), np.sin(box[6])
        local = np.stack([cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]], 1)
        half = box[3:6] / 2
        return (np.abs(local) <= half[:2]).all(1) & (np.abs(offset[:, 2]) <= half[2])

    for _ in range(6):
        a, b = (
            np.concatenate([rng.uniform(-0.3, 0.3, 3), rng.uniform(0.4, 1.4, 3), rng.uniform(-3, 3, 1)])
            for _ in range(2)
        )
        counted = (inside(a) & inside(b)).sum() / (inside(a) | inside(b)).sum()
        assert iou(a.tolist(), b.tolist()) == pytest.approx(counted, abs=0.02)


def test_boxes_without_volume_and_no_boxes_at_all():
    assert iou([0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0]) == 0.0
    assert box_iou(np.zeros((0, 7)), np.ones((2, 7))).shape == (0, 2)
    assert matched(np.zeros((0, 2))).shape == (0,) and box_ious([]) == []


def test_each_box_is_matched_once_and_the_sum_decides():
    truth = np.array([[0.5, 0, 0, 1, 1, 1, 0], [2, 0, 0, 2, 1, 1, 0]])  # [0, 1] and [1, 3]
    # [0, 2] has IoU 1/2 with the first and 1/3 with the second, [0, 1] has 1 and 0: the sum gives [0, 2] the second
    predicted = np.array([[1, 0, 0, 2, 1, 1, 0], [0.5, 0, 0, 1, 1, 1, 0]])
    assert sorted(matched(box_iou(predicted, truth))) == pytest.approx([1 / 3, 1.0])


def test_the_matching_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for predicted_count, truth_count in ((3, 3), (4, 2), (1, 4)):
        a, b = (
            np.concatenate([rng.uniform(0, 1, (n, 3)), rng.uniform(0.5, 1, (n, 3)), np.zeros((n, 1))], axis=1)
            for n in (predicted_count, truth_count)
        )
        iou = box_iou(a, b)
        found = matched(iou).sum()
        if predicted_count < truth_count:
            iou = iou.T
        orders = itertools.permutations(range(len(iou)), iou.shape[1])
        best = max(sum(iou[row, column] for column, row in enumerate(order)) for order in orders)
        assert found == pytest.approx(best)


def test_many_sets_at_once_are_the_sets_one_by_one():
    rng = np.random.default_rng(2)
    sets = []
    for n, m in ((2, 3), (0, 2), (1, 0), (4, 1)):
        boxes = np.concatenate([rng.uniform(0, 1, (n + m, 3)), rng.uniform(0.5, 2, (n + m, 4))], axis=1)
        sets.append((boxes[:n], boxes[n:]))
    for together, (a, b) in zip(box_ious(sets), sets, strict=True):
        assert together.shape == (len(a), len(b))
        assert together.tolist() == [[iou(p.tolist(), q.tolist()) for q in b] for p in a]


def test_iou_is_the_same_both_ways():
    a, b = [0, 0, 0, 2, 1, 1, 0.4], [0.5, 0.3, 0.2, 1, 2, 1, -1.1]
    assert iou(a, b) == pytest.approx(iou(b, a)) and 0 < iou(a, b) < 1
    assert iou(a, a) == pytest.approx(1.0)


def test_f1_of_sets():
    assert f1(hits=2, predicted=3, truth=2) == pytest.approx(0.8)
    assert f1(hits=0, predicted=0, truth=2) == 0.0
    assert f1(hits=0, predicted=0, truth=0) == 1.0
    assert f1(hits=0, predicted=1, truth=0) == 0.0

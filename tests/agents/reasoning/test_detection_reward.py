import json
import time

import numpy as np
import pytest

from agents.reasoning.detection_reward import (
    EARLY,
    LATE,
    DetectionReward,
    LabelledBox,
    box_iou,
    detection_reward,
    match,
    overlaps,
    read_boxes,
    shaped,
)


def squares(*corners: tuple[float, float, float, float]) -> list[LabelledBox]:
    return [LabelledBox(one) for one in corners]


ONE, TWO = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0)


def test_boxes_are_read_from_all_their_forms():
    plain = squares((1, 2, 3, 4.5))
    assert read_boxes("[1, 2, 3, 4.5]") == read_boxes(" [ [ 1 , 2 , 3 , 4.5 ] ] ") == plain
    assert read_boxes('[{"bbox_2d": [1, 2, 3, 4.5], "label": " Red  Chair"}]') == [
        LabelledBox((1, 2, 3, 4.5), "red chair")
    ]
    assert read_boxes('```json\n[{"box": [1, 2, 3, 4.5]}]\n```') == plain
    assert read_boxes("[]") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "box",
        "1, 2, 3, 4",
        "the box is [1, 2, 3, 4]",
        "[1, 2, 3, 4] or [5, 6, 7, 8]",
        "[1, 2, 3, 4][1, 2, 3, 4]",
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[[1, 2, 3, 4], []]",
        "[[1, 2, 3, 4], 5]",
        "[[[1, 2, 3, 4]]]",
        "[3, 2, 1, 4]",
        "[1, 4, 3, 2]",
        "[1, 2, 1, 4]",
        "[1, 2, 3, NaN]",
        "[1, 2, 3, Infinity]",
        "[1, 2, 3, 1e999]",
        "[-1e300, -1e300, 1e300, 1e300]",
        "[1, 2, 3, 1" + "0" * 5000 + "]",
        '["1", "2", "3", "4"]',
        "[true, 2, 3, 4]",
        "[null, 2, 3, 4]",
        "[٣, ٤, ٥, ٦]",
        "null",
        "7",
        '{"bbox_2d": [1, 2, 3, 4]}',
        "[{}]",
        '[{"label": "chair"}]',
        '[{"bbox_2d": [1, 2, 3, 4], "box": [1, 2, 3, 4]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "bbox_2d": [5, 6, 7, 8]}]',
        '[{"bbox_2d": [1, 2, 3, 4], "label": 3}]',
        '[{"bbox_2d": [1, 2, 3, 4], "score": 1}]',
        "```json\n[1, 2, 3, 4]\n``` ```json\n[1, 2, 3, 4]\n```",
        "[" * 7_000,
        '["' + "]" * 3_500 + '", ' + "[" * 3_500,
        '{"a":' * 1_500,
        json.dumps([[0, 0, 1, 1]] * 101),
        "[1, 2, 3, 4]" + " " * 9_000,
    ],
)
def test_anything_else_is_no_list_of_boxes_and_takes_no_time(text):
    start = time.process_time()
    assert read_boxes(text) is None
    assert time.process_time() - start < 0.5


def test_overlaps_of_boxes_by_hand():
    # shared 50 of 150; hull 150. Apart: hull 30 x 30 = 900, union 200
    iou, giou = overlaps(np.array([ONE]), np.array([(0, 5, 10, 15), TWO, ONE]))
    np.testing.assert_allclose(iou[0], [1 / 3, 0, 1])
    np.testing.assert_allclose(giou[0], [1 / 3, -700 / 900, 1])


def test_the_shape_keeps_the_middle():
    assert [shaped(x, 0.5, 0.75) for x in (0.49, 0.5, 0.6, 0.75, 0.76)] == [0, 0.5, 0.6, 0.75, 1]


def test_matching_is_one_to_one_and_ignores_order():
    pairs = match(squares(TWO, ONE, ONE), squares(ONE, TWO))
    assert sorted((j, iou) for _, j, iou, _ in pairs) == [(0, 1.0), (1, 1.0)]
    assert len({i for i, *_ in pairs}) == 2 and match([], squares(ONE)) == match(squares(ONE), []) == []


def test_labels_decide_between_boxes_of_one_place():
    truth = [LabelledBox(ONE, "bed"), LabelledBox(ONE, "lamp")]
    assert sorted((i, j) for i, j, *_ in match(truth[::-1], truth)) == [(0, 1), (1, 0)]
    assert detection_reward(truth[::-1], truth) == DetectionReward(1, 1, 1)
    assert detection_reward([LabelledBox(ONE, "lamp")], truth[:1]) == DetectionReward(1, 0, 0)
    assert detection_reward(squares(ONE), truth[:1]) == DetectionReward(1, 0, 0)
    assert detection_reward(truth[:1], squares(ONE)) == DetectionReward(1, 1, 1)


def test_the_right_boxes_earn_all_three_parts():
    assert detection_reward(squares(TWO, ONE), squares(ONE, TWO)) == DetectionReward(1, 1, 1)


def test_surplus_boxes_cost_precision_and_were_free_in_the_release():
    spam = squares(ONE, *[(40.0 + k, 0.0, 50.0 + k, 5.0) for k in range(9)])
    assert detection_reward(spam, squares(ONE)) == DetectionReward(1, 1, 0.1)
    assert detection_reward(spam, squares(ONE), as_released=True) == DetectionReward(1, 1, 1)
    assert detection_reward(squares(ONE, ONE), squares(ONE)) == DetectionReward(1, 1, 0.5)


def test_missing_boxes_cost_recall_and_precision():
    assert detection_reward(squares(ONE), squares(ONE, TWO)) == DetectionReward(1, 0.5, 0.5)
    assert detection_reward(squares(ONE), squares(ONE, TWO), as_released=True) == DetectionReward(1, 0.5, 1)
    third = squares(ONE, TWO, (50, 50, 60, 60))
    assert detection_reward(squares(ONE), third) == DetectionReward(1, 0, 1 / 3)  # a recall of 1/3 is below the shape


def test_the_late_rule_asks_for_closer_boxes():
    near = squares((0.0, 0.0, 10.0, 7.0))  # IoU = GIoU = 0.7
    assert detection_reward(near, squares(ONE), EARLY) == DetectionReward(1, 1, 0.7)
    assert detection_reward(near, squares(ONE), LATE) == DetectionReward(1, 0, 0)
    nearer = squares((0.0, 0.0, 10.0, 8.0))
    assert detection_reward(nearer, squares(ONE), EARLY) == DetectionReward(1, 1, 1)
    assert detection_reward(nearer, squares(ONE), LATE) == DetectionReward(1, 1, 0.8)


def test_nothing_there_wants_an_empty_list():
    assert detection_reward([], []) == DetectionReward(1, 1, 1)
    assert detection_reward(squares(ONE), []) == detection_reward(None, []) == DetectionReward(0, 0, 0)
    assert detection_reward([], squares(ONE)).mean == pytest.approx(1 / 3)
    assert detection_reward(None, squares(ONE)).mean == 0


def test_the_one_box_earns_its_overlap():
    assert box_iou("[0, 5, 10, 15]", "[[0, 0, 10, 10]]") == pytest.approx(1 / 3)
    assert box_iou("[[0, 0, 10, 10], [1, 1, 2, 2]]", "[0, 0, 10, 10]") == 0
    assert box_iou("[10, 10, 0, 0]", "[0, 0, 10, 10]") == box_iou("[]", "[0, 0, 10, 10]") == 0
    for truth in ("[]", "chair", "[[0, 0, 1, 1], [0, 0, 2, 2]]"):
        with pytest.raises(ValueError, match="expected one box"):
            box_iou("[0, 0, 10, 10]", truth)

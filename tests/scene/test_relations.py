"""Relations of hand-made boxes, and the properties that hold for any boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from scene.geometry import footprint
from scene.relations import (
    CONVERSES,
    FAMILIES,
    MARGINS,
    SYNONYMS,
    Relation,
    Viewpoint,
    aligned_groups,
    behind,
    between,
    contained_in,
    far,
    lies_within,
    pairs_of,
    wall_distance,
    wall_distances,
)

R = Relation


def box(x, y, z=0.5, dx=1.0, dy=1.0, dz=1.0, yaw=0.0):
    return [x, y, z, dx, dy, dz, yaw]


def holds(relation, boxes, i, j, viewpoint=None):
    return bool(MARGINS[relation](pairs_of(np.array(boxes, dtype=float), viewpoint))[i, j] > 0)


@st.composite
def some_boxes(draw):
    count = draw(st.integers(2, 6))
    number = st.floats(-3, 3)
    size = st.floats(0.1, 2)
    rows = [[draw(number) for _ in range(3)] + [draw(size) for _ in range(3)] + [draw(number)] for _ in range(count)]
    return np.array(rows, dtype=np.float64)


def test_the_vocabulary_has_21_relations_each_in_one_family_with_words():
    assert len(Relation) == 21
    assert sorted(r for family in FAMILIES.values() for r in family) == sorted(Relation)
    assert set(SYNONYMS) == set(Relation) and all(SYNONYMS.values())


def test_the_default_viewer_looks_along_y_and_its_left_is_where_x_is_smaller():
    boxes = [box(0, 0), box(-3, 0.5), box(0.5, 3)]
    assert holds(R.LEFT_OF, boxes, 1, 0) and not holds(R.RIGHT_OF, boxes, 1, 0)
    assert holds(R.BEHIND, boxes, 2, 0) and holds(R.IN_FRONT_OF, boxes, 0, 2)
    east = Viewpoint(yaw_rad=0.0)  # looking along +x, +y is to the left
    assert holds(R.LEFT_OF, boxes, 2, 0, east) and holds(R.IN_FRONT_OF, boxes, 1, 0, east)


def test_nearness_is_measured_between_footprints():
    boxes = [box(0, 0), box(1.1, 0), box(1.3, 1.3), box(1.8, 0), box(2.2, 0)]
    gaps = pairs_of(np.array(boxes)).gap[0]
    assert gaps == pytest.approx([0, 0.1, np.hypot(0.3, 0.3), 0.8, 1.2])
    expected = {1: "ABNC", 2: "NC", 3: "C", 4: ""}  # 2 is off the corner, so not beside
    letters = {"A": R.ADJACENT_TO, "B": R.BESIDES, "N": R.NEXT_TO, "C": R.CLOSE_TO}
    for other, true in expected.items():
        assert "".join(k for k, r in letters.items() if holds(r, boxes, other, 0)) == true, other


def test_the_gap_of_crossing_footprints_is_zero_though_no_corner_lies_in_the_other():
    assert pairs_of(np.array([box(0, 0, dx=4, dy=0.5), box(0, 0, dx=0.5, dy=4, yaw=0.3)])).gap[0, 1] == 0


def test_a_mug_stands_on_a_table_and_a_ball_lies_in_a_box():
    table, mug = box(0, 0, 0.4, 1.5, 1, 0.8), box(0.3, 0.2, 0.85, 0.1, 0.1, 0.1)
    bin_, ball = box(5, 0, 0.25, 0.5, 0.5, 0.5), box(5, 0, 0.15, 0.2, 0.2, 0.2)
    bat = box(5, 0.1, 0.5, 0.1, 0.1, 0.8)  # 0.1 to 0.9: half of it stands out of the bin
    lid = box(5, 0, 0.45, 0.3, 0.3, 0.115)  # sunk in by 93 %
    boxes = [table, mug, bin_, ball, bat, lid]
    assert holds(R.SUPPORTED_BY, boxes, 1, 0) and not holds(R.SUPPORTED_BY, boxes, 0, 1)
    assert holds(R.INSIDE, boxes, 3, 2) and not holds(R.SUPPORTED_BY, boxes, 3, 2)
    assert [r for r in (R.PLACED_IN, R.EMBEDDED_INTO, R.INSIDE) if holds(r, boxes, 5, 2)] == [R.EMBEDDED_INTO]
    boxes[4][2] = 0.45
    assert [r for r in (R.PLACED_IN, R.EMBEDDED_INTO, R.INSIDE) if holds(r, boxes, 4, 2)] == [R.PLACED_IN]


def test_a_picture_hangs_above_the_bed_it_is_over_and_higher_than_the_desk_beside_it():
    bed, picture, desk = box(0, 0, 0.3, 2, 1.5, 0.6), box(0, 0.8, 1.5, 0.8, 0.04, 0.6), box(3, 0, 0.4, 1, 0.6, 0.8)
    boxes = [bed, picture, desk, box(0, 5.0, 1.0, 0.1, 0.1, 3.0)]  # the last only makes the room high
    assert holds(R.ABOVE, boxes, 1, 0) and holds(R.BELOW, boxes, 0, 1)
    assert not holds(R.ABOVE, boxes, 1, 2) and not holds(R.HIGHER_THAN, boxes, 1, 0)
    assert not holds(R.HIGHER_THAN, boxes, 1, 2)  # farther away than 0.85 of the height
    boxes[2] = box(1.8, 0.8, 0.4, 1, 0.6, 0.8)
    assert holds(R.HIGHER_THAN, boxes, 1, 2) and holds(R.LOWER_THAN, boxes, 2, 1)


def test_far_compares_with_the_sizes():
    assert far(pairs_of(np.array([box(0, 0), box(2.2, 0)])))[0, 1] > 0  # 1.5 x (0.707 + 0.707) = 2.12
    assert far(pairs_of(np.array([box(0, 0), box(2.1, 0)])))[0, 1] < 0


def test_between_needs_two_near_things_on_opposite_sides():
    triples, margin = between(pairs_of(np.array([box(0, 0), box(1.5, 0.1), box(-1.5, 0), box(0, 1.5), box(9, 0)])))
    assert triples.tolist() == [[0, 1, 2]]
    assert margin[0] == pytest.approx(np.deg2rad(30) - np.arctan2(0.1, 1.5))


def test_three_alike_in_a_row_are_aligned_and_two_are_not():
    row = [box(0, 0), box(1.5, 0.02), box(3, 0.04), box(4.5, 0.5)]
    assert [group for group, _ in aligned_groups(pairs_of(np.array(row)))] == [(0, 1, 2)]
    assert aligned_groups(pairs_of(np.array(row[:2]))) == []


def test_wall_distance_is_to_the_nearest_wall_and_zero_across_it():
    room = np.array([[0.0, 0], [4, 0], [4, 3], [0, 3]])
    boxes = np.array([box(2, 1.5), box(2, 0.1, dy=0.1), box(4, 2), box(3.45, 1.5, dx=1, dy=0.2, yaw=0.0)])
    assert wall_distance(boxes, room) == pytest.approx([1.0, 0.05, 0.0, 0.05])


def test_each_row_of_alike_boxes_is_a_group_of_its_own_with_its_weakest_link():
    rows = [box(0, 0), box(1.5, 0.02), box(3, 0.05), box(0, 5), box(1.5, 5), box(3, 5), box(7, 9)]
    groups = dict(aligned_groups(pairs_of(np.array(rows))))
    assert set(groups) == {(0, 1, 2), (3, 4, 5)}
    assert groups[0, 1, 2] == pytest.approx(0.065 - 0.05) and groups[3, 4, 5] == pytest.approx(0.065)


def test_what_lies_half_in_a_box_lies_within_it_and_is_not_contained():
    bed, coat = box(0, 0, 0.5, 2, 2, 1), box(1.05, 0, 0.6, 1, 1, 0.2)  # two of five columns of points are inside
    pairs = pairs_of(np.array([bed, coat]))
    assert lies_within(pairs)[1, 0] == pytest.approx(0.1)  # 0.4 of its footprint, 0.3 needed
    assert contained_in(pairs)[1, 0] == pytest.approx(-0.2)
    assert lies_within(pairs)[0, 1] < 0  # the bed starts lower than the coat


@settings(max_examples=20, deadline=None)
@given(some_boxes())
def test_walls_of_several_rooms_at_once_are_as_far_as_one_by_one(boxes):
    rooms = [np.array([[0.0, 0], [4, 0], [4, 3], [0, 3]]), np.array([[-5.0, -5], [0, -5], [-1, 0]])]
    room = np.arange(len(boxes)) % 2
    together = wall_distances(boxes, rooms, room)
    assert together.tolist() == [wall_distance(boxes[k : k + 1], rooms[n])[0] for k, n in enumerate(room.tolist())]


def test_boxes_of_another_shape_or_without_size_are_refused():
    with pytest.raises(InputError, match=r"\(N, 7\)"):
        pairs_of(np.zeros((3, 6)))
    with pytest.raises(InputError, match="positive sizes"):
        pairs_of(np.zeros((3, 7)))
    with pytest.raises(InputError, match="yaw"):
        Viewpoint(float("nan"))


@settings(max_examples=40, deadline=None)
@given(some_boxes())
def test_converse_relations_mirror_each_other(boxes):
    pairs = pairs_of(boxes)
    for relation, converse in CONVERSES.items():
        np.testing.assert_allclose(MARGINS[relation](pairs), MARGINS[converse](pairs).T)


@settings(max_examples=40, deadline=None)
@given(some_boxes(), st.floats(-3, 3), st.floats(-3, 3))
def test_turning_boxes_and_viewer_together_changes_no_margin(boxes, turn, yaw):
    cos, sin = np.cos(turn), np.sin(turn)
    turned = boxes.copy()
    turned[:, :2] = boxes[:, :2] @ np.array([[cos, sin], [-sin, cos]])
    turned[:, 6] += turn
    before, after = pairs_of(boxes, Viewpoint(yaw)), pairs_of(turned, Viewpoint(yaw + turn))
    contact = {R.SUPPORTED_BY, R.EMBEDDED_INTO, R.PLACED_IN, R.INSIDE}  # count grid points: rounding may flip one
    for relation in set(MARGINS) - contact:
        np.testing.assert_allclose(MARGINS[relation](after), MARGINS[relation](before), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(some_boxes(), st.randoms(use_true_random=False))
def test_permuting_boxes_permutes_margins(boxes, random):
    order = list(range(len(boxes)))
    random.shuffle(order)
    before, after = pairs_of(boxes), pairs_of(boxes[order])
    for relation, margin in MARGINS.items():
        np.testing.assert_allclose(margin(after), margin(before)[np.ix_(order, order)], err_msg=relation)


@settings(max_examples=30, deadline=None)
@given(some_boxes())
def test_the_gap_agrees_with_points_on_the_two_outlines(boxes):
    ticks = np.linspace(0, 1, 60)[:, None]
    corners = footprint(boxes)
    outline = [np.concatenate([a + ticks * (b - a) for a, b in zip(c, np.roll(c, -1, axis=0))]) for c in corners]
    sampled = np.linalg.norm(outline[0][:, None] - outline[1][None], axis=-1).min()
    gap = pairs_of(boxes).gap[0, 1]
    assert gap <= sampled + 1e-9
    assert gap == 0 or gap == pytest.approx(sampled, abs=0.04)


def test_behind_is_far_from_the_viewer():
    assert behind(pairs_of(np.array([box(0, 5), box(0, 0)])))[0, 1] == 5

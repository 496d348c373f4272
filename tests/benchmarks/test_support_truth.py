"""Counting of supports found and missed, on a room whose counts are known by hand."""

import numpy as np
import pytest

from benchmarks.support_truth import Outcome, settled, table
from scene.graph import build_graph
from scene.types import Room, Scene, SceneObject

SQUARE = np.array([[0.0, 0.0], [6.0, 0.0], [6.0, 5.0], [0.0, 5.0]])
THINGS = (
    ("table", 3.0, 3.0, 0.4, 1.2, 0.8, 0.8),
    ("mug", 3.0, 3.0, 0.9, 0.1, 0.1, 0.1),  # hovers 5 cm
    ("spoon", 3.0, 3.0, 0.955, 0.05, 0.01, 0.01),  # on the mug as given, 15 cm up
    ("ball", 3.2, 3.0, 1.1, 0.2, 0.2, 0.2),  # 20 cm over the table: it falls onto it
    ("bat", 3.0, 3.1, 0.1, 0.5, 0.1, 0.2),  # its owner is the table, but it lies on the floor
    ("clock", 5.97, 2.0, 1.6, 0.05, 0.3, 0.3),
    ("shoe", 1.0, 1.0, 0.1, 0.3, 0.1, 0.2),
    ("leaf", 3.0, 4.0, 1.3, 0.1, 0.1, 0.01),  # beside the table, in the air: not found
    ("window", 6.0, 3.0, 1.5, 0.1, 1.0, 1.0),
)
TRUTH = {0: None, 1: 0, 2: 1, 3: 0, 4: 0, 5: None, 6: None, 7: 0, 8: None}


def room():
    objects = [SceneObject(k, label, np.array([*numbers, 0.0])) for k, (label, *numbers) in enumerate(THINGS)]
    return Scene("room", "test", objects, [Room(0, "hall", SQUARE)])


def outcome(scene):
    counted = Outcome()
    counted.add(scene, build_graph(scene), TRUTH)
    return counted


def test_hits_misses_and_what_is_left_out():
    found = outcome(room())
    assert (found.nested.true, found.nested.claimed, found.nested.hits) == (4, 3, 3)  # without the bat
    assert (found.wall.true, found.wall.claimed, found.wall.hits) == (1, 1, 1)  # the clock; windows do not count
    assert (found.floor.true, found.floor.claimed, found.floor.hits) == (2, 3, 2)  # table and shoe; the leaf is false
    assert found.misses == [("hovers more than 11 cm over its parent", "room leaf #7: table #0, found: floor")]
    assert found.on_floor == ["room bat #4 of table #0: the floor"]
    assert (found.hovering, found.hovering_over_2_cm, found.supporters_not_one) == (3, 3, 0)
    assert found.gaps == pytest.approx([0.05, 0.0, 0.2, 0.495])


def test_settled_things_lie_on_their_parents_and_take_along_what_they_carry():
    scene = settled(room(), TRUTH)
    bottom = scene.boxes[:, 2] - 0.5 * scene.boxes[:, 5]
    assert bottom[[1, 2, 3, 7]] == pytest.approx([0.8, 0.9, 1.0, 1.295])  # gaps of more than 10 cm stay
    assert outcome(scene).hovering == 2


def test_the_table_names_every_miss():
    text = "\n".join(table({"as given": outcome(room())}))
    assert "| nested | recall 3/4 = 75.0 %, precision 3/3 = 100.0 % |" in text
    assert "- hovers more than 11 cm over its parent, 1: room leaf #7: table #0, found: floor" in text
    assert "- room bat #4 of table #0: the floor" in text

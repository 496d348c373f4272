"""Questions from a place and a heading."""

from collections import Counter

import numpy as np
import pytest

from scene.situated import Stand, around
from tests.scene.test_questions import asked_in_homes, home


@pytest.fixture(scope="module")
def asked():
    return asked_in_homes(16)


def test_standing_at_the_bed_and_facing_the_door_the_desk_is_to_the_left():
    scope = home(
        ("bed", "white", 4.0, 1.0, 0.3, 1.6, 2.0, 0.6),
        ("door", "brown", 4.0, 8.0, 1.0, 0.9, 0.1, 2.0),
        ("desk", "black", 1.0, 2.6, 0.4, 1.2, 0.6, 0.75),
        ("lamp", "red", 7.0, 2.4, 0.7, 0.3, 0.3, 1.4),
        ("plant", "green", 4.1, 5.5, 0.5, 0.3, 0.3, 1.0),
    )
    north = Stand(0, 1, (4.0, 2.3, 0.0), np.pi / 2, "standing at the bed, facing the door")
    answers: dict[str, set[str]] = {}
    for seed in range(20):
        for question in around(scope, north, np.random.default_rng(seed)):
            answers.setdefault(question.question, set()).add(question.answers[0])
    assert answers["where is the desk?"] == {"left"} and answers["where is the lamp?"] == {"right"}
    assert answers["where is the plant?"] == {"in front"}
    assert answers["is the lamp on my left or on my right?"] == {"right"}
    assert answers["which way must i turn to face the desk?"] == {"left"}
    assert answers["what is the closest thing on my left?"] == {"desk"}
    south = Stand(0, 1, (4.0, 2.3, 0.0), -np.pi / 2, "")
    turned = {q.question: q.answers[0] for s in range(20) for q in around(scope, south, np.random.default_rng(s))}
    assert (turned["where is the desk?"], turned["where is the plant?"]) == ("right", "behind")


def test_situated_answers_follow_from_place_and_heading(asked):
    """By complex numbers instead of angles: what lies along the heading is in front, along i times it to the left."""
    seen = Counter()
    for scene, graph, question in asked:
        if question.kind != "situated":
            continue
        target, at, facing = question.objects
        place, heading = complex(*question.position[:2]), np.exp(1j * question.yaw_rad)
        seat, goal, thing = (complex(*scene.boxes[i, :2]) for i in (at, facing, target))
        assert abs(((goal - seat) / abs(goal - seat)) / heading - 1) < 1e-3  # looks the way it says
        assert abs(place - seat) < abs(goal - seat) and len(question.position) == 3
        turned = (thing - place) / heading
        axis = max(abs(turned.real), abs(turned.imag))
        ahead = "in front" if turned.real == axis else "behind" if -turned.real == axis else ""
        side = "left" if turned.imag > 0 else "right"
        if question.pattern == "situated-where":
            assert question.answers[0] == (ahead or side), question
        elif question.pattern in ("situated-side", "situated-turn"):
            assert question.answers[0] == side, question
        else:
            assert question.answers[0] == graph.labels[target]
            assert (ahead or side) in question.question, question
        seen[question.pattern] += 1
    assert set(seen) == {"situated-where", "situated-side", "situated-turn", "situated-what"}

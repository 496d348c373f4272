"""Where the thing of a subgoal stands: the best of what was seen, by the words' scores, as the agent stands."""

from types import SimpleNamespace

import pytest
import torch

from agents.subgoals.pointed_thing import PointedThing
from agents.subgoals.types import MOST, Plan, Subgoal, Test

SCORES = {"go to the bed": [0.7, 0.2, 0.1], "go to the desk": [0.1, 0.6, 0.3], "go to it": [0.2, 0.2, 0.6]}
PLAN = Plan("go to it", (Subgoal("enter the hall", Test("enter", room=0)), Subgoal("go to the bed"), Subgoal("go to the desk")), "symbolic")  # fmt: skip  # noqa: E501


class Memory:
    most = 4

    def __init__(self):
        self.asked = []

    def scores(self, home, text):
        self.asked.append(text)
        return torch.tensor(SCORES[text])[:, None].expand(-1, 3)


def test_the_best_of_what_was_seen_is_pointed_out_and_rooms_are_not():
    memory = Memory()
    thing = PointedThing(memory)
    rows = torch.tensor(thing.rows("home", PLAN))
    assert len(rows) == MOST + 1 and len(set(rows[3:].tolist())) == 1
    seen = {"last_seen": torch.tensor([[-1, 3, 4, -1]] * 4), "place": torch.tensor([[[0, 0, 0], [3, 4, 1], [0, 2, 1], [0, 0, 0]]] * 4).float()}  # fmt: skip  # noqa: E501
    state = SimpleNamespace(position=torch.zeros(4, 2), yaw=torch.zeros(4))
    shown = thing(rows[:4], state, seen)
    assert shown[0].tolist() == [0.0] * 5  # a room
    # of the bed's scores the best was not seen; second stands 3 m ahead, 4 m to the left: 5 m away
    assert shown[1].tolist() == pytest.approx([1.0, 0.2, 0.6, -0.8, 1.0])
    assert shown[2].tolist() == pytest.approx([1.0, 0.6, 0.6, -0.8, 1.0])
    assert shown[3].tolist() == pytest.approx([1.0, 0.6, 0.0, -0.4, 0.4])  # the goal, behind the last
    thing.rows("home", PLAN)
    assert memory.asked == ["go to the bed", "go to the desk", "go to it"]


def test_nothing_is_pointed_out_before_it_was_seen():
    thing = PointedThing(Memory())
    rows = torch.tensor(thing.rows("home", PLAN)[1:2])
    unseen = {"last_seen": torch.full((1, 4), -1), "place": torch.zeros(1, 4, 3)}
    state = SimpleNamespace(position=torch.zeros(1, 2), yaw=torch.zeros(1))
    assert thing(rows, state, unseen).tolist() == [[0.0] * 5]

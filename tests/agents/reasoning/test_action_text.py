import pytest

from agents.reasoning.action_text import FORM, GoalView, TurnAnswer, instead, read_action, turn_prompt, worked_turn
from agents.reasoning.types import PICTURE
from core.errors import InputError

ACTIONS = ("stop", "forward", "turn left", "turn right")


def test_a_turn_asks_with_one_picture_the_goal_and_what_was_done():
    first = turn_prompt("find the red sofa", ACTIONS)
    later = turn_prompt("find the red sofa", ACTIONS, ["forward", "turn left"])
    assert first == f"{PICTURE} goal: find the red sofa. actions: stop, forward, turn left, turn right. {FORM}"
    full = turn_prompt("take it", ACTIONS, hands="full")
    assert "hands: full. actions" in full and "hands" not in later
    assert later.count(PICTURE) == 1 and "done: forward, turn left." in later


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<think> a </think> <answer> turn left </answer>", TurnAnswer(2, True)),
        ("<think>a</think><answer>Turn  Left.</answer>", TurnAnswer(2, True)),
        ("<answer> stop </answer>", TurnAnswer(0, False)),  # acts, without a thought
    ],
)
def test_one_name_between_the_tags_is_an_action(text, found):
    assert read_action(text, ACTIONS) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "forward",
        "<think> forward </think>",
        "<think> a </think> <answer> </answer>",
        "<think> a </think> <answer> forward, stop </answer>",
        "<think> a </think> <answer> left </answer>",
        "<think> a </think> <answer> turn left turn right </answer>",
        "<think> a </think> <answer> do not stop </answer>",
        "<answer> stop </answer> <answer> forward </answer>",
        "<think> a </think> <answer> stop </answer> or forward",
        "<think> a </think> <answer> stop",
        "<think> a </think> <answer> 0 </answer>",
        "<think> a </think> <answer> ѕtop </answer>",  # a Cyrillic letter
    ],
)
def test_everything_else_names_no_action(text):
    assert read_action(text, ACTIONS) == TurnAnswer(None, False)


def test_what_is_done_instead_never_ends_an_episode():
    assert ACTIONS[instead(ACTIONS)] == "turn left"
    with pytest.raises(InputError, match="discrete"):
        instead(("speed", "turn"))


@pytest.mark.parametrize("view", [GoalView(), GoalView("left"), GoalView("middle", near=True), GoalView("right")])
def test_a_worked_turn_reads_as_its_action(view):
    text = worked_turn("turn right", view)
    assert read_action(text, ACTIONS) == TurnAnswer(3, True)
    assert ("do not see" in text) == (not view.side) and view.side in text

"""Facts about agents/subgoals/plan_prompts.py."""

import pytest

from agents.subgoals.plan_prompts import (
    CAUSES,
    EXAMPLE,
    SIGHTS,
    Example,
    check_example,
    prompt_of,
    read_steps,
    things_of,
)
from agents.subgoals.types import MOST, Plan, Subgoal
from core.errors import InputError
from tests.agents.subgoals.asked_models import home, picture


def listed(count, words=2):
    return "\n".join(f"{k}. {' '.join(['go'] * words)}" for k in range(1, count + 1))


def test_a_numbered_list_is_read_in_the_forms_models_write_it():
    steps = ("go to the bed", "pick up the mug")
    assert read_steps("1. go to the bed\n2. pick up the mug", 20) == steps
    assert read_steps("SUBTASKS:\n\n1) go to  the bed\r\n  2) pick up the mug\n\n", 20) == steps
    assert read_steps("**Subtasks:**\n**1.** go to the bed\n2. **pick up the mug**", 20) == steps
    assert read_steps("## Subtasks\n**1. go to the bed**\n2. `pick up the mug`", 20) == steps
    assert read_steps("1. wait 3.5 s", 20) == ("wait 3.5 s",)


def test_one_step_and_forty_are_plans_and_forty_one_are_not():
    assert read_steps(listed(1), 20) == ("go go",)
    assert len(read_steps(listed(MOST), 20)) == MOST == 40
    assert read_steps(listed(MOST + 1), 20) == "too many steps"


def test_a_step_has_at_most_the_words_asked_for():
    assert read_steps(listed(1, words=5), 5) == ("go go go go go",)
    assert read_steps(listed(1, words=6), 5) == "step too long"


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        ("I cannot help with that.", "no list"),
        ("SUBTASKS:", "no list"),
        ("go to the bed\npick up the mug", "no list"),
        ("- go to the bed\n- pick up the mug", "no list"),
        ('["go to the bed"]', "no list"),
        ("Sure! Here is the list:\n1. go to the bed", "stray line"),
        ("1. go to the bed\nI hope this helps.", "stray line"),
        ("1. go to the bed\n   look around there\n2. pick up the mug", "stray line"),
        ("```\n1. go to the bed\n```", "stray line"),
        ("1. go to the bed\n1.1 bend down", "stray line"),
        ("1. go to the bed\u2028bend down", "stray line"),
        ("1. go to the bed\nSUBTASKS:\n2. pick up the mug", "stray line"),
        ("1.go to the bed", "stray line"),
        ("2. go to the bed", "numbering"),
        ("0. start\n1. go to the bed", "numbering"),
        ("1. go to the bed\n3. pick up the mug", "numbering"),
        ("1. go to the bed\n1. pick up the mug", "numbering"),
        ("1. go to the bed\n2. stop\n1. go to the bed", "numbering"),
        ("1. go to the bed\n2.", "empty step"),
        ("1. go to the bed\n2. ---", "empty step"),
        ("1. ****", "empty step"),
        ("1. go to \x07the bed", "unprintable"),
        ("1. go to the \u202ebed", "unprintable"),
        (listed(9999), "too many steps"),
    ],
)
def test_anything_else_than_one_whole_list_is_no_plan(answer, cause):
    assert read_steps(answer, 20) == cause
    assert cause in CAUSES


def test_a_long_answer_is_read_in_little_time():
    assert read_steps("1. " + "* " * 100_000, 20) == "empty step"
    assert read_steps("*" * 200_000 + "\n1. go", 20) == "stray line"
    assert read_steps("#*_ " * 50_000, 20) == "no list"
    assert read_steps("\n" * 200_000, 20) == "no list"
    assert read_steps("subtasks" + "_" * 200_000 + "x\n1. go", 20) == "stray line"


# --- what is asked ---


def test_a_prompt_has_the_example_first_and_the_task_last():
    asked = prompt_of("find the mug", home(), EXAMPLE, sight="task", max_words=7)
    assert asked.index("=== Example ===\nTASK: put the red book on the desk\nSUBTASKS:\n1. go to") == 0
    assert "4. put the red book on the desk\n\n=== Your turn ===\nTASK: find the mug\nList" in asked
    assert "at most 40, one a line, numbered from 1, each of at most 7 words" in asked
    assert asked.endswith("\nSUBTASKS:")
    assert "Picture" not in asked and "bedroom" not in asked


def test_each_picture_is_named_where_its_task_is():
    asked = prompt_of("find the mug", home(), EXAMPLE, sight="picture", max_words=7)
    assert "TASK: put the red book on the desk\nPicture 0 shows" in asked
    assert "TASK: find the mug\nPicture 1 shows" in asked


def test_things_in_words_are_those_of_each_home():
    asked = prompt_of("find the mug", home(), EXAMPLE, sight="things", max_words=7)
    assert f"TASK: put the red book on the desk\n{EXAMPLE.things}\nSUBTASKS:" in asked
    assert "TASK: find the mug\nIn the bedroom: a bed and a red chair. Elsewhere: a red chair.\nList" in asked


def test_braces_in_a_task_are_words_like_others():
    assert "TASK: {task} {0} {\n" in prompt_of("{task} {0} {", home(), EXAMPLE, sight="things", max_words=7)


def test_the_words_for_a_home_count_what_is_alike_and_leave_empty_rooms_out():
    things = ("chair", "mug", "chair", "keys", "lamp")
    said = things_of(home(things=things, rooms=("kitchen", "hallway")))
    assert said == "In the kitchen: two red chairs, a mug and some keys. Elsewhere: a lamp."
    assert things_of(home(things=())) == "Nothing is known of what is there."


def test_an_example_made_of_a_plan_says_what_the_plan_says():
    plan = Plan("find the bed", (Subgoal("go to the bed"), Subgoal("stop")), "symbolic")
    example = Example.from_plan(plan, home(), picture(7))
    assert (example.task, example.steps) == ("find the bed", ("go to the bed", "stop"))
    assert example.picture[0, 0, 0] == 7 and example.things.startswith("In the bedroom: a bed")
    assert Example.from_plan(plan, home()).picture is None


def test_an_example_that_cannot_serve_is_refused():
    for task, steps in (("", ("go",)), ("find the bed", ()), ("find the bed", ("go", " "))):
        with pytest.raises(InputError, match="needs a task and steps"):
            Example(task, steps)
    with pytest.raises(InputError, match="must not stand in for it"):
        check_example(EXAMPLE, "picture")
    with pytest.raises(InputError, match="what its home holds"):
        check_example(Example("find the bed", ("go",)), "things")
    with pytest.raises(InputError, match="did you mean 'things'"):
        check_example(EXAMPLE, "thing")
    for sight in set(SIGHTS) - {"picture"}:
        check_example(EXAMPLE, sight)

"""What a model is asked for the steps to a goal, and how its answer is read.

The shape is VSC-RL's (arXiv:2502.07949, appendix; subgoal_generator.py of its code): one worked example with its own
picture, then the task with the task's picture, then a numbered list of subtasks. It differs in three things. The
pictures are told apart by name; the released code shows the example's picture in the place of the task's. The home's
rooms and things in words can take the picture's place, for models that read none. And only a numbered list is read: an
answer with anything beside it is none.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from agents.subgoals.types import MOST, Plan
from core.errors import InputError, check_choice
from scene.english import counted, is_countable, listed, with_article
from scene.types import Scene, SceneObject
from vl.generator import Picture
from vl.pixels import shown_frame

SIGHTS: Final = {
    "picture": "what is seen at the start, as a picture",
    "things": "the home's rooms and things, in words",
    "task": "nothing but the task",
}
"""What a model knows of the home."""

SYSTEM: Final = (
    "You break tasks in a home into the steps that lead to them. You answer with the numbered list of steps, without "
    "more."
)
ASKED: Final = """=== Example ===
TASK: {example_task}
{example_sight}SUBTASKS:
{example_steps}

=== Your turn ===
TASK: {task}
{sight}List the subtasks in the order in which they are to be done: at most {most}, one a line, numbered from 1, each \
of at most {max_words} words. Write nothing before the list and nothing after it.
SUBTASKS:"""

CAUSES: Final = (
    "no list",  # no numbered line at all
    "stray line",  # something that is neither the heading "SUBTASKS:" before the list nor a numbered line
    "numbering",  # not 1, 2, 3 in order: a step is lost, or there are two lists
    "empty step",  # a number without a word
    "step too long",  # more words than asked for
    "too many steps",  # more than MOST
    "unprintable",  # control characters
)
"""Why an answer that came is no plan; beside the causes of vl/generator.py for answers that did not come."""

_HEADING: Final = re.compile(r"[#*_ ]*subtasks[*_: ]*", re.IGNORECASE)
_STEP: Final = re.compile(r"[*_]*([0-9]{1,4})[.)][*_]*(?:\s+(.*))?")
_NUMBERED: Final = re.compile(r"^[ \t]*[*_]*[0-9]{1,4}[.)]", re.MULTILINE)


@dataclass(frozen=True, eq=False)
class Example:
    """A task with its steps, which shows a model what is wanted of it; raises InputError for one without steps.

    Take it from a home of the training split: what is shown of the home goes along.
    """

    task: str
    steps: tuple[str, ...]
    picture: Picture | None = None  # what was seen when this task began
    things: str = ""  # what its home holds, as `things_of` says it

    def __post_init__(self) -> None:
        if not self.task.strip() or not self.steps or any(not step.strip() for step in self.steps):
            raise InputError(f"the worked example {self.task!r} needs a task and steps with words, got {self.steps}")

    @classmethod
    def from_plan(cls, plan: Plan, scene: Scene, view: Any = None) -> "Example":
        """The example that a plan for a home is, with what is seen at its start (H, W, 3) uint8."""
        steps = tuple(subgoal.text for subgoal in plan.subgoals)
        return cls(plan.goal, steps, None if view is None else shown_frame(view), things_of(scene))


EXAMPLE: Final = Example(
    task="put the red book on the desk",
    steps=("go to the shelf in the hallway", "pick up the red book", "go to the desk", "put the red book on the desk"),
    things="In the bedroom: a bed and a desk. In the hallway: a red book and a shelf.",
)
"""Serves where no picture is shown."""


def check_example(example: Example, sight: str) -> None:
    """Raises InputError for a sight that does not exist, or one the example does not show."""
    check_choice("sight", sight, SIGHTS)
    if sight == "picture" and example.picture is None:
        raise InputError(
            "the worked example has no picture, and the task's must not stand in for it; give "
            "Example.from_plan(plan, scene, view) of a training home, or sight='things'"
        )
    if sight == "things" and not example.things:
        raise InputError("the worked example does not say what its home holds; fill in `things`")


def prompt_of(task: str, scene: Scene, example: Example, *, sight: str, max_words: int) -> str:
    """What the model is asked; with sight "picture" the example's picture goes first and the task's second.

    Args:
        task: on one line.
        sight: key of SIGHTS.
    """
    seen = {"picture": "Picture {} shows what was seen when the task began.\n", "things": "{}\n", "task": ""}[sight]
    shown = (0, 1) if sight == "picture" else (example.things, things_of(scene)) if sight == "things" else ("", "")
    return ASKED.format(
        example_task=_line(example.task),
        example_sight=seen.format(shown[0]),
        example_steps="\n".join(f"{number}. {_line(step)}" for number, step in enumerate(example.steps, 1)),
        task=task,
        sight=seen.format(shown[1]),
        most=MOST,
        max_words=max_words,
    )


def things_of(scene: Scene) -> str:
    """What a home holds, room by room: "In the bedroom: a bed and two red chairs."

    This is more than an agent at the start can see; a plan made from it knows the home as the scene graph does.
    """
    places = [(room.id, room.kind) for room in scene.rooms] + [(-1, "")]
    sentences = []
    for number, kind in places:
        held = [item for item in scene.objects if item.room == number]
        if held:
            sentences.append(f"{f'In the {kind}' if kind else 'Elsewhere'}: {_counted(held)}.")
    return " ".join(sentences) or "Nothing is known of what is there."


def read_steps(answer: str, max_words: int) -> tuple[str, ...] | str:
    """The steps of a numbered list, or one of CAUSES; never a part of a list.

    "1." and "1)" number a step, emphasis around number and step does not matter, and neither do empty lines or the
    heading "SUBTASKS:" before the list.
    """
    if not _NUMBERED.search(answer):
        return "no list"
    steps: list[str] = []
    for line in (line.strip() for line in answer.splitlines()):
        if not line or not steps and _HEADING.fullmatch(line):
            continue
        read = _STEP.fullmatch(line)
        if read is None:
            return "stray line"
        if int(read[1]) != len(steps) + 1:
            return "numbering"
        if len(steps) == MOST:
            return "too many steps"
        step = " ".join((read[2] or "").strip("*_` \t").split())
        if not any(letter.isalnum() for letter in step):
            return "empty step"
        if not step.isprintable():
            return "unprintable"
        if len(step.split()) > max_words:
            return "step too long"
        steps.append(step)
    return tuple(steps)


def _counted(held: list[SceneObject]) -> str:
    names = Counter((item.label, f"{item.attributes.get('color', '')} {item.label}".strip()) for item in held)
    return listed(
        [counted(name, count) if is_countable(label) else with_article(name) for (label, name), count in names.items()]
    )


def _line(text: str) -> str:
    return " ".join(text.split())

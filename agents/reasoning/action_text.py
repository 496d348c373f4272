"""What a turn of a language model in the simulator is made of: the question, the answer, and answers to imitate.

    <picture> goal: find the red armchair. done: forward, turn left. actions: stop, forward, turn left, turn right.
    reply: <think> thought </think> <answer> action </answer>
    <think> i see the goal on the left, far away. </think> <answer> turn left </answer>

Reading is strict: the answer is one action's name and nothing else, up to case, spacing and a full stop. A response
that names no action never ends an episode: the agent turns to the left instead (`INSTEAD`). So it sees something new,
no unreadable answer ever counts as a success, and training and evaluation mean the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agents.reasoning.answers import ANSWER, END_ANSWER, END_THINK, THINK, extract, plain, worked
from agents.reasoning.types import PICTURE
from core.errors import InputError

INSTEAD: Final = "turn left"
"""What an agent does whose answer names no action."""
FORM: Final = f"reply: {THINK} thought {END_THINK} {ANSWER} action {END_ANSWER}"
SIDES: Final = ("left", "middle", "right")
HANDS: Final = ("empty", "full")
NEAR_M: Final = 1.0  # to the thing's footprint; as far as FindObject's success


@dataclass(frozen=True)
class TurnAnswer:
    """What a response says to do."""

    action: int | None  # number of the action; None: it names none
    well_formed: bool  # one thought, then one answer (answers.py), and the answer names an action


@dataclass(frozen=True)
class GoalView:
    """What a picture shows of the things an agent is after."""

    side: str = ""  # third of the picture they are seen in, one of SIDES; empty: not seen
    near: bool = False  # the nearest one that is seen lies within NEAR_M


def turn_prompt(goal: str, actions: Sequence[str], past: Sequence[str] = (), *, hands: str = "") -> str:
    """The question of one turn, with one picture.

    Args:
        goal: the task's sentence.
        actions: names of what can be done.
        past: names of what was done last, oldest first.
        hands: one of HANDS, in tasks that have any.
    """
    done = f" done: {', '.join(past)}." if past else ""
    has = f" hands: {hands}." if hands else ""
    return f"{PICTURE} goal: {goal}.{done}{has} actions: {', '.join(actions)}. {FORM}"


def read_action(text: str, actions: Sequence[str]) -> TurnAnswer:
    """The action that a response names; with or without a thought before it."""
    answer = extract(text)
    said = "" if answer.text is None else plain(answer.text)
    if said not in actions:
        return TurnAnswer(None, False)
    return TurnAnswer(list(actions).index(said), answer.well_formed)


def instead(actions: Sequence[str]) -> int:
    """The number of the action taken where none is named.

    Raises:
        InputError: the actions are not a simulator's discrete ones.
    """
    if INSTEAD not in actions:
        raise InputError(
            f"a language model acts by names, and {INSTEAD!r} should be one of them; the actions are {list(actions)}. "
            "Use control='discrete'"
        )
    return list(actions).index(INSTEAD)


def worked_turn(action: str, view: GoalView) -> str:
    """An answer to imitate: what is seen of the goal, then the action."""
    seen = f"i see the goal on the {view.side}" if view.side != "middle" else "i see the goal in the middle"
    thought = f"{seen}, {'near' if view.near else 'far away'}." if view.side else "i do not see the goal."
    return worked(thought, action)

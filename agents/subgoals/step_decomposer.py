"""Learned or retrieved steps as a Decomposer: each step in words, with a test where the home can tell it is done.

Going, picking up and putting down have tests over the home's objects of that name. What the homes here do not simulate
(slicing, cleaning, heating, cooling, switching on) has words alone: a judge that reads them has to tell.
"""

import re
from collections.abc import Sequence
from typing import Any

from agents.subgoals.sequence_model import LearnedSteps
from agents.subgoals.step_sequences import GOTO, PICK, PUT, Step, Steps
from agents.subgoals.types import MOST, Plan, Subgoal, Test
from core.errors import InputError, nearest
from envs.goals import Goal
from scene.types import Scene
from vl.tokenizer import knows_a_word


class LearnedDecomposer:
    """Proposes the steps that a trained model writes for a goal; raises InputError as Decomposer says."""

    def __init__(self, learned: LearnedSteps) -> None:
        self._learned = learned

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """The plan of one goal; `view` is not looked at.

        Raises:
            InputError: no word of the goal is known, the model wrote no step or more than a plan may have, or a thing
                to go to, take or put is not in the scene.
        """
        text = goal if isinstance(goal, str) else goal.text
        if not knows_a_word(self._learned.tokenizer, text):
            raise InputError(f"the decomposer knows no word of {text!r}; it was trained on household goals in English")
        steps = self._learned.plans([text])[0]
        if not steps:
            raise InputError(f"the decomposer wrote no step for {text!r}")
        return plan_in(scene, text, steps, self._learned.phrases.say(steps))


def plan_in(scene: Scene, goal: str, steps: Steps, words: Sequence[str]) -> Plan:
    """Steps as subgoals in a scene, one for each, with `words` for their texts.

    Raises:
        InputError: a thing to go to, take or put is not in the scene, or there are more than MOST steps.
    """
    things: dict[str, list[int]] = {}
    for item in scene.objects:
        things.setdefault(plain_name(item.label), []).append(item.id)
    if len(steps) > MOST:
        raise InputError(f"{goal!r} falls into {len(steps)} steps; at most {MOST} make sense")
    return Plan(goal, tuple(Subgoal(text, test_of(step, things)) for step, text in zip(steps, words)), "model")


def test_of(step: Step, things: dict[str, list[int]]) -> Test | None:
    """When a step is done, if a home can tell.

    Args:
        things: ids of objects by plain name.
    """
    if step.action not in (GOTO, PICK, PUT):
        return None
    missing = [name for name in (step.object, step.receptacle) if name and name not in things]
    if missing:
        raise InputError(f"{step.words!r}: there is no {missing[0]} in this scene; {nearest(missing[0], things)}")
    kind = {GOTO: "reach", PICK: "hold", PUT: "rest"}[step.action]
    return Test(kind, tuple(things[step.object]), tuple(things[step.receptacle]) if step.receptacle else ())


def plain_name(label: str) -> str:
    """A label as ALFRED names things: "Alarm clock" is "alarmclock"."""
    return re.sub(r"[^a-z0-9]", "", label.lower())

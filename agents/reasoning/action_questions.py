"""What to do next on the way to a goal that is in sight: the oracle's action, as text.

The oracle (envs/expert.py) walks to goals of FindObject; every picture on its way may be asked about. Its way around
furniture, or towards what is out of sight, cannot be told from one picture: asked are steps that go straight, with the
goal surely in sight and as far to one side, or as near, as leaves no doubt.
"""

import zlib
from typing import Any, Final

import numpy as np

from agents.reasoning.question_balance import Asked
from agents.reasoning.question_views import Thing, View, family, views_of
from agents.reasoning.questions import SIDE_WORDS, about
from core.conventions import intrinsics_from_fov
from core.errors import InputError
from envs.expert import Expert
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject, phrase
from scene.types import Scene
from scene.visibility import score_points

STEPS: Final = 24  # of an episode, at most
AHEAD: Final = 0.1  # of the width: a goal so near to the middle is walked to
ASIDE: Final = 0.17  # one so far from the middle is turned to (a turn is 30 degrees: the oracle does so from 0.13 on)
FAR_M: Final = 1.5  # walked to from here; stopping succeeds within 1 m


def next_actions(
    scene: Scene, manifest: dict[str, Any], episodes: int, seed: int, size: int, fov_deg: float
) -> tuple[list[Asked], list[View]]:
    """Questions about pictures on the oracle's way in `episodes` episodes of a home, and those pictures.

    Args:
        manifest: of the scenes; its goal labels and colours are the goals.

    Returns:
        Nothing for a home without a goal that can be walked to.
    """
    try:
        pool = HomePool([scene], goal_labels=manifest.get("goal_labels"), manifest=manifest)
        task = FindObject.from_pool(pool)
        draw = zlib.crc32(f"{seed} {scene.id}".encode())
        sim = Simulator(pool, task, episodes, draw, Sensors(size, size, fov_deg), max_steps=STEPS + 1)
    except InputError:
        return [], []
    expert, lens = Expert(sim), intrinsics_from_fov(size, size, np.deg2rad(fov_deg))
    points = score_points(scene)
    state = sim.reset()
    frame = sim.observe(state)
    asked: list[Asked] = []
    views: list[View] = []
    for step in range(STEPS):
        action, poses = expert(state), sim.poses(state)
        shown, _ = sim.goal_visibility(frame.instance, state)
        rows = np.flatnonzero(~state.done.numpy() & (shown.numpy() > 0))
        seen = views_of(
            scene, points, [f"{scene.id}-way{env:02d}-{step:02d}" for env in rows], poses[rows], lens,
            frame.rgb.numpy()[rows], frame.depth.numpy()[rows], frame.instance.numpy()[rows],
        )  # fmt: skip
        for env, view in zip(rows, seen):
            goal = sim.goal(state, int(env))
            name = sim.action_names[int(action[env])]
            thing = _in_sight(view, goal.label, goal.color)
            if thing is not None and _plain(thing, name):
                views.append(view)
                asked.append(_asked(view, thing, name, sim.action_names))
        state, taken = sim.step(state, action)
        assert taken.frame is not None  # the simulator has a camera
        frame = taken.frame
        if bool(state.done.all()):
            break
    return asked, views


def _in_sight(view: View, label: str, color: str) -> Thing | None:
    """The one thing the goal means in this picture; None where none or several could be meant."""
    fitting = [thing for thing in view.things if thing.label == label and thing.color == color]
    others = [t for t in view.things if family(t.label) == family(label) and t.label != label and t.color == color]
    if len(fitting) != 1 or others or not (fitting[0].sure and fitting[0].clear):
        return None
    return fitting[0]


def _plain(thing: Thing, action: str) -> bool:
    """Whether the action is what the picture calls for, with room to spare."""
    aside = thing.column - 0.5
    if action == "stop":
        return thing.distance_m <= 1.0
    if action == "forward":
        return abs(aside) <= AHEAD and thing.distance_m >= FAR_M
    return thing.distance_m >= FAR_M and (aside <= -ASIDE if action == "turn left" else aside >= ASIDE)


def _asked(view: View, thing: Thing, action: str, actions: tuple[str, ...]) -> Asked:
    noun = phrase(thing.label, thing.color)
    near = "near" if thing.distance_m <= 1.0 else "far"
    question = f"goal: find the {noun}. actions: {', '.join(actions)}."
    thought = f"the {noun} is {SIDE_WORDS[thing.side]} and {near}."
    return about("next-action", [view], question, action, thought, key="action", choices=actions)

"""Pictures to plan by: what an agent sees where an episode with a goal may begin, and the worked example's own.

A plan belongs to a goal in a home and is made once, so its picture must not depend on which episode met the goal first:
the start is drawn by home and goal alone, as an episode's start is. The example's home is generated and in no split, so
nothing of the homes that agents are trained or tried in is given away, and an agent that is loaded shows the same one.
"""

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from agents.subgoals.plan_prompts import Example
from agents.subgoals.symbolic import SymbolicDecomposer
from envs.home_stream import ProceduralSource
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks import TASKS
from scene.datasets.procedural import HomeConfig, generate_home

CAMERA: Final = Sensors(width=256, height=256)
EXAMPLE_HOME: Final = 2**31 - 1  # seed; far from those of any split or stream
EXAMPLE_GOAL: Final = 0


def first_views(
    simulator: Simulator, places: Sequence[tuple[int, int]], camera: Sensors = CAMERA
) -> list[UInt8[ndarray, "H W 3"]]:
    """A picture for each goal, by its home's number and its own in that home."""
    homes = np.array([home for home, _ in places], dtype=np.int64)
    goals = np.array([goal for _, goal in places], dtype=np.int64)
    keys = np.array([_key(simulator, *place) for place in places], dtype=np.int64)
    views: list[ndarray] = []
    for start in range(0, len(places), simulator.num_envs):  # as many as it can draw at once
        part = slice(start, start + simulator.num_envs)
        none = np.zeros_like(homes[part])
        state = simulator.drawn(none, none, keys[part], homes[part], goals[part])
        views.extend(simulator.observe(state, sensors=camera).rgb.cpu().numpy())
    return views


def _key(simulator: Simulator, home: int, goal: int) -> int:
    """A number that a home's name and a goal decide, whichever others are there."""
    scene = simulator.homes[home].scene
    named = f"{scene.source}/{scene.id}\n{simulator.fields.goal(home, goal)!r}"
    return int.from_bytes(hashlib.blake2b(named.encode(), digest_size=8).digest(), "little", signed=True)


@cache
def pictured_example() -> Example:
    """The worked example of prompts with pictures: two stages in a generated home, with what is seen at the start."""
    manifest = ProceduralSource().manifest
    scene = generate_home(EXAMPLE_HOME, HomeConfig())
    pool = HomePool([scene], goal_labels=manifest["goal_labels"], manifest=manifest)
    task = TASKS["follow_instruction"].from_manifest(manifest)
    simulator = Simulator(pool, task, num_envs=1, sensors=CAMERA)
    (view,) = first_views(simulator, [(0, EXAMPLE_GOAL)])
    plan = SymbolicDecomposer("rooms")(simulator.fields.goal(0, EXAMPLE_GOAL), scene)
    return Example.from_plan(plan, scene, view)

"""What the Gymnasium and stable-baselines3 adapters show of a batch: spaces, arrays, infos.

An observation is a dict: "rgb" (H, W, 3) uint8; "depth" (H, W, 1) float32 metres when asked for; "goal", two numbers:
the index of the wanted noun and that of the wanted colour, each in alphabetical order over the task's goals. The
sentence itself is `info["goal_text"]`.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from core.errors import InputError
from envs.goals import Goal, Task
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import ACTION_NAMES, Sensors, SimState, Step
from envs.tasks import TASKS
from scene.render import Frame

FAR_M = 100.0  # depth is cut here, to have a bounded space


@lru_cache(maxsize=2)
def default_homes(count: int, seed: int) -> HomePool:
    """A few procedural homes, generated once a process."""
    return HomePool.procedural(count, seed)


def make_simulator(
    task: str = "find_object",
    num_envs: int = 1,
    *,
    homes: HomePool | None = None,
    scenes: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    goals: Sequence[Goal | tuple[str, str]] | None = None,
    width: int = 64,
    height: int = 64,
    fov_deg: float = 90.0,
    max_steps: int = 100,
    num_homes: int = 4,
    homes_seed: int = 0,
) -> Simulator:
    """The simulator behind an adapter.

    Args:
        homes: a pool made already. Otherwise `scenes`, a SCENES folder, with `split` and `limit`; otherwise `num_homes`
            procedural homes from `homes_seed`, generated on the spot.
        goals: the vocabulary; left out: of the folder's manifest where there is one, else what the homes offer.
        width, height, fov_deg: the camera.
        max_steps: actions after which an episode is truncated.
    """
    if homes is not None and scenes is not None:
        raise InputError("give either homes= (a HomePool) or scenes= (a folder), not both")
    pool = homes or (HomePool.from_folder(scenes, split, limit) if scenes else default_homes(num_homes, homes_seed))
    chosen: str | Task = task
    if goals is not None and task in TASKS:
        chosen = TASKS[task](goals=tuple(goals))  # type: ignore[arg-type]  # pairs become goals there
    elif pool.manifest.get("goal_labels") and task in TASKS:
        chosen = TASKS[task].from_manifest(pool.manifest)
    return Simulator(pool, chosen, num_envs, sensors=Sensors(width, height, fov_deg), max_steps=max_steps)


class Observer:
    """Turns a batch of states and frames into arrays of fixed spaces.

    Attributes:
        labels, colors: what the two numbers of "goal" index.
        space: of one environment's observation.
        actions: 0 stop, 1 forward, 2 turn left, 3 turn right.
    """

    def __init__(self, sim: Simulator, depth: bool = False) -> None:
        assert sim.sensors is not None
        self.labels = sorted({goal.label for goal in sim.goals})
        self.colors = sorted({goal.color for goal in sim.goals})
        self.texts = np.array([goal.text for goal in sim.goals], dtype=object)
        self._pair = np.array([[self.labels.index(goal.label), self.colors.index(goal.color)] for goal in sim.goals])
        self._homes = np.array(sim.homes.ids, dtype=object)
        self.depth = depth
        height, width = sim.sensors.height, sim.sensors.width
        spaces: dict[str, gymnasium.Space] = {
            "rgb": gymnasium.spaces.Box(0, 255, (height, width, 3), np.uint8),
            "goal": gymnasium.spaces.MultiDiscrete([len(self.labels), len(self.colors)]),
        }
        if depth:
            spaces["depth"] = gymnasium.spaces.Box(0.0, FAR_M, (height, width, 1), np.float32)
        self.space = gymnasium.spaces.Dict(spaces)
        self.actions = gymnasium.spaces.Discrete(len(ACTION_NAMES))

    def observation(self, state: SimState, frame: Frame) -> dict[str, ndarray]:
        """Arrays with one row per environment, not shared with the simulator."""
        shown = {"rgb": frame.rgb.cpu().numpy().copy(), "goal": self._pair[state.goal.cpu().numpy()].astype(np.int64)}
        if self.depth:
            shown["depth"] = np.minimum(frame.depth.cpu().numpy()[..., None], np.float32(FAR_M))
        return {name: shown[name] for name in self.space.spaces}

    def info(self, state: SimState, step: Step | None = None) -> dict[str, ndarray]:
        """Sentence and home of each environment, and after a step its metrics; arrays with one row per environment."""
        info: dict[str, ndarray] = {
            "goal_text": self.texts[state.goal.cpu().numpy()],
            "home": self._homes[state.home.cpu().numpy()],
        }
        if step is not None:
            info |= {name: values.cpu().numpy() for name, values in step.metrics.items()}
        return info


def row_of(arrays: dict[str, ndarray], index: int) -> dict[str, Any]:
    """One environment's part of an observation or info; numbers become plain floats."""
    picked = {name: values[index] for name, values in arrays.items()}
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in picked.items()}


def masked_info(info: dict[str, ndarray], mask: Bool[ndarray, " B"]) -> dict[str, Any]:
    """An info as Gymnasium's vector environments give it: each array with a `_name` mask of the rows that have it."""
    return info | {f"_{name}": mask.copy() for name in info}

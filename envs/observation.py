"""What the Gymnasium and stable-baselines3 adapters show of a batch: spaces, arrays, infos.

An observation is a dict:

- "rgb" (H, W, 3) uint8;
- "depth" (H, W, 1) float32 metres along the camera's axis, 0 where nothing was hit; when asked for;
- "instance" (H, W, 1) int32, the object each pixel shows (index into the home's objects), -1 = none; when asked for;
- "goal", by the task. FindObject: two numbers, the index of the wanted noun and that of the wanted colour, each in
  alphabetical order over the task's pairs. PointGoal: distance in metres and bearing in radians from the heading,
  positive to the left (habitat-lab's pointgoal_with_gps_compass). Any other task: its sentence as word numbers;
- "holding" (1,) float32, 1 while the agent holds something; in tasks with hands (habitat-lab's is_holding);
- "pose" (3,) float32, metres ahead and to the left of where the episode began and radians turned since, positive to the
  left (habitat-lab's gps and compass); when asked for.

The sentence itself is always `info["goal_text"]`.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray

from core.conventions import wrap_angle
from core.errors import InputError
from envs.goals import Task
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Noise, Sensors, SimState, Step
from envs.tasks import TASKS, make_task
from envs.tasks.find_object import FindObject
from envs.tasks.point_goal import PointGoal
from scene.render import Frame

FAR_M = 100.0  # distances are cut here, to have bounded spaces
WORD_NUMBERS = 8192  # 0 is padding, words are 1..8191
SENTENCE_WORDS = 64  # room for the longest sentence of the tasks
MAX_STEPS = {"rearrange": 300, "follow_instruction": 300}  # tasks of several stages take longer than
SHORT_STEPS = 100  # the others: the way there is at most 10 m, 40 steps and the turns


def task_name(task: Task) -> str:
    """The key of TASKS that a task is of; "" for a task that is not in the table."""
    return next((name for name, kind in TASKS.items() if kind is type(task)), "")


def task_max_steps(task: str | Task) -> int:
    """Actions an episode of a task lasts at most, where nobody says otherwise: jobs and adapters alike.

    Args:
        task: a key of TASKS, or a task; one that is not in the table gets SHORT_STEPS.
    """
    return MAX_STEPS.get(task if isinstance(task, str) else task_name(task), SHORT_STEPS)


@lru_cache(maxsize=4)
def default_homes(count: int, seed: int, interactive: bool = False) -> HomePool:
    """A few procedural homes, generated once a process."""
    return HomePool.procedural(count, seed, interactive=interactive)


def make_simulator(
    task: str | Task = "find_object",
    num_envs: int = 1,
    *,
    homes: HomePool | None = None,
    scenes: str | Path | None = None,
    split: str = "train",
    limit: int | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    width: int = 64,
    height: int = 64,
    fov_deg: float = 90.0,
    max_steps: int | None = None,
    control: str = "discrete",
    tilt: bool = False,
    noise: Noise | bool | float = False,
    shut_doors: float = 0.0,
    num_homes: int = 4,
    homes_seed: int = 0,
) -> Simulator:
    """The simulator behind an adapter.

    Args:
        homes: a pool made already (interactive=True for tasks with hands and for doors). Otherwise `scenes`, a SCENES
            folder, with `split` and `limit`; otherwise `num_homes` procedural homes from `homes_seed`, generated on the
            spot.
        pairs: (label, colour) of FindObject, "" for any colour; left out: of the folder's manifest where there is one,
            else what the homes offer.
        width, height, fov_deg: the camera.
        max_steps: actions after which an episode is truncated; left out: 300 for Rearrange and FollowInstruction, 100
            for the others.
        control, tilt, shut_doors: as for envs.simulator.Simulator.
        noise: how far actions and depth stray: a factor on Noise(), as at the command line; True for Noise() as it is.

    Raises:
        InputError: homes and scenes together, pairs for another task, an unknown task; see also Simulator and HomePool.
    """
    if homes is not None and scenes is not None:
        raise InputError("give either homes= (a HomePool) or scenes= (a folder), not both")
    known = TASKS.get(task) if isinstance(task, str) else type(task)
    if pairs is not None and known is not FindObject:
        raise InputError(f"pairs= are what FindObject seeks; task={task!r} has none")
    chosen: str | Task = FindObject(tuple((label, color) for label, color in pairs)) if pairs is not None else task
    moves = known is not None and known.interactive is True if isinstance(task, str) else task.interactive
    interactive = moves or shut_doors > 0
    if homes is not None:
        if interactive and not homes.interactive:
            raise InputError(
                f"{f'task={task!r}' if moves else f'shut_doors={shut_doors}'} needs homes whose things and doors move: "
                "make them with interactive=True, such as HomePool.procedural(4, seed=0, interactive=True)"
            )
        pool = homes
    elif scenes is not None:
        pool = HomePool.from_folder(scenes, split, limit, interactive=interactive)
    else:
        pool = default_homes(num_homes, homes_seed, interactive)
    if isinstance(chosen, str):
        from_manifest = known is not None and pool.manifest.get("goal_labels")
        chosen = known.from_manifest(pool.manifest) if known and from_manifest else make_task(chosen, pool)
    return Simulator(
        pool,
        chosen,
        num_envs,
        sensors=Sensors(width, height, fov_deg),
        max_steps=task_max_steps(chosen) if max_steps is None else max_steps,
        control=control,
        tilt=tilt,
        noise=noise_of(noise),
        shut_doors=shut_doors,
    )


def noise_of(given: Noise | bool | float) -> Noise | None:
    """The noise somebody asks for: a Noise as it is, a factor on Noise(), True for 1 and False for 0; None for none.

    Raises:
        InputError: something else, or a factor that is negative or infinite.
    """
    if given is None or isinstance(given, Noise):
        return given
    if not isinstance(given, (bool, int, float, np.integer, np.floating)):
        raise InputError(f"noise={given!r} should be a Noise, a factor such as 0.5, or True or False")
    factor = float(given)
    return Noise(**{item.name: factor * getattr(Noise(), item.name) for item in fields(Noise)}) if factor else None


def word_numbers(text: str, length: int = SENTENCE_WORDS) -> Int64[ndarray, " L"]:
    """A sentence as numbers: 1 + crc32(word) mod 8191 for each lower-case word (letters, digits, apostrophes), then 0s.

    Needs no vocabulary file, and means the same everywhere; two words of a thousand share a number about 60 times.

    Raises:
        InputError: the sentence has more than `length` words.
    """
    words = re.findall(r"[a-z0-9']+", text.lower())
    if len(words) > length:
        raise InputError(f"a sentence of {len(words)} words does not fit into {length}: {text!r}; raise `length`")
    numbers = np.zeros(length, dtype=np.int64)
    numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % (WORD_NUMBERS - 1) for word in words]
    return numbers


class Observer:
    """Turns a batch of states and frames into arrays of fixed spaces.

    Show it every first state of an episode: "pose" is measured from there.

    Attributes:
        labels, colors: what the two numbers of FindObject's "goal" index; empty for other tasks.
        space: of one environment's observation.
        actions: of one environment; number k is `sim.action_names[k]`, or speeds in [-1, 1].
    """

    def __init__(self, sim: Simulator, *, depth: bool = False, instance: bool = False, pose: bool = False) -> None:
        if sim.sensors is None:
            raise InputError("observations have pictures, and this simulator has no sensors; give it Sensors()")
        self.sim = sim
        self.labels: list[str] = []
        self.colors: list[str] = []
        height, width = sim.sensors.height, sim.sensors.width
        Box = gymnasium.spaces.Box
        spaces: dict[str, gymnasium.Space] = {"rgb": Box(0, 255, (height, width, 3), np.uint8)}
        if isinstance(sim.task, FindObject):
            self.labels = sorted({label for label, _ in sim.task.pairs})
            self.colors = sorted({color for _, color in sim.task.pairs})
            numbers = [(self.labels.index(label), self.colors.index(color)) for label, color in sim.task.pairs]
            self._pairs = np.array(numbers, dtype=np.int64)
            spaces["goal"] = gymnasium.spaces.MultiDiscrete([len(self.labels), len(self.colors)])
        elif isinstance(sim.task, PointGoal):
            self._points = _points(sim)
            spaces["goal"] = Box(*_bounds([0.0, -np.pi], [FAR_M, np.pi]))
        else:
            self._words = np.zeros((0, SENTENCE_WORDS), dtype=np.int64)
            self._sentences(len(sim.texts))
            spaces["goal"] = Box(0, WORD_NUMBERS - 1, (SENTENCE_WORDS,), np.int64)
        if depth:
            spaces["depth"] = Box(0.0, FAR_M, (height, width, 1), np.float32)
        if instance:
            most = max(len(home.scene.objects) for home in sim.homes.homes)
            spaces["instance"] = Box(-1, max(most - 1, 0), (height, width, 1), np.int32)
        if sim.task.interactive:
            spaces["holding"] = Box(0.0, 1.0, (1,), np.float32)
        if pose:
            spaces["pose"] = Box(*_bounds([-FAR_M, -FAR_M, -np.pi], [FAR_M, FAR_M, np.pi]))
        self.space = gymnasium.spaces.Dict(spaces)
        self.actions: gymnasium.Space = (
            Box(-1.0, 1.0, (sim.action_size,), np.float32)
            if sim.control == "continuous"
            else gymnasium.spaces.Discrete(len(sim.action_names))
        )
        self._homes = np.array(sim.homes.ids, dtype=object)
        self._start = np.zeros((sim.num_envs, 3))  # position and yaw at the beginning of each episode

    def observation(self, state: SimState, frame: Frame) -> dict[str, ndarray]:
        """Arrays with one row per environment, not shared with the simulator."""
        shown = {"rgb": frame.rgb.cpu().numpy().copy(), "goal": self._goal(state)}
        if "depth" in self.space.spaces:
            shown["depth"] = np.minimum(frame.depth.cpu().numpy()[..., None], np.float32(FAR_M))
        if "instance" in self.space.spaces:
            shown["instance"] = frame.instance.cpu().numpy()[..., None].copy()
        if "holding" in self.space.spaces:
            assert state.world is not None
            shown["holding"] = (state.world.held.cpu().numpy()[:, None] >= 0).astype(np.float32)
        if "pose" in self.space.spaces:
            shown["pose"] = self._pose(state)
        return {name: shown[name] for name in self.space.spaces}

    def info(self, state: SimState) -> dict[str, ndarray]:
        """Sentence and home of each environment, one row each."""
        texts = np.empty(len(state), dtype=object)
        texts[:] = [self.sim.texts[text] for text in state.text.tolist()]
        return {"goal_text": texts, "home": self._homes[state.home.cpu().numpy()]}

    def metrics(self, step: Step) -> dict[str, ndarray]:
        """The metrics of a step (envs/metrics.py), one row per environment."""
        return {name: values.cpu().numpy() for name, values in step.metrics.items()}

    def _goal(self, state: SimState) -> ndarray:
        text = state.text.cpu().numpy()
        if isinstance(self.sim.task, FindObject):
            return self._pairs[text]
        if isinstance(self.sim.task, PointGoal):
            point = self._points[state.home.cpu().numpy(), state.goal.cpu().numpy()]
            return self._bearing(state, point)
        return self._sentences(int(text.max()) + 1)[text]

    def _sentences(self, count: int) -> Int64[ndarray, "T L"]:
        """Word numbers of the first `count` sentences of the simulator, at least."""
        if count > len(self._words):
            rows = [word_numbers(text) for text in self.sim.texts[len(self._words) :]]
            self._words = np.concatenate([self._words, np.array(rows, dtype=np.int64).reshape(-1, SENTENCE_WORDS)])
        return self._words

    @staticmethod
    def _bearing(state: SimState, point: Float64[ndarray, "B 2"]) -> Float32[ndarray, "B 2"]:
        """Distance and bearing of a point from each agent."""
        away = point - state.position.cpu().numpy()
        angle = wrap_angle(np.arctan2(away[:, 1], away[:, 0]) - state.yaw.cpu().numpy())
        return np.stack([np.minimum(np.hypot(away[:, 0], away[:, 1]), FAR_M), angle], axis=1).astype(np.float32)

    def _pose(self, state: SimState) -> Float32[ndarray, "B 3"]:
        """Place and heading in the frame of the episode's start."""
        now = np.column_stack([state.position.cpu().numpy(), state.yaw.cpu().numpy()])
        self._start = np.where(state.step.cpu().numpy()[:, None] == 0, now, self._start)
        way, cos, sin = now[:, :2] - self._start[:, :2], np.cos(self._start[:, 2]), np.sin(self._start[:, 2])
        ahead, left = cos * way[:, 0] + sin * way[:, 1], cos * way[:, 1] - sin * way[:, 0]
        place = np.clip(np.stack([ahead, left], axis=1), -FAR_M, FAR_M)
        return np.column_stack([place, wrap_angle(now[:, 2] - self._start[:, 2])]).astype(np.float32)


def _points(sim: Simulator) -> Float64[ndarray, "M G 2"]:
    """Per home and goal, the point to go to; NaN where a home has fewer goals."""
    table = np.full((len(sim.homes), max(map(len, sim.fields.goals)), 2), np.nan)
    for home, goals in enumerate(sim.fields.goals):
        for number, goal in enumerate(goals):
            table[home, number] = goal.stages[-1].place
    return table


def _bounds(low: Sequence[float], high: Sequence[float]) -> tuple[ndarray, ndarray]:
    return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def row_of(arrays: dict[str, ndarray], index: int) -> dict[str, Any]:
    """One environment's part of an observation or info; numbers become plain floats."""
    picked = {name: values[index] for name, values in arrays.items()}
    return {name: float(value) if isinstance(value, np.floating) else value for name, value in picked.items()}


def masked_info(info: dict[str, ndarray], mask: Bool[ndarray, " B"]) -> dict[str, Any]:
    """An info as Gymnasium's vector environments give it: each array with a `_name` mask of the rows that have it.

    Other rows are 0, False or None; where no row has anything, the info is empty. Numbers become float64.
    """
    shown: dict[str, Any] = {}
    if not mask.any():
        return shown
    for name, values in info.items():
        kind = np.float64 if values.dtype.kind == "f" else values.dtype
        shown[name] = np.full(len(mask), None if values.dtype.hasobject else 0, dtype=kind)
        shown[name][mask] = values[mask]
        shown[f"_{name}"] = mask.copy()
    return shown

"""A batch of B agents in B homes: state in, state out.

    sim = Simulator(homes, "find_object", num_envs=64, seed=0)
    state = sim.reset()
    frame = sim.observe(state)
    while training:
        state, step = sim.step(state, action)             # step.frame: what this very action led to
        state = sim.reset(state, step.done)               # new episodes where one has just ended
        frame = choose_frame(step.done, sim.observe(state, step.done), step.frame)

The simulator keeps no episode of its own: what happens is a function of the state handed in, so states can be stored,
copied and stepped again. Nothing resets by itself; adapters (gym_env, vector_env, sb3_env) do that. Grids, walking and
pictures are computed on the CPU; on another device, tensors cross over at each call (never run on CUDA).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy import ndarray
from torch import Tensor

from core.conventions import intrinsics_from_fov
from core.errors import InputError
from envs import counter_random
from envs.goals import GoalFields, Task
from envs.metrics import episode_metrics
from envs.motion import move
from envs.pool import HomePool
from envs.state import ACTION_NAMES, STOP, Sensors, SimState, Step
from envs.tasks import make_task
from scene.geometry import distance_to_footprint
from scene.render import Frame, render

_HOME, _GOAL, _START, _YAW = range(4)  # numbers of the draws that make an episode
RESET = -1  # the step those draws belong to; actions have 0, 1, ...


class Simulator:
    """B environments of one task over a pool of homes.

    Args:
        homes: where episodes take place; each episode draws its home.
        task: a name of envs.tasks.TASKS, or a task.
        num_envs: B.
        seed: with an environment's number, an episode's number and a step's it fixes every random draw. A sequence
            gives each environment a seed of its own.
        sensors: the camera; None for no pictures (`Step.frame` is then None).
        device: where states and frames live.
        max_steps: actions after which an episode is truncated.
        env_ids: numbers of the environments, 0..B-1 if left out. Environment i alone is `num_envs=1, env_ids=[i]`.
        slide: agents slide along what they touch.
        fields: distance fields shared with another simulator of the same homes and task.

    Raises:
        InputError: unknown task, no environment, no home with a reachable goal.
    """

    def __init__(
        self,
        homes: HomePool,
        task: str | Task = "find_object",
        num_envs: int = 1,
        seed: int | Sequence[int] = 0,
        sensors: Sensors | None = Sensors(),  # noqa: B008  frozen, so one default can be shared
        device: str | torch.device = "cpu",
        max_steps: int = 100,
        *,
        env_ids: Sequence[int] | None = None,
        slide: bool = True,
        fields: GoalFields | None = None,
    ) -> None:
        if num_envs < 1 or max_steps < 1:
            raise InputError(f"num_envs and max_steps start at 1, got {num_envs} and {max_steps}")
        if env_ids is not None and len(env_ids) != num_envs:
            raise InputError(f"env_ids names {len(env_ids)} environments, num_envs is {num_envs}")
        self.homes, self.task, self.num_envs = homes, make_task(task, homes), num_envs
        self.sensors, self.device, self.max_steps, self.slide = sensors, torch.device(device), max_steps, slide
        self.env_ids = np.asarray(range(num_envs) if env_ids is None else env_ids, dtype=np.int64)
        self.seeds = self._seeds(seed)
        if fields is not None and (fields.pool is not homes or fields.task != self.task):
            raise InputError("the distance fields given belong to other homes or another task; leave them out")
        self.fields = fields or GoalFields(homes, self.task)
        self._floor_z = homes.floor_z

    @property
    def goals(self) -> tuple:
        """What `state.goal` indexes."""
        return self.task.goals

    @property
    def seed(self) -> int:
        """The seed; the first environment's where each has its own."""
        return int(self.seeds[0])

    def seeded(self, seed: int | Sequence[int]) -> "Simulator":
        """The same simulator with another seed, or one for each environment; homes and fields are shared."""
        twin = copy.copy(self)
        twin.seeds = self._seeds(seed)
        return twin

    def _seeds(self, seed: int | Sequence[int]) -> Int64[ndarray, " B"]:
        given = [seed] if isinstance(seed, (int, np.integer)) else list(seed)
        if len(given) not in (1, self.num_envs) or not all(0 <= int(one) < 2**63 for one in given):
            raise InputError(
                f"seed={seed} does not work; give a whole number from 0 to 2**63 - 1, or {self.num_envs} of them"
            )
        return np.broadcast_to(np.array(given, dtype=np.int64), (self.num_envs,)).copy()

    def reset(self, state: SimState | None = None, mask: Bool[Tensor, " B"] | None = None) -> SimState:
        """New episodes.

        Args:
            state: left out for the first episode of every environment.
            mask: environments to reset, all if left out; the rest of `state` is kept.
        """
        if state is None:
            return self._begin(self.seeds, self.env_ids, np.zeros(self.num_envs, dtype=np.int64))
        if len(state) != self.num_envs:
            raise InputError(f"the state has {len(state)} environments, this simulator {self.num_envs}")
        chosen = np.ones(len(state), dtype=bool) if mask is None else self._mask(mask, state)
        if not chosen.any():
            return state
        fresh = self._begin(self.seeds[chosen], _numpy(state.env)[chosen], _numpy(state.episode)[chosen] + 1)
        return state.merged(torch.from_numpy(chosen).to(self.device), fresh)

    def _begin(self, seed: Int64[ndarray, " K"], env: Int64[ndarray, " K"], episode: Int64[ndarray, " K"]) -> SimState:
        key = counter_random.episode_key(seed, env, episode)
        home = self.fields.draw_home(counter_random.uniform(key, RESET, _HOME))
        goal = self.fields.draw_goal(home, counter_random.uniform(key, RESET, _GOAL))
        position = self.fields.draw_start(home, goal, counter_random.uniform(key, RESET, _START))
        yaw = (2 * counter_random.uniform(key, RESET, _YAW) - 1) * np.pi
        return self.placed(env, episode, key, home, goal, position, yaw)

    def placed(
        self,
        env: Int64[ndarray, " K"],
        episode: Int64[ndarray, " K"],
        key: Int64[ndarray, " K"],
        home: Int64[ndarray, " K"],
        goal: Int64[ndarray, " K"],
        position: Float64[ndarray, "K 2"],
        yaw: Float64[ndarray, " K"],
    ) -> SimState:
        """The first state of K episodes that start at given places; fields as in SimState.

        Raises:
            InputError: a start is not on free floor, or its goal cannot be reached from there or is reached already.
        """
        distance = np.full(len(home), np.inf)
        standing = self.homes.grids.is_free(home, position)
        if standing.all():
            distance = self.fields.distance(home, goal, position)
        bad = np.flatnonzero(~standing | ~np.isfinite(distance) | (distance <= 0))
        if len(bad):
            k = int(bad[0])
            why = (
                "is not on free floor" if not standing[k]
                else f"already fulfils {self.goals[goal[k]].text!r}" if distance[k] <= 0
                else f"does not lead to {self.goals[goal[k]].text!r}"
            )  # fmt: skip
            raise InputError(
                f"{len(bad)} of {len(home)} starts do not work; in home {self.homes.ids[home[k]]} the start at "
                f"{np.round(position[k], 3).tolist()} {why}"
            )
        count = len(home)
        columns: dict[str, ndarray] = {
            "env": env,
            "episode": episode,
            "key": key,
            "home": home,
            "goal": goal,
            "position": position,
            "yaw": yaw,
            "step": np.zeros(count, np.int64),
            "start_distance": distance,
            "distance": distance,
            "path_length": np.zeros(count),
            "collisions": np.zeros(count, np.int64),
            "terminated": np.zeros(count, bool),
            "truncated": np.zeros(count, bool),
        }
        return SimState(**{name: torch.from_numpy(np.array(value)).to(self.device) for name, value in columns.items()})

    def step(self, state: SimState, action: Int64[Tensor, " B"]) -> tuple[SimState, Step]:
        """Carries out one action per environment.

        Environments whose episode has already ended stay as they are: reward 0, the same metrics, no new picture
        (zeros). Reset them first.

        Args:
            action: 0 stop, 1 forward 0.25 m, 2 turn left 30 degrees, 3 turn right 30 degrees.

        Raises:
            InputError: actions of a wrong shape, type or value.
        """
        chosen = self._actions(action, state)
        ended = state.done
        active = _numpy(~ended)
        home, goal = _numpy(state.home), _numpy(state.goal)
        position, yaw, moved, touched = move(
            self.homes.grids, home, _numpy(state.position), _numpy(state.yaw), chosen, active, slide=self.slide
        )
        distance = self._to(self.fields.distance(home, goal, position))
        stopped = self._to((chosen == STOP) & active)
        steps = state.step + ~ended
        terminated = state.terminated | stopped
        truncated = state.truncated | ((steps >= self.max_steps) & ~terminated)
        success = terminated & (distance <= 0)
        after = replace(
            state,
            position=self._to(position),
            yaw=self._to(yaw),
            step=steps,
            distance=distance,
            path_length=state.path_length + self._to(moved),
            collisions=state.collisions + self._to(touched),
            terminated=terminated,
            truncated=truncated,
        )
        reward = self.task.reward(state.distance, distance, success & stopped, stopped).masked_fill(ended, 0.0)
        metrics = episode_metrics(success, state.start_distance, distance, after.path_length, after.collisions)
        frame = None if self.sensors is None else self.observe(after, ~ended if bool(ended.any()) else None)
        return after, Step(frame, reward.to(torch.float32), terminated, truncated, state.goal, metrics)

    def observe(self, state: SimState, mask: Bool[Tensor, " B"] | None = None, sensors: Sensors | None = None) -> Frame:
        """What the agents see now; rows outside `mask` are zeros (depth 0, colour black, no instance).

        Args:
            sensors: another camera than the simulator's own, e.g. a larger one for a video.
        """
        camera = sensors or self.sensors
        if camera is None:
            raise InputError("this simulator has no sensors (sensors=None); give it Sensors() to see")
        rows = None if mask is None else np.flatnonzero(self._mask(mask, state))
        count, height, width = len(state), camera.height, camera.width
        if rows is None or len(rows) == count:
            frame = self._pictures(_numpy(state.home), self.poses(state, camera), camera)
        else:
            frame = Frame(
                torch.zeros(count, height, width, 3, dtype=torch.uint8),
                torch.zeros(count, height, width),
                torch.full((count, height, width), -1, dtype=torch.int32),
            )
            if len(rows):
                part = self._pictures(_numpy(state.home)[rows], self.poses(state, camera)[rows], camera)
                index = torch.from_numpy(rows)
                for name in ("rgb", "depth", "instance"):
                    getattr(frame, name)[index] = getattr(part, name)
        if self.device.type == "cpu":
            return frame
        return Frame(frame.rgb.to(self.device), frame.depth.to(self.device), frame.instance.to(self.device))

    def _pictures(self, home: Int64[ndarray, " K"], poses: Float64[ndarray, "K 4 4"], camera: Sensors) -> Frame:
        used, index = np.unique(home, return_inverse=True)
        prepared = [self.homes[int(k)].prepared for k in used]
        intrinsics = intrinsics_from_fov(camera.width, camera.height, np.deg2rad(camera.fov_deg))
        return render(prepared, poses, intrinsics, camera.width, camera.height, index)

    def poses(self, state: SimState, sensors: Sensors | None = None) -> Float64[ndarray, "B 4 4"]:
        """Camera-to-world matrices of the agents' eyes (core/conventions.camera_pose, batched)."""
        camera = sensors or self.sensors or Sensors()
        yaw, pitch = _numpy(state.yaw), np.deg2rad(camera.pitch_deg)
        cos, sin = np.cos(yaw), np.sin(yaw)
        pose = np.zeros((len(yaw), 4, 4))
        pose[:, 0, 0], pose[:, 1, 0] = sin, -cos  # right
        pose[:, 0, 1], pose[:, 1, 1], pose[:, 2, 1] = cos * np.sin(pitch), sin * np.sin(pitch), -np.cos(pitch)  # down
        pose[:, 0, 2], pose[:, 1, 2], pose[:, 2, 2] = cos * np.cos(pitch), sin * np.cos(pitch), np.sin(pitch)
        pose[:, :2, 3] = _numpy(state.position)
        pose[:, 2, 3] = self._floor_z[_numpy(state.home)] + camera.eye_height_m
        pose[:, 3, 3] = 1.0
        return pose

    def goal_visibility(
        self, instance: Int32[Tensor, "B H W"], state: SimState
    ) -> tuple[Int64[Tensor, " B"], Float32[Tensor, " B"]]:
        """How much of its goal each agent sees, and how far that is.

        Args:
            instance: object ids of the agents' frames (`frame.instance`).

        Returns:
            Pixels that show any object matching the goal, and the horizontal distance in metres from the agent to the
            footprint of the nearest one of those that are seen; infinite where none is.
        """
        if len(instance) != len(state):
            raise InputError(f"{len(instance)} frames for a state of {len(state)} environments; give one frame each")
        ids = _numpy(instance).reshape(len(state), -1)
        home, goal, position = _numpy(state.home), _numpy(state.goal), _numpy(state.position)
        pixels, nearest = np.zeros(len(state), np.int64), np.full(len(state), np.inf, np.float32)
        for b in range(len(state)):
            place = self.homes[home[b]]
            for item in self.task.matching(place, int(goal[b])):
                seen = np.count_nonzero(ids[b] == item)
                if seen:
                    pixels[b] += seen
                    reach = distance_to_footprint(position[b], place.scene.objects[item].box)
                    nearest[b] = min(nearest[b], float(reach))
        return self._to(pixels), self._to(nearest)

    def _actions(self, action: Tensor, state: SimState) -> Int64[ndarray, " B"]:
        values = _numpy(torch.as_tensor(action))
        if values.shape != (len(state),):
            raise InputError(f"actions have shape {values.shape}, expected ({len(state)},): one per environment")
        if values.dtype.kind not in "iu":
            raise InputError(f"actions are whole numbers 0..{len(ACTION_NAMES) - 1}, got type {values.dtype}")
        if values.min() < 0 or values.max() >= len(ACTION_NAMES):
            known = ", ".join(f"{number} {name}" for number, name in enumerate(ACTION_NAMES))
            raise InputError(f"actions hold {values.min()}..{values.max()}; there are: {known}")
        return values.astype(np.int64, copy=False)

    def _mask(self, mask: Tensor, state: SimState) -> Bool[ndarray, " B"]:
        values = _numpy(torch.as_tensor(mask))
        if values.shape != (len(state),) or values.dtype != np.bool_:
            raise InputError(
                f"a mask is ({len(state)},) of bool, one per environment; got {values.shape} of {values.dtype}"
            )
        return values

    def _to(self, values: ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device)


def _numpy(tensor: Tensor) -> ndarray:
    """The tensor's memory as an array; a copy only when it comes from another device."""
    return tensor.detach().cpu().numpy()

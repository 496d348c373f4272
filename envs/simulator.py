"""A batch of B agents in B homes: state in, state out.

    sim = Simulator(homes, "find_object", num_envs=64, seed=0)
    state = sim.reset()
    frame = sim.observe(state)
    while training:
        state, step = sim.step(state, action)             # step.frame: what this very action led to
        state = sim.reset(state, step.done)               # new episodes where one has just ended
        frame = choose_frame(step.done, sim.observe(state, step.done), step.frame)

The simulator keeps no episode of its own: what happens is a function of the state handed in, so states can be stored,
copied and stepped again. Nothing resets by itself; adapters (gym_env, vector_env, sb3_env) do that.

Two backends mean the same: "embree" walks with numba and draws with Embree, on the CPU; "warp" does both as kernels on
the device the tensors live on (envs/warp_engine.py; tested in its CPU mode and, marked gpu, on CUDA).
"""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, check_choice
from envs import counter_random
from envs.controls import Controls, Motion, stray
from envs.eyes import draw, eye_poses
from envs.geodesic import UNREACHABLE
from envs.goals import HAND_M, Fields, Goal, GoalFields, Task
from envs.handling import Hands
from envs.metrics import episode_metrics
from envs.motion import MAX_PITCH_RAD, move
from envs.pool import HomePool
from envs.sensor_noise import add_depth_noise
from envs.state import (
    PICK,
    PLACE,
    Noise,
    Sensors,
    SimState,
    Step,
)
from envs.tasks import make_task
from scene.geometry import distance_to_footprint
from scene.render import BACKENDS, Frame

if TYPE_CHECKING:
    from envs.warp_engine import WarpEngine

_HOME, _GOAL, _START, _YAW, _DOORS = range(5)  # numbers of the draws that make an episode
RESET = -1  # the step the first draws belong to; actions have 0, 1, ...


class Simulator:
    """B environments of one task over a pool of homes.

    Args:
        homes: where episodes take place; each episode draws its home.
        task: a name of envs.tasks.TASKS, or a task.
        num_envs: B.
        seed: with an environment's number, an episode's number and a step's it fixes every random draw. A sequence
            gives each environment a seed of its own.
        sensors: the camera; None for no pictures (`Step.frame` is then None).
        device: where states and frames live: "cpu", "cuda", "cuda:1".
        backend: "embree" (needs the CPU) or "warp"; left out, the one that suits the device.
        max_steps: actions after which an episode is truncated.
        env_ids: numbers of the environments, 0..B-1 if left out. Environment i alone is `num_envs=1, env_ids=[i]`.
        slide: agents slide along what they touch.
        control: "discrete" (Habitat's actions) or "continuous" (speeds, see `step`).
        tilt: the agent can look up and down, 30 degrees an action, 60 at most.
        noise: how far actions and depth stray; None for none.
        shut_doors: chance of each inner door to be shut when an episode begins; needs interactive homes.
        fields: distance fields shared with another simulator of the same homes and task.

    Raises:
        InputError: unknown task, no environment, no home with a reachable goal, options that do not go together.
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
        control: str = "discrete",
        tilt: bool = False,
        noise: Noise | None = None,
        shut_doors: float = 0.0,
        backend: str = "",
        fields: GoalFields | None = None,
    ) -> None:
        backend = backend or ("embree" if torch.device(device).type == "cpu" else "warp")
        check_choice("backend", backend, BACKENDS)
        if backend == "embree" and torch.device(device).type != "cpu":
            raise InputError(f"backend='embree' works on the CPU, not on device={str(device)!r}; use backend='warp'")
        if num_envs < 1 or max_steps < 1:
            raise InputError(f"num_envs and max_steps start at 1, got {num_envs} and {max_steps}")
        if env_ids is not None and len(env_ids) != num_envs:
            raise InputError(f"env_ids names {len(env_ids)} environments, num_envs is {num_envs}")
        self.homes, self.task, self.num_envs = homes, make_task(task, homes), num_envs
        self.sensors, self.device, self.max_steps, self.slide = sensors, torch.device(device), max_steps, slide
        self.noise, self.shut_doors = noise, shut_doors
        if not 0 <= shut_doors <= 1:
            raise InputError(f"shut_doors={shut_doors} is a chance and lies between 0 and 1")
        if shut_doors and not homes.interactive:
            raise InputError(
                "doors that shut need homes made for it: HomePool(..., interactive=True), as for tasks with hands"
            )
        self.controls = Controls(control, tilt=tilt, hands=self.task.interactive, doors=shut_doors > 0)
        self.env_ids = np.asarray(range(num_envs) if env_ids is None else env_ids, dtype=np.int64)
        self.seeds = self._seeds(seed)
        if fields is not None and (fields.pool is not homes or fields.task != self.task):
            raise InputError("the distance fields given belong to other homes or another task; leave them out")
        self.fields = fields or GoalFields(homes, self.task)
        self.hands = Hands(homes) if homes.interactive else None
        self.engine = self._make_engine(None) if backend == "warp" else None

    def _make_engine(self, previous: "WarpEngine | None") -> "WarpEngine":
        from envs.warp_engine import WarpEngine  # needs warp

        return WarpEngine(self.homes, self.fields, self.device, self.num_envs, previous)

    @property
    def texts(self) -> list[str]:
        """The sentences that `state.text` indexes; those of the task's vocabulary first."""
        return self.fields.texts

    @property
    def control(self) -> str:
        """ "discrete" or "continuous"."""
        return self.controls.kind

    @property
    def tilt(self) -> bool:
        """Whether the agent can look up and down."""
        return self.controls.tilt

    @property
    def action_names(self) -> tuple[str, ...]:
        """What the actions 0, 1, ... are called; the first four are always stop, forward, turn left, turn right."""
        return self.controls.names

    @property
    def action_codes(self) -> Int64[ndarray, " A"]:
        """Their codes in envs/state.py."""
        return self.controls.codes

    @property
    def action_size(self) -> int:
        """Numbers of a continuous action: speed, turn, and tilt where there is one."""
        return self.controls.size

    @property
    def seed(self) -> int:
        """The seed; the first environment's where each has its own."""
        return int(self.seeds[0])

    def goal(self, state: SimState, row: int) -> Goal:
        """What one environment is after."""
        return self.fields.goal(int(state.home[row]), int(state.goal[row]))

    def seeded(self, seed: int | Sequence[int]) -> "Simulator":
        """The same simulator with another seed, or one for each environment; homes and fields are shared."""
        twin = copy.copy(self)
        twin.seeds = self._seeds(seed)
        return twin

    def moved_to(self, homes: HomePool, state: SimState) -> tuple["Simulator", SimState, Bool[Tensor, " B"]]:
        """The same simulator over another pool, for runs that see more homes than fit in memory.

        Homes that are in both pools (the same `Home` objects) keep their fields and their episodes. Sentences are
        numbered anew: `texts` is a function of the pool, not of those before it.

        Returns:
            The new simulator, the state with the new pool's numbers, and the environments whose home is gone: end their
            episodes as truncated and reset them before the next step. With backend "warp" the old simulator, whose
            homes' memory the new one takes over, is not to be used again.

        Raises:
            InputError: the pools differ in cell size or in whether things move; no home offers a goal.
        """
        if (homes.interactive, homes.grids.cell_m) != (self.homes.interactive, self.homes.grids.cell_m):
            raise InputError("the new pool differs in cell size or in whether things move")
        twin = copy.copy(self)
        twin.homes, twin.fields = homes, GoalFields(homes, self.task, self.fields.max_bytes, self.fields)
        twin.hands = Hands(homes) if homes.interactive else None
        if self.engine is not None:
            twin.engine = twin._make_engine(self.engine)
        at = np.array([homes.at.get(id(home), -1) for home in self.homes.homes], dtype=np.int64)
        new = at[_numpy(state.home)]
        gone = new < 0
        home, goal = np.maximum(new, 0), np.where(gone, 0, _numpy(state.goal))
        text = np.where(gone, 0, twin.fields.text(home, goal))
        state = replace(state, home=self._to(home), goal=self._to(goal), text=self._to(text))
        if state.world is not None:
            assert twin.hands is not None
            state = replace(state, world=twin.hands.resized(state.world))
        return twin, state, self._to(gone)

    def _seeds(self, seed: int | Sequence[int]) -> Int64[ndarray, " B"]:
        given = list(seed) if isinstance(seed, (Sequence, ndarray)) else [seed]
        whole = all(isinstance(one, (int, np.integer)) and 0 <= one < 2**63 for one in given)
        if len(given) not in (1, self.num_envs) or not whole:
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
        return self.drawn(env, episode, key, home, goal)

    def drawn(
        self,
        env: Int64[ndarray, " K"],
        episode: Int64[ndarray, " K"],
        key: Int64[ndarray, " K"],
        home: Int64[ndarray, " K"],
        goal: Int64[ndarray, " K"],
    ) -> SimState:
        """The first state of K episodes with given homes and goals, whose starts are drawn from `key`."""
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

        Doors are drawn from `key`; one that would shut on the agent stands open.

        Raises:
            InputError: a start is not on free floor, or its goal cannot be reached from there or is reached already.
        """
        count = len(home)
        stage = np.zeros(count, np.int64)
        distance = np.full(count, np.inf)
        if not np.isfinite(yaw).all():
            raise InputError(f"{int((~np.isfinite(yaw)).sum())} of {count} starts look nowhere: their yaw is no number")
        standing = self.homes.grids.is_free(home, position)
        if standing.all():
            cell = self.homes.grids.cell(home, position)
            stage = self._passed(home, goal, stage, cell)
            distance = self.fields.distance(home, goal, stage, cell)
        bad = np.flatnonzero(~standing | ~np.isfinite(distance) | (distance <= 0))
        if len(bad):
            k = int(bad[0])
            text = self.fields.goal(int(home[k]), int(goal[k])).text
            why = (
                "is not on free floor" if not standing[k]
                else f"already fulfils {text!r}" if distance[k] <= 0
                else f"does not lead to {text!r}"
            )  # fmt: skip
            raise InputError(
                f"{len(bad)} of {count} starts do not work; in home {self.homes.ids[home[k]]} the start at "
                f"{np.round(position[k], 3).tolist()} {why}"
            )
        columns: dict[str, ndarray] = {
            "env": env,
            "episode": episode,
            "key": key,
            "home": home,
            "goal": goal,
            "text": self.fields.text(home, goal),
            "stage": stage,
            "position": position,
            "yaw": yaw,
            "pitch": np.zeros(count),
            "step": np.zeros(count, np.int64),
            "start_distance": distance,
            "distance": distance,
            "path_length": np.zeros(count),
            "collisions": np.zeros(count, np.int64),
            "terminated": np.zeros(count, bool),
            "truncated": np.zeros(count, bool),
        }
        world = None
        if self.hands is not None:
            shut = self.shut_doors and [
                counter_random.uniform(key, RESET, _DOORS + k) < self.shut_doors for k in range(self.hands.most_doors)
            ]
            world = self.hands.first(home, position, np.stack(shut, axis=1) if shut else None, self.device)
        return SimState(
            **{name: torch.from_numpy(np.array(value)).to(self.device) for name, value in columns.items()}, world=world
        )

    def _passed(
        self,
        home: Int64[ndarray, " B"],
        goal: Int64[ndarray, " B"],
        stage: Int64[ndarray, " B"],
        cell: Int64[ndarray, " B"],
    ) -> Int64[ndarray, " B"]:
        """The stage after those that are done by being here; the last "reach" of a goal is done by stopping alone."""
        if self.fields.stages == 1 or self.hands is not None:
            return stage  # with hands, Hands.stage looks at each goal's kinds
        slot, last = self.fields.slots(home, goal), self.fields.last_stage(home, goal)
        for _ in range(self.fields.stages - 1):
            stage = stage + (self.fields.inside[slot, stage, cell] & (stage < last))
        return stage

    def step(self, state: SimState, action: Int64[Tensor, " B"] | Float[Tensor, "B A"]) -> tuple[SimState, Step]:
        """Carries out one action per environment.

        Environments whose episode has already ended stay as they are: reward 0, the same metrics, no new picture
        (zeros). Reset them first.

        Args:
            action: discrete: numbers of `action_names`; forward is 0.25 m, turns and tilts 30 degrees. Continuous:
                (B, 2) or, with tilt, (B, 3) numbers in [-1, 1], cut where they are beyond: speed (times 0.25 m a step,
                backward if negative), turn (times 30 degrees, positive to the left), tilt (positive up). An agent whose
                numbers are all below 0.1 stops, as in Habitat's velocity control.

        Raises:
            InputError: actions of a wrong shape, type or value.
        """
        ended = state.done
        active = _numpy(~ended)
        motion = self.controls.decode(action, active)
        if self.noise is not None:
            motion = stray(motion, self.noise, _numpy(state.key), _numpy(state.step))
        after = state
        if motion.tilt is not None:
            pitch = np.clip(_numpy(state.pitch) + motion.tilt, -MAX_PITCH_RAD, MAX_PITCH_RAD)
            after = replace(after, pitch=self._to(pitch))
        if self.engine is None or self.hands is not None:
            after, left = self._walk(after, motion, active)
        else:
            position, yaw, moved, touched = self.engine.move(
                after, motion.forward, motion.turn, motion.drift, self.slide
            )
            stage, left = self.engine.walk(state, position)
            after = replace(
                after,
                stage=stage,
                position=position,
                yaw=yaw,
                path_length=state.path_length + moved,
                collisions=state.collisions + touched,
            )
        left, stopped = torch.where(ended, state.distance, left), self._to(motion.stopping)
        steps = state.step + ~ended
        terminated = state.terminated | stopped
        truncated = state.truncated | ((steps >= self.max_steps) & ~terminated)
        success = terminated & (left <= 0)
        after = replace(after, step=steps, distance=left, terminated=terminated, truncated=truncated)
        reward = self.task.reward(state.distance, left, success & stopped, stopped).masked_fill(ended, 0.0)
        stages = self._to(self.fields.last_stage(_numpy(state.home), _numpy(state.goal)) + 1)
        metrics = episode_metrics(
            success, state.start_distance, left, after.path_length, after.collisions, after.stage, stages
        )
        frame = None if self.sensors is None else self.observe(after, ~ended if bool(ended.any()) else None)
        return after, Step(frame, reward.to(torch.float32), terminated, truncated, state.text, metrics)

    def _walk(
        self, state: SimState, motion: Motion, active: Bool[ndarray, " B"]
    ) -> tuple[SimState, Float64[Tensor, " B"]]:
        """Motion and hands on the CPU: the state they lead to, its distance left to the caller."""
        home, goal, stage = _numpy(state.home), _numpy(state.goal), _numpy(state.stage)
        world = state.world
        position, yaw, moved, touched = move(
            self.homes.grids, home, _numpy(state.position), _numpy(state.yaw), motion.forward, motion.turn,
            drift=motion.drift, doors=None if world is None else _numpy(world.doors), slide=self.slide,
        )  # fmt: skip
        if self.hands is not None and world is not None:
            world, failed = self.hands.act(world, home, position, yaw, motion.reaching)
            touched = touched | failed
            moved = moved + HAND_M * np.isin(motion.reaching, (PICK, PLACE))
        cell = self.homes.grids.cell(home, position)
        fields: dict[int, Fields | None] = {}
        if self.hands is None:
            stage = self._passed(home, goal, stage, cell)
        elif world is not None:
            stage, fields = self.hands.stage(self.fields, world, home, goal, stage, cell, active)
        left = self._to(self._distance(home, goal, stage, cell, fields, _numpy(state.distance)))
        after = replace(
            state,
            stage=self._to(stage),
            position=self._to(position),
            yaw=self._to(yaw),
            path_length=state.path_length + self._to(moved),
            collisions=state.collisions + self._to(touched),
            world=world,
        )
        return after, left

    def _distance(
        self,
        home: Int64[ndarray, " B"],
        goal: Int64[ndarray, " B"],
        stage: Int64[ndarray, " B"],
        cell: Int64[ndarray, " B"],
        fields: dict[int, Fields | None],
        before: Float64[ndarray, " B"],
    ) -> Float64[ndarray, " B"]:
        """Walking distance through what is left to do; 0 where all stages are done.

        Args:
            fields: of environments whose things lie elsewhere than the scene has them; None: out of reach.
            before: the distance before the action, which stays where a thing is out of reach.
        """
        if self.hands is None:
            return self.fields.distance(home, goal, stage, cell)
        last = self.fields.last_stage(home, goal)
        distance = self.fields.distance(home, goal, np.minimum(stage, last), cell)
        for b, made in fields.items():
            units = UNREACHABLE if made is None else made.units[min(stage[b], last[b]), cell[b]]
            distance[b] = before[b] if units == UNREACHABLE else units * self.fields.unit_m
        return np.where(stage > last, 0.0, distance)

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
            frame = self._draw(state, camera)
        else:
            frame = Frame(
                torch.zeros(count, height, width, 3, dtype=torch.uint8, device=self.device),
                torch.zeros(count, height, width, device=self.device),
                torch.full((count, height, width), -1, dtype=torch.int32, device=self.device),
            )
            if len(rows):
                index = torch.from_numpy(rows).to(self.device)
                part = self._draw(state.rows(index), camera)
                for name in ("rgb", "depth", "instance"):
                    getattr(frame, name)[index] = getattr(part, name)
        return frame

    def _draw(self, state: SimState, camera: Sensors) -> Frame:
        frame = draw(self.homes, self.hands, self.engine, state, camera)
        if self.noise is not None and self.noise.depth:
            depth = np.ascontiguousarray(_numpy(frame.depth))
            add_depth_noise(depth, _numpy(state.key), _numpy(state.step), self.noise.depth)
            frame = replace(frame, depth=self._to(depth))
        return frame

    def poses(self, state: SimState, sensors: Sensors | None = None) -> Float64[ndarray, "B 4 4"]:
        """Camera-to-world matrices of the agents' eyes (core/conventions.camera_pose, batched)."""
        return eye_poses(self.homes, state, sensors or self.sensors or Sensors())

    def goal_visibility(
        self, instance: Int32[Tensor, "B H W"], state: SimState
    ) -> tuple[Int64[Tensor, " B"], Float32[Tensor, " B"]]:
        """How much each agent sees of what it is after (its current stage's objects), and how far that is.

        Args:
            instance: object ids of the agents' frames (`frame.instance`).

        Returns:
            Pixels that show any of these objects, and the horizontal distance in metres from the agent to the
            footprint of the nearest one of those that are seen; infinite where none is.
        """
        if len(instance) != len(state):
            raise InputError(f"{len(instance)} frames for a state of {len(state)} environments; give one frame each")
        ids = _numpy(instance).reshape(len(state), -1)
        home, position = _numpy(state.home), _numpy(state.position)
        pixels, nearest = np.zeros(len(state), np.int64), np.full(len(state), np.inf, np.float32)
        for b in range(len(state)):
            place = self.homes[home[b]]
            stages = self.goal(state, b).stages
            for item in stages[min(int(state.stage[b]), len(stages) - 1)].objects:
                seen = np.count_nonzero(ids[b] == item)
                if seen:
                    pixels[b] += seen
                    reach = distance_to_footprint(position[b], place.scene.objects[item].box)
                    nearest[b] = min(nearest[b], float(reach))
        return self._to(pixels), self._to(nearest)

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

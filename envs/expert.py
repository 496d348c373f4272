"""Policies that need no training: an oracle that knows the way, and a random walk. Baselines and teachers.

Both are called like any policy of envs/episodes.py: `policy(state, frame) -> actions`, and ignore the frame.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt16
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.conventions import wrap_angle
from core.errors import InputError
from envs import counter_random, interaction
from envs.geodesic import distance_field
from envs.handling import Hands
from envs.layout import layout_of
from envs.motion import ALL_OPEN, FORWARD_M, TURN_RAD, walk
from envs.simulator import Simulator
from envs.state import FORWARD, OPEN, PICK, PLACE, STOP, TURN_LEFT, TURN_RIGHT, SimState, World
from scene.render import Frame

HEADINGS = 12
NEAR_M = (
    0.5  # closer than this, a second turn is planned too: forward always goes 0.25 m and may overstep a small place
)
HURRY = 1.3  # weight of what is left against what is walked: a plan that creeps along a wall must lose to turning away
TURN_WEIGHT_M = 0.01  # a turn walks nothing, so it counts just enough to choose between ways of equal length
NOT_THERE_M = 0.3  # of a plan that ends before the next stage: less, and a place a detour away is never entered


@njit(cache=True, nogil=True, inline="always")
def _close(region, line, column, rows, columns, reach):
    """Whether a region has a cell within a square around a cell."""
    for i in range(max(line - reach, 0), min(line + reach + 1, rows)):
        for j in range(max(column - reach, 0), min(column + reach + 1, columns)):
            if region[i * columns + j]:
                return True
    return False


@njit(cache=True, nogil=True)
def _plan(home, position, yaw, row, fields, inside, unit, slide, free, shut, offset, shape, origin, cell_m):
    """The next action's code on a short way down the field `fields[row[b]]`, with every door open.

    `inside[row[b]]` is where the walk's next stage is done; of width 0 where that is where the field is 0.
    """
    reach = int(NEAR_M / cell_m)
    staged = inside.shape[1] > 0
    doors = np.int64(ALL_OPEN)
    action = np.empty(len(home), np.int64)
    for b in range(len(home)):
        h = home[b]
        start, rows, columns, left, low = offset[h], shape[h, 0], shape[h, 1], origin[h, 0], origin[h, 1]
        column = int(np.floor((position[b, 0] - left) / cell_m))
        line = int(np.floor((position[b, 1] - low) / cell_m))
        here = fields[row[b], line * columns + column]
        if here == 0:
            action[b] = STOP
            continue
        near = here * unit < NEAR_M or (staged and _close(inside[row[b]], line, column, rows, columns, reach))
        best, best_turn = np.inf, 0
        for attempt in range(2):  # where no single step helps, pairs of steps are looked at
            if attempt and (near or best < HURRY * here * unit):
                break
            for first in range(HEADINGS):
                turn = first if first <= HEADINGS // 2 else first - HEADINGS  # -5 .. 6, positive to the left
                angle = yaw[b] + turn * TURN_RAD
                x1, y1, _ = walk(
                    position[b, 0], position[b, 1], angle, FORWARD_M, slide,
                    free, shut, doors, start, rows, columns, left, low, cell_m,
                )  # fmt: skip
                walked = np.hypot(x1 - position[b, 0], y1 - position[b, 1])
                if walked < 0.2 * FORWARD_M:
                    continue  # held by a wall
                for second in range(-1, HEADINGS if near or attempt else 1):  # -1: one forward only
                    more = 0 if second <= 0 else (second if second <= HEADINGS // 2 else second - HEADINGS)
                    x, y, total = x1, y1, walked
                    if second >= 0:
                        x, y, _ = walk(
                            x1, y1, angle + more * TURN_RAD, FORWARD_M, slide,
                            free, shut, doors, start, rows, columns, left, low, cell_m,
                        )  # fmt: skip
                        total += np.hypot(x - x1, y - y1)
                    line, column = int(np.floor((y - low) / cell_m)), int(np.floor((x - left) / cell_m))
                    end = line * columns + column
                    rest = fields[row[b], end]
                    there = inside[row[b], end] if staged else rest == 0
                    cost = (
                        total
                        + HURRY * rest * unit
                        + TURN_WEIGHT_M * (abs(turn) + abs(more))
                        + (0.0 if there else NOT_THERE_M)
                    )
                    if cost < best - 1e-9:
                        best, best_turn = cost, turn
        action[b] = FORWARD if best_turn == 0 else (TURN_LEFT if best_turn > 0 else TURN_RIGHT)
    return action


class Expert:
    """The shortest-path oracle: looks two forward actions ahead in twelve directions, and stops where that succeeds.

    It reads the distance fields of the goal, so it needs the simulator whose states it acts on. With continuous control
    it walks and turns at full speed.
    """

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self._put: dict[tuple[int, int], tuple[ndarray, ndarray] | None] = {}  # ways to put a thing down anywhere

    def __call__(self, state: SimState, frame: Frame | None = None) -> Tensor:
        """The oracle's action for each environment; `stop` where an episode has ended."""
        home, goal, stage = (column.cpu().numpy() for column in (state.home, state.goal, state.stage))
        position, yaw = state.position.cpu().numpy(), state.yaw.cpu().numpy()
        sim, fields = self.sim, self.sim.fields
        last = fields.last_stage(home, goal)
        slot, units = fields.slots(home, goal), fields.units
        row = slot * units.shape[1] + np.minimum(stage, last)
        inside = fields.inside.reshape(len(units) * units.shape[1], -1)
        code = self.follow(home, position, yaw, row, units.reshape(-1, units.shape[2]), inside)
        if sim.hands is not None and state.world is not None:
            code = self._by_hand(sim.hands, state, state.world, code)
        code = np.where(state.done.cpu().numpy(), STOP, code)
        if sim.control == "continuous":
            speeds = np.zeros((len(home), sim.action_size), np.float32)
            speeds[:, :2] = _SPEEDS[code]
            return torch.from_numpy(speeds).to(state.home.device)
        number = np.full(OPEN + 1, 0, np.int64)
        number[sim.action_codes] = np.arange(len(sim.action_codes))
        return torch.from_numpy(number[code]).to(state.home.device)

    def _by_hand(self, hands: Hands, state: SimState, world: World, code: Int64[ndarray, " B"]) -> Int64[ndarray, " B"]:
        """The codes, with hands used where they are of use: doors in the way opened, things picked up and put down."""
        fields, homes = self.sim.fields, self.sim.homes
        home, goal, stage = (column.cpu().numpy() for column in (state.home, state.goal, state.stage))
        position, yaw = state.position.cpu().numpy(), state.yaw.cpu().numpy()
        doors, held = world.doors.cpu().numpy(), world.held.cpu().numpy()
        pose, support = world.pose.cpu().numpy(), world.support.cpu().numpy()
        slot, cell = fields.slots(home, goal), homes.grids.cell(home, position)
        code = code.copy()
        for b in np.flatnonzero(~state.done.cpu().numpy()):
            place, s = homes[int(home[b])], int(stage[b])
            stages = fields.goal(int(home[b]), int(goal[b])).stages
            if s == len(stages):
                code[b] = STOP
                continue
            own = hands.own_fields(fields, world, int(home[b]), int(goal[b]), int(b), s)
            if own is not None:
                row = slice(b, b + 1)
                code[b] = self.follow(
                    home[row],
                    position[row],
                    yaw[row],
                    np.zeros(1, np.int64),
                    own.units[s : s + 1],
                    own.inside[s : s + 1],
                )[0]
            now = stages[s]
            inside = fields.inside[slot[b], s, cell[b]] if own is None else own.inside[s, cell[b]]
            hand = {"doors": int(doors[b]), "pose": pose[b], "support": support[b], "held": int(held[b])}
            if now.kind == "hold" and held[b] >= 0:  # the wrong thing is in the hand: put it down anywhere
                if interaction.place(place, position[b], yaw[b], **hand) is not None:
                    code[b] = PLACE
                elif (way := self._put_down(int(home[b]), int(held[b]))) is not None:
                    row = slice(b, b + 1)
                    zero = np.zeros(1, np.int64)
                    code[b] = self.follow(home[row], position[row], yaw[row], zero, way[0], way[1])[0]
                    if way[1][0, cell[b]]:
                        boxes = [place.scene.objects[k].box for k in layout_of(place).surfaces]
                        code[b] = turn_to_face(position[b], yaw[b], boxes, FORWARD)
            elif now.kind == "hold" and inside:
                taken = interaction.pick(place, position[b], yaw[b], **hand)
                things = hands.things[int(home[b])]
                boxes = [
                    hands.box(world, int(home[b]), int(b), k) for k, item in enumerate(things) if item in now.objects
                ]
                code[b] = (
                    PICK
                    if taken >= 0 and things[taken] in now.objects
                    else turn_to_face(position[b], yaw[b], boxes, FORWARD)
                )
            elif now.kind == "rest" and inside:
                put = interaction.place(place, position[b], yaw[b], **hand)
                boxes = [place.scene.objects[k].box for k in now.on]
                code[b] = (
                    PLACE if put is not None and put[0] in now.on else turn_to_face(position[b], yaw[b], boxes, FORWARD)
                )
            elif code[b] == FORWARD and OPEN in self.sim.action_codes:
                door = interaction.toggle_door(place, position[b], yaw[b], doors=int(doors[b]))
                if (
                    door >= 0
                    and not doors[b] >> door & 1
                    and self._held_by_door(home[b], position[b], yaw[b], doors[b])
                ):
                    code[b] = OPEN
        return code

    def _put_down(self, home: int, slot: int) -> tuple[UInt16[ndarray, "1 C"], Bool[ndarray, "1 C"]] | None:
        """Walking distances to where a thing fits on some surface, and where that is; None where it fits nowhere."""
        key = (id(self.sim.homes[home]), slot)
        if key not in self._put:
            place = self.sim.homes[home]
            thing, surfaces = place.things[slot], layout_of(place).surfaces.tolist()
            region = interaction.reach_region(place, surfaces, place=thing) & place.grid.free
            way = (distance_field(place.grid.free, region).reshape(1, -1), region.reshape(1, -1))
            self._put[key] = way if region.any() else None
        return self._put[key]

    def _held_by_door(self, home: int, position: Float64[ndarray, "2"], yaw: float, doors: int) -> bool:
        """Whether a step forward would go further with every door open."""
        grids = self.sim.homes.grids
        rows, columns = grids.shape[home]
        x, y = grids.origin[home]
        ends = [
            walk(
                position[0], position[1], yaw, FORWARD_M, self.sim.slide, grids.free, grids.shut, np.int64(mask),
                grids.offset[home], rows, columns, x, y, grids.cell_m,
            )[:2]
            for mask in (doors, ALL_OPEN)
        ]  # fmt: skip
        return ends[0] != ends[1]

    def follow(
        self,
        home: Int64[ndarray, " B"],
        position: Float64[ndarray, "B 2"],
        yaw: Float64[ndarray, " B"],
        row: Int64[ndarray, " B"],
        fields: UInt16[ndarray, "R C"],
        inside: Bool[ndarray, "R C"],
    ) -> Int64[ndarray, " B"]:
        """Codes of the next actions down some fields, all doors taken as open; `stop` where a field is 0.

        Args:
            row: of each environment, into `fields` and `inside`.
            fields: walking distances in units of GoalFields.unit_m, flat grids; rows of one width.
            inside: where they are 0 or the next stage is done; of width 0 for where they are 0 alone.
        """
        grids = self.sim.homes.grids
        return _plan(
            home, position, yaw, row, fields, inside, self.sim.fields.unit_m, self.sim.slide,
            grids.free, grids.shut, grids.offset, grids.shape, grids.origin, grids.cell_m,
        )  # fmt: skip


def turn_to_face(
    position: Float64[ndarray, "2"], yaw: float, boxes: list[Float64[ndarray, "7"]], otherwise: int
) -> int:
    """The turn towards the box that the least turning faces; `otherwise` where all are faced already."""
    turns = wrap_angle(np.array([interaction.bearing(position, box) - yaw for box in boxes]))
    away = [float(angle) for angle in turns if abs(angle) > interaction.FACING_RAD]
    if not away:
        return otherwise
    return TURN_LEFT if min(away, key=abs) > 0 else TURN_RIGHT


_SPEEDS = np.array([[0, 0], [1, 0], [0, 1], [0, -1]], np.float32)  # of stop, forward, turn left, turn right


class RandomPolicy:
    """Draws each action afresh; a function of the seed and the state, whatever the batch.

    Args:
        sim: whose actions are drawn; left out: Habitat's four.
        stop: chance of stopping at each step; the other actions share the rest evenly. With continuous control every
            number is uniform in [-1, 1], and stops come by themselves (1 in 100).
    """

    def __init__(self, seed: int = 0, stop: float = 0.02, sim: Simulator | None = None) -> None:
        if not 0.0 <= stop <= 1.0:
            raise InputError(f"stop={stop} is a chance and lies between 0 and 1")
        self.seed, self.stop = seed, stop
        self.others = 3 if sim is None else len(sim.action_names) - 1
        self.speeds = sim.action_size if sim is not None and sim.control == "continuous" else 0

    def __call__(self, state: SimState, frame: Frame | None = None) -> Tensor:
        """An action for each environment."""
        key = counter_random.episode_key(self.seed, state.key.cpu().numpy(), 0)  # the state's key stands for its env
        step = state.step.cpu().numpy()
        if self.speeds:
            draws = [counter_random.uniform(key, step, draw) for draw in range(self.speeds)]
            return torch.from_numpy(2 * np.stack(draws, axis=1) - 1).float().to(state.home.device)
        share = counter_random.uniform(key, step, 0)
        rest = np.clip((share - self.stop) / max(1.0 - self.stop, 1e-12), 0, 1 - 1e-9)
        action = np.where(share < self.stop, STOP, 1 + np.floor(rest * self.others).astype(np.int64))
        return torch.from_numpy(action).to(state.home.device)

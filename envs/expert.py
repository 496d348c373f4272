"""Policies that need no training: an oracle that knows the way, and a random walk. Baselines and teachers.

Both are called like any policy of envs/episodes.py: `policy(state, frame) -> actions`, and ignore the frame.
"""

import numpy as np
import torch
from jaxtyping import Int64
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs import counter_random
from envs.motion import FORWARD_M, TURN_RAD, walk
from envs.simulator import Simulator
from envs.state import FORWARD, STOP, TURN_LEFT, TURN_RIGHT, SimState
from scene.render import Frame

HEADINGS = 12
NEAR_M = (
    0.5  # closer than this, a second turn is planned too: forward always goes 0.25 m and may overstep a small place
)
HURRY = 1.3  # weight of what is left against what is walked: a plan that creeps along a wall must lose to turning away
TURN_WEIGHT_M = 0.01  # a turn walks nothing, so it counts just enough to choose between ways of equal length
NOT_THERE_M = 0.12  # half a step: what is walked too far, on average, after a plan that ends before success


@njit(cache=True, nogil=True)
def _plan(home, position, yaw, slot, fields, unit, slide, free, offset, shape, origin, cell_m):
    action = np.empty(len(home), np.int64)
    for b in range(len(home)):
        h = home[b]
        start, rows, columns, left, low = offset[h], shape[h, 0], shape[h, 1], origin[h, 0], origin[h, 1]
        column = int(np.floor((position[b, 0] - left) / cell_m))
        row = int(np.floor((position[b, 1] - low) / cell_m))
        here = fields[slot[b], row * columns + column]
        if here == 0:
            action[b] = STOP
            continue
        near = here * unit < NEAR_M
        best, best_turn = np.inf, 0
        for first in range(HEADINGS):
            turn = first if first <= HEADINGS // 2 else first - HEADINGS  # -5 .. 6, positive to the left
            angle = yaw[b] + turn * TURN_RAD
            x1, y1, _ = walk(
                position[b, 0], position[b, 1], angle, FORWARD_M, slide, free, start, rows, columns, left, low, cell_m
            )
            walked = np.hypot(x1 - position[b, 0], y1 - position[b, 1])
            if walked < 0.2 * FORWARD_M:
                continue  # held by a wall
            for second in range(-1, HEADINGS if near else 1):  # -1: one forward only
                more = 0 if second <= 0 else (second if second <= HEADINGS // 2 else second - HEADINGS)
                x, y, total = x1, y1, walked
                if second >= 0:
                    x, y, _ = walk(
                        x1, y1, angle + more * TURN_RAD, FORWARD_M, slide, free, start, rows, columns, left, low, cell_m
                    )
                    total += np.hypot(x - x1, y - y1)
                row, column = int(np.floor((y - low) / cell_m)), int(np.floor((x - left) / cell_m))
                rest = fields[slot[b], row * columns + column]
                cost = (
                    total
                    + HURRY * rest * unit
                    + TURN_WEIGHT_M * (abs(turn) + abs(more))
                    + (NOT_THERE_M if rest else 0.0)
                )
                if cost < best - 1e-9:
                    best, best_turn = cost, turn
        action[b] = FORWARD if best_turn == 0 else (TURN_LEFT if best_turn > 0 else TURN_RIGHT)
    return action


class Expert:
    """The shortest-path oracle: looks two forward actions ahead in twelve directions, and stops where that succeeds.

    It reads the distance field of the goal, so it needs the simulator whose states it acts on.
    """

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim

    def __call__(self, state: SimState, frame: Frame | None = None) -> Int64[Tensor, " B"]:
        """The oracle's action for each environment; `stop` where an episode has ended."""
        home, goal = state.home.cpu().numpy(), state.goal.cpu().numpy()
        grids, fields = self.sim.homes.grids, self.sim.fields
        slot = fields.slots(home, goal)
        action: Int64[ndarray, " B"] = _plan(
            home, state.position.cpu().numpy(), state.yaw.cpu().numpy(), slot, fields.fields, fields.unit_m,
            self.sim.slide, grids.free, grids.offset, grids.shape, grids.origin, grids.cell_m,
        )  # fmt: skip
        return torch.from_numpy(action).to(state.home.device).masked_fill(state.done, STOP)


class RandomPolicy:
    """Draws each action afresh; a function of the seed and the state, whatever the batch.

    Args:
        stop: chance of stopping at each step; the other actions share the rest evenly.
    """

    def __init__(self, seed: int = 0, stop: float = 0.02) -> None:
        if not 0.0 <= stop <= 1.0:
            raise InputError(f"stop={stop} is a chance and lies between 0 and 1")
        self.seed, self.stop = seed, stop

    def __call__(self, state: SimState, frame: Frame | None = None) -> Int64[Tensor, " B"]:
        """An action for each environment."""
        key = counter_random.episode_key(self.seed, state.key.cpu().numpy(), 0)  # the state's key stands for its env
        share = counter_random.uniform(key, state.step.cpu().numpy(), 0)
        rest = (share - self.stop) / max(1.0 - self.stop, 1e-12)
        action = np.where(share < self.stop, STOP, FORWARD + np.floor(np.clip(rest, 0, 1 - 1e-9) * 3).astype(np.int64))
        return torch.from_numpy(action).to(state.home.device)

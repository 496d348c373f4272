"""PointGoal: go to a given point of the floor plan and stop there (Anderson et al., arXiv:1807.06757).

- Goals: up to 64 points of each home, spread over its free floor, the same for a home wherever it is met. The sentence
  names the point by its coordinates; adapters also give the agent its distance and bearing (as Habitat does).
- Success: stop within 0.2 m of the point, as in the Habitat challenge. A stop anywhere else ends the episode.
- Start: more than 1 m and at most 10 m of walking away from success; any yaw.
- Reward of a step: metres come closer + 2.5 for success - 0.01.
"""

import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs import counter_random
from envs.goals import Goal, Stage
from envs.pool import Home, HomePool
from envs.tasks.common import progress_reward


@dataclass(frozen=True)
class PointGoal:
    """Go to a point; raises InputError for fewer than one point a home."""

    points: int = 64  # of each home
    success_radius_m: float = 0.2
    start_range_m: tuple[float, float] = (1.0, 10.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01
    interactive = False
    vocabulary = ()

    def __post_init__(self) -> None:
        if self.points < 1:
            raise InputError(f"points={self.points} should be at least 1")

    @classmethod
    def from_pool(cls, pool: HomePool) -> "PointGoal":
        """The same for every pool."""
        return cls()

    @classmethod
    def from_manifest(cls, manifest: dict) -> "PointGoal":
        """The same for all homes."""
        return cls()

    def goals(self, home: Home) -> list[Goal]:
        """Middles of free cells, one drawn from each of `points` equal shares of the cells in reading order."""
        cells = home.free_cells
        count = min(self.points, len(cells))
        key = np.full(count, zlib.crc32(home.name.encode()), dtype=np.int64)
        share = (np.arange(count) + counter_random.uniform(key, np.arange(count), 0)) / count
        chosen = cells[np.floor(share * len(cells)).astype(np.int64)]
        middles = home.grid.centers(np.stack(np.unravel_index(chosen, home.grid.free.shape), axis=1))
        return [
            Goal(f"go to the point {x:.2f} m east and {y:.2f} m north", (Stage("reach", place=(float(x), float(y))),))
            for x, y in middles
        ]

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"]:
        """Free cells whose middle is close to the point."""
        assert stage.place is not None
        rows, columns = home.grid.free.shape
        x = home.grid.origin[0] + (np.arange(columns) + 0.5) * home.grid.cell_m
        y = home.grid.origin[1] + (np.arange(rows) + 0.5) * home.grid.cell_m
        near = np.hypot(x[None] - stage.place[0], y[:, None] - stage.place[1]) <= self.success_radius_m
        return near & home.grid.free

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer + bonus for success - cost of a step."""
        return progress_reward(previous_m, distance_m, success, self.success_bonus, self.step_cost)

"""FindObject: "find the red armchair". Walk up to any matching object and stop.

Everything that makes this task is in this file; to make another, copy it, change it, and add it to TASKS in
envs/tasks/__init__.py. A task says which goals exist, which objects of a home match one, where stopping succeeds, how
far away episodes start, and the reward. All of it is batched; drawing starts, distances, time limit and metrics are the
simulator's.

- Goals: colour x noun, e.g. "red armchair". An empty colour means any.
- Success: stop within 1 m of the footprint of any matching object (horizontal), with nothing taller than the eye in
  between. Judged at the middle of the agent's 5 cm cell.
- A stop anywhere else ends the episode without bonus (explicit stop, as in Habitat's ObjectNav, arXiv:2006.13171).
- Start: more than 0.8 m and at most 5 m of walking away from success; any yaw.
- Reward of a step: metres come closer (walking distance) + 2.5 for success - 0.01 (bonus and step cost of habitat-lab's
  ObjectNav). Over an episode the first part sums to at most 5, whatever the path: it does not pay to wander.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.goals import Goal
from envs.pool import STRUCTURE_LABELS, Home, HomePool
from scene.geometry import distance_to_footprint
from scene.occupancy import line_of_sight


@dataclass(frozen=True)
class FindObject:
    """Find an object by colour and noun.

    `goals` is the vocabulary that goal numbers index; give training and evaluation the same one
    (`FindObject.from_manifest`, or `FindObject(goals=other.goals)`). Pairs (label, color) are accepted too.

    Raises:
        InputError: a goal comes twice.
    """

    goals: tuple[Goal, ...] = ()
    success_radius_m: float = 1.0
    start_range_m: tuple[float, float] = (0.8, 5.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01

    def __post_init__(self) -> None:
        goals = tuple(goal if isinstance(goal, Goal) else self.goal(*goal) for goal in self.goals)
        if len(set(goals)) < len(goals):
            raise InputError("each goal of a task is named once; remove the repeated ones")
        object.__setattr__(self, "goals", goals)

    @staticmethod
    def goal(label: str, color: str = "") -> Goal:
        """The goal and its sentence."""
        thing = f"{color} {label}".strip()
        return Goal(f"find the {thing}", label, color)

    @classmethod
    def from_pool(cls, pool: HomePool) -> "FindObject":
        """All pairs of colour and noun that some home of the pool has, in alphabetical order."""
        pairs = {
            (item.label, item.attributes.get("color", ""))
            for home in pool.homes
            for item in home.scene.objects
            if item.label in pool.goal_labels
        }
        if not pairs:
            raise InputError(
                f"no home of this pool has an object to be sent to (labels looked for: {', '.join(pool.goal_labels)})"
            )
        return cls(tuple(cls.goal(*pair) for pair in sorted(pairs)))

    @classmethod
    def from_manifest(cls, manifest: dict) -> "FindObject":
        """Every goal label with every goal colour (else palette colour) of a SCENES manifest, present or not.

        Raises:
            InputError: the manifest lacks goal_labels or palette.
        """
        missing = [key for key in ("goal_labels", "palette") if not manifest.get(key)]
        if missing:
            raise InputError(f"the scenes' manifest lacks {' and '.join(missing)}; build the scenes again")
        labels = [label for label in sorted(manifest["goal_labels"]) if label not in STRUCTURE_LABELS]
        colors = sorted(manifest.get("goal_colors") or manifest["palette"])
        return cls(tuple(cls.goal(label, color) for label in labels for color in colors))

    def matching(self, home: Home, goal: int) -> list[int]:
        """Ids of the objects of a home that satisfy goal number `goal`."""
        wanted = self.goals[goal]
        return [
            item.id
            for item in home.scene.objects
            if item.label == wanted.label and wanted.color in ("", item.attributes.get("color", ""))
        ]

    def success_region(self, home: Home, goal: int) -> Bool[ndarray, "H W"] | None:
        """Free cells near a matching object and in sight of it; None where the home has no such object."""
        objects = self.matching(home, goal)
        if not objects:
            return None
        region = np.zeros_like(home.grid.free)
        cells = np.argwhere(home.grid.free)
        middles = home.grid.centers(cells)
        for item in objects:
            box = home.scene.objects[item].box
            near = distance_to_footprint(middles, box) <= self.success_radius_m
            seen = line_of_sight(home.grid, middles[near], _nearest_point(middles[near], box), item)
            region[tuple(cells[near][seen].T)] = True
        return region

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer + bonus for success - cost of a step.

        Args:
            previous_m, distance_m: walking distance to success before and after the action.
            success: the agent stopped where stopping succeeds. stopped: it stopped, anywhere.
        """
        return previous_m - distance_m + self.success_bonus * success - self.step_cost


def _nearest_point(xy: Float[ndarray, "K 2"], box: Float[ndarray, "7"]) -> Float[ndarray, "K 2"]:
    """The point of a box's footprint nearest to each of `xy`."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    turn = np.array([[cos, sin], [-sin, cos]])  # world to box
    local = np.clip((xy - box[:2]) @ turn.T, -box[3:5] / 2, box[3:5] / 2)
    return local @ turn + box[:2]

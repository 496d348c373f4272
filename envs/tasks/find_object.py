"""FindObject: "find the red armchair". Walk up to any matching object and stop.

Everything that makes this task is in this file; to make another, copy it, change it, and add it to TASKS in
envs/tasks/__init__.py (docs/add_a_task.md goes through it). A task says which goals a home has, where they count as
reached, how far away episodes start, and the reward. Drawing starts, distances, time limit and metrics are the
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

from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.goals import Goal, Stage
from envs.pool import STRUCTURE_LABELS, Home, HomePool
from envs.tasks.common import near_objects, progress_reward


@dataclass(frozen=True)
class FindObject:
    """Find an object by colour and noun.

    `pairs` (label, color) are the goals there can be, in the order of their numbers; give training and evaluation the
    same ones (`FindObject.from_manifest`, or `FindObject(pairs=other.pairs)`).

    Raises:
        InputError: there are no pairs, or one comes twice.
    """

    pairs: tuple[tuple[str, str], ...]
    success_radius_m: float = 1.0
    start_range_m: tuple[float, float] = (0.8, 5.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01
    interactive = False

    def __post_init__(self) -> None:
        if not self.pairs:
            raise InputError("the task has no goals; give it pairs of label and colour")
        if len(set(self.pairs)) < len(self.pairs):
            raise InputError("each goal of a task is named once; remove the repeated ones")

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The sentences of all pairs."""
        return tuple(f"find the {phrase(*pair)}" for pair in self.pairs)

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
        return cls(tuple(sorted(pairs)))

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
        return cls(tuple((label, color) for label in labels for color in colors))

    def goals(self, home: Home) -> list[Goal]:
        """The pairs that the home has, in the order of `pairs`; each may be any of the objects that match it."""
        found = []
        for (label, color), text in zip(self.pairs, self.vocabulary):
            matching = tuple(
                item.id
                for item in home.scene.objects
                if item.label == label and color in ("", item.attributes.get("color", ""))
            )
            if matching:
                found.append(Goal(text, (Stage("reach", matching),), label, color))
        return found

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"]:
        """Free cells near a matching object and in sight of it."""
        return near_objects(home, stage.objects, self.success_radius_m)

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer + bonus for success - cost of a step."""
        return progress_reward(previous_m, distance_m, success, self.success_bonus, self.step_cost)


def phrase(label: str, color: str = "") -> str:
    """What a pair is called: "red armchair"."""
    return f"{color} {label}".strip()

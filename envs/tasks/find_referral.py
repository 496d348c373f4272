"""FindReferral: "go to the chair next to the window". Walk up to the one object the sentence means, and stop.

- Goals: "go to " and a sentence of the corpus (scene/language.py) whose meaning, evaluated on the home's scene graph,
  is exactly one object. Of each home at most 16 are taken, always the same ones, in turn of target and of kind of
  sentence. A target measures at least 40 cm, does not hang above 1.6 m, is no door or window, and shares its class
  with another object of the home, so that its class alone is never the answer (`unique=True` adds those that do not).
- Left, right, behind and in front are left out: they hold for one fixed viewpoint, and an agent that walks has none.
- Large homes are spoken of room by room in the corpus, to a listener who knows the room. An agent does not, so a
  sentence is kept only where no other room has an object that it would fit, too; the closest or farthest one to
  something only where the whole home has one such something.
- "Near" and "next to" name a target only where nothing it could be mistaken for stands nearer on the floor plan to
  what it is near to.
- Success: stop within 1 m of the target's footprint, in sight of it (as in FindObject), and nearer to it than to any
  other object of its class. Where two stand so close that no such cell is left, the sentence is not offered.
- Start: more than 0.8 m and at most 10 m of walking away from success; any yaw.
- Reward of a step: metres come closer + 2.5 for success - 0.01.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.goals import Goal, Stage
from envs.pool import STRUCTURE_LABELS, Home, HomePool
from envs.tasks.common import home_draws, near_objects, nearer_than_others, on_storey, progress_reward, worth_going_to
from scene.graph import SceneGraph, build_graph, spoken_room_by_room
from scene.language import Referral, generate_referrals, wordings
from scene.meanings import NEARNESS_KEYS
from scene.query import Query, resolve
from scene.relations import pairs_of
from scene.types import Scene

ASKED = 200  # sentences the corpus is asked for in each home: more than are taken, to choose from


@dataclass(frozen=True)
class FindReferral:
    """Find the object a sentence means; raises InputError for fewer than one sentence a home."""

    sentences: int = 16  # of each home, at most
    unique: bool = False  # offer targets whose class alone names them, too
    success_radius_m: float = 1.0
    start_range_m: tuple[float, float] = (0.8, 10.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01
    interactive = False
    vocabulary = ()

    def __post_init__(self) -> None:
        if self.sentences < 1:
            raise InputError(f"sentences={self.sentences} should be at least 1")

    @classmethod
    def from_pool(cls, pool: HomePool) -> "FindReferral":
        """The same for every pool: which objects are targets depends on their home alone."""
        return cls()

    @classmethod
    def from_manifest(cls, manifest: dict) -> "FindReferral":
        """The same for all homes."""
        return cls()

    def goals(self, home: Home) -> list[Goal]:
        """A goal per sentence; each has one target."""
        scene = home.scene
        if not scene.objects:
            return []
        rng = home_draws(home)
        graph = build_graph(scene)
        said = [r for r in generate_referrals(scene, graph, ASKED, rng) if not r.view_dependent]
        goals: dict[str, Goal] = {}
        for referral in _in_turn(r for r in said if self._is_target(home, r.targets[0])):
            if not means_one(referral, scene, graph) or not self._is_nearest(home, referral):
                continue
            item = scene.objects[referral.targets[0]]
            plain = [text for text in wordings(Query.from_json(referral.query)) if text.startswith("the ")]
            text = f"go to {plain[int(rng.integers(len(plain)))]}"
            stage = Stage("reach", (item.id,))
            goals.setdefault(text, Goal(text, (stage,), item.label, item.attributes.get("color", "")))
            if len(goals) == self.sentences:
                break
        return list(goals.values())

    def _is_target(self, home: Home, index: int) -> bool:
        item = home.scene.objects[index]
        rivals = home.scene.labels.count(item.label) > 1
        return (rivals or self.unique) and item.label not in STRUCTURE_LABELS and worth_going_to(home, index)

    def _is_nearest(self, home: Home, referral: Referral) -> bool:
        """Whether none on this storey that could be meant, too, is nearer to an anchor; true where none is told."""
        query, items = Query.from_json(referral.query), home.scene.objects
        if query.predicate not in NEARNESS_KEYS:
            return True
        here = [item.id for item in items if on_storey(home, item.id)]
        meant = [k for k in here if query.noun.fits(items[k])]
        anchors = [k for k in here if query.anchor_nouns[0].fits(items[k])]
        gap = pairs_of(home.scene.boxes[meant + anchors]).gap[: len(meant), len(meant) :]
        gap[np.array(meant)[:, None] == np.array(anchors)] = np.inf  # nothing is near itself
        nearest = {k: row.min(initial=np.inf) for k, row in zip(meant, gap)}
        (target,) = referral.targets
        return all(nearest[target] < away for k, away in nearest.items() if k != target)

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"]:
        """Free cells near the target, in sight of it, and nearer to it than to any other object of its class."""
        (target,) = stage.objects
        return nearer_than_others(home, target, near_objects(home, (target,), self.success_radius_m))

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer + bonus for success - cost of a step."""
        return progress_reward(previous_m, distance_m, success, self.success_bonus, self.step_cost)


def means_one(referral: Referral, scene: Scene, graph: SceneGraph) -> bool:
    """Whether a sentence fits its target alone for a listener who is not told which room it is about.

    The meanings it has in each room of a large home are put together. A superlative is turned down where things of the
    kind it compares stand in several rooms: which of them is closest may then lie behind a wall. So is one where the
    home has several of the things it is measured from.
    """
    query = Query.from_json(referral.query)
    if not spoken_room_by_room(scene):
        return resolve(query, scene, graph) == set(referral.targets)
    named = {item.id for item in scene.objects if query.noun.fits(item)}
    rooms = {int(graph.room[k]) for k in named}
    if -1 in rooms:
        return False
    if query.kind == "superlative":
        anchors = [item.id for item in scene.objects if query.anchor_nouns[0].fits(item)]
        if len(rooms) > 1 or len(anchors) != 1:
            return False
    fits: set[int] = set()
    for room in rooms:
        fits |= resolve(query, scene, graph, room)
    return fits == set(referral.targets)


def _in_turn(referrals: Iterable[Referral]) -> list[Referral]:
    """In an order in which every target comes once before any comes twice, and kinds take turns within each round."""
    seen: dict[int, int] = defaultdict(int)
    kinds: dict[tuple[int, str], int] = defaultdict(int)
    keyed = []
    for place, referral in enumerate(referrals):
        target = referral.targets[0]
        kinds[seen[target], referral.kind] += 1
        keyed.append((seen[target], kinds[seen[target], referral.kind], place, referral))
        seen[target] += 1
    return [row[3] for row in sorted(keyed, key=lambda row: row[:3])]

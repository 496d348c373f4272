"""FollowInstruction: "go to the bed, then to the blue armchair, and stop at the window". Several places, in order.

- Goals: of each home at most 16 routes of two to four objects, always the same ones, a third of each length where the
  home has enough. Objects measure at least 40 cm, do not hang above 1.6 m, and are called so that nothing else in
  the home is meant. Two that follow each other are never reached from one cell, so that each takes a walk.
- With `errands=True` (homes then need to be interactive) every other route has one thing carried along the way: "go to
  the bed, then take the mug and put it on the desk, and stop at the window"; things and surfaces as in Rearrange.
- Success: pass within 1 m of each object, in sight of it, in the order of the sentence; stop at the last. Coming by a
  later one first does not count, nor does it harm.
- Start: more than 2 m and at most 20 m of walking along the whole route, not at its first place; any yaw.
- Reward of a step: metres come closer, along the whole route + 2.5 for success - 0.01.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.goals import Goal, Stage
from envs.pool import Home, HomePool
from envs.tasks.common import home_draws, names, near_objects, progress_reward, worth_going_to
from envs.tasks.rearrange import offers

TRIES = 8  # routes drawn for each one that is wanted, before a home is taken to have no more


@dataclass(frozen=True)
class FollowInstruction:
    """Go along a route of objects.

    Raises:
        InputError: fewer than one route a home, or lengths that are no route.
    """

    routes: int = 16  # of each home, at most
    lengths: tuple[int, ...] = (2, 3, 4)  # numbers of objects a route can have
    errands: bool = False  # carry a thing along the way in every other route
    success_radius_m: float = 1.0
    start_range_m: tuple[float, float] = (2.0, 20.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01
    vocabulary = ()

    def __post_init__(self) -> None:
        if self.routes < 1 or not self.lengths or min(self.lengths) < 2:
            raise InputError(
                f"routes={self.routes} and lengths={self.lengths}: expected at least one route, of two objects or more"
            )

    @property
    def interactive(self) -> bool:
        """Only errands move things."""
        return self.errands

    @classmethod
    def from_pool(cls, pool: HomePool) -> "FollowInstruction":
        """The same for every pool."""
        return cls()

    @classmethod
    def from_manifest(cls, manifest: dict) -> "FollowInstruction":
        """The same for all homes."""
        return cls()

    def goals(self, home: Home) -> list[Goal]:
        """Routes, each with a stage per object and two for an errand."""
        rng = home_draws(home)
        called = names(home.scene)
        places = [k for k in called if worth_going_to(home, k) and not (self.errands and k in home.things)]
        regions = {k: near_objects(home, (k,), self.success_radius_m) for k in places}
        places = [k for k in places if regions[k].any()]
        apart = {(a, b) for a in places for b in places if not (regions[a] & regions[b]).any()}
        errands = [self._errand(*offer) for offer, _ in zip(offers(home), range(self.routes))] if self.errands else []
        found: dict[tuple[Stage, ...], Goal] = {}
        for attempt in range(TRIES * self.routes):
            if len(found) == self.routes:
                break
            route = _route(places, apart, self.lengths[len(found) % len(self.lengths)], rng)
            if len(route) < 2:
                continue
            steps: list[tuple[str, tuple[Stage, ...]]]
            steps = [(f"to the {called[k]}", (Stage("reach", (k,)),)) for k in route]
            if errands and attempt % 2:
                steps.insert(int(rng.integers(1, len(steps))), errands[int(rng.integers(len(errands)))])
            stages = tuple(stage for _, part in steps for stage in part)
            found.setdefault(stages, Goal(_sentence([words for words, _ in steps], called[route[-1]]), stages))
        return list(found.values())

    def _errand(self, thing: int, thing_name: str, surface: int, surface_name: str) -> tuple[str, tuple[Stage, ...]]:
        stages = (Stage("hold", (thing,)), Stage("rest", (thing,), on=(surface,)))
        return f"take the {thing_name} and put it on the {surface_name}", stages

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"]:
        """Free cells near the stage's object and in sight of it."""
        return near_objects(home, stage.objects, self.success_radius_m)

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer, along the whole route + bonus for success - cost of a step."""
        return progress_reward(previous_m, distance_m, success, self.success_bonus, self.step_cost)


def _route(places: Sequence[int], apart: set[tuple[int, int]], length: int, rng: np.random.Generator) -> list[int]:
    """Different objects in a drawn order, each reached from elsewhere than the one before; fewer if none is left."""
    route: list[int] = []
    for k in rng.permutation(np.array(places, np.int64)).tolist():
        if len(route) < length and (not route or (route[-1], k) in apart):
            route.append(k)
    return route


def _sentence(steps: Sequence[str], last: str) -> str:
    """ "go to the bed, then to the blue armchair, and stop at the window"."""
    middle = "".join(f", then {words}" for words in steps[1:-1])
    return f"go {steps[0]}{middle}, and stop at the {last}"

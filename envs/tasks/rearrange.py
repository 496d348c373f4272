"""Rearrange: "put the mug on the desk". Go to a thing, pick it up, carry it somewhere, put it down there, and stop.

- Goals: a thing that can be carried and a surface with room for it that it is not on (both in reach of hands: rules of
  envs/interaction.py). Of each home at most 16 pairs, always the same ones, in turn of thing and of surface. Both are
  called so that nothing else in the home is meant: "mug", else "red mug", else "mug from the shelf" (things only).
  A thing is left out where hands might take another one first from wherever they stand, and a surface likewise.
- Success: stop when the thing was put on that surface. Putting it elsewhere undoes the picking up; nothing is lost, it
  can be picked up again.
- Start: 0.5 m to 12 m of walking through both stages, to where hands reach the thing and on to where they reach the
  surface, any yaw; picking up and putting down count 0.1 m each (envs/goals.py HAND_M).
- Reward of a step: metres come closer, through both stages + 2.5 for success - 0.01.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.goals import Goal, Stage
from envs.layout import AT_REST, Layout, at_height, layout_of, spots_at_rest, takeable
from envs.pool import Home, HomePool
from envs.tasks.common import home_draws, last_words, names, on_storey, progress_reward


@dataclass(frozen=True)
class Rearrange:
    """Put a thing on a surface; raises InputError for fewer than one pair a home."""

    pairs: int = 16  # of thing and surface, of each home, at most
    start_range_m: tuple[float, float] = (0.5, 12.0)
    success_bonus: float = 2.5
    step_cost: float = 0.01
    interactive = True
    vocabulary = ()

    def __post_init__(self) -> None:
        if self.pairs < 1:
            raise InputError(f"pairs={self.pairs} should be at least 1")

    @classmethod
    def from_pool(cls, pool: HomePool) -> "Rearrange":
        """The same for every pool."""
        return cls()

    @classmethod
    def from_manifest(cls, manifest: dict) -> "Rearrange":
        """The same for all homes."""
        return cls()

    def goals(self, home: Home) -> list[Goal]:
        """Pairs of a thing and a surface; there are none in a home where nothing can be carried."""
        found: list[Goal] = []
        for thing, thing_name, surface, surface_name in offers(home):
            item = home.scene.objects[thing]
            stages = (Stage("hold", (thing,)), Stage("rest", (thing,), on=(surface,)))
            text = f"put the {thing_name} on the {surface_name}"
            found.append(Goal(text, stages, item.label, item.attributes.get("color", "")))
            if len(found) == self.pairs:
                break
        return found

    def region(self, home: Home, stage: Stage) -> Bool[ndarray, "H W"] | None:
        """No stage of this task is about being somewhere."""
        return None

    def reward(
        self,
        previous_m: Float[Tensor, " B"],
        distance_m: Float[Tensor, " B"],
        success: Bool[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Metres come closer, through both stages + bonus for success - cost of a step."""
        return progress_reward(previous_m, distance_m, success, self.success_bonus, self.step_cost)


def offers(home: Home) -> Iterator[tuple[int, str, int, str]]:
    """Things with surfaces that have room for them: (id, name, id, name), each thing and surface in its turn."""
    layout, floor = layout_of(home), home.grid.floor_z
    called = names(home.scene)
    things = _names_of_things(home, layout, called)
    able = np.flatnonzero(takeable(layout, floor, layout.boxes, np.full(len(layout.movable), AT_REST)))
    slots = [s for s in able.tolist() if int(layout.movable[s]) in things and on_storey(home, int(layout.movable[s]))]
    rows = np.flatnonzero(at_height(layout.surface_boxes, floor)).tolist()
    rows = [r for r in rows if int(layout.surfaces[r]) in called and on_storey(home, int(layout.surfaces[r]))]
    rng = home_draws(home)
    slots, rows = rng.permutation(slots).astype(int).tolist(), rng.permutation(rows).astype(int).tolist()
    for shift in range(len(rows)):
        for place, slot in enumerate(slots):
            row = rows[(place + shift) % len(rows)]
            thing, surface = int(layout.movable[slot]), int(layout.surfaces[row])
            if surface in (layout.base[slot], layout.carrier[slot]):
                continue
            if len(spots_at_rest(layout, slot, row)):
                yield thing, things[thing], surface, called[surface]


def _names_of_things(home: Home, layout: Layout, called: dict[int, str]) -> dict[int, str]:
    """Names of the things that can be carried, by id; those that can be told apart by what they lie on included."""
    items = home.scene.objects
    lies = list(zip(layout.movable.tolist(), layout.carrier.tolist(), layout.base.tolist()))
    # a mug on a tray on the desk is on the desk as well
    count = Counter((noun, k) for thing, *under in lies for noun in last_words(items[thing].label) for k in {*under})
    by_place = {
        thing: f"{items[thing].label} from the {called[carrier]}"
        for thing, carrier, _ in lies
        if carrier in called and count[items[thing].label, carrier] == 1
    }
    return by_place | {thing: called[thing] for thing in layout.movable.tolist() if thing in called}

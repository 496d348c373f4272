"""What several tasks share: names of things, where an object counts as reached, and the reward of coming closer."""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from envs.layout import HIGHEST_M
from envs.pool import GOAL_SIZE_M, Home
from scene.geometry import distance_to_footprint
from scene.occupancy import line_of_sight
from scene.storeys import storey_of, storey_of_thing, storeys
from scene.types import Scene, SceneObject


def near_objects(home: Home, objects: Sequence[int], radius_m: float) -> Bool[ndarray, "H W"]:
    """Free cells within `radius_m` of the footprint of any of the objects, with nothing taller than the eye between.

    Objects of other storeys are left out.
    """
    grid = home.grid
    region = np.zeros_like(grid.free)
    for item in objects:
        if not on_storey(home, item):
            continue
        box = home.scene.objects[item].box
        reach = radius_m + 0.5 * float(np.hypot(box[3], box[4]))
        low, high = grid.cells(box[:2] - reach), grid.cells(box[:2] + reach) + 1
        cells = np.argwhere(grid.free[low[0] : high[0], low[1] : high[1]]) + low
        middles = grid.centers(cells)
        near = distance_to_footprint(middles, box) <= radius_m
        seen = line_of_sight(grid, middles[near], nearest_point(middles[near], box), item)
        region[tuple(cells[near][seen].T)] = True
    return region


def nearer_than_others(home: Home, target: int, cells: Bool[ndarray, "H W"]) -> Bool[ndarray, "H W"]:
    """Those of the cells that are nearer to an object than to any other one of its class on this storey."""
    items = home.scene.objects
    found = np.argwhere(cells)
    middles = home.grid.centers(found)
    own = distance_to_footprint(middles, items[target].box)
    nearest = np.ones(len(found), dtype=bool)
    for other in items:
        if other.label == items[target].label and other.id != target and on_storey(home, other.id):
            nearest &= own < distance_to_footprint(middles, other.box)
    region = np.zeros_like(cells)
    region[tuple(found[nearest].T)] = True
    return region


def on_storey(home: Home, index: int) -> bool:
    """Whether an object is on the home's storey: by its room, or by its box where no room is known."""
    floors = storeys(home.scene)
    if len(floors) == 1:
        return True
    item = home.scene.objects[index]
    if item.room >= 0:
        storey = storey_of(home.scene.rooms[item.room].floor_z, floors)
    else:
        storey = storey_of_thing(item.box, floors)
    return storey == storey_of(home.floor_z, floors)


def nearest_point(xy: Float[ndarray, "K 2"], box: Float[ndarray, "7"]) -> Float[ndarray, "K 2"]:
    """The point of a box's footprint nearest to each of `xy`."""
    cos, sin = np.cos(box[6]), np.sin(box[6])
    turn = np.array([[cos, sin], [-sin, cos]])  # world to box
    local = np.clip((xy - box[:2]) @ turn.T, -box[3:5] / 2, box[3:5] / 2)
    return local @ turn + box[:2]


def progress_reward(
    previous_m: Float[Tensor, " B"],
    distance_m: Float[Tensor, " B"],
    success: Bool[Tensor, " B"],
    bonus: float,
    step_cost: float,
) -> Float[Tensor, " B"]:
    """Metres come closer + bonus for success - cost of a step.

    Args:
        previous_m, distance_m: walking distance to success before and after the action.
        success: the agent stopped where stopping succeeds.
    """
    return previous_m - distance_m + bonus * success - step_cost


def worth_going_to(home: Home, index: int) -> bool:
    """Whether an agent can be sent to an object: 40 cm or larger, on its storey, not all above its head."""
    box = home.scene.objects[index].box
    low = box[2] - box[5] / 2 - home.floor_z
    return bool(box[3:6].max() >= GOAL_SIZE_M and low <= HIGHEST_M) and on_storey(home, index)


def names(scene: Scene) -> dict[int, str]:
    """What to call objects so that nothing else in the whole home is meant: "bed", else "red bed".

    A compound is meant by its last words, too: beside a "side table", no table is just "the table". Objects that share
    class and colour with another one have no name and are left out.
    """
    items = scene.objects
    count = Counter(name for item in items for name in _meant_by(item))
    called = {}
    for item in items:
        color = item.attributes.get("color")
        for name in (item.label, f"{color} {item.label}" if color else ""):
            if name and count[name] == 1:
                called[item.id] = name
                break
    return called


def _meant_by(item: SceneObject) -> set[str]:
    """Everything an object could be called: "red side table", "red table", "side table", "table"."""
    nouns, color = last_words(item.label), item.attributes.get("color")
    return {*nouns, *(f"{color} {noun}" for noun in nouns if color)}


def last_words(label: str) -> list[str]:
    """A label and what is left of it without its first words: "side table", "table"."""
    words = label.split()
    return [" ".join(words[k:]) for k in range(len(words))]


def home_draws(home: Home) -> np.random.Generator:
    """Random draws that belong to a home: the same wherever it is met."""
    return np.random.default_rng(zlib.crc32(home.name.encode()))

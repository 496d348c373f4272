"""Object-centric observations: which objects each agent sees, how large, where from itself, and how well they fit.

    scores = ObjectScores(lambda scene, sentence: my_grounder(scene, sentence))     # (N,) numbers, computed once each
    view = visible_objects(sim, state, step.frame, limit=16, scores=scores)
    view.box_3d[view.mask]                                                            # (number seen, 7)

An object is seen when pixels of the frame show it; the agent's frame is x ahead, y left, z up from the floor under it,
level whatever the tilt of its head. What was carried elsewhere is where it lies now, what is held where it is drawn.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.conventions import NO_INSTANCE, wrap_angle
from core.errors import InputError
from envs.layout import AT_REST
from envs.pool import Home
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame
from scene.types import Scene

Scorer = Callable[[Scene, str], "ndarray | Tensor"]
UNKNOWN = 0  # index of labels and colours that the vocabulary lacks


@dataclass(frozen=True, eq=False)
class ObjectView:
    """Up to K objects per environment, the ones with most pixels first, lower ids first among equals; zeros beyond."""

    ids: Int64[Tensor, "B K"]  # index into the home's scene.objects, -1 = no object
    mask: Bool[Tensor, "B K"]  # whether there is one
    pixels: Int64[Tensor, "B K"]  # how many show it
    box_2d: Int64[Tensor, "B K 4"]  # rectangle around them: left, top, right, bottom; the last two just outside
    box_3d: Float32[Tensor, "B K 7"]  # its whole box in the agent's frame: centre, size, yaw from the heading
    distance: Float32[Tensor, "B K"]  # metres from the agent's middle to its footprint, 0 above or below it
    bearing: Float32[Tensor, "B K"]  # radians from the heading to its middle, positive to the left
    label: Int64[Tensor, "B K"]  # 1 + place in `labels`, 0 = not among them
    color: Int64[Tensor, "B K"]  # 1 + place in `colors`, 0 = not among them
    score: Float32[Tensor, "B K"]  # of the goal's sentence for it; 0 without a scorer


class ObjectScores:
    """Scores of all objects of a home for a sentence, computed once; the `size` pairs used last are kept.

    Args:
        scorer: a scene and a sentence to one number per object of scene.objects, e.g. a grounder's.

    Raises:
        InputError: the scorer hands out another shape, NaN or infinity.
    """

    def __init__(self, scorer: Scorer, size: int = 4096) -> None:
        if size < 1:
            raise InputError(f"size={size} should be at least 1: how many pairs of home and sentence are kept")
        self.scorer, self.size = scorer, size
        self._kept: OrderedDict[tuple[weakref.ref[Home], str], Float32[ndarray, " N"]] = OrderedDict()

    def __call__(self, home: Home, sentence: str) -> Float32[ndarray, " N"]:
        """One number per object of the home's scene."""
        key = (weakref.ref(home), sentence)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        scores = torch.as_tensor(self.scorer(home.scene, sentence)).detach().to("cpu", torch.float32).numpy()
        count = len(home.scene.objects)
        if scores.shape != (count,) or not np.isfinite(scores).all():
            raise InputError(
                f"the scorer gave {scores.shape} for {sentence!r} in home {home.name}; expected ({count},) finite "
                "numbers, one per object"
            )
        self._kept[key] = scores.copy()
        if len(self._kept) > self.size:
            self._kept.popitem(last=False)
        return self._kept[key]


def visible_objects(
    sim: Simulator,
    state: SimState,
    frame: Frame,
    limit: int = 16,
    *,
    scores: ObjectScores | None = None,
    labels: Sequence[str] = (),
    colors: Sequence[str] = (),
    least_pixels: int = 1,
) -> ObjectView:
    """What B agents see, object by object.

    Args:
        frame: of this very state, from the simulator's camera or another one at its eyes.
        limit: K.
        scores: how well objects fit the goal's sentence.
        labels, colors: the vocabulary that `label` and `color` index.
        least_pixels: objects that cover fewer are left out.

    Raises:
        InputError: a limit below 1, or frames of another batch.
    """
    if limit < 1 or least_pixels < 1:
        raise InputError(f"limit and least_pixels start at 1, got {limit} and {least_pixels}")
    if len(frame.instance) != len(state):
        raise InputError(f"{len(frame.instance)} frames for a state of {len(state)} environments; give one frame each")
    home = state.home.cpu().numpy()
    homes = [sim.homes[int(k)] for k in home]
    most = max(len(place.scene.objects) for place in homes)
    ids, pixels, box_2d = _largest(*object_pixels(frame.instance, most), limit, least_pixels)
    mask = ids != NO_INSTANCE
    box = np.zeros((*ids.shape, 7))
    words = np.zeros((2, *ids.shape), dtype=np.int64)
    score = np.zeros(ids.shape, dtype=np.float32)
    number = [{word: 1 + k for k, word in enumerate(known)} for known in (labels, colors)]
    texts = state.text.tolist()
    for b, place in enumerate(homes):
        count = int(mask[b].sum())  # those seen come first
        items = [place.scene.objects[k] for k in ids[b, :count]]
        for k, item in enumerate(items):
            box[b, k] = item.box
            words[0, b, k] = number[0].get(item.label, UNKNOWN)
            words[1, b, k] = number[1].get(item.attributes.get("color", ""), UNKNOWN)
        if scores is not None and count:
            score[b, :count] = scores(place, sim.texts[texts[b]])[ids[b, :count]]
    _moved(sim, state, home, ids, box)
    seen, distance, bearing = _from_the_agent(sim, state, home, box, mask)
    columns = (ids, mask, pixels, box_2d, seen, distance, bearing, words[0], words[1], score)
    return ObjectView(*(torch.from_numpy(column).to(sim.device) for column in columns))


def object_pixels(instance: Int32[Tensor, "B H W"], most: int) -> tuple[Int64[ndarray, "B N"], Int64[ndarray, "B N 4"]]:
    """How many pixels show each object, and the rectangle around them.

    Args:
        instance: ids of objects, -1 where there is none.
        most: N, above every id.

    Returns:
        Pixels; left, top, right and bottom, the last two just outside, zeros for objects that no pixel shows.

    Raises:
        InputError: an id that is not below `most`: frames of other homes.
    """
    pictures = np.ascontiguousarray(instance.cpu().numpy())
    count, edge = np.zeros((len(pictures), most), np.int64), np.zeros((len(pictures), most, 4), np.int64)
    highest = _count(pictures, count, edge)
    if highest >= most:
        raise InputError(f"frames show object {highest}, but their homes have {most} objects; give each its own frame")
    return count, edge


@njit(cache=True, nogil=True)
def _count(instance, count, edge):
    """Fills zeros with pixels and rectangles; the highest id met, or the first that is too high."""
    batch, height, width = instance.shape
    most, highest = count.shape[1], -1
    for b in range(batch):
        for row in range(height):
            for column in range(width):
                item = instance[b, row, column]
                if item < 0:
                    continue
                if item > highest:
                    highest = item
                    if item >= most:
                        return highest
                if count[b, item] == 0:
                    edge[b, item, 0], edge[b, item, 1], edge[b, item, 2] = column, row, column + 1
                elif column < edge[b, item, 0]:
                    edge[b, item, 0] = column
                elif column >= edge[b, item, 2]:
                    edge[b, item, 2] = column + 1
                edge[b, item, 3] = row + 1
                count[b, item] += 1
    return highest


@njit(cache=True, nogil=True)
def _largest(count, edge, limit, least):
    """Per picture the ids, pixel counts and rectangles of the `limit` objects with most pixels; empties `count`."""
    batch, most = count.shape
    ids, pixels = np.full((batch, limit), -1, np.int64), np.zeros((batch, limit), np.int64)
    box = np.zeros((batch, limit, 4), np.int64)
    for b in range(batch):
        for k in range(limit):
            best = 0
            for item in range(1, most):
                if count[b, item] > count[b, best]:
                    best = item
            if most == 0 or count[b, best] < least:
                break
            ids[b, k], pixels[b, k], box[b, k] = best, count[b, best], edge[b, best]
            count[b, best] = 0
    return ids, pixels, box


def _moved(
    sim: Simulator,
    state: SimState,
    home: Int64[ndarray, " B"],
    ids: Int64[ndarray, "B K"],
    box: Float64[ndarray, "B K 7"],
) -> None:
    """Puts boxes of things that were carried, in place, to where they are drawn now."""
    if sim.hands is None or state.world is None:
        return
    moved = state.world.support.cpu().numpy() != AT_REST
    rows = np.flatnonzero(moved.any(axis=1))
    if not len(rows):
        return
    pose, _, _ = sim.hands.drawn(state.world, home, sim.poses(state))
    for b in rows:
        things = sim.hands.things[int(home[b])]
        for slot in np.flatnonzero(moved[b, : len(things)]):
            at = np.flatnonzero(ids[b] == things[slot])
            box[b, at, :2], box[b, at, 6] = pose[b, slot, :2], pose[b, slot, 3]
            box[b, at, 2] = pose[b, slot, 2] + box[b, at, 5] / 2


def _from_the_agent(
    sim: Simulator,
    state: SimState,
    home: Int64[ndarray, " B"],
    box: Float64[ndarray, "B K 7"],
    mask: Bool[ndarray, "B K"],
) -> tuple[Float32[ndarray, "B K 7"], Float32[ndarray, "B K"], Float32[ndarray, "B K"]]:
    """World boxes in the agents' frames, distances to footprints, bearings of middles; zeros outside the mask."""
    position, yaw = state.position.cpu().numpy(), state.yaw.cpu().numpy()[:, None]
    away = box[..., :2] - position[:, None]
    seen = box.copy()
    seen[..., 0] = np.cos(yaw) * away[..., 0] + np.sin(yaw) * away[..., 1]
    seen[..., 1] = np.cos(yaw) * away[..., 1] - np.sin(yaw) * away[..., 0]
    seen[..., 2] -= sim.homes.floor_z[home][:, None]
    seen[..., 6] = wrap_angle(box[..., 6] - yaw)
    cos, sin = np.cos(box[..., 6]), np.sin(box[..., 6])
    along = np.abs(cos * away[..., 0] + sin * away[..., 1]) - box[..., 3] / 2
    across = np.abs(cos * away[..., 1] - sin * away[..., 0]) - box[..., 4] / 2
    distance = np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0))
    bearing = np.arctan2(seen[..., 1], seen[..., 0])
    found = (np.where(mask[..., None], seen, 0.0), np.where(mask, distance, 0.0), np.where(mask, bearing, 0.0))
    return tuple(part.astype(np.float32) for part in found)  # type: ignore[return-value]  # three of them

"""A 2D baseline of grounding: pictures of every object from around it, compared with the sentence by any embedder.

For each object a camera looks for places to stand: at eye height on free floor of its storey (scene/occupancy.py), at
a distance that suits its size, all around it. Of these the ones that show most of it (scene/visibility.py) and lie on
different sides are taken, and the lens is closed until the object with a margin fills the picture; that is a crop,
drawn at full resolution. What is seen from nowhere, such as an egg in a fridge, is drawn alone. Scans without surfaces
are drawn from their points (scene/splats.py).

The score of an object is the largest, or the mean, cosine of its pictures with the sentence. This baseline sees shape
and colour; of where a thing stands it sees only what its margin shows.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final, Protocol

import numpy as np
import torch
from jaxtyping import Float, Float64, Int32, UInt8
from numpy import ndarray
from torch import Tensor

from core.conventions import camera_pose
from core.errors import InputError, check_choice
from scene.geometry import box_corners, footprint
from scene.occupancy import Occupancy, occupancy
from scene.render import PreparedScene, prepare, render
from scene.splats import Splats
from scene.storeys import storey_of_thing, storeys
from scene.types import Scene
from scene.visibility import SCORE_POINTS, score_points, visible_shares
from vl.embedder import Embedder

EYE_M: Final = 1.4  # of whoever takes the pictures
TURNS: Final = 12  # directions around an object in which places are tried
FEW: Final = 8  # places among the things of a scan; with fewer, those outside are taken as well
REACHES: Final = (1.0, 1.5, 0.6)  # in units of the distance that suits its size
SUITS_M: Final = (0.9, 2.6)  # least and most such distance, from the rim of the object's footprint
MARGIN: Final = 1.25  # the picture is this much wider than the object
CONTEXT_M: Final = 0.25  # and never shows less than this, so that a mug keeps a piece of its table
WIDEST_TAN: Final = 1.3  # half the picture's width at 1 m: a field of view of 105 degrees at most
PROBE_PX: Final = 48  # side of the pictures in which the visible share and the outline are measured
LEAST_SHARE: Final = 0.15  # what shows less of itself from everywhere is drawn alone
ALMOST: Final = 0.6  # further pictures show at least this share of what the best one shows
SAME_SIDE: Final = 0.02  # places that look the same way to within 16 degrees give one picture
PROBE_POINTS: Final = 50_000  # of a scan, when looking for places
POOLS: Final = ("max", "mean")


class _Drawer(Protocol):
    def draw(
        self, extrinsics: Float[ndarray, "B 4 4"], intrinsics: Float[ndarray, "3 3"], width: int, height: int
    ) -> tuple[UInt8[ndarray, "B H W 3"], Int32[ndarray, "B H W"]]: ...


class _Surfaces:
    """Pictures of a mesh."""

    def __init__(self, scene: Scene) -> None:
        self.home: PreparedScene = prepare(scene)

    def draw(
        self, extrinsics: Float[ndarray, "B 4 4"], intrinsics: Float[ndarray, "3 3"], width: int, height: int
    ) -> tuple[UInt8[ndarray, "B H W 3"], Int32[ndarray, "B H W"]]:
        frame = render(self.home, extrinsics, intrinsics, width, height)
        return frame.rgb.numpy(), frame.instance.numpy()


class ObjectViews:
    """Takes pictures of the objects of one scene.

    Args:
        views: pictures of each object.
        size: their width and height in pixels.

    Raises:
        InputError: the scene has neither surfaces nor points to draw, or numbers below 1.
    """

    def __init__(self, scene: Scene, views: int = 3, size: int = 128) -> None:
        if views < 1 or size < 8:
            raise InputError(f"views={views} size={size}: give at least 1 picture of at least 8 x 8 pixels")
        self.scene, self.views, self.size = scene, views, size
        self.surfaces = scene.mesh is not None and len(scene.mesh.faces) > 0
        if not self.surfaces and (scene.points is None or not len(scene.points)):
            raise InputError(
                f"scene {scene.id} has no mesh and no points: there is nothing to take pictures of; leave this "
                "baseline out or give scenes with surfaces or points"
            )
        self.drawer: _Drawer = _Surfaces(scene) if self.surfaces else Splats(scene)
        self.scout: _Drawer = self.drawer if self.surfaces else Splats(scene, PROBE_POINTS)
        self.points = score_points(scene) if self.surfaces else _some_points(scene)
        self.floors = storeys(scene) if scene.rooms else [_floor(scene)]
        self.grids = [self._grid(floor_z) for floor_z in self.floors]

    def _grid(self, floor_z: float) -> Occupancy | None:
        """Where somebody may stand; None where nobody knows, or where the home is too full to stand in."""
        try:
            return occupancy(self.scene, floor_z=floor_z) if self.scene.rooms else None
        except InputError:
            return None

    def take(self, index: int) -> UInt8[ndarray, "V H W 3"]:
        """Pictures of an object, the one that shows most of it first; where few places show it, some are used again."""
        rgb, _, _ = self.look(index)
        return rgb[np.resize(np.arange(len(rgb)), self.views)]

    def look(self, index: int) -> tuple[UInt8[ndarray, "v H W 3"], Int32[ndarray, "v H W"], bool]:
        """The different pictures, up to `views`, with object ids, and whether it had to be drawn alone."""
        drawer, poses = self.drawer, self._places(index)
        lenses, share = self._probe(index, poses, self.scout)
        chosen = self._choose(poses, share)
        hidden = not chosen
        if hidden:
            drawer, poses = self._alone(index), self._ring(index, 1.0)
            lenses, _ = self._probe(index, poses, drawer)
            chosen = list(range(0, TURNS, max(1, TURNS // self.views)))[: self.views]
        pictures = []
        for k in chosen:
            lens = lenses[k] * np.array([[self.size], [self.size], [1.0]])
            pictures.append(drawer.draw(poses[k : k + 1], lens, self.size, self.size))
        rgb, instance = (np.concatenate(part) for part in zip(*pictures))
        return rgb, instance, hidden

    def _places(self, index: int) -> Float64[ndarray, "K 4 4"]:
        """Cameras that look at an object from free floor; where no floor is known, from among the things."""
        poses = np.concatenate([self._ring(index, reach) for reach in REACHES])
        grid = self.grids[storey_of_thing(self.scene.objects[index].box, self.floors)]
        if grid is not None:
            return poses[grid.is_free(poses[:, :2, 3])]
        corners = footprint(self.scene.boxes).reshape(-1, 2)
        within = ((poses[:, :2, 3] > corners.min(axis=0)) & (poses[:, :2, 3] < corners.max(axis=0))).all(axis=1)
        return poses[within] if within.sum() >= FEW else poses

    def _ring(self, index: int, reach: float) -> Float64[ndarray, "K 4 4"]:
        """TURNS cameras around an object at eye height, the first across its longer side."""
        box = self.scene.objects[index].box
        height = self.floors[storey_of_thing(box, self.floors)] + EYE_M
        away = reach * float(np.clip(1.1 * max(box[3:6]), *SUITS_M))
        poses = []
        for turn in (np.pi / 2 if box[3] >= box[4] else 0.0) + np.arange(TURNS) * 2 * np.pi / TURNS:
            rim = 0.5 * (abs(np.cos(turn)) * box[3] + abs(np.sin(turn)) * box[4])  # of the footprint, this way
            reach_m = away + rim
            eye = np.array([*(box[:2] + reach_m * np.array([np.cos(turn + box[6]), np.sin(turn + box[6])])), height])
            poses.append(camera_pose(eye, turn + box[6] + np.pi, np.arctan2(box[2] - height, reach_m)))
        return np.stack(poses)

    def _probe(
        self, index: int, poses: Float64[ndarray, "K 4 4"], drawer: _Drawer
    ) -> tuple[Float64[ndarray, "K 3 3"], Float64[ndarray, " K"]]:
        """For each place the lens of a square picture around what shows of the object, and how much of it shows.

        Lenses are those of a picture one pixel wide. Where nothing shows they look at the whole box.
        """
        lenses, share = np.tile(np.eye(3), (len(poses), 1, 1)), np.zeros(len(poses))
        corners = box_corners(self.scene.boxes[index : index + 1])[0]
        wide = np.array([[PROBE_PX], [PROBE_PX], [1.0]])
        for k, pose in enumerate(poses):
            right, down, ahead = ((corners - pose[:3, 3]) @ pose[:3, :3]).T
            ahead = np.maximum(ahead, 0.1)  # of a thing that reaches past the camera
            half = min(1.02 * float(np.abs([right / ahead, down / ahead]).max()), WIDEST_TAN)
            lens = _lens(half)
            _, instance = drawer.draw(pose[None], lens * wide, PROBE_PX, PROBE_PX)
            shown = instance == index
            own = np.where(shown, 0, -1).astype(np.int32)
            share[k] = visible_shares(self.points[index : index + 1], pose[None], lens * wide, own)[0, 0]
            lenses[k] = lens
            if shown.any():
                rows, columns = (np.flatnonzero(shown[0].any(axis=axis)) for axis in (1, 0))
                edges = np.array([[columns[0], columns[-1] + 1], [rows[0], rows[-1] + 1]]) * (2 / PROBE_PX) - 1
                middle, extent = half * edges.mean(axis=1), half * float(np.ptp(edges, axis=1).max())
                lenses[k] = _lens(max(0.5 * MARGIN * extent, 0.5 * CONTEXT_M / float(ahead.mean())), middle)
        return lenses, share

    def _choose(self, poses: Float64[ndarray, "K 4 4"], share: Float64[ndarray, " K"]) -> list[int]:
        """Places that show most of the object, from different sides; none where it is hidden from everywhere."""
        share = np.where(share >= max(LEAST_SHARE, ALMOST * share.max(initial=0.0)), share, 0.0)
        looks = poses[:, :2, 2] / np.linalg.norm(poses[:, :2, 2], axis=1, keepdims=True)
        chosen: list[int] = []
        apart = np.ones(len(poses))
        while len(chosen) < self.views and (share * apart).max(initial=0.0) > SAME_SIDE * share.max():
            chosen.append(int((share * apart).argmax()))
            apart = np.minimum(apart, 0.5 - 0.5 * looks @ looks[chosen[-1]])  # 0 beside it, 1 on the other side
        return chosen

    def _alone(self, index: int) -> _Drawer:
        """The object without anything around it."""
        scene = self.scene
        if not self.surfaces:
            assert scene.points is not None and scene.instance is not None, "drawn from points"
            rows = np.flatnonzero(scene.instance == index)
            if not len(rows):
                return self.drawer  # nothing of it is known: its place is shown
            colors = None if scene.colors is None else scene.colors[rows]
            return Splats(replace(scene, points=scene.points[rows], colors=colors, instance=scene.instance[rows]))
        mesh = scene.mesh
        assert mesh is not None, "drawn from surfaces"
        faces = np.flatnonzero(mesh.face_instance == index)
        if not len(faces):
            return self.drawer
        part = replace(
            mesh,
            faces=mesh.faces[faces],
            face_colors=mesh.face_colors[faces],
            face_instance=mesh.face_instance[faces],
        )
        return _Surfaces(replace(scene, mesh=part))


def _lens(half: float, middle: Float[ndarray, "2"] | None = None) -> Float64[ndarray, "3 3"]:
    """Intrinsics of a picture one pixel wide that reaches `half` to all sides of `middle`, measured at 1 m."""
    u, v = (0.0, 0.0) if middle is None else middle
    return np.array([[0.5 / half, 0.0, 0.5 - 0.5 * u / half], [0.0, 0.5 / half, 0.5 - 0.5 * v / half], [0.0, 0.0, 1.0]])


def _some_points(scene: Scene) -> Float[ndarray, "N P 3"]:
    """As `score_points`, from the point table; NaN for objects without a point."""
    found = np.full((len(scene.objects), SCORE_POINTS, 3), np.nan, np.float32)
    if scene.points is not None and scene.instance is not None:
        order = np.argsort(scene.instance, kind="stable")
        ends = np.searchsorted(scene.instance[order], np.arange(len(scene.objects) + 1))
        for k, (first, last) in enumerate(zip(ends[:-1], ends[1:])):
            if last > first:
                found[k] = scene.points[order[np.linspace(first, last - 1, SCORE_POINTS).round().astype(int)]]
    return found


def _floor(scene: Scene) -> float:
    """Height of the floor of a scene that has no rooms: below nearly all of it."""
    if scene.points is not None and len(scene.points):
        return float(np.percentile(scene.points[:, 2], 1))
    boxes = scene.boxes
    return float((boxes[:, 2] - boxes[:, 5] / 2).min()) if len(boxes) else 0.0


class CropScorer:
    """Scores the objects of scenes by an embedder's view of them.

    Args:
        embedder: anything of vl/embedder.py: two towers of ours, a CLIP or SigLIP folder.
        views: pictures of each object.
        size: their side in pixels; the embedder scales them to its own.
        pool: how an object's cosines become one: "max" (its best picture) or "mean".
        batch: pictures that are encoded at once; they and the embeddings of `scenes` scenes are all that is held.
        scenes: of how many scenes the embeddings stay in memory, those used last.

    Attributes:
        objects, seconds: how many objects were drawn and encoded so far, and how long that took.
        unread: sentences that the embedder could not read (too long, no known word); all objects score 0 for them.

    Raises:
        InputError: an unknown pool, or numbers below 1.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        views: int = 3,
        size: int = 128,
        pool: str = "mean",
        batch: int = 64,
        scenes: int = 8,
    ) -> None:
        check_choice("pool", pool, POOLS)
        if min(views, batch, scenes) < 1:
            raise InputError(f"views={views} batch={batch} scenes={scenes}: give 1 or more")
        self.embedder, self.views, self.size, self.pool = embedder, views, size, pool
        self.batch, self.scenes = batch, scenes
        self.objects, self.seconds = 0, 0.0
        self.unread: list[str] = []
        self._known: OrderedDict[str, dict[int, Float[Tensor, "V D"]]] = OrderedDict()

    @property
    def seconds_per_object(self) -> float:
        """What drawing and encoding one object took; 0 before the first."""
        return self.seconds / self.objects if self.objects else 0.0

    @torch.no_grad()
    def scores(self, scene: Scene, ids: Sequence[int], sentences: Sequence[str]) -> Float[Tensor, "S N"]:
        """Cosine of each sentence with each object, in the order of `ids`; on the CPU.

        Raises:
            InputError: ids that the scene does not have, or a scene that cannot be drawn.
        """
        if not len(ids) or not len(sentences):
            return torch.zeros(len(sentences), len(ids))
        pictures = self.embeddings(scene, ids)
        cosine = torch.einsum("sd,nvd->snv", self._read(sentences), pictures)
        return cosine.amax(-1) if self.pool == "max" else cosine.mean(-1)

    @torch.no_grad()
    def embeddings(self, scene: Scene, ids: Sequence[int]) -> Float[Tensor, "N V D"]:
        """Embeddings of the pictures of objects, drawn when they are asked for the first time.

        Raises:
            InputError: as `scores`.
        """
        wrong = [i for i in ids if not 0 <= i < len(scene.objects)]
        if wrong:
            raise InputError(f"scene {scene.id} has objects 0..{len(scene.objects) - 1}, there is no object {wrong[0]}")
        known = self._known.setdefault(_key(scene), {})
        self._known.move_to_end(_key(scene))
        while len(self._known) > self.scenes:
            self._known.popitem(last=False)
        missing = [i for i in dict.fromkeys(ids) if i not in known]
        if missing:
            started = time.perf_counter()
            studio = ObjectViews(scene, self.views, self.size)
            for part in _parts(missing, max(1, self.batch // self.views)):
                pictures = torch.from_numpy(np.concatenate([studio.take(i) for i in part]))
                found = self.embedder.encode_images(pictures).float().cpu()
                known.update(zip(part, found.view(len(part), self.views, -1)))
            self.objects, self.seconds = self.objects + len(missing), self.seconds + time.perf_counter() - started
        return torch.stack([known[i] for i in ids])

    def _read(self, sentences: Sequence[str]) -> Float[Tensor, "S D"]:
        """Embeddings of sentences, each different one encoded once; zeros for what the embedder cannot read."""
        different = list(dict.fromkeys(sentences))
        try:
            found = self.embedder.encode_texts(different).float().cpu()
        except InputError:  # one of them: find out which
            found = torch.stack([self._read_one(sentence) for sentence in different])
        row = {sentence: k for k, sentence in enumerate(different)}
        return found[[row[sentence] for sentence in sentences]]

    def _read_one(self, sentence: str) -> Float[Tensor, " D"]:
        try:
            return self.embedder.encode_texts([sentence])[0].float().cpu()
        except InputError:
            self.unread.append(sentence)
            return torch.zeros(self.embedder.dim)


def _key(scene: Scene) -> str:
    """A name of what a scene looks like: two scenes of one id may have other objects."""
    surfaces = 0 if scene.mesh is None else len(scene.mesh.faces)
    points = 0 if scene.points is None else len(scene.points)
    content = f"{scene.id} {surfaces} {points} {scene.labels}".encode() + scene.boxes.tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _parts(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]

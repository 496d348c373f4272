"""Captioned pictures of homes: where a camera stands, what it sees, and tables of both for training.

A folder of views has one sub-folder per split (train, val, test) with

    images.npy        uint8 (M, H, W, 3), readable as a memory map
    captions.parquet  one row per caption: view (0..M-1), caption, kind ("full": the whole view, one per view;
                      "object": one thing in it), scene_id
    meta.parquet      one row per view: view, scene_id, extrinsics (16 numbers, row by row), and lists over what is
                      seen, most salient first: visible (object ids), pixels, visible_share, distance_m, side

Readers need numpy and pyarrow only. Every draw depends on the seed and the scene's id, so a home gives the same views
whatever else is rendered with it.

Captions name what shows at least NAMED_SHARE of itself, by the occlusion score of scene/visibility.py.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int32, UInt8
from numba import njit
from numpy import ndarray

from core.conventions import camera_pose, intrinsics_from_fov
from core.errors import InputError, existing_file
from core.files import atomic_folder
from core.progress import track
from scene.captions import BASELINE_PROMPTS, caption, goal_prompts, noun, phrase
from scene.geometry import box_corners, distance_to_footprint
from scene.occupancy import EYE_M, Occupancy, line_of_sight, occupancy
from scene.render import prepare, render
from scene.store import SceneStore
from scene.types import Scene, SceneObject
from scene.visibility import score_points, visible_shares

__all__ = [
    "BASELINE_PROMPTS", "Views", "Visible", "captioned_views", "goal_prompts", "outside_cameras", "render_home_views",
    "sample_camera", "view_captions", "visible_objects", "write_views",
]  # fmt: skip

AIMED = 0.7  # share of views that look towards a drawn object; the others look anywhere
AIM_DISTANCE_M = (0.5, 4.0)  # from the camera to the object's footprint
AIM_YAW_RAD = np.deg2rad(32)  # an aimed view turns away from its object by up to this, so that it fills every side
CANDIDATES = 256  # places drawn for each camera; aimed ones take the best
PITCH_RAD = (-np.deg2rad(15), 0.0)  # cameras look level or a little down
MIN_PIXELS = 25  # of a 64 x 64 picture; the same share of others
NAMED = 4  # things in a full caption at most
NAMED_SHARE = 0.1  # of its points must be visible, or a thing is not named; and it has MIN_PIXELS
MINOR = {"door": 0.2, "doorway": 0.2, "window": 0.2, "rug": 0.35}  # their pixels count less for what is salient
IMAGES, CAPTIONS, META = "images.npy", "captions.parquet", "meta.parquet"


@dataclass(frozen=True)
class Visible:
    """One object in one view."""

    id: int  # index into scene.objects
    pixels: int
    distance_m: float  # horizontal, from the camera to the footprint of the box
    side: str  # "left", "middle" or "right": the third of the picture that holds the middle of its pixels
    visible_share: float  # occlusion score, 0..1: how much of the whole object the view shows (`visible_shares`)


@dataclass(eq=False)
class Views:
    """M captioned views."""

    images: UInt8[ndarray, "M H W 3"]
    scene_id: list[str]
    extrinsics: Float64[ndarray, "M 4 4"]
    visible: list[list[Visible]] = field(repr=False)  # per view, most salient first
    full: list[str] = field(repr=False)  # per view, the whole view in one sentence
    objects: list[list[str]] = field(repr=False)  # per view, captions that each name one thing

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(cls, folder: str | Path) -> "Views":
        """Reads one split that `write_views` wrote; images stay on disk as a memory map.

        Raises:
            MissingFileError: a file is not there. InputError: a file is cut short, or the files disagree.
        """
        import pyarrow
        import pyarrow.parquet as parquet

        folder = Path(folder)
        paths = [existing_file(folder / name, "views file") for name in (IMAGES, CAPTIONS, META)]
        try:
            images = np.load(paths[0], mmap_mode="r", allow_pickle=False)
            captions, meta = (parquet.read_table(path).to_pydict() for path in paths[1:])
            count = len(images)
            full, objects = [""] * count, [[] for _ in range(count)]  # type: tuple[list[str], list[list[str]]]
            for view, text, kind in zip(captions["view"], captions["caption"], captions["kind"]):
                if kind == "full":
                    full[view] = text
                else:
                    objects[view].append(text)
            columns = zip(meta["visible"], meta["pixels"], meta["distance_m"], meta["side"], meta["visible_share"])
            visible = [[Visible(*item) for item in zip(*row)] for row in columns]
            poses = np.array(meta["extrinsics"], np.float64).reshape(-1, 4, 4)
            scene_id = meta["scene_id"]
        except (ValueError, KeyError, IndexError, EOFError, OSError, pyarrow.ArrowException) as error:
            raise InputError(f"views in {folder} are damaged ({str(error)[:200]}); render them again") from error
        if len(visible) != count or "" in full:
            raise InputError(f"views in {folder} disagree: {count} images, {len(visible)} meta rows; render them again")
        return cls(images, scene_id, poses, visible, full, objects)


def sample_camera(scene: Scene, grid: Occupancy, rng: np.random.Generator) -> Float64[ndarray, "4 4"]:
    """A camera at eye height in free space: most look towards a drawn object in sight, the others anywhere."""
    cells = np.flatnonzero(grid.free)
    points = grid.centers(np.stack(np.unravel_index(rng.choice(cells, CANDIDATES), grid.free.shape), axis=1))
    points += rng.uniform(-0.5, 0.5, points.shape) * grid.cell_m
    yaw, position = rng.uniform(-np.pi, np.pi), points[0]
    if rng.random() < AIMED and scene.objects:
        weight = np.array([_aim_weight(item) for item in scene.objects])
        target = scene.objects[rng.choice(len(weight), p=weight / weight.sum())]
        away = np.abs(distance_to_footprint(points, target.box) - rng.uniform(*AIM_DISTANCE_M))
        near = np.argsort(away, kind="stable")[:8]
        seen = near[line_of_sight(grid, points[near], np.broadcast_to(target.box[:2], (8, 2)), target.id)]
        if len(seen):
            position = points[seen[0]]
            towards = target.box[:2] - position
            yaw = np.arctan2(towards[1], towards[0]) + rng.uniform(-AIM_YAW_RAD, AIM_YAW_RAD)
    height = EYE_M + min(room.floor_z for room in scene.rooms)
    return camera_pose(np.array([*position, height]), yaw, rng.uniform(*PITCH_RAD))


def _aim_weight(item: SceneObject) -> float:
    """How often cameras are aimed at an object: furniture on the floor more than small, high or built-in things."""
    furniture = item.box[2] - item.box[5] / 2 < 0.3 and max(item.box[3:5]) >= 0.4
    return MINOR.get(item.label, 3.0 if furniture else 1.0)


@njit(cache=True, nogil=True)
def _count_pixels(instance, count, columns):
    """Per view and object: `count` of pixels, and the sum of their `columns` (pixel middles)."""
    for b in range(instance.shape[0]):
        for v in range(instance.shape[1]):
            for u in range(instance.shape[2]):
                k = instance[b, v, u]
                if k >= 0:
                    count[b, k] += 1
                    columns[b, k] += u + 0.5


def visible_objects(
    instance: Int32[ndarray, "B H W"],
    scene: Scene,
    extrinsics: Float[ndarray, "B 4 4"],
    shares: Float[ndarray, "B N"],
    min_pixels: int | None = None,
) -> list[list[Visible]]:
    """What each of B views of a home shows, most salient first.

    Args:
        instance: object ids per pixel, -1 = none.
        shares: occlusion score of every object in every view (`visible_shares`).
        min_pixels: fewer do not count as seen; default 25 pixels of a 64 x 64 picture, in proportion for others.
    """
    instance = np.asarray(instance)
    views, height, width = instance.shape
    if min_pixels is None:
        min_pixels = max(1, round(MIN_PIXELS * height * width / 4096))
    count = np.zeros((views, len(scene.objects)), np.int64)
    columns = np.zeros((views, len(scene.objects)))
    _count_pixels(instance, count, columns)
    weight = np.array([MINOR.get(item.label, 1.0) for item in scene.objects])
    seen = []
    for b in range(views):
        rows = []
        for k in sorted(np.flatnonzero(count[b] >= min_pixels), key=lambda k: (-count[b, k] * weight[k], k)):
            third = int(3 * columns[b, k] / count[b, k] / width)
            distance = float(distance_to_footprint(extrinsics[b, :2, 3], scene.objects[k].box))
            side, share = ("left", "middle", "right")[third], float(shares[b, k])
            rows.append(Visible(int(k), int(count[b, k]), distance, side, share))
        seen.append(rows)
    return seen


def view_captions(seen: list[Visible], scene: Scene, wall_m: float) -> tuple[str, list[str]]:
    """A full caption naming the most salient things, and captions that each name one thing in the view.

    Things that show less than NAMED_SHARE of themselves are not named: nobody could tell what they are. The most
    salient thing also gets a caption without its place ("a red armchair").
    """
    named = []
    for item in [item for item in seen if item.visible_share >= NAMED_SHARE][:NAMED]:
        thing = scene.objects[item.id]
        named.append((thing.label, thing.attributes.get("color", ""), item.distance_m, item.side))
    single = [phrase(*thing) for thing in named]
    if named:
        single.append(noun(*named[0][:2]))
    return caption(named, wall_m), list(dict.fromkeys(single))


def render_home_views(
    scene: Scene, n_views: int, seed: int, width: int = 64, height: int = 64, fov_deg: float = 90.0
) -> Views:
    """Draws, renders and captions `n_views` of one home.

    Raises:
        InputError: the home has no rooms, no free floor or no mesh; a camera that is not possible.
    """
    if not 0 < fov_deg < 180:
        raise InputError(f"fov_deg={fov_deg} should lie between 0 and 180 degrees")
    rng = np.random.default_rng([seed, zlib.crc32(scene.id.encode())])
    grid = occupancy(scene)
    poses = np.stack([sample_camera(scene, grid, rng) for _ in range(n_views)])
    return captioned_views(scene, poses, width, height, fov_deg)[0]


def captioned_views(
    scene: Scene, poses: Float64[ndarray, "M 4 4"], width: int, height: int, fov_deg: float
) -> tuple[Views, Int32[ndarray, "M H W"]]:
    """Pictures from given cameras with their captions, and the object ids of their pixels.

    Raises:
        InputError: the scene has no mesh.
    """
    lens = intrinsics_from_fov(width, height, np.deg2rad(fov_deg))
    frame = render(prepare(scene), poses, lens, width, height)
    instance = frame.instance.numpy()
    shares = visible_shares(score_points(scene), poses, lens, instance)
    seen = visible_objects(instance, scene, poses, shares)
    walls_m = np.median(frame.depth.numpy().reshape(len(poses), -1), axis=1)
    texts = [view_captions(row, scene, float(wall_m)) for row, wall_m in zip(seen, walls_m)]
    full, single = [text for text, _ in texts], [rest for _, rest in texts]
    return Views(frame.rgb.numpy(), [scene.id] * len(poses), poses, seen, full, single), instance


def outside_cameras(scene: Scene, n_views: int, fov_deg: float) -> Float64[ndarray, "M 4 4"]:
    """Cameras around a scene that has no rooms to stand in: they look at its middle from above, a round of them.

    They look down by 35 degrees, from so near that all boxes just fit into a picture that is 4 wide and 3 high and has
    the horizontal field of view `fov_deg`.

    Raises:
        InputError: the scene has no objects.
    """
    if not scene.objects:
        raise InputError(f"scene {scene.id} has no objects to look at")
    corners = box_corners(scene.boxes).reshape(-1, 3)
    middle = 0.5 * (corners.min(axis=0) + corners.max(axis=0))
    pitch, slope = -np.deg2rad(35), np.tan(0.5 * np.deg2rad(fov_deg))
    poses = []
    for yaw in np.pi / 4 + np.arange(n_views) * 2 * np.pi / max(n_views, 1):
        pose = camera_pose(middle, yaw, pitch)
        right, down, ahead = ((corners - middle) @ pose[:3, :3]).T
        away = np.max(np.maximum(np.abs(right), np.abs(down) * 4 / 3) / slope - ahead)
        pose[:3, 3] -= 1.05 * away * pose[:3, 2]
        poses.append(pose)
    return np.stack(poses) if poses else np.zeros((0, 4, 4))


def _each_home(
    store: SceneStore, split: str, n_views: int, seed: int, description: str, **camera: Any
) -> Iterator[Views]:
    ids = store.split(split)
    with track(len(ids), description) as progress:
        for scene_id in ids:
            yield render_home_views(store.load(scene_id), n_views, seed, **camera)
            progress.advance()


def write_views(
    store: SceneStore,
    folder: str | Path,
    per_home: Mapping[str, int],
    seed: int,
    width: int = 64,
    height: int = 64,
    fov_deg: float = 90.0,
    keep_complete: bool = False,
) -> dict[str, dict[str, int]]:
    """Renders the splits named in `per_home` (views for each home) into `folder`, one home in memory at a time.

    Each split appears whole or not at all.

    Args:
        keep_complete: splits that are there already stay as they are, for a caller who knows that they were made in
            the same way; otherwise they are an error.

    Returns:
        Per split the number of homes, views, captions and distinct full captions.

    Raises:
        InputError: unknown split, a home that cannot be rendered, a split without homes, or one written before.
    """
    counts = {}
    for split, n_views in per_home.items():
        homes = len(store.split(split))
        if homes == 0 or n_views < 1:
            raise InputError(f"split {split!r} has {homes} homes with {n_views} views each: nothing to render")
        path = Path(folder) / split
        if not (keep_complete and path.is_dir()):
            with atomic_folder(path) as fresh:
                writer = _Writer(fresh, homes * n_views, (height, width))
                camera = {"width": width, "height": height, "fov_deg": fov_deg}
                for part in _each_home(store, split, n_views, seed, f"views of {split}", **camera):
                    writer.add(part)
                writer.close()
        done = Views.load(path)
        counts[split] = {
            "homes": homes,
            "views": len(done),
            "captions": len(done) + sum(len(texts) for texts in done.objects),
            "distinct": len(set(done.full)),
        }
    return counts


class _Writer:
    """Streams views into the three files of one split."""

    def __init__(self, folder: Path, count: int, size: tuple[int, int]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as parquet

        self.images = np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, (count, *size, 3))
        self.done = 0
        captions = pa.schema([("view", pa.int64()), ("caption", pa.string()), ("kind", pa.string()),
                              ("scene_id", pa.string())])  # fmt: skip
        meta = pa.schema(
            [("view", pa.int64()), ("scene_id", pa.string()), ("extrinsics", pa.list_(pa.float64())),
             ("visible", pa.list_(pa.int64())), ("pixels", pa.list_(pa.int64())),
             ("visible_share", pa.list_(pa.float64())), ("distance_m", pa.list_(pa.float64())),
             ("side", pa.list_(pa.string()))]
        )  # fmt: skip
        self.captions = parquet.ParquetWriter(folder / CAPTIONS, captions)
        self.meta = parquet.ParquetWriter(folder / META, meta)

    def add(self, part: Views) -> None:
        import pyarrow as pa

        first, last = self.done, self.done + len(part)
        self.images[first:last] = part.images
        rows = [
            {"view": first + v, "caption": text, "kind": "full" if k == 0 else "object", "scene_id": part.scene_id[v]}
            for v in range(len(part))
            for k, text in enumerate([part.full[v], *part.objects[v]])
        ]
        self.captions.write_table(pa.Table.from_pylist(rows, self.captions.schema))
        facts = [
            {
                "view": first + v,
                "scene_id": part.scene_id[v],
                "extrinsics": part.extrinsics[v].reshape(-1).tolist(),
                "visible": [item.id for item in seen],
                "pixels": [item.pixels for item in seen],
                "visible_share": [item.visible_share for item in seen],
                "distance_m": [item.distance_m for item in seen],
                "side": [item.side for item in seen],
            }
            for v, seen in enumerate(part.visible)
        ]
        self.meta.write_table(pa.Table.from_pylist(facts, self.meta.schema))
        self.done = last

    def close(self) -> None:
        assert self.done == len(self.images), (self.done, len(self.images))
        self.images.flush()
        self.captions.close()
        self.meta.close()

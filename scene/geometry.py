"""Boxes, points and surfaces of scenes, in numpy, in the frame of core/conventions.py."""

from dataclasses import replace
from functools import cache

import numpy as np
from jaxtyping import Float, Float32, Float64, Int
from numpy import ndarray

from core.conventions import wrap_angle
from core.errors import InputError
from scene.types import Scene, SceneMesh

# Corner k of a box: bit 0 = x, bit 1 = y, bit 2 = z; the first four are the bottom.
_CORNER_SIGNS = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], dtype=np.float64)
_FOOTPRINT_ORDER = [0, 1, 3, 2]  # counter-clockwise seen from above


def _checked(boxes: Float[ndarray, "N 7"]) -> Float64[ndarray, "N 7"]:
    boxes = np.asarray(boxes, dtype=np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 7:
        raise InputError(
            f"boxes have shape {boxes.shape}, expected (N, 7) (centre xyz, size xyz, yaw; see core/conventions.py). "
            "Corner-form boxes: use geometry.boxes_from_corners()"
        )
    return boxes


def box_corners(boxes: Float[ndarray, "N 7"]) -> Float64[ndarray, "N 8 3"]:
    """The eight corners of each box, bottom four first. Raises InputError when boxes are not (N, 7)."""
    boxes = _checked(boxes)
    local = 0.5 * boxes[:, None, 3:6] * _CORNER_SIGNS  # (N, 8, 3)
    cos, sin = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
    x, y = local[..., 0], local[..., 1]
    turned = np.stack([cos * x - sin * y, sin * x + cos * y, local[..., 2]], axis=-1)
    return turned + boxes[:, None, :3]


def footprint(boxes: Float[ndarray, "N 7"]) -> Float64[ndarray, "N 4 2"]:
    """The four corners of each box seen from above, counter-clockwise, metres."""
    return box_corners(boxes)[:, _FOOTPRINT_ORDER, :2]


def axis_aligned(boxes: Float[ndarray, "N 7"]) -> Float64[ndarray, "N 6"]:
    """The smallest axis-aligned box around each box: min xyz, max xyz."""
    corners = box_corners(boxes)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def boxes_from_corners(corners: Float[ndarray, "N 6"]) -> Float64[ndarray, "N 7"]:
    """Boxes with yaw 0 from min xyz, max xyz (the inverse of `axis_aligned` for yaw 0)."""
    corners = np.asarray(corners, dtype=np.float64)
    if corners.ndim != 2 or corners.shape[1] != 6:
        raise InputError(f"corner-form boxes have shape {corners.shape}, expected (N, 6) (min xyz, max xyz)")
    low, high = corners[:, :3], corners[:, 3:]
    return np.concatenate([0.5 * (low + high), high - low, np.zeros((len(corners), 1))], axis=1)


def distance_to_footprint(xy: Float[ndarray, "*s 2"], box: Float[ndarray, "7"]) -> Float64[ndarray, "*s"]:
    """Horizontal distance in metres from points to an oriented box seen from above; 0 inside it."""
    offset = np.asarray(xy, dtype=np.float64) - box[:2]
    cos, sin = np.cos(box[6]), np.sin(box[6])
    along = np.abs(cos * offset[..., 0] + sin * offset[..., 1]) - 0.5 * box[3]
    across = np.abs(cos * offset[..., 1] - sin * offset[..., 0]) - 0.5 * box[4]
    return np.hypot(np.maximum(along, 0.0), np.maximum(across, 0.0))


def rotation_z(yaw_rad: float) -> Float64[ndarray, "4 4"]:
    """Rotation about +z, counter-clockwise, as a homogeneous matrix."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    turn = np.eye(4)
    turn[:2, :2] = [[cos, -sin], [sin, cos]]
    return turn


def rotate_scene(scene: Scene, yaw_rad: float) -> Scene:
    """The same scene turned about the world's z axis; the given scene is left as it is."""
    turn = rotation_z(yaw_rad)

    def turned_box(box: Float[ndarray, "7"]) -> Float64[ndarray, "7"]:
        out = np.array(box, dtype=np.float64)
        out[:3] = turn[:3, :3] @ out[:3]
        out[6] = wrap_angle(out[6] + yaw_rad)
        return out

    mesh = scene.mesh
    if mesh is not None:
        mesh = replace(mesh, vertices=(mesh.vertices @ turn[:3, :3].T).astype(np.float32))
    return replace(
        scene,
        objects=[replace(item, box=turned_box(item.box)) for item in scene.objects],
        rooms=[replace(room, polygon=np.asarray(room.polygon) @ turn[:2, :2].T) for room in scene.rooms],
        doors=[replace(door, box=turned_box(door.box)) for door in scene.doors],
        mesh=mesh,
        points=None if scene.points is None else (scene.points @ turn[:3, :3].T).astype(np.float32),
        views=[replace(view, extrinsics=turn @ view.extrinsics) for view in scene.views],
        to_source=scene.to_source @ turn.T,
    )


def boxes_from_points(
    points: Float[ndarray, "P 3"], instance: Int[ndarray, " P"], n_objects: int, min_size_m: float = 0.01
) -> Float64[ndarray, "N 7"]:
    """Axis-aligned boxes (yaw 0) around the points of each object 0..n_objects-1.

    Args:
        min_size_m: a flat or single-point object is widened to this size, so that every box has a volume.

    Raises:
        InputError: an object has no points.
    """
    points, instance = np.asarray(points, dtype=np.float64), np.asarray(instance)
    counts = np.bincount(instance[instance >= 0], minlength=n_objects)[:n_objects]
    if n_objects and (counts == 0).any():
        raise InputError(
            f"objects {np.flatnonzero(counts == 0).tolist()} have no points; drop them or give their boxes"
        )
    low, high = np.full((n_objects, 3), np.inf), np.full((n_objects, 3), -np.inf)
    known = (instance >= 0) & (instance < n_objects)
    np.minimum.at(low, instance[known], points[known])
    np.maximum.at(high, instance[known], points[known])
    boxes = boxes_from_corners(np.concatenate([low, high], axis=1))
    boxes[:, 3:6] = np.maximum(boxes[:, 3:6], min_size_m)
    return boxes


def face_areas(vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"]) -> Float64[ndarray, " F"]:
    """Area of each triangle, square metres."""
    corner = np.asarray(vertices, dtype=np.float64)[faces]
    return 0.5 * np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)


def sample_surface(
    mesh: SceneMesh, ids: Int[ndarray, " K"], n_points: int, rng: np.random.Generator
) -> Float32[ndarray, "K n 6"]:
    """`n_points` uniform samples of the surface of each object in `ids`: xyz in metres, rgb in 0..255.

    Raises:
        InputError: an id has no faces, or faces without area, in the mesh.
    """
    ids = np.asarray(ids, dtype=np.int64).reshape(-1)
    order = np.argsort(mesh.face_instance, kind="stable")
    sorted_ids = mesh.face_instance[order]
    start, stop = np.searchsorted(sorted_ids, ids, "left"), np.searchsorted(sorted_ids, ids, "right")
    total = np.concatenate([[0.0], np.cumsum(face_areas(mesh.vertices, mesh.faces[order]))])
    area = total[stop] - total[start]
    if (area <= 0).any():
        raise InputError(f"objects {ids[area <= 0].tolist()} have no surface in the mesh; nothing to sample")
    wanted = total[start, None] + rng.random((len(ids), n_points)) * area[:, None]
    # rounding may push a draw past the last face of its object
    row = np.clip(np.searchsorted(total, wanted, "right") - 1, start[:, None], stop[:, None] - 1)
    face = order[row]  # (K, n)
    u, v = rng.random((2, len(ids), n_points))
    flip = u + v > 1.0
    u, v = np.where(flip, 1.0 - u, u)[..., None], np.where(flip, 1.0 - v, v)[..., None]
    corner = mesh.vertices[mesh.faces[face]]  # (K, n, 3, 3)
    xyz = corner[..., 0, :] * (1.0 - u - v) + corner[..., 1, :] * u + corner[..., 2, :] * v
    return np.concatenate([xyz, mesh.face_colors[face]], axis=-1).astype(np.float32)


def object_points(scene: Scene, n_points: int, seed: int) -> Float32[ndarray, "N n 6"]:
    """`n_points` coloured points per object: xyz in metres (world), rgb in 0..255.

    From the scene's point table where it has one (drawn without replacement; an object with fewer points repeats
    some), otherwise from its mesh. The same seed gives the same points.

    Raises:
        InputError: the scene has neither points nor a mesh, or an object has no point and no face.
    """
    rng = np.random.default_rng(seed)
    n_objects = len(scene.objects)
    if n_objects == 0:
        return np.zeros((0, n_points, 6), dtype=np.float32)
    if scene.points is None or scene.instance is None:
        if scene.mesh is None:
            raise InputError(f"scene {scene.id} has neither points nor a mesh: no object points to take")
        return sample_surface(scene.mesh, np.arange(n_objects), n_points, rng)

    shuffled = rng.permutation(len(scene.points))
    order = shuffled[np.argsort(scene.instance[shuffled], kind="stable")]
    sorted_ids = scene.instance[order]
    ids = np.arange(n_objects)
    start = np.searchsorted(sorted_ids, ids, "left")
    count = np.searchsorted(sorted_ids, ids, "right") - start
    if (count == 0).any():
        raise InputError(f"scene {scene.id}: objects {ids[count == 0].tolist()} have no points in the point table")
    k = np.broadcast_to(np.arange(n_points), (n_objects, n_points))
    repeat = (rng.random((n_objects, n_points)) * count[:, None]).astype(np.int64)
    row = order[start[:, None] + np.where(k < count[:, None], k, repeat)]
    grey = np.full((len(scene.points), 3), 127, np.uint8)
    colors = grey if scene.colors is None else scene.colors
    return np.concatenate([scene.points[row], colors[row]], axis=-1).astype(np.float32)


@cache
def _unit_box_faces() -> ndarray:
    """Triangles of `box_corners`, normals outward."""
    return np.array(
        [
            [0, 2, 3], [0, 3, 1],  # bottom
            [4, 5, 7], [4, 7, 6],  # top
            [0, 1, 5], [0, 5, 4],  # -y
            [2, 6, 7], [2, 7, 3],  # +y
            [0, 4, 6], [0, 6, 2],  # -x
            [1, 3, 7], [1, 7, 5],  # +x
        ],
        dtype=np.int32,
    )  # fmt: skip


def boxes_mesh(boxes: Float[ndarray, "N 7"]) -> tuple[Float32[ndarray, "V 3"], ndarray]:
    """Vertices and faces of plain boxes, 8 vertices and 12 faces each, normals outward."""
    corners = box_corners(boxes)
    faces = _unit_box_faces()[None] + 8 * np.arange(len(corners), dtype=np.int32)[:, None, None]
    return corners.reshape(-1, 3).astype(np.float32), faces.reshape(-1, 3)

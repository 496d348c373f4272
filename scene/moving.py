"""The moving layer: things that can be carried and doors that open, drawn over pictures of the home that stays still.

A home that changes keeps one search tree for what never moves, `prepare(static_part(scene))`. What moves is drawn into
the finished frames, per environment and by depth:

    parts = MovingParts.of(scene)                       # once per home
    frame = render(...)                                 # of static_part(scene)
    composite(frame, [parts], home_index, pose, visible, doors_shut, extrinsics, intrinsics, width, height)  # in place

Slots 0..K-1 are the objects with the affordance "pickup", in the scene's order; after them come the leaves of the doors
that open and shut, in the order of their bits (scene/storeys.py: openable_doors). A leaf is drawn only while its door
is shut, like that of a pocket door that slides into the wall. A door shut from the start is drawn by its own faces; an
open one keeps its faces (its frame) in the static home and gets a panel that fills the doorway.

Pixels are what rendering the whole home would show: the same rays, the nearest surface, the same sun on faces as they
are turned now, the same falloff.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Int64, UInt8
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from scene.furniture.parts import Parts, tone
from scene.palette import METAL, PALETTE
from scene.render import AMBIENT, FALLOFF_PER_M, SUN, Frame
from scene.storeys import door_object, openable_doors, removable_leaves
from scene.types import Door, Scene, SceneMesh

JAMB_M = 0.05  # a door's frame leaves this much less on both sides and above
LEAF_M = 0.04  # thickness of a generated leaf
NEAR_M = 1e-3  # a triangle that comes nearer than this to the camera's plane may cover any pixel


def movable_objects(scene: Scene) -> list[int]:
    """Ids of the things that can be carried, in order of their slots."""
    return [item.id for item in scene.objects if "pickup" in item.affordances]


def static_part(scene: Scene) -> Scene:
    """The scene with a mesh that lacks the faces of movable things and of the leaves of doors that open.

    Objects, rooms and doors stay listed, so ids keep their meaning.

    Raises:
        InputError: the scene has no mesh.
    """
    if scene.mesh is None:
        raise InputError(f"scene {scene.id} has no mesh; only scenes with surfaces have a part that stays still")
    mesh = scene.mesh
    keep = ~np.isin(mesh.face_instance, [*movable_objects(scene), *removable_leaves(scene)])
    return replace(
        scene, mesh=SceneMesh(mesh.vertices, mesh.faces[keep], mesh.face_colors[keep], mesh.face_instance[keep])
    )


@dataclass(eq=False)
class MovingParts:
    """Triangles of one home's S = K + D moving parts, each in its own frame.

    Own frame of a thing: the bottom centre of its box, unturned. Own frame of a leaf: the same of its door's box.
    """

    object_id: Int32[ndarray, " S"]  # what pixels say: index into scene.objects, -1 = a door without an object
    size: Float64[ndarray, "S 3"]  # of the box, metres
    rest: Float64[ndarray, "S 4"]  # xyz of the bottom centre and yaw, as the scene has it
    things: int  # K
    start: Int64[ndarray, " S+1"] = field(repr=False)  # part s has the triangles start[s] : start[s + 1]
    corners: Float64[ndarray, "F 3 3"] = field(repr=False)
    normals: Float64[ndarray, "F 3"] = field(repr=False)  # unit, or zero where a triangle has no area
    colors: Float64[ndarray, "F 3"] = field(repr=False)  # 0..255, unlit
    sphere: Float64[ndarray, "S 4"] = field(repr=False)  # middle and radius of a ball around the triangles

    @classmethod
    def of(cls, scene: Scene) -> "MovingParts":
        """The moving parts of a home; things without faces of their own are never seen.

        Raises:
            InputError: the scene has no mesh, or one whose faces name vertices that it lacks.
        """
        if scene.mesh is None:
            raise InputError(f"scene {scene.id} has no mesh; its moving parts have no surfaces")
        mesh = scene.mesh
        if len(mesh.faces) and (mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices)):
            raise InputError(
                f"scene {scene.id}: mesh faces name vertices {mesh.faces.min()}..{mesh.faces.max()}, there are "
                f"{len(mesh.vertices)}"
            )
        order = np.argsort(mesh.face_instance, kind="stable")
        bounds = np.searchsorted(mesh.face_instance[order], np.arange(len(scene.objects) + 1))
        faces_of = [order[a:b] for a, b in zip(bounds[:-1], bounds[1:])]

        movable = movable_objects(scene)
        doors = [scene.doors[k] for k in openable_doors(scene)]
        ids = movable + [door_object(scene, door) for door in doors]
        boxes = [scene.objects[k].box for k in movable] + [np.asarray(door.box, np.float64) for door in doors]
        pieces: list[tuple[ndarray, ndarray]] = []  # triangles and colours of every part
        for slot, (index, box) in enumerate(zip(ids, boxes)):
            own = faces_of[index] if index >= 0 else np.zeros(0, np.int64)
            door = doors[slot - len(movable)] if slot >= len(movable) else None
            if door is None or (not door.open and len(own)):
                pieces.append((_own_frame(mesh.vertices[mesh.faces[own]], box), mesh.face_colors[own].astype(float)))
            else:
                pieces.append(_leaf(door, _door_color(scene, index, mesh.face_colors[own]), framed=len(own) > 0))
        return cls._joined(pieces, ids, boxes, len(movable))

    @classmethod
    def _joined(
        cls, pieces: list[tuple[ndarray, ndarray]], ids: list[int], boxes: list[ndarray], things: int
    ) -> "MovingParts":
        corners = np.concatenate([np.zeros((0, 3, 3)), *(triangles for triangles, _ in pieces)])
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sphere = np.zeros((len(pieces), 4))
        for slot, (triangles, _) in enumerate(pieces):
            if len(triangles):
                points = triangles.reshape(-1, 3)
                middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
                sphere[slot] = [*middle, np.linalg.norm(points - middle, axis=1).max()]
        table = np.stack([*boxes, np.zeros(7)])[:-1]
        return cls(
            object_id=np.array(ids, np.int32),
            size=table[:, 3:6],
            rest=np.column_stack([table[:, 0], table[:, 1], table[:, 2] - 0.5 * table[:, 5], table[:, 6]]),
            things=things,
            start=np.cumsum([0, *(len(triangles) for triangles, _ in pieces)]),
            corners=corners,
            normals=normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12),
            colors=np.concatenate([np.zeros((0, 3)), *(colors for _, colors in pieces)]),
            sphere=sphere,
        )

    @property
    def rest_pose(self) -> Float64[ndarray, "K 4"]:
        """Where the scene has its movable things: xyz of the bottom centre and yaw."""
        return self.rest[: self.things].copy()


def _own_frame(triangles: Float[ndarray, "F 3 3"], box: Float[ndarray, "7"]) -> Float64[ndarray, "F 3 3"]:
    """World triangles in the frame of a box: its bottom centre, unturned."""
    local = triangles.astype(np.float64) - (box[0], box[1], box[2] - 0.5 * box[5])
    cos, sin = np.cos(box[6]), np.sin(box[6])
    return np.asarray(local @ np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]))


def _door_color(scene: Scene, index: int, face_colors: UInt8[ndarray, "F 3"]) -> Float64[ndarray, "3"]:
    """The colour of a door's object: of its faces, else the one it is named with, else white."""
    if len(face_colors):
        return np.asarray(np.median(face_colors, axis=0), dtype=np.float64)
    name = scene.objects[index].attributes.get("color", "white") if index >= 0 else "white"
    return np.array(PALETTE.get(name, PALETTE["white"]), dtype=np.float64)


def _leaf(door: Door, color: Float64[ndarray, "3"], framed: bool) -> tuple[ndarray, ndarray]:
    """Triangles and colours of a panel with handles that fills a doorway, or its frame where it has one (`framed`)."""
    depth, width, height = (float(side) for side in door.box[3:6])
    turned = depth > width  # the doorway runs along the box's x axis
    if turned:
        depth, width = width, depth
    jamb = JAMB_M if framed and width > 4 * JAMB_M and height > 4 * JAMB_M else 0.0
    hy, hx, top = 0.5 * width - jamb, 0.5 * min(LEAF_M, 0.5 * depth), height - jamb
    parts = Parts(np.random.default_rng(0))
    parts.box((-hx, -hy, 0.0), (hx, hy, top), color)
    for low, high in ((0.1, 0.45), (0.53, 0.92)):
        parts.box((-1.2 * hx, -0.74 * hy, low * top), (1.2 * hx, 0.74 * hy, high * top), tone(color, 0.88))
    parts.box((-2.0 * hx, -0.94 * hy, 0.47 * top), (2.0 * hx, -0.86 * hy, 0.5 * top), METAL)
    panel = parts.mesh(np.array([4.0 * hx, 2.0 * hy, top]))
    vertices = panel.vertices.astype(np.float64)
    if turned:
        vertices = np.stack([-vertices[:, 1], vertices[:, 0], vertices[:, 2]], axis=1)
    return vertices[panel.faces], panel.face_colors.astype(np.float64)


def composite(
    frame: Frame,
    parts: Sequence[MovingParts],
    home_index: Int[ndarray, " B"] | Int[Tensor, " B"],
    pose: Float[ndarray, "B K 4"] | Float[Tensor, "B K 4"],
    visible: Bool[ndarray, "B K"] | Bool[Tensor, "B K"],
    doors_shut: Int[ndarray, " B"] | Int[Tensor, " B"],
    extrinsics: Float[ndarray, "B 4 4"] | Float[Tensor, "B 4 4"],
    intrinsics: Float[ndarray, "3 3"],
    width: int,
    height: int,
) -> None:
    """Draws moving parts into frames of the static home, in place.

    Args:
        frame: what `render` gave for the same cameras; rgb, depth and instance are overwritten where a part is nearer.
            A frame on CUDA is copied to the host and back (never run on CUDA).
        parts: of the pool's homes.
        home_index: per environment the index of its home in `parts`.
        pose: per environment and slot xyz of the bottom centre and yaw, world frame. K may exceed a home's number of
            things: what follows is not looked at.
        visible: slots to draw; a thing that is carried is not.
        doors_shut: mask of the doors to draw shut: bit k for the k-th of `openable_doors`.
        extrinsics, intrinsics, width, height: as given to `render`.

    Raises:
        InputError: shapes that do not fit together, a home index out of range, NaN or infinite poses of visible things.
    """
    batch = len(frame.depth)
    if frame.depth.shape != (batch, height, width):
        raise InputError(f"frames have shape {tuple(frame.depth.shape)}, expected (B, {height}, {width})")
    tables = [np.asarray(table.cpu() if isinstance(table, Tensor) else table) for table in (home_index, doors_shut)]
    index, shut = (table.astype(np.int64) for table in tables)
    poses, shown, cameras = (
        np.ascontiguousarray(table.cpu() if isinstance(table, Tensor) else table, dtype=kind)
        for table, kind in ((pose, np.float64), (visible, np.bool_), (extrinsics, np.float64))
    )
    slots = poses.shape[1] if poses.ndim == 3 else -1
    found = [index.shape, shut.shape, poses.shape, shown.shape, cameras.shape]
    wanted = [(batch,), (batch,), (batch, slots, 4), (batch, slots), (batch, 4, 4)]
    if found != wanted:
        raise InputError(
            f"composite(): home_index, doors_shut, pose, visible and extrinsics have shapes {found}, "
            f"expected (B,), (B,), (B, K, 4), (B, K) and (B, 4, 4) with B={batch}"
        )
    if batch and (index.min() < 0 or index.max() >= len(parts)):
        raise InputError(f"home_index holds {index.min()}..{index.max()}, there are {len(parts)} homes")
    things = np.array([home.things for home in parts], dtype=np.int64)
    shown = np.logical_and(shown, np.arange(slots)[None] < things[index][:, None])
    if not np.isfinite(poses[shown]).all():
        bad = np.flatnonzero((shown & ~np.isfinite(poses).all(axis=2)).any(axis=1))
        raise InputError(f"poses of visible things of environments {bad[:8].tolist()} hold NaN or infinity")
    pictures = [frame.rgb, frame.depth, frame.instance]
    on_host = [picture.cpu() if picture.is_cuda else picture for picture in pictures]
    rgb, depth, instance = (picture.numpy() for picture in on_host)
    lens = np.array([intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]], dtype=np.float64)
    sun = np.asarray(SUN) / np.linalg.norm(SUN)
    by_home = np.argsort(index, kind="stable")
    bounds = np.flatnonzero(np.diff(index[by_home], prepend=-1, append=len(parts)))
    for first, last in zip(bounds[:-1], bounds[1:]):
        order = by_home[first:last]
        home = parts[index[order[0]]]
        if slots < home.things:
            raise InputError(f"composite(): {slots} slots given, but a home has {home.things} movable things")
        _draw(
            order, cameras, poses, shown, shut, home.things, home.rest, home.object_id, home.start, home.corners,
            home.normals, home.colors, home.sphere, lens, sun, rgb, depth, instance,
        )  # fmt: skip
    for picture, drawn in zip(pictures, on_host):
        if picture.is_cuda:
            picture.copy_(drawn)


@njit(cache=True, nogil=True)
def _draw(
    order, cameras, poses, shown, shut, things, rest, object_id, start, corners, normals, colors, sphere, lens, sun,
    rgb, depth, instance,
):  # fmt: skip
    """Draws one home's parts into frames `order` (n,)."""
    height, width = depth.shape[1], depth.shape[2]
    left, right = -lens[2] / lens[0], (width - lens[2]) / lens[0]  # edges of the picture at z = 1
    top, bottom = -lens[3] / lens[1], (height - lens[3]) / lens[1]
    turn = np.empty((3, 3))  # own frame to camera
    to = np.empty(3)
    for at in range(order.shape[0]):
        b = order[at]
        camera = cameras[b]
        for s in range(object_id.shape[0]):
            if s < things:
                if not shown[b, s]:
                    continue
                pose = poses[b, s]
            else:
                if not (shut[b] >> (s - things)) & 1:
                    continue
                pose = rest[s]
            if start[s] == start[s + 1]:
                continue
            cos, sin = np.cos(pose[3]), np.sin(pose[3])
            for k in range(3):  # camera axes are the columns of the rotation
                turn[k, 0] = camera[0, k] * cos + camera[1, k] * sin
                turn[k, 1] = camera[1, k] * cos - camera[0, k] * sin
                turn[k, 2] = camera[2, k]
                to[k] = (
                    camera[0, k] * (pose[0] - camera[0, 3])
                    + camera[1, k] * (pose[1] - camera[1, 3])
                    + camera[2, k] * (pose[2] - camera[2, 3])
                )
            x, y, z = _moved(turn, to, sphere[s])
            radius = sphere[s, 3]
            if (
                z + radius <= 0.0
                or x - left * z < -radius * np.sqrt(1.0 + left * left)
                or right * z - x < -radius * np.sqrt(1.0 + right * right)
                or y - top * z < -radius * np.sqrt(1.0 + top * top)
                or bottom * z - y < -radius * np.sqrt(1.0 + bottom * bottom)
            ):
                continue
            sun_x, sun_y = cos * sun[0] + sin * sun[1], cos * sun[1] - sin * sun[0]  # in the own frame
            for f in range(start[s], start[s + 1]):
                normal = normals[f]
                light = AMBIENT + (1.0 - AMBIENT) * abs(normal[0] * sun_x + normal[1] * sun_y + normal[2] * sun[2])
                _draw_triangle(
                    _moved(turn, to, corners[f, 0]), _moved(turn, to, corners[f, 1]), _moved(turn, to, corners[f, 2]),
                    lens, colors[f], light, object_id[s], rgb[b], depth[b], instance[b],
                )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def _moved(turn, to, point):
    """A point of the own frame in the camera's."""
    return (
        turn[0, 0] * point[0] + turn[0, 1] * point[1] + turn[0, 2] * point[2] + to[0],
        turn[1, 0] * point[0] + turn[1, 1] * point[1] + turn[1, 2] * point[2] + to[1],
        turn[2, 0] * point[0] + turn[2, 1] * point[1] + turn[2, 2] * point[2] + to[2],
    )


@njit(cache=True, nogil=True)
def _draw_triangle(a, b, c, lens, color, light, owner, rgb, depth, instance):
    """Casts the rays of the pixels that a triangle a, b, c (camera frame) may cover.

    Along a ray d from the camera the barycentric coordinates are as d . (b x c), d . (c x a), d . (a x b): inside where
    they agree in sign (Olano and Greer, "Triangle Scan Conversion using 2D Homogeneous Coordinates", 1997). What is the
    same for the whole triangle is computed once, and nothing needs to be clipped at the camera's plane.
    """
    highest = max(a[2], b[2], c[2])
    if highest <= 0.0:
        return
    first_row, last_row, first_column, last_column = 0, depth.shape[0] - 1, 0, depth.shape[1] - 1
    if min(a[2], b[2], c[2]) > NEAR_M:
        u0, u1, u2 = a[0] / a[2] * lens[0], b[0] / b[2] * lens[0], c[0] / c[2] * lens[0]
        v0, v1, v2 = a[1] / a[2] * lens[1], b[1] / b[2] * lens[1], c[1] / c[2] * lens[1]
        # pixel k has its centre at k + 0.5; clipped as floats, since far outside they do not fit an integer
        first_column = int(max(0.0, np.ceil(min(u0, u1, u2) + lens[2] - 0.5 - 1e-6)))
        last_column = int(min(float(last_column), np.floor(max(u0, u1, u2) + lens[2] - 0.5 + 1e-6)))
        first_row = int(max(0.0, np.ceil(min(v0, v1, v2) + lens[3] - 0.5 - 1e-6)))
        last_row = int(min(float(last_row), np.floor(max(v0, v1, v2) + lens[3] - 0.5 + 1e-6)))
        if first_column > last_column or first_row > last_row:
            return
    bc = (b[1] * c[2] - b[2] * c[1], b[2] * c[0] - b[0] * c[2], b[0] * c[1] - b[1] * c[0])
    ca = (c[1] * a[2] - c[2] * a[1], c[2] * a[0] - c[0] * a[2], c[0] * a[1] - c[1] * a[0])
    ab = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    volume = a[0] * bc[0] + a[1] * bc[1] + a[2] * bc[2]
    for row in range(first_row, last_row + 1):
        y = (row + 0.5 - lens[3]) / lens[1]
        for column in range(first_column, last_column + 1):
            x = (column + 0.5 - lens[2]) / lens[0]
            wa = bc[0] * x + bc[1] * y + bc[2]
            wb = ca[0] * x + ca[1] * y + ca[2]
            wc = ab[0] * x + ab[1] * y + ab[2]
            if not ((wa >= 0.0 and wb >= 0.0 and wc >= 0.0) or (wa <= 0.0 and wb <= 0.0 and wc <= 0.0)):
                continue
            total = wa + wb + wc
            if total == 0.0:
                continue
            t = np.float32(volume / total)
            before = depth[row, column]
            if t <= 0.0 or (before != 0.0 and t >= before):
                continue
            dim = np.float32(1.0) / (np.float32(1.0) + np.float32(FALLOFF_PER_M) * t)
            depth[row, column] = t
            instance[row, column] = owner
            for k in range(3):
                lit = np.uint8(min(max(np.rint(color[k] * light), 0.0), 255.0))
                rgb[row, column, k] = np.uint8(lit * dim + np.float32(0.5))

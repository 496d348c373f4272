"""ProcTHOR houses: layouts of rooms and furniture made for the AI2-THOR simulator, read without it.

Reads house JSON of ProcTHOR-10K (Deitke et al., arXiv:2206.06994): one house per line (.jsonl, .jsonl.gz) or one or
several in a .json; lines may wrap the house as {"house": ..., "split": ...}. Sizes come from ProcTHOR's
asset-database.json.gz, the meshes being part of the simulator: each asset is drawn as our own furniture of its type,
stretched to its box, or as a block. Assets carry no colour names either: each gets one by a checksum of its name
(attribute "color_source": "assigned").

Frames: theirs is left-handed, y up, an object at rotation.y = 0 faces +z and turns clockwise seen from above. Ours is
(x, z, y) of theirs, which is right-handed; such an object faces +y, and yaw = 90 degrees - rotation.y.
"""

import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

from core.conventions import wrap_angle
from core.errors import InputError, existing_file, nearest
from scene import palette
from scene.datasets.furnishing import PLAIN_COLORS
from scene.datasets.procthor_files import AssetBoxes, House, iter_houses, read_assets, read_houses
from scene.datasets.procthor_labels import COLORS, SHAPES, label_of
from scene.datasets.shell import MeshParts, Opening, wall_boxes
from scene.furniture import BUILDERS, build
from scene.palette import GOAL_COLORS, GOAL_LABELS, PALETTE, RGB
from scene.types import Door, Room, Scene, SceneObject, SupportTruth

__all__ = ["House", "color_of", "house_scene", "inside_polygon", "load", "our_box", "read_houses", "support_truth"]

INTO_ROOM_M = 0.01  # their walls are planes; ours reach this far into the room and so far outward at outer walls:
OUTWARD_M = 0.1
DOOR_DEPTH_M = 0.08
WINDOW_DEPTH_M = 0.06
SWAP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # (x, y, z) -> (x, z, y), its own inverse


def load(path: str | Path, split: str | None = None, assets: str | Path | None = None) -> Iterator[Scene]:
    """The houses of a file as scenes, in the file's order.

    Args:
        path: .jsonl, .jsonl.gz, .json or .json.gz.
        split: only houses of this split; all when None.
        assets: the asset database or its folder; when None, `procthor_db/asset-database.json(.gz)` beside the file's
            folder or in it.

    Raises:
        MissingFileError: the file or the asset database is not there.
        InputError: damaged file, no such split, a house without objects, or an asset the database does not know.
    """
    boxes = read_assets(existing_file(path, "ProcTHOR file"), assets)
    for house in iter_houses(path, split):
        yield house_scene(house, boxes)


def support_truth(path: str | Path, split: str | None = None) -> dict[str, SupportTruth]:
    """Scene id -> what rests on or in what, from the file's own nesting; doors and windows rest on nothing."""
    truth: dict[str, SupportTruth] = {}
    for house in iter_houses(path, split):
        parents = [parent for _, parent in _flatten(house)]
        extra = len(house.content["doors"]) + len(house.content["windows"])
        truth[house.id] = dict(enumerate([*parents, *[None] * extra]))
    return truth


def house_scene(house: House, assets: AssetBoxes) -> Scene:
    """One house in our frame, furnished and with walls that leave doors and windows free.

    Object ids: the file's objects with each one's children right after it, then doors, then windows.

    Raises:
        InputError: no objects, an unknown asset, or a part that is missing or garbled; names the house.
    """
    if not house.content["objects"]:
        raise InputError(f"{house.where}: house {house.id} has no objects; nothing to find there")
    try:
        return _Builder(house, assets).scene()
    except InputError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise InputError(f"{house.where}: house {house.id} lacks or garbles a part ({error!r})") from error


def _flatten(house: House) -> list[tuple[dict[str, Any], int | None]]:
    """(object, index of its parent) with children right after their parents."""
    flat: list[tuple[dict[str, Any], int | None]] = []

    def visit(items: list[dict[str, Any]], parent: int | None) -> None:
        for item in items:
            flat.append((item, parent))
            visit(item.get("children") or [], len(flat) - 1)

    visit(house.content["objects"], None)
    return flat


def color_of(asset_id: str, label: str) -> str:
    """The colour name an asset gets: the same for the same asset everywhere."""
    choices = PLAIN_COLORS.get(label) or COLORS.get(label) or (GOAL_COLORS if label in GOAL_LABELS else tuple(PALETTE))
    return choices[zlib.crc32(asset_id.encode()) % len(choices)]


def our_box(
    position: dict[str, float], rotation: dict[str, float], bounding_box: dict[str, float]
) -> Float64[ndarray, "7"]:
    """An object's box in our frame from its centre, its Euler angles in degrees and its size in theirs.

    A tilted object (rotation.x, rotation.z) gets the upright box around it, turned as it is about the vertical.
    """
    tilt_x, turn, tilt_z = (math.radians(float(rotation[k])) for k in "xyz")
    half = 0.5 * np.array([float(bounding_box[k]) for k in "xyz"])
    cx, sx, cz, sz = math.cos(tilt_x), math.sin(tilt_x), math.cos(tilt_z), math.sin(tilt_z)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    width, height, depth = 2 * np.abs(about_x @ about_z) @ half  # the turn about y comes last
    center = (float(position["x"]), float(position["z"]), float(position["y"]))
    return np.array([*center, depth, width, height, float(wrap_angle(np.array(0.5 * math.pi - turn)))])


def inside_polygon(point: Float[ndarray, "2"], polygon: Float[ndarray, "K 2"]) -> bool:
    """Whether a point lies in a simple polygon (crossings of a ray along +x)."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    straddles = (a[:, 1] > point[1]) != (b[:, 1] > point[1])
    rise = np.where(straddles, b[:, 1] - a[:, 1], 1.0)
    at = a[:, 0] + (point[1] - a[:, 1]) * (b[:, 0] - a[:, 0]) / rise
    return bool((straddles & (point[0] < at)).sum() % 2)


class _Builder:
    """Builds the scene of one house."""

    def __init__(self, house: House, assets: AssetBoxes) -> None:
        self.house, self.assets, self.content = house, assets, house.content
        self.rng = np.random.default_rng(zlib.crc32(house.id.encode()))
        self.height = max(float(p["y"]) for wall in self.content["walls"] for p in wall["polygon"])
        self.room_ids = {room["id"]: k for k, room in enumerate(self.content["rooms"])}
        self.rooms = [self._room(k, room) for k, room in enumerate(self.content["rooms"])]
        self.walls = {wall["id"]: wall for wall in self.content["walls"]}
        self.objects: list[SceneObject] = []
        self.shell = MeshParts()

    def scene(self) -> Scene:
        for item, _ in _flatten(self.house):
            entry = self._entry(item["assetId"])
            label = label_of(entry["objectType"])
            box = our_box(item["position"], item["rotation"], entry["boundingBox"])
            self._add(label, SHAPES.get(label, label), box, item["id"], color_of(item["assetId"], label), _uses(entry))
        doors = [self._door(k, item) for k, item in enumerate(self.content["doors"])]
        for item in self.content["windows"]:
            box, _ = self._hole(item, WINDOW_DEPTH_M)
            self._add("window", "window", box, item["id"], "white", ("open",))
        self._structure()
        return Scene(
            id=self.house.id,
            source="procthor",
            objects=self.objects,
            rooms=self.rooms,
            doors=doors,
            mesh=self.shell.mesh(),
            to_source=SWAP.copy(),
        )

    def _entry(self, asset_id: str) -> dict[str, Any]:
        entry = self.assets.get(asset_id)
        if entry is None:
            raise InputError(
                f"{self.house.where}: house {self.house.id} uses the asset {asset_id!r}, which the asset database does "
                f"not know; {_closest(asset_id, self.assets)}"
            )
        return entry

    def _add(
        self, label: str, shape: str, box: Float64[ndarray, "7"], source_id: str, color: str, uses: tuple[str, ...]
    ) -> None:
        index = len(self.objects)
        item = SceneObject(
            id=index,
            label=label,
            box=box,
            source_id=source_id,
            attributes={"color": color, "color_source": "assigned"},
            room=self._room_at(box[:2], source_id),
            affordances=uses,
        )
        self.objects.append(item)
        rng = np.random.default_rng([zlib.crc32(self.house.id.encode()), index])
        part = build(shape if shape in BUILDERS else "plain", box[3:6], PALETTE[color], rng)
        cos, sin = np.cos(box[6]), np.sin(box[6])
        turned = part.vertices @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        self.shell.add(turned + box[:3] - (0, 0, 0.5 * box[5]), part.faces, part.face_colors, index)

    def _room(self, index: int, room: dict[str, Any]) -> Room:
        polygon = np.array([[float(p["x"]), float(p["z"])] for p in room["floorPolygon"]])
        following = np.roll(polygon, -1, axis=0)
        if (polygon[:, 0] * following[:, 1] - polygon[:, 1] * following[:, 0]).sum() < 0:
            polygon = polygon[::-1].copy()
        return Room(index, label_of(room["roomType"]), polygon, 0.0, self.height)

    def _room_at(self, xy: Float[ndarray, "2"], source_id: str) -> int:
        """The room around a point, else the one its name tells ("Chair|4|2" is in "room|4")."""
        for room in self.rooms:
            if inside_polygon(xy, room.polygon):
                return room.id
        parts = source_id.split("|")
        return self.room_ids.get(f"room|{parts[1]}", -1) if len(parts) > 1 else -1

    def _line(self, wall: dict[str, Any]) -> tuple[Float64[ndarray, "2"], Float64[ndarray, "2"]]:
        """Start and end of a wall on the floor; holes are measured from the start."""
        a, b = wall["polygon"][:2]
        return np.array([float(a["x"]), float(a["z"])]), np.array([float(b["x"]), float(b["z"])])

    def _hole(self, item: dict[str, Any], depth: float) -> tuple[Float64[ndarray, "7"], Opening]:
        """The box of a door or window, and its hole along its first wall."""
        start, end = self._line(self.walls[item["wall0"]])
        along = (end - start) / np.linalg.norm(end - start)
        a, b = item["holePolygon"][:2]
        s0, s1 = sorted((float(a["x"]), float(b["x"])))
        z0, z1 = sorted((float(a["y"]), float(b["y"])))
        center = start + 0.5 * (s0 + s1) * along
        normal = math.atan2(along[0], -along[1])
        box = np.array([*center, 0.5 * (z0 + z1), depth, s1 - s0, z1 - z0, normal])
        return box, (s0, s1, z0, z1)

    def _door(self, index: int, item: dict[str, Any]) -> Door:
        self._entry(item["assetId"])
        box, _ = self._hole(item, DOOR_DEPTH_M)
        first, second = (self.room_ids[item[k]] for k in ("room0", "room1"))
        outer = first == second  # ProcTHOR's mark of a door to the outside
        free = not outer and (float(item.get("openness", 1)) > 0 or not item.get("openable", False))
        self._add(
            "door", "open door" if free else "door", box, item["id"], color_of(item["assetId"], "door"), ("open",)
        )
        return Door(index, box, (first, -1 if outer else second), open=free)

    def _structure(self) -> None:
        for room, raw in zip(self.rooms, self.content["rooms"], strict=True):
            self._floor(room, str(raw.get("floorMaterial", {}).get("name", "")))
            self.shell.polygon(room.polygon, self.height, palette.CEILING, up=False)
        holes: dict[str, list[Opening]] = {}
        for item in [*self.content["doors"], *self.content["windows"]]:
            start, end = self._line(self.walls[item["wall0"]])
            _, hole = self._hole(item, 0.1)
            along = (end - start) / np.linalg.norm(end - start)
            for name in {item["wall0"], item["wall1"]} & self.walls.keys():
                own_start, own_end = self._line(self.walls[name])
                own = (own_end - own_start) / np.linalg.norm(own_end - own_start)
                at = sorted(float((start + s * along - own_start) @ own) for s in hole[:2])
                holes.setdefault(name, []).append((at[0], at[1], hole[2], hole[3]))
        for name, wall in self.walls.items():
            if wall.get("empty"):  # two rooms that flow into each other
                continue
            start, end = self._line(wall)
            inner = self.room_ids.get(wall.get("roomId", ""))
            left = self._left_is_inside(start, end, inner)
            if inner is None:
                if "exterior" not in name:
                    raise InputError(
                        f"{self.house.where}: wall {name} belongs to the unknown room {wall.get('roomId')}"
                    )
                thickness = (0.0, OUTWARD_M) if left else (OUTWARD_M, 0.0)
            else:
                thickness = (INTO_ROOM_M, 0.0) if left else (0.0, INTO_ROOM_M)
            color = _wall_color(wall)
            self.shell.boxes(wall_boxes(start, end, self.height, thickness, holes.get(name, ())), color)

    def _left_is_inside(self, start: Float[ndarray, "2"], end: Float[ndarray, "2"], room: int | None) -> bool:
        """Whether the wall's room (any room for outer walls) lies to the left of start -> end."""
        along = (end - start) / np.linalg.norm(end - start)
        probe = 0.5 * (start + end) + 0.05 * np.array([-along[1], along[0]])
        polygons = [self.rooms[room].polygon] if room is not None else [item.polygon for item in self.rooms]
        return any(inside_polygon(probe, polygon) for polygon in polygons)

    def _floor(self, room: Room, material: str) -> None:
        """Planks or tiles; a room of slanted walls gets a plain floor."""
        wood = "wood" in material.lower() or "plank" in material.lower()
        tones = palette.WOOD_FLOORS if wood else palette.TILE_FLOORS
        color = tones[zlib.crc32(material.encode()) % len(tones)]
        edges = np.abs(np.roll(room.polygon, -1, axis=0) - room.polygon)
        if (edges.min(axis=1) > 1e-6).any():
            self.shell.polygon(room.polygon, 0.0, color)
            return
        tile = (1.6, 0.24) if wood else (0.6, 0.6)
        xs, ys = (np.unique(room.polygon[:, k].round(6)) for k in (0, 1))
        for x0, x1 in zip(xs[:-1], xs[1:], strict=True):
            for y0, y1 in zip(ys[:-1], ys[1:], strict=True):
                if inside_polygon(np.array([0.5 * (x0 + x1), 0.5 * (y0 + y1)]), room.polygon):
                    self.shell.floor(np.array([x0, y0]), np.array([x1, y1]), tile, color, self.rng)


def _closest(asset_id: str, assets: AssetBoxes) -> str:
    hint = nearest(asset_id, assets)
    return hint if hint.startswith("did") else f"it has {len(assets)} others, none of a similar name"


def _uses(entry: dict[str, Any]) -> tuple[str, ...]:
    """Affordances from the asset's simulator properties."""
    names = {
        "CanPickup": "pickup",
        "Receptacle": "surface",
        "CanOpen": "open",
        "CanToggleOnOff": "switch",
        "Moveable": "push",
    }
    properties = [entry.get("primaryProperty"), *(entry.get("secondaryProperties") or [])]
    return tuple(names[name] for name in properties if name in names)


def _wall_color(wall: dict[str, Any]) -> RGB:
    """The house's own wall colour, paled so that it cannot pass for furniture; chosen by room where it has none."""
    fallback = palette.WALLS[zlib.crc32(str(wall.get("roomId", "")).encode()) % len(palette.WALLS)]
    material = wall.get("material")
    own = material.get("color") if isinstance(material, dict) else None
    if not own:
        return fallback
    mixed = [round(0.86 * base + 0.14 * 255 * float(own[k])) for base, k in zip(fallback, "rgb", strict=True)]
    return mixed[0], mixed[1], mixed[2]

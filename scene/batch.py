"""From scenes to padded batches of their objects, in the frame of the viewer the sentences assume.

"Left of" depends on where one looks. The viewpoint rule of scene/relations.py decides that; here every object set is
turned into that viewer's frame (x ahead, y to the left, z up from the floor), so the model reads left and right off the
coordinates, and a scene turned together with its viewer gives the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int64
from numpy import ndarray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from core.errors import InputError
from scene.geometry import object_points
from scene.graph import candidates, spoken_room_by_room
from scene.objects import location_tokens, rotate_points
from scene.relation_edges import batch_edges
from scene.relations import Viewpoint
from scene.types import Scene


@dataclass
class ObjectSet:
    """The candidates of one room or scene."""

    scene_id: str
    room: int  # index into scene.rooms; -1 = the whole scene
    ids: Int64[Tensor, " N"]  # index into scene.objects
    labels: list[str]
    captions: list[str]  # "red armchair": colour where known, and label
    points: Float[Tensor, "N P 6"]  # xyz in the viewer's frame in metres, rgb 0..255
    locations: Float[Tensor, "N 6"]  # mean of points, extents; same frame
    edges: Int64[Tensor, "E 3"] | None = None  # subject, object, relation of the scene graph; None = not asked for

    def __len__(self) -> int:
        return len(self.ids)


@dataclass
class SceneBatch:
    """Objects of B scenes, padded to the largest."""

    features: Float[Tensor, "B N D"]
    locations: Float[Tensor, "B N 6"]
    valid: Bool[Tensor, "B N"]  # False at padding
    edges: Int64[Tensor, "E 4"] | None = None  # scene, subject, object, index into list(Relation); None = no graph

    def to(self, device: torch.device | str) -> "SceneBatch":
        edges = None if self.edges is None else self.edges.to(device)
        return SceneBatch(self.features.to(device), self.locations.to(device), self.valid.to(device), edges)


def caption_of(label: str, attributes: Mapping[str, str]) -> str:
    """The short text an object is aligned with: "red armchair", or the label alone."""
    return f"{attributes['color']} {label}" if attributes.get("color") else label


def object_set(
    scene: Scene, points: int, *, seed: int, room: int = -1, viewpoint: Viewpoint | None = None
) -> ObjectSet:
    """The objects a sentence may mean (`scene.graph.candidates`), in a viewer's frame.

    Args:
        points: drawn per object.
        seed: of that draw.
        room: index into scene.rooms; a home that is spoken of room by room needs it, others ignore it.
        viewpoint: None = the default viewer of scene/relations.py.

    Raises:
        InputError: there is no object to choose from, no such room, or a large home without a room.
    """
    return objects_from(scene, object_points(scene, points, seed), room, viewpoint or Viewpoint())


def objects_from(scene: Scene, cloud: Float32[ndarray, "N P 6"], room: int, viewpoint: Viewpoint) -> ObjectSet:
    """`object_set` from points of all the scene's objects (`scene.geometry.object_points`)."""
    chosen = candidates(scene, room)
    if not chosen:
        place = f", room {room} ({scene.rooms[room].kind})" if scene.objects else ""
        raise InputError(f"scene {scene.id}{place} has no objects; there is nothing a sentence could mean")
    items = [scene.objects[i] for i in chosen]
    floor = scene.rooms[max(room, 0)].floor_z if scene.rooms else min(float(i.box[2] - i.box[5] / 2) for i in items)
    points = torch.from_numpy(cloud)[chosen] - torch.tensor([0, 0, floor, 0, 0, 0], dtype=torch.float32)
    points = rotate_points(points, -viewpoint.yaw_rad)
    return ObjectSet(
        scene_id=scene.id,
        room=room if spoken_room_by_room(scene) else -1,
        ids=torch.tensor(chosen),
        labels=[item.label for item in items],
        captions=[caption_of(item.label, item.attributes) for item in items],
        points=points,
        locations=location_tokens(points),
    )


def collate(
    features: Sequence[Float[Tensor, "_ D"]],
    locations: Sequence[Float[Tensor, "_ 6"]],
    edges: Sequence[Int64[Tensor, "_ 3"]] | None = None,
) -> SceneBatch:
    """Object features and locations of several scenes in one padded batch; padding is 0 and not valid.

    Args:
        edges: of each scene: subject, object, relation.

    Raises:
        InputError: a scene has no objects.
    """
    if empty := [index for index, part in enumerate(features) if not len(part)]:
        raise InputError(f"scenes {empty} of the batch have no objects; there is nothing a sentence could mean")
    counts = torch.tensor([len(part) for part in features])
    return SceneBatch(
        pad_sequence(list(features), batch_first=True),
        pad_sequence(list(locations), batch_first=True),
        torch.arange(int(counts.max()))[None] < counts[:, None],
        None if edges is None else batch_edges(edges),
    )


def collate_tokens(tokens: Sequence[Sequence[int]], pad_id: int) -> tuple[Int64[Tensor, "S L"], Bool[Tensor, "S L"]]:
    """Token ids padded to the longest sentence, and which are not padding."""
    rows = [torch.tensor(row, dtype=torch.int64) for row in tokens]
    padded = pad_sequence(rows, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def anchor_shares(anchors: Sequence[Sequence[int]], objects: int) -> Float[Tensor, "S N"]:
    """Each row spreads 1 evenly over its anchors."""
    shares = torch.zeros(len(anchors), objects)
    for row, named in zip(shares, anchors):
        for index in named:
            row[index] = 1 / len(named)
    return shares

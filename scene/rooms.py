"""Rooms as training reads them: objects as tensors, everything that is said about them as flat arrays of numbers.

A corpus of millions of sentences does not fit in memory as Python objects. Its Parquet columns are read shard by shard,
the texts of one home at a time become token ids and object slots, and their strings are let go. A sentence of ten words
with its target then takes about 80 bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int32, Int64
from numpy import ndarray
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from core.errors import InputError
from scene.batch import ObjectSet, caption_of, objects_from
from scene.descriptions import describe_scene
from scene.feature_cache import FeatureCache
from scene.geometry import object_points
from scene.graph import build_graph, spoken_room_by_room
from scene.provenance import sentence_digest
from scene.relations import Viewpoint
from scene.store import SceneStore
from scene.support import room_of_objects
from scene.texts import asked_in
from scene.types import Scene

COLUMNS: Final = (
    "type", "scene_id", "text", "kind", "room", "targets", "anchors", "objects", "answers", "situation",
    "view_dependent",
)  # fmt: skip
TASKS: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "referral": lambda row: row["type"] == "referral" and len(row["targets"]) == 1,
    "multi": lambda row: row["type"] == "referral",
    "answers": lambda row: row["type"] == "question",
}
"""Which texts of a corpus a model learns from: those that mean one object; or any number; or questions."""


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths in one array."""

    values: Int32[ndarray, " V"]
    start: Int64[ndarray, " R+1"]  # row r is values[start[r] : start[r + 1]]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        start = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=start[1:])
        return cls(np.fromiter((value for row in rows for value in row), np.int32, int(start[-1])), start)

    def __len__(self) -> int:
        return len(self.start) - 1

    def __getitem__(self, row: int) -> Int32[ndarray, " n"]:
        return self.values[self.start[row] : self.start[row + 1]]

    @property
    def lengths(self) -> Int64[ndarray, " R"]:
        return np.diff(self.start)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.start.nbytes


@dataclass
class Room:
    """The candidates of a room (or home, or scan) and S sentences about them."""

    objects: ObjectSet  # its points may have been let go
    tokens: Ragged  # of the sentences
    members: Ragged  # slots of the objects each sentence means
    anchors: Ragged  # slots of the other objects it names
    answers: Ragged  # of questions, numbers of the right answers; those nobody learns are left out
    viewed: Bool[ndarray, " S"]  # says left, right, behind or in front
    captions: Ragged  # token ids of what is said about the room as a whole
    corpus: int = 0  # which of the corpora of a run it comes from
    cache: FeatureCache | None = field(default=None, repr=False)  # holds its objects' features, by `key`

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def key(self) -> str:
        """Names the room among those of a run."""
        return f"{self.corpus}:{self.objects.scene_id}/{self.objects.room}"

    def features(self, draw: float) -> Float[Tensor, "N D"]:
        """One of the cached encodings of its objects; `draw` in [0, 1) says which."""
        assert self.cache is not None, "rooms are encoded before they are batched"
        return self.cache.draw(self.key, int(draw * self.cache.spec.encodings), len(self.objects))

    def drop_points(self) -> None:
        """Frees the points of its objects."""
        self.objects = replace(self.objects, points=self.objects.points[:, :0])


def texts_by_scene(
    store: SceneStore, split: str, task: str, share: float = 1.0
) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
    """Of each home of a split in order: id, rows of the sentences of a task, and rows of the captions of its rooms.

    Args:
        share: of the sentences, in (0, 1]. Which ones is decided by the digest of each, so that the sentences of a
            smaller share are among those of a larger one, in every run.

    Raises:
        InputError: unknown split, or a folder of single scenes, which has no texts.
    """
    store.split(split)
    if split not in store.shards.of_split:
        raise InputError(f"{store.folder} holds single scenes without texts; make a corpus: sightline build-scenes")
    wanted, limit = TASKS[task], share * 2.0**64
    for name in store.shards.of_split[split]:
        rows = store.shards.rows("texts", name, COLUMNS).to_pylist()
        for scene_id, group in groupby(rows, key=lambda row: row["scene_id"]):
            found = list(group)
            for row in found:
                row["text"] = asked_in(row["situation"], row["text"])
            said = [
                row for row in found
                if wanted(row) and (share >= 1 or sentence_digest(scene_id, row["text"]) < limit)
            ]  # fmt: skip
            yield scene_id, said, [row for row in found if row["type"] == "caption" and row["kind"] != "object"]


def object_names(store: SceneStore, split: str) -> Iterator[str]:
    """ "red armchair" of every object of a split, read from its table."""
    for name in store.shards.of_split[split]:
        table = store.shards.rows("objects", name, ("label", "color"))
        for label, color in zip(table["label"].to_pylist(), table["color"].to_pylist()):
            yield caption_of(label, {"color": color})


class RoomReader:
    """Makes rooms of scenes and rows of texts.

    Args:
        points: drawn per object.
        seed: of that draw.
        answers: numbers of the answers of a question; None = questions are not read.
        captions: whether rooms get theirs; where a corpus has none, one is made from the scene.
        edges: whether rooms get the edges of the scene graph.
        corpus: number of the store among those of a run.
    """

    def __init__(
        self,
        store: SceneStore,
        tokenizer: PreTrainedTokenizerFast,
        max_tokens: int,
        *,
        points: int,
        seed: int,
        answers: Callable[[Sequence[str]], Sequence[int]] | None = None,
        captions: bool = False,
        edges: bool = False,
        corpus: int = 0,
    ) -> None:
        self.store, self.tokenizer, self.max_tokens = store, tokenizer, max_tokens
        self.points, self.seed, self.answers = points, seed, answers
        self.captions, self.edges, self.corpus = captions, edges, corpus
        self.left_out = 0  # sentences that no room of their home holds: their objects stand in several, or in none

    def rooms(self, split: str, task: str, share: float = 1.0, keep_points: int = 0) -> Iterator[Room]:
        """The rooms of a split that sentences of a task speak of, one scene in memory at a time.

        Args:
            keep_points: of about so many objects the points stay; further rooms come without.

        Raises:
            InputError: a sentence means an object that is not in its scene; see also `texts_by_scene`.
        """
        kept = 0
        for scene_id, rows, captions in texts_by_scene(self.store, split, task, share):
            if not rows:
                continue
            for room in self.rooms_of(self.store.load(scene_id), rows, captions):
                if kept >= keep_points:
                    room.drop_points()
                kept += len(room.objects)
                yield room

    def rooms_of(self, scene: Scene, rows: Sequence[dict[str, Any]], captions: Sequence[dict[str, Any]]) -> list[Room]:
        """The rooms of one scene; large homes are spoken of room by room."""
        home = room_of_objects(scene) if spoken_room_by_room(scene) else None
        groups: dict[int, list[dict[str, Any]]] = {}
        for row in rows:
            named = row["targets"] if row["targets"] is not None else row["objects"] or []
            if bad := [i for i in named if not 0 <= i < len(scene.objects)]:
                raise InputError(
                    f"scene {scene.id}: {row['text']!r} speaks of objects {bad}, expected 0..{len(scene.objects) - 1}; "
                    "the corpus does not belong to these scenes, build it again"
                )
            row["members"] = named
            if home is None:
                groups.setdefault(-1, []).append(row)
                continue
            places = {int(home[i]) for i in named} or {row["room"]}
            if len(places) == 1 and -1 not in places:
                groups.setdefault(places.pop(), []).append(row)
            else:
                self.left_out += 1
        if not groups:
            return []
        cloud = object_points(scene, self.points, self.seed)
        graph = build_graph(scene) if self.edges else None
        made = []
        for number, group in sorted(groups.items()):
            objects = objects_from(scene, cloud, number, Viewpoint())
            slot = {int(identity): index for index, identity in enumerate(objects.ids)}
            inside = [row for row in group if all(i in slot for i in row["members"])]
            self.left_out += len(group) - len(inside)
            if not inside:
                continue
            if graph is not None:
                from scene.relation_edges import edges_of_room

                objects.edges = edges_of_room(scene, graph, objects.ids)
            about = self._captions(scene, captions, number) if self.captions else []
            made.append(
                Room(
                    objects,
                    self._tokens([row["text"] for row in inside]),
                    Ragged.of([[slot[i] for i in row["members"]] for row in inside]),
                    Ragged.of([[slot[i] for i in row["anchors"] or [] if i in slot] for row in inside]),
                    Ragged.of([self.answers(row["answers"] or ()) if self.answers else [] for row in inside]),
                    np.array([bool(row["view_dependent"]) for row in inside]),
                    self._tokens(about),
                    self.corpus,
                )
            )
        return made

    def points_of(self, room: Room) -> Float[Tensor, "N P 6"]:
        """The points of a room's objects; those that were let go are drawn again, the same as before."""
        if room.objects.points.shape[1]:
            return room.objects.points
        scene = self.store.load(room.objects.scene_id)
        return objects_from(scene, object_points(scene, self.points, self.seed), room.objects.room, Viewpoint()).points

    def _captions(self, scene: Scene, captions: Sequence[dict[str, Any]], room: int) -> list[str]:
        """Of the room, or where the whole scene is one, of the scene."""
        whole = room == -1 and len(scene.rooms) > 1
        found = [row["text"] for row in captions if room == -1 and not whole or row["room"] == room]
        return found or [describe_scene(scene, build_graph(scene), room)]

    def _tokens(self, texts: Sequence[str]) -> Ragged:
        if not texts:
            return Ragged.of([])
        return Ragged.of(self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"])


def text_bytes(rooms: Sequence[Room]) -> int:
    """Memory of all sentences and captions."""
    parts = (r for room in rooms for r in (room.tokens, room.members, room.anchors, room.answers, room.captions))
    return sum(part.nbytes for part in parts)


def stack_members(rows: Sequence[Int32[ndarray, " n"]], objects: int) -> Float[Tensor, "S N"]:
    """1 at the objects each sentence means."""
    table = torch.zeros(len(rows), objects)
    for row, named in zip(table, rows):
        row[torch.from_numpy(named.astype(np.int64))] = 1
    return table

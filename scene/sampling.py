"""Which rooms and sentences make up a training batch: a function of (seed, step), whatever came before.

Padding is wasted work, so batches are drawn a window at a time and sorted: rooms with about as many objects and
sentences of about the same length share a batch. In every window a room is drawn in proportion to its sentences, and
every sentence of a room is as likely as any other; only who meets whom changes. A room's sentences of one batch are
scored against one encoding of it.

Augmentation, drawn per room of a batch: one of the cached encodings of its objects; the room in a mirror, with left and
right exchanged in sentences and scene graph; and quarter turns (`ROTATIONS`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from scene.batch import SceneBatch, anchor_shares, collate, collate_tokens
from scene.rooms import Room, stack_members

ROTATIONS: Final = ("none", "sentences", "all")
"""Quarter turns of a room about the vertical: never; where its sentences say nothing of left, right, behind and front;
or always, as GPS's released code does. This project's viewer stands still, so the last makes such words wrong."""


@dataclass(frozen=True)
class Drawn:
    """One room of a batch."""

    room: int  # index into the rooms
    sentences: Int64[ndarray, " k"]
    draw: float  # in [0, 1): which of the cached encodings
    mirror: bool
    turns: int  # quarter turns, counter-clockwise


@dataclass
class Drawing:
    """How batches are drawn.

    Args:
        scenes: rooms per batch (all, where there are fewer).
        sentences: of each room; repeated where it has fewer.
        window: batches drawn together and sorted by size; 1 = each by itself.
        mirror: half of the rooms are mirrored.
        rotate: one of ROTATIONS.
        balance: sentences that mean no object, one, and several are equally likely, in each room as far as it has them.
    """

    scenes: int
    sentences: int
    window: int = 8
    mirror: bool = False
    rotate: str = "none"
    balance: bool = False


class Sampler:
    """Draws batches from rooms."""

    def __init__(self, rooms: Sequence[Room], drawing: Drawing, seed: int) -> None:
        if not rooms:
            raise InputError("there are no rooms to draw batches from")
        self.rooms, self.drawing, self.seed = rooms, drawing, seed
        counts = np.array([len(room) for room in rooms], np.float64)
        self._weight = counts / counts.sum()
        self._objects = np.array([len(room.objects) for room in rooms])
        self._window: tuple[int, list[list[Drawn]]] = (-1, [])

    def batch(self, step: int) -> list[Drawn]:
        """The rooms and sentences of a step."""
        number = step // self.drawing.window
        if number != self._window[0]:
            self._window = (number, self._draw(number))
        return self._window[1][step % self.drawing.window]

    def _draw(self, number: int) -> list[list[Drawn]]:
        rng = np.random.default_rng([self.seed, number])
        size, window = min(self.drawing.scenes, len(self.rooms)), self.drawing.window
        # systematic sampling: a room's expected count is in exact proportion to its sentences, and hardly varies
        order = rng.permutation(len(self.rooms))
        marks = (np.arange(size * window) + rng.random()) / (size * window)
        place = np.searchsorted(np.cumsum(self._weight[order]), marks, side="right")
        chosen = order[np.minimum(place, len(order) - 1)]
        length = rng.permutation(np.arange(len(chosen))) / len(chosen)
        drawn = [self._drawn(int(index), rng, float(share)) for index, share in zip(chosen, length)]
        # by length first, in as many stretches as there are batches beside each other in one; then by objects
        stretch = (length * self._stretches).astype(int)
        ranked = np.lexsort((rng.random(len(drawn)), self._objects[chosen], stretch))
        return [[drawn[i] for i in ranked[batch * size : (batch + 1) * size]] for batch in rng.permutation(window)]

    @property
    def _stretches(self) -> int:
        """Of sentence lengths; about the square root of the window, so that as many batches share one."""
        return max(1, round(self.drawing.window**0.5))

    def _drawn(self, index: int, rng: np.random.Generator, length: float) -> Drawn:
        room, count = self.rooms[index], self.drawing.sentences
        turns = 0
        among = np.arange(len(room))
        if self.drawing.rotate == "all":
            turns = int(rng.integers(4))
        elif self.drawing.rotate == "sentences":
            # either sentences that hold from everywhere, or those of the one viewer: each as often as there are
            viewed = bool(rng.random() < room.viewed.mean())
            among = np.flatnonzero(room.viewed == viewed)
            turns = 0 if viewed else int(rng.integers(4))
        if self.drawing.balance:
            kind = np.minimum(room.members.lengths[among], 2)
            among = among[kind == rng.choice(np.unique(kind))]
        among = _stratum(room, among, length, count, self._stretches)
        sentences = rng.choice(among, size=count, replace=len(among) < count)
        mirror = self.drawing.mirror and rng.random() < 0.5
        return Drawn(index, sentences, float(rng.random()), bool(mirror), turns)


def _stratum(room: Room, among: Int64[ndarray, " m"], length: float, count: int, most: int) -> Int64[ndarray, " k"]:
    """Those of the sentences whose lengths are in the stretch that `length` in [0, 1) names.

    There are at most `most`, about equally long, with at least twice `count` sentences each.
    """
    parts = min(most, max(1, len(among) // (2 * count)))
    if parts == 1:
        return among
    ordered = among[np.argsort(room.tokens.lengths[among], kind="stable")]
    stretches = np.array_split(ordered, parts)  # each is taken as often as it is long: no sentence is preferred
    ends = np.cumsum([len(stretch) for stretch in stretches]) / len(ordered)
    return stretches[int(np.searchsorted(ends, length, side="right"))]


@dataclass
class SentenceBatch:
    """S sentences about the B scenes of a batch."""

    scenes: SceneBatch  # features are (B, N, 0) where they are not taken from the cache
    tokens: Int64[Tensor, "S L"]
    words: Bool[Tensor, "S L"]  # False at padding
    scene: Int64[Tensor, " S"]  # index into the batch's scenes
    members: Float[Tensor, "S N"]  # 1 at the objects a sentence means
    anchors: Float[Tensor, "S N"]  # 1 / count at the other objects it names; rows of 0 where it names none
    answers: list[list[int]]  # of questions
    captions: list[list[int]]  # token ids of a caption of each scene; empty where rooms have none
    points: list[Tensor]  # of each scene's objects (n, P, 6), where features are not taken from the cache

    @property
    def target(self) -> Int64[Tensor, " S"]:
        """Index of the one object each sentence means (the first, of several)."""
        return self.members.argmax(1)

    def to(self, device: torch.device | str) -> "SentenceBatch":
        moved = {name: getattr(self, name).to(device) for name in ("scenes", "tokens", "words", "scene")}
        moved |= {name: getattr(self, name).to(device) for name in ("members", "anchors")}
        return replace(self, **moved)


def assemble(
    rooms: Sequence[Room],
    drawn: Sequence[Drawn],
    pad_id: int,
    *,
    swap: Mapping[int, int] | None = None,
    slots: int = 0,
    seeds: Sequence[Sequence[int]] = (),
    edges: bool = False,
    cloud: Callable[[Room], Float[Tensor, "N P 6"]] | None = None,
) -> SentenceBatch:
    """The tensors of drawn rooms and sentences.

    Args:
        swap: token ids that change places in a mirror, both directions.
        slots: objects per scene at most, 0 = all; see `kept`.
        seeds: one per drawn room, deciding which objects stay where there are more than slots.
        edges: also those of the scene graph.
        cloud: gives the points of a room's objects; given, features are not taken from the cache.
    """
    features, locations, points, links = [], [], [], []
    tokens, members, anchors, answers, captions, scene = [], [], [], [], [], []
    for slot, item in enumerate(drawn):
        room = rooms[item.room]
        chosen = item.sentences
        stay: Int64[ndarray, " n"] | None = None
        if slots and len(room.objects) > slots:
            wanted = np.unique(np.concatenate([room.members[s] for s in chosen]))
            stay = kept(room, wanted, slots, np.random.default_rng(seeds[slot]))
        place = placed(room.objects.locations, item)
        row = _words(room, item, swap or {})
        shift = None
        if stay is not None:
            place = place[stay]
            shift = np.full(len(room.objects), -1, np.int64)
            shift[stay] = np.arange(len(stay))
        locations.append(place)
        if cloud is None:
            encoding = room.features(item.draw)
            features.append(encoding if stay is None else encoding[stay])
        else:
            features.append(place[:, :0])
            points.append(cloud(room) if stay is None else cloud(room)[stay])
        if edges:
            links.append(_edges(room, item, shift))
        for s, words in zip(chosen, row):
            tokens.append(words)
            members.append(_moved(room.members[s], shift))
            anchors.append(_moved(room.anchors[s], shift))
            answers.append(room.answers[s].tolist())
            scene.append(slot)
        if len(room.captions):
            captions.append(drawn_caption(room, item, swap or {}))
    padded, words_mask = collate_tokens(tokens, pad_id)
    batch = collate(features, locations, links) if edges else collate(features, locations)
    count = batch.valid.shape[1]
    return SentenceBatch(
        batch,
        padded,
        words_mask,
        torch.tensor(scene),
        stack_members(members, count),
        anchor_shares([named.tolist() for named in anchors], count),
        answers,
        captions if len(captions) == len(drawn) else [],
        points,
    )


def placed(locations: Float[Tensor, "N 6"], item: Drawn) -> Float[Tensor, "N 6"]:
    """Locations (mean xyz, extents) after quarter turns about the origin and then the mirror, which negates y."""
    x, y, z, dx, dy, dz = locations.unbind(1)
    for _ in range(item.turns):
        x, y, dx, dy = -y, x, dy, dx
    return torch.stack([x, -y if item.mirror else y, z, dx, dy, dz], 1)


def kept(room: Room, wanted: Int64[ndarray, " m"], slots: int, rng: np.random.Generator) -> Int64[ndarray, " n"]:
    """Which objects stay when a room has more than slots: those that are meant, then others of their class, then any.

    Raises:
        InputError: sentences of one batch mean more objects than there are slots.

    Source: the data loader of SceneVerse's released code.
    """
    if len(wanted) > slots:
        raise InputError(
            f"{len(wanted)} objects of {room.key} are meant by sentences of one batch, but the model has "
            f"slots={slots}; give fewer batch_sentences"
        )
    labels = {room.objects.labels[int(i)] for i in wanted}
    first = np.full(len(room.objects), 2.0)
    first[[label in labels for label in room.objects.labels]] = 1.0
    first[wanted] = 0.0
    return np.sort(np.argsort(first + rng.random(len(first)), kind="stable")[:slots])


def _moved(named: ndarray, shift: Int64[ndarray, " N"] | None) -> ndarray:
    """Slots among the objects that stay; an anchor may have gone."""
    if shift is None:
        return named
    found = shift[named]
    return found[found >= 0]


def _words(room: Room, item: Drawn, swap: Mapping[int, int]) -> list[list[int]]:
    rows = [room.tokens[s].tolist() for s in item.sentences]
    return [[swap.get(t, t) for t in row] for row in rows] if item.mirror else rows


def drawn_caption(room: Room, item: Drawn, swap: Mapping[int, int]) -> list[int]:
    """Token ids of one caption of a drawn room."""
    row = room.captions[int(item.draw * 9973) % len(room.captions)].tolist()
    return [swap.get(t, t) for t in row] if item.mirror else row


def _edges(room: Room, item: Drawn, shift: Int64[ndarray, " N"] | None) -> Int64[Tensor, "E 3"]:
    from scene.relation_edges import mirrored_edges

    edges = room.objects.edges
    assert edges is not None, "rooms are read with their edges"
    if shift is not None:
        ends = torch.from_numpy(shift)[edges[:, :2]]
        edges = torch.cat([ends, edges[:, 2:]], 1)[(ends >= 0).all(1)]
    return mirrored_edges(edges) if item.mirror else edges


def whole_rooms(rooms: Sequence[Room], sentences: int) -> list[list[Drawn]]:
    """All sentences of all rooms once, rooms of about one size together, as they stand; for evaluation.

    Args:
        sentences: per batch, as far as rooms are not split.
    """
    batches: list[list[Drawn]] = [[]]
    for index in np.argsort([len(room.objects) for room in rooms], kind="stable"):
        if batches[-1] and sum(len(d.sentences) for d in batches[-1]) + len(rooms[index]) > sentences:
            batches.append([])
        batches[-1].append(Drawn(int(index), np.arange(len(rooms[index])), 0.0, False, 0))
    return batches


def padding(rooms: Sequence[Room], batches: Sequence[Sequence[Drawn]]) -> float:
    """Share of the positions of the joint transformer (words and objects) that are padding."""
    used = total = 0
    for drawn in batches:
        lengths = np.concatenate([rooms[d.room].tokens.lengths[d.sentences] for d in drawn])
        objects = np.repeat([len(rooms[d.room].objects) for d in drawn], [len(d.sentences) for d in drawn])
        used += int(lengths.sum() + objects.sum())
        total += int(len(lengths) * (lengths.max() + objects.max()))
    return 1 - used / total

"""Referrals of a stated distribution, drawn and batched by the project's own loader, and the same batch as a reference
model reads it: every sentence with its own copy of its scene, everything padded to fixed sizes.

Scenes have 10 to 50 objects (30 on average; SceneVerse has 22 per scene, 1.5 M in 68,406, and ScanNet about 30),
sentences 12 to 34 tokens (23; ScanRefer's have 20 words). Objects are boxes sampled on their surface, token ids and
targets are drawn evenly: nothing can be learned here, but every step costs what it costs on such a corpus.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from benchmarks.flops import Work
from benchmarks.gps_reference import NOT_MASKED, PaddedBatch, Sizes
from scene.batch import ObjectSet, SceneBatch
from scene.losses import IGNORED, mask_words
from scene.objects import location_tokens, normalise_points
from scene.rooms import Ragged, Room
from scene.sampling import Drawing, Drawn, Sampler, SentenceBatch, assemble

OBJECTS, WORDS = (10, 50), (12, 34)  # both ends included
FIRST_WORD, MASK, PAD = 5, 4, 0  # ids below 5 are special tokens
SENTENCES = 36  # of each room, as SceneVerse has (2.5 M texts in 68,406 scenes)


@dataclass
class Referrals:
    """One batch, as our model reads it; `points` are those of each scene's objects."""

    batch: SentenceBatch
    tokens: Int64[Tensor, "S L"]  # some of them masked
    hidden: Int64[Tensor, "S L"]  # the words that were masked, IGNORED elsewhere
    points: list[Float[Tensor, "n P 6"]]

    def to(self, device: torch.device) -> "Referrals":
        points = [part.to(device) for part in self.points]
        return Referrals(self.batch.to(device), self.tokens.to(device), self.hidden.to(device), points)

    def first(self, count: int) -> "Referrals":
        """The first scenes and sentences of a batch with one sentence per scene."""
        batch, scenes = self.batch, self.batch.scenes
        most = max(len(part) for part in self.points[:count])
        few = SceneBatch(*(part[:count, :most] for part in (scenes.features, scenes.locations, scenes.valid)))
        parts = {name: getattr(batch, name)[:count] for name in ("tokens", "words", "scene", "members", "anchors")}
        chosen = replace(batch, scenes=few, **parts)
        return Referrals(chosen, self.tokens[:count], self.hidden[:count], self.points[:count])

    def work(self) -> Work:
        """What has to be computed if nothing is padded, copied, or decoded in vain."""
        return Work(
            words=tuple(self.batch.words.sum(1).tolist()),
            objects=tuple(self.batch.scenes.valid.sum(1).tolist()),
            scene=tuple(self.batch.scene.tolist()),
            decoded=int((self.hidden != IGNORED).sum()),
        )


def boxes(count: int, points: int, rng: np.random.Generator) -> Float[Tensor, "N P 6"]:
    """Coloured points on the surfaces of boxes that stand about a room of 6 by 6 m."""
    size = rng.uniform(0.1, 1.5, (count, 1, 3))
    spot = rng.uniform(-0.5, 0.5, (count, points, 3))
    face = rng.integers(3, size=(count, points, 1))
    np.put_along_axis(spot, face, np.sign(rng.uniform(-1, 1, (count, points, 1))) * 0.5, 2)
    xyz = spot * size + rng.uniform([-3, -3, 0.2], [3, 3, 2], (count, 1, 3))
    color = np.broadcast_to(rng.uniform(0, 255, (count, 1, 3)), xyz.shape)
    return torch.from_numpy(np.concatenate([xyz, color], 2).astype(np.float32))


def rooms(count: int, points: int, vocab: int, seed: int) -> list[Room]:
    """Rooms with their sentences."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        objects = int(rng.integers(OBJECTS[0], OBJECTS[1], endpoint=True))
        cloud = boxes(objects, points, rng)
        tokens = [
            [2, *rng.integers(FIRST_WORD, vocab, length - 2), 3]
            for length in rng.integers(WORDS[0], WORDS[1], SENTENCES, endpoint=True)
        ]
        labels = ["box"] * objects
        found = ObjectSet(str(number), -1, torch.arange(objects), labels, labels, cloud, location_tokens(cloud))
        nothing = Ragged.of([[]] * SENTENCES)
        made.append(
            Room(
                objects=found,
                tokens=Ragged.of(tokens),
                members=Ragged.of(rng.integers(objects, size=(SENTENCES, 1)).tolist()),
                anchors=nothing,
                answers=nothing,
                viewed=np.zeros(SENTENCES, bool),
                captions=Ragged.of([]),
            )
        )
    return made


def typical(found: list[Room], drawing: Drawing, batches: int, seed: int) -> list[Drawn]:
    """Of the first batches that the loader draws, the one whose padded size is nearest to their mean."""
    sampler = Sampler(found, drawing, seed)
    drawn = [sampler.batch(step) for step in range(batches)]
    sizes = np.array([_positions(found, batch) for batch in drawn])
    return drawn[int(np.abs(sizes - sizes.mean()).argmin())]


def _positions(found: list[Room], drawn: list[Drawn]) -> float:
    """Positions of the joint transformer, padding included."""
    words = max(int(found[d.room].tokens.lengths[d.sentences].max()) for d in drawn)
    return words + max(len(found[d.room].objects) for d in drawn)


def referrals(found: list[Room], drawn: list[Drawn], vocab: int, width: int, seed: int) -> Referrals:
    """The tensors of drawn rooms and sentences, 15 % of the words masked; "cached" features are noise."""
    batch = assemble(found, drawn, PAD, cloud=lambda room: room.objects.points)
    generator = torch.Generator().manual_seed(seed)
    special = torch.arange(FIRST_WORD)
    tokens, hidden = mask_words(batch.tokens, special, MASK, vocab, generator)
    valid = batch.scenes.valid
    batch.scenes.features = torch.randn(*valid.shape, width, generator=generator) * valid[..., None]
    return Referrals(batch, tokens, hidden, batch.points)


def as_reference(given: Referrals, sizes: Sizes, *, cached: bool) -> PaddedBatch:
    """The same referrals copied and padded; points are normalised here, as a loader's workers do.

    Args:
        cached: with the cached features instead of points.
    """
    batch, scenes = given.batch, given.batch.scenes
    slots, scene = sizes.slots - scenes.valid.shape[1], batch.scene
    words = sizes.max_tokens - batch.words.shape[1]
    points = None
    if not cached:
        empty = torch.ones(len(given.points), sizes.slots, sizes.points, 6)  # the released loader pads with ones
        for row, cloud in zip(empty, given.points):
            row[: len(cloud)] = normalise_points(cloud)[0].cpu()
        points = empty.to(scene.device)[scene]
    hidden = given.hidden.masked_fill(given.hidden == IGNORED, NOT_MASKED)
    return PaddedBatch(
        points=points,
        locations=F.pad(scenes.locations, (0, 0, 0, slots))[scene],
        objects=F.pad(scenes.valid, (0, slots))[scene],
        tokens=F.pad(given.tokens, (0, words), value=PAD),
        words=F.pad(batch.words, (0, words)),
        hidden=F.pad(hidden, (0, words), value=NOT_MASKED),
        target=batch.target,
        features=F.pad(scenes.features, (0, 0, 0, slots))[scene] if cached else None,
    )

"""Training steps of GPS at the paper's size as benchmarks/grounding.py compares them: ours, with each of its measures
switched on or off, and the reference's, on the same batches and weights; and their timing in turns."""

import os
import time
from collections.abc import Callable, Container
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pad_sequence

from benchmarks import flops, gps_reference
from benchmarks.flops import Work
from benchmarks.gps_reference import PAPER, ReferenceGPS, Sizes, take_weights
from benchmarks.referrals import PAD, as_reference, referrals, rooms, typical
from core.precision import uses_bfloat16
from scene.batch import SceneBatch
from scene.grounding import GroundingModel
from scene.losses import IGNORED, masked_word_loss, referral_loss
from scene.model_config import ModelConfig, gps_code
from scene.optimise import make_optimizer, set_rates, update
from scene.sampling import Drawing

WINDOW, BATCHES = 8, 32  # batches sorted together; batches of which a typical one is taken
FEWEST, MOST = 48, 128  # rooms to draw from
REFERENCE, REFERENCE_CACHED = "reference", "reference, cached features"
REFERENCE_BFLOAT16 = "reference, bfloat16"  # where ours uses it
OURS, OURS_SINGLE = "ours", "ours, one sentence per scene"


Step = Callable[[], float]  # one training step -> its loss
Rounds = dict[str, Float[ndarray, "R 2"]]  # name -> samples per wall second, per processor second


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    scenes: int = 2  # per batch
    sentences: int = 8  # per scene
    rounds: int = 3
    ladder: bool = True  # the measures one by one, and the versions of a step by which nothing is judged
    peak_seconds: float = 0.5  # for each size of matrices


QUICK: Final = Size(2, 4, 1, ladder=False, peak_seconds=0.1)
ON_A_GPU: Final = Size(8, 8, 5)  # 64 sentences, as SceneVerse has on each of its GPUs
LARGE: Final = Size(64, 8, 5, ladder=False)  # 512 sentences of ours alone
TINY: Final = Size(1, 2, 1, peak_seconds=0.01)


@dataclass(frozen=True)
class Measures:
    """What makes our step cheaper; each can be left out."""

    cached: bool = False
    shared: bool = False
    unpadded: bool = False
    ordered: bool = False
    places: bool = False
    fused: bool = False
    optimizer: bool = False
    bfloat16: bool = False


NAMES: Final = {
    "cached": "object features cached",
    "shared": "a scene encoded once for all its sentences",
    "unpadded": f"padded to the longest of the batch, not to {PAPER.slots} objects and {PAPER.max_tokens} tokens",
    "ordered": f"{WINDOW} batches drawn together and sorted by size",
    "places": "words decoded only where one is masked",
    "fused": "fused attention",
    "optimizer": "fused AdamW",
    "bfloat16": "bfloat16",
}


def tiny() -> tuple[ModelConfig, Sizes]:
    """A model of the same parts that a processor trains in no time, for both sides."""
    sizes = Sizes(vocab=60, dim=24, heads=2, hidden=32, text_hidden=40, layers=1, slots=56, points=64, max_caption=50)
    config = replace(
        gps_code(sizes.vocab), dim=24, heads=2, hidden=32, text_hidden=40, text_layers=1, spatial_layers=1,
        fusion_layers=1, points=64, max_tokens=50, slots=56,
    )  # fmt: skip
    return config, sizes


@dataclass
class Bench:
    """Both models and the batches, on one device."""

    size: Size
    device: torch.device
    config: ModelConfig
    sizes: Sizes  # of the reference; those of the config

    def __post_init__(self) -> None:
        config, size = self.config, self.size
        torch.manual_seed(0)
        self.ours = GroundingModel(config)
        with torch.no_grad():
            for name, parameter in self.ours.named_parameters():
                if parameter.ndim > 1 and not name.startswith("object_encoder"):
                    parameter.mul_(2.0)  # so that scores differ, and a difference between losses would show
        self.ours.object_encoder.freeze()
        self.theirs = ReferenceGPS(self.sizes)
        take_weights(self.theirs, self.ours)
        self.ours.to(self.device).train()
        self.theirs.to(self.device).train()
        count = size.scenes * size.sentences
        pool = rooms(max(FEWEST, min(count, MOST)), config.points, config.vocab_size, seed=0)
        drawings = {
            "ordered": Drawing(size.scenes, size.sentences, window=WINDOW),
            "unordered": Drawing(size.scenes, size.sentences, window=1),
            "single": Drawing(min(count, MOST), 1, window=WINDOW),
        }
        typical_ones = {name: typical(pool, drawing, BATCHES, seed=0) for name, drawing in drawings.items()}
        self.batches = {
            name: referrals(pool, drawn, config.vocab_size, config.object_width, seed=1).to(self.device)
            for name, drawn in typical_ones.items()
        }
        rates = {"rest": 1e-4}
        self.optimizers = {
            fused: make_optimizer(self.ours, rates, 0.01, fused=fused)
            for fused in ((True, False) if size.ladder else (True,))
        }
        for optimizer in self.optimizers.values():
            set_rates(optimizer, 1.0)
        self.their_optimizer = gps_reference.make_optimizer(self.theirs)

    def reference(self, *, cached: bool, bfloat16: bool = False) -> Step:
        """The reference's step on the batch that ours is measured on."""
        batch = as_reference(self.batches["ordered"], self.sizes, cached=cached)

        def step() -> float:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                return gps_reference.training_step(self.theirs, self.their_optimizer, batch)

        return step

    def our_step(self, measures: Measures, *, single: bool = False) -> Step:
        """Our step with some of the measures."""
        given = self.batches["single" if single else "ordered" if measures.ordered else "unordered"]
        batch, model = given.batch, self.ours
        scenes, points = batch.scenes, given.points
        tokens, hidden, words, scene, target = given.tokens, given.hidden, batch.words, batch.scene, batch.target
        padded = torch.zeros(0)
        if not measures.unpadded:
            slots, length = self.sizes.slots - scenes.valid.shape[1], self.sizes.max_tokens - words.shape[1]
            scenes = SceneBatch(
                F.pad(scenes.features, (0, 0, 0, slots)),
                F.pad(scenes.locations, (0, 0, 0, slots)),
                F.pad(scenes.valid, (0, slots)),
            )
            tokens, words = F.pad(tokens, (0, length), value=PAD), F.pad(words, (0, length))
            hidden = F.pad(hidden, (0, length), value=IGNORED)
            padded = torch.stack([F.pad(p, (0, 0, 0, 0, 0, self.sizes.slots - len(p)), value=1.0) for p in points])
        if not measures.shared:
            scenes = SceneBatch(scenes.features[scene], scenes.locations[scene], scenes.valid[scene])
            points, padded = [points[s] for s in scene.tolist()], padded[scene] if len(padded) else padded
            scene = torch.arange(len(scene), device=scene.device)
        optimizer = self.optimizers[measures.optimizer]
        places = (hidden.flatten() != IGNORED).nonzero()[:, 0]
        guessed = hidden.flatten()[places] if measures.places else hidden
        parameters = list(model.parameters())

        def features() -> Tensor:
            if len(padded):
                return model.object_encoder.encode(padded.flatten(0, 1)).unflatten(0, padded.shape[:2])
            found = model.object_encoder.encode(torch.cat(points))
            return pad_sequence(list(found.split([len(part) for part in points])), batch_first=True)

        def step() -> float:
            seen = scenes if measures.cached else replace(scenes, features=features())
            attention = nullcontext() if measures.fused else sdpa_kernel(SDPBackend.MATH)
            with attention, torch.autocast(self.device.type, torch.bfloat16, enabled=measures.bfloat16):
                fused = model.fuse(model.encode_scene(seen), tokens, words, scene)
                loss = referral_loss(fused.scores, target)
                asked = places if measures.places else None
                loss = loss + masked_word_loss(model.word_logits(fused, asked), guessed)
                update(optimizer, parameters, loss, 5.0)
            return loss.item()

        return step

    def work(self, measures: Measures, *, single: bool = False) -> Work:
        """What such a step computes, padding included."""
        given = self.batches["single" if single else "ordered" if measures.ordered else "unordered"]
        work = given.work() if measures.unpadded else given.work().padded(self.sizes.max_tokens, self.sizes.slots)
        work = work.padded() if measures.unpadded else work
        if not measures.shared:
            work = work.copied()
        if not measures.places:
            work = replace(work, decoded=sum(work.words))
        if not measures.cached:
            objects = (
                [len(points) for points in given.points]
                if measures.unpadded
                else [self.sizes.slots] * len(given.points)
            )
            of = range(len(objects)) if measures.shared else given.batch.scene.tolist()
            work = replace(work, encoded=sum(objects[s] for s in of))
        return work

    def products(self, work: Work) -> int:
        """Floating-point operations of a step's matrix products."""
        return flops.total(flops.training_step(self.config, work))

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def all_measures(device: torch.device) -> Measures:
    """Everything that helps on this device."""
    return (
        Measures(**dict.fromkeys(NAMES, True))
        if uses_bfloat16("auto", device.type)
        else Measures(**(dict.fromkeys(NAMES, True) | {"bfloat16": False}))
    )


@torch.no_grad()
def loss_difference(bench: Bench) -> float:
    """Largest difference of a loss of the two models, on two sentences, each with its own encoder, without dropout."""
    given = bench.batches["single"]
    few = given.first(2)
    bench.ours.eval(), bench.theirs.eval()
    expected = bench.theirs(as_reference(few, bench.sizes, cached=False))
    found = bench.ours.object_encoder.encode(torch.cat(few.points)).split([len(part) for part in few.points])
    scenes = replace(few.batch.scenes, features=pad_sequence(list(found), batch_first=True))
    fused = bench.ours.fuse(bench.ours.encode_scene(scenes), few.tokens, few.batch.words, few.batch.scene)
    own = {
        "referral": referral_loss(fused.scores, few.batch.target),
        "word": masked_word_loss(bench.ours.word_logits(fused), few.hidden),
    }
    bench.ours.train(), bench.theirs.train()
    return max(abs(own[name].item() - expected[name].item()) for name in expected)


def measure(bench: Bench, candidates: dict[str, Step], rounds: int) -> Rounds:
    """All candidates in turn, round after round."""
    samples = bench.size.scenes * bench.size.sentences
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, step in candidates.items():
            wall, processor = time.perf_counter(), time.process_time()
            step()
            bench.wait()
            found[name].append((samples / (time.perf_counter() - wall), samples / (time.process_time() - processor)))
    return {name: np.array(rows) for name, rows in found.items()}


def judged_peer(found: Container[str]) -> str:
    """The version of the reference that ours is held against."""
    return REFERENCE_BFLOAT16 if REFERENCE_BFLOAT16 in found else REFERENCE


def ratio(found: Rounds, ours: str, peer: str, column: int) -> float:
    """Median over rounds of ours / peer; column 0 wall, 1 processor."""
    return float(np.median(found[ours][:, column] / found[peer][:, column]))

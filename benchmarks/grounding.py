"""Training speed of grounding beside a straightforward GPS: python -m benchmarks.grounding [--quick] [--out FOLDER]

One training step (forward, backward, clipping, AdamW) at the paper's size (d = 768, 12 heads, 4 + 4 + 4 layers, BERT's
vocabulary, dropout 0.1) on the referral and the masked-word loss: ours in its setting `gps-code` against
benchmarks/gps_reference.py, on the same referrals (benchmarks/referrals.py), in one process with the same threads.

1. The matrix peak of this machine. 2. Equal losses with equal weights, object encoder included. 3. Samples (sentences)
per second, several sentences per scene as our loader draws them and one per scene; the reference also with cached
object features. 4. What each measure is worth, alone and on top of those before it, in time and in products.

Candidates take turns, so that a busy neighbour hits all of them; figures are medians over rounds, per second of wall
and of processor time, a comparison is the median of the rounds' own ratios. Ends with a line per target; exit code 1
when one is short, 2 after an error. `--out` writes grounding.md there.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
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
from benchmarks.verdict import Target, judged, machine
from core.precision import uses_bfloat16
from core.threads import use_threads
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
LIMIT: Final = {"cpu": 2.0, "cuda": 4.0}

Step = Callable[[], float]  # one training step -> its loss
Rounds = dict[str, Float[ndarray, "R 2"]]  # name -> samples per wall second, per processor second


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    scenes: int = 2  # per batch
    sentences: int = 8  # per scene
    rounds: int = 3
    ladder: bool = True  # the measures one by one
    peak_seconds: float = 0.5  # for each size of matrices


QUICK: Final = Size(2, 4, 1, ladder=False)
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


def ratio(found: Rounds, ours: str, peer: str, column: int) -> float:
    """Median over rounds of ours / peer; column 0 wall, 1 processor."""
    return float(np.median(found[ours][:, column] / found[peer][:, column]))


def comparison(bench: Bench, peak: tuple[float, float]) -> tuple[list[str], Rounds]:
    """Samples per second of both models, as a table."""
    full = all_measures(bench.device)
    nothing = Measures()
    work = {
        REFERENCE: bench.work(replace(nothing, ordered=True)),
        REFERENCE_BFLOAT16: bench.work(replace(nothing, ordered=True)),
        REFERENCE_CACHED: bench.work(replace(nothing, ordered=True, cached=True)),
        OURS: bench.work(full),
        OURS_SINGLE: bench.work(full, single=True),
    }
    candidates = {
        OURS: bench.our_step(full),
        OURS_SINGLE: bench.our_step(full, single=True),
        REFERENCE_CACHED: bench.reference(cached=True),
        REFERENCE: bench.reference(cached=False),
    }
    if full.bfloat16:
        candidates[REFERENCE_BFLOAT16] = bench.reference(cached=False, bfloat16=True)
    candidates[OURS]()  # from now on memory and the states of the optimisers are there
    few = as_reference(bench.batches["single"].first(1), bench.sizes, cached=True)
    gps_reference.training_step(bench.theirs, bench.their_optimizer, few)
    found = measure(bench, candidates, bench.size.rounds)
    samples = bench.size.scenes * bench.size.sentences
    lines = [
        "| step | samples/s wall | range | per processor second | GFLOP per sample | share of peak | bound, 1/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (n for n in work if n in found):
        rows, products = found[name], bench.products(work[name]) / samples
        wall, processor = np.median(rows, axis=0)
        share = processor * products / peak[1] if peak[1] else wall * products / peak[0]
        lines.append(
            f"| {name} | {wall:.3g} | {rows[:, 0].min():.3g} to {rows[:, 0].max():.3g} | {processor:.3g} | "
            f"{products / 1e9:.3g} | {share:.0%} | {peak[0] / products:.3g} |"
        )
    return lines, found


def ladder(bench: Bench, found: Rounds) -> list[str]:
    """What each measure is worth."""
    full, nothing = all_measures(bench.device), Measures()
    names = [name for name in NAMES if getattr(full, name)]
    alone = {name: replace(nothing, **{name: True}) for name in names}
    alone["ordered"] = replace(nothing, unpadded=True, ordered=True)
    upto = {name: replace(nothing, **dict.fromkeys(names[: i + 1], True)) for i, name in enumerate(names)}
    steps = (
        {"nothing": nothing} | {f"alone {n}": m for n, m in alone.items()} | {f"upto {n}": m for n, m in upto.items()}
    )
    unique = {measures: bench.our_step(measures) for measures in steps.values()}
    times = measure(bench, {str(m): step for m, step in unique.items()}, 1)
    rate = {
        name: times[str(measures)][:, 1 if bench.device.type == "cpu" else 0].mean() for name, measures in steps.items()
    }
    cost = {name: bench.products(bench.work(measures)) for name, measures in steps.items()}
    lines = [
        "| measure | alone | in products | on top of those above | in products | so far |",
        "|---|---|---|---|---|---|",
    ]
    last = "nothing"
    for name in names:
        one, top = f"alone {name}", f"upto {name}"
        base = "alone unpadded" if name == "ordered" else "nothing"
        lines.append(
            f"| {NAMES[name]} | {rate[one] / rate[base]:.2f} | {cost[base] / cost[one]:.2f} | "
            f"{rate[top] / rate[last]:.2f} | {cost[last] / cost[top]:.2f} | {rate[top] / rate['nothing']:.2f} |"
        )
        last = top
    theirs = float(np.median(found[REFERENCE][:, 1 if bench.device.type == "cpu" else 0]))
    lines += [
        "",
        f"Factors of samples per {'processor ' if bench.device.type == 'cpu' else ''}second, and of matrix products "
        "(what they could give if products were all); sorting alone is compared with no sorting, both padded to the "
        f"longest. Our step with nothing of this is {rate['nothing'] / theirs:.2f} times as fast as the reference: it "
        "computes the points of a ball once and keeps batch norm folded. One round.",
    ]
    return lines


def by_part(bench: Bench) -> list[str]:
    """Products per sample by part of the model."""
    samples = bench.size.scenes * bench.size.sentences
    given = bench.batches["ordered"].work()
    columns = {
        "reference": flops.training_step(bench.config, bench.work(Measures(ordered=True))),
        "ours": flops.training_step(bench.config, bench.work(all_measures(bench.device))),
        "no padding at all": flops.training_step(bench.config, given),
    }
    lines = ["| GFLOP per sample | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for part in columns["ours"]:
        lines.append(
            f"| {part} | " + " | ".join(f"{c[part].both / samples / 1e9:.2f}" for c in columns.values()) + " |"
        )
    sums = (flops.total(column) / samples / 1e9 for column in columns.values())
    return [*lines, "| all | " + " | ".join(f"{value:.2f}" for value in sums) + " |"]


def targets_of(found: Rounds, difference: float, device: torch.device) -> list[Target]:
    """On a GPU the reference is given bfloat16 too."""
    limit = LIMIT[device.type]
    prefix = "cuda_" if device.type == "cuda" else ""
    peer = REFERENCE_BFLOAT16 if REFERENCE_BFLOAT16 in found else REFERENCE
    targets = [Target(f"{prefix}training_step_over_reference_wall", ratio(found, OURS, peer, 0), limit)]
    if device.type == "cpu":
        targets.append(Target("training_step_over_reference_processor", ratio(found, OURS, peer, 1), limit))
    return [*targets, Target(f"{prefix}loss_difference", difference, 1e-4, least=False)]


def ratios(found: Rounds) -> str:
    """Both of ours over each version of the reference, in words."""
    parts = []
    for name in (n for n in (REFERENCE, REFERENCE_BFLOAT16, REFERENCE_CACHED) if n in found):
        for ours in (OURS, OURS_SINGLE):
            wall, processor = ratio(found, ours, name, 0), ratio(found, ours, name, 1)
            parts.append(f"- {ours} / {name}: {wall:.2f} on the clock, {processor:.2f} per processor second")
    return "\n".join(parts)


def captions(config: ModelConfig, sizes: Sizes) -> str:
    """What the loss on scene captions, which no step here has, would add to the reference."""
    one = flops.layer(sizes.max_caption, config.dim, config.text_hidden or config.hidden)
    added = config.text_layers * one.both / 1e9
    return (
        f"The loss on scene captions is in neither step. In the reference it adds {added:.3g} GFLOP a sentence: each "
        f"brings its own caption padded to {sizes.max_caption} tokens. Ours reads one per scene, padded to the longest."
    )


@dataclass(frozen=True)
class Outcome:
    """What was measured on one device."""

    lines: list[str]  # Markdown
    targets: list[Target]
    found: Rounds


def run(size: Size, device: torch.device, config: ModelConfig, sizes: Sizes) -> Outcome:
    """Everything on one device.

    Args:
        config, sizes: of ours and of the reference.
    """
    dtypes = (torch.float32, torch.bfloat16)
    peaks = {dtype: flops.matrix_peak(dtype, device, seconds=size.peak_seconds) for dtype in dtypes}
    bfloat16 = all_measures(device).bfloat16
    lines = ["## Matrix peak", ""]
    for dtype, (wall, processor) in peaks.items():
        per = f", {processor / 1e9:,.1f} per processor second" if processor else ""
        lines.append(f"- {str(dtype).removeprefix('torch.')}: {wall / 1e9:,.1f} GFLOP/s{per}")
    if not bfloat16:
        lines += ["", "bfloat16 is not native here (core/precision.py), so no step uses it."]
    bench = Bench(size, device, config, sizes)
    difference = loss_difference(bench)
    table, found = comparison(bench, peaks[torch.bfloat16 if bfloat16 else torch.float32])
    words, objects = bench.batches["ordered"].batch.words, bench.batches["ordered"].batch.scenes.valid
    lines += [
        "", "## Equal losses", "",
        f"Equal weights, object encoder included, no dropout, float32: losses differ by at most {difference:.1e}.",
        "", "## Samples per second", "",
        f"Batches of {size.scenes} scenes with {size.sentences} sentences each (or {size.scenes * size.sentences} with "
        f"one each); this one's scenes have {objects.sum(1).tolist()} objects, its sentences "
        f"{int(words.sum(1).min())} to {int(words.sum(1).max())} tokens. Products count padding where a step computes "
        "it; the bound is what the matrix peak allows for them.", "",
        *table, "", ratios(found),
        "", "## Products by part", "", *by_part(bench), "", captions(bench.config, sizes),
    ]  # fmt: skip
    if size.ladder:
        lines += ["", "## What each measure is worth", "", *ladder(bench, found)]
    return Outcome(lines, targets_of(found, difference, device), found)


def samples_per_second(size: Size, device: torch.device, config: ModelConfig, sizes: Sizes) -> float:
    """Of our step alone with all measures; median of the rounds, on the clock."""
    bench = Bench(size, device, config, sizes)
    del bench.theirs, bench.their_optimizer
    step = bench.our_step(all_measures(device))
    step(), step()
    bench.wait()
    return float(np.median(measure(bench, {OURS: step}, size.rounds)[OURS][:, 0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller batches, one round, no ladder; all targets")
    parser.add_argument("--out", type=Path, help="folder for the page (grounding.md)")
    args = parser.parse_args()
    threads, load = use_threads(), os.getloadavg()[0]
    on_cpu = run(QUICK if args.quick else Size(), torch.device("cpu"), gps_code(), PAPER)
    lines, targets = on_cpu.lines, on_cpu.targets
    command = "python -m benchmarks.grounding" + " --quick" * args.quick + (f" --out {args.out}" if args.out else "")
    head = [
        "# Training speed of the grounding model",
        "",
        f"Command: `{command}`. Machine: {machine()}, torch {torch.__version__}; {threads} threads. Date: "
        f"{date.today().isoformat()}. Load before the start: {load:.1f}. Seeds: 0 for weights and rooms, 1 for masks.",
        "",
    ]
    gpu = ["cuda_training_step_over_reference not measured: no CUDA device"]
    if torch.cuda.is_available():
        on_gpu = run(ON_A_GPU, torch.device("cuda"), gps_code(), PAPER)
        lines, targets, gpu = [*lines, "", "# On the GPU", "", *on_gpu.lines], [*targets, *on_gpu.targets], []
    verdict = [*map(str, targets), *gpu]
    page = "\n".join([*head, *lines, "", "## Targets", "", *("    " + line for line in verdict), ""])
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "grounding.md").write_text(page, encoding="utf-8")
    print(page)
    sys.exit(0 if all(target.fine for target in targets) else 1)


if __name__ == "__main__":
    judged(main)

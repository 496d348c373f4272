"""What vision-language pretraining and retrieval cost: python -m benchmarks.vl [--quick] [--out FOLDER]

1. Step: ITC + ITM + MLM at 224 pixels from one encoding of each picture, beside a full forward pass per objective
   (benchmarks/vl_baseline.py), same weights; losses of the two are held against each other.
2. Frozen: the step with frozen towers and features on disk, beside the step that trains them, reading included.
3. Retrieval: shortlists by embeddings ranked again by the fusion, beside every pair fused; a model trained here.
4. Batch: a contrastive batch of 8,192 by gradient caching, in a process of its own.
5. Loader: pictures read from an archive of PNG files, resized; no target.

What is compared takes turns in one process, every other round backwards; a comparison is the median of the rounds' own
ratios. Ends with a line per target; exit code 1 when one is short, 2 after an error. `--quick` measures every target
on smaller samples and says so. `--out` writes vl.md there. `--model FOLDER` keeps the model trained for 3 there, and
takes it from there if it exists.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

from benchmarks import nlvr_style, vl_memory, vl_retrieval, vl_steps
from benchmarks.verdict import Part, Target, judged, machine
from benchmarks.vl_steps import Shape
from core.run import describe_version
from core.threads import one_torch_thread, use_threads
from vl.loader import LoaderProfile, Prefetch
from vl.model import VLModel
from vl.pairs import PairBatches, open_pairs
from vl.tokenizer import train_tokenizer

LEAST: Final = {
    "step_over_pass_per_objective": 1.7,
    "frozen_over_trained": 3.0,
    "frozen_over_trained_itc_alone": 50.0,
    "cross_encodings_saved": 20.0,
    "retrieval_over_grid": 20.0,
}
MOST: Final = {
    "losses_differ_by": 1e-5,
    "r1_points_lost": 0.5,
    "batch_peak_gb": 8.0,
    "batch_growth_mb": 64.0,
    "gradients_differ_by": 1e-5,
}
BASE: Final = Shape(768, 12, 768, 12, 6)  # ViT-B/16 and BERT base under Renaissance's default fusion
LAPTOP: Final = Shape(384, 12, 256, 12, 2)  # DeiT-small and ELECTRA-small under as many fusion layers as laptop-fusion
SMALL: Final = Shape(384, 12, 256, 12, 6)  # the same under Renaissance's six, its second experiment
TINY: Final = Shape(192, 12, 256, 12, 6)  # DeiT-tiny, its default


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    step: Shape = LAPTOP
    step_pairs: int = 8
    others: tuple[Shape, ...] = (SMALL, TINY, BASE)  # of which the bound is printed
    frozen: Shape = BASE
    frozen_pairs: int = 8
    items: int = 32  # in the cache
    rounds: int = 5
    width: int = 64  # of the retrieval model
    training_steps: int = 1500
    training_pictures: int = 4_000
    gallery: tuple[int, int] = (1_000, 5_000)  # pictures and texts
    grid: tuple[int, int] = (400, 500)  # of which every pair is fused
    shortlist: int = 24
    measured: int = 20_000  # pairs of the gallery's grid
    batch: int = 8_192
    chunk: int = 128
    side: int = 64  # of the batch's pictures
    tower: int = 0  # width of its image tower; 0 = the default
    pictures: int = 1_000  # for the loader


QUICK: Final = Size(
    step=Shape(384, 4, 256, 2, 1), step_pairs=2, others=(), frozen=Shape(768, 3, 256, 2, 1), frozen_pairs=2, items=6,
    rounds=2, training_steps=10, training_pictures=200, gallery=(400, 1_000), grid=(80, 80), shortlist=6,
    measured=1_000, batch=1_024, chunk=128, side=16, tower=16, pictures=64,
)  # fmt: skip
SMALLEST: Final = Size(
    step=Shape(64, 1, 64, 1, 1, 64, 32), step_pairs=2, others=(), frozen=Shape(64, 1, 64, 1, 1, 64, 32),
    frozen_pairs=2, items=4, rounds=1, width=16, training_steps=2, training_pictures=40, gallery=(12, 60),
    grid=(6, 8), shortlist=2, measured=20, batch=64, chunk=16, side=16, tower=16, pictures=20,
)  # fmt: skip


def target(name: str, value: float) -> Target:
    least = name in LEAST
    return Target(name, value, LEAST[name] if least else MOST[name], least=least)


def steps(size: Size) -> Part:
    lines, ratio, difference = vl_steps.shared_encodings(size.step, size.step_pairs, size.rounds, size.others)
    found = [target("step_over_pass_per_objective", ratio), target("losses_differ_by", difference)]
    return Part(["## ITC + ITM + MLM from one encoding of each picture", "", *lines], found)


def frozen(size: Size) -> Part:
    lines, ratio, alone = vl_steps.frozen_features(size.frozen, size.frozen_pairs, size.items, size.rounds)
    found = [target("frozen_over_trained", ratio), target("frozen_over_trained_itc_alone", alone)]
    return Part(["## Frozen towers, features on disk", "", *lines], found)


def retrieval(size: Size, kept: Path | None) -> Part:
    if kept is not None and (kept / "config.json").exists():
        model, said = VLModel.from_pretrained(kept), f"The model trained earlier in {kept.name}. "
    else:
        with one_torch_thread():  # its products are small
            model, seconds = vl_retrieval.trained(size.width, size.training_steps, size.training_pictures)
        said = f"A model trained for {size.training_steps} steps in {seconds:.0f} s. "
        if kept is not None:
            model.save_pretrained(kept)
    found = vl_retrieval.retrieval(model, size.gallery, size.grid, size.shortlist, size.measured)
    lines = ["## Retrieval with a cross-encoder", "", said + found.lines[0], *found.lines[1:]]
    return Part(
        lines,
        [
            target("cross_encodings_saved", found.fewer),
            target("retrieval_over_grid", found.faster),
            target("r1_points_lost", found.points),
        ],
    )


def batch(size: Size) -> Part:
    found = vl_memory.memory(size.batch, size.batch // 2, size.chunk, size.side, size.tower)
    targets = [
        target("batch_peak_gb", found.peak_gb),
        target("batch_growth_mb", found.growth_mb),
        target("gradients_differ_by", found.difference),
    ]
    return Part([f"## A contrastive batch of {size.batch:,} on the CPU", "", *found.lines], targets)


def loader(size: Size) -> Part:
    """Pictures of an archive beside no model at all: how many a second there could be."""
    with tempfile.TemporaryDirectory() as folder:
        nlvr_style.make(Path(folder) / "made", size.pictures, seed=0)
        made = Path(folder) / "made"
        pairs = open_pairs(made / "pairs-train.jsonl", made / "train_images.zip")
        texts = [json.loads(line)["caption"] for line in (made / "pairs-train.jsonl").read_text().splitlines()]
        count = min(64, size.pictures)
        batches = PairBatches(pairs, train_tokenizer(texts), count, seed=0, image_size=vl_steps.SIDE, max_tokens=128)
        profile, number = LoaderProfile(), max(4, size.pictures // count)
        started = time.perf_counter()
        with Prefetch(batches, 0, number) as ahead:
            for _ in range(number):
                before = time.perf_counter()
                read = next(ahead)
                profile.add(time.perf_counter() - before, 0.0, pictures=len(read.images))
        seconds = time.perf_counter() - started
    lines = [
        "## The loader alone",
        "",
        f"{number * count / seconds:.0f} pictures a second: PNG files of 400 x 100 pixels from an archive, resized to "
        f"{vl_steps.SIDE} x {vl_steps.SIDE}, with their captions as tokens, by one thread.",
    ]
    return Part(lines, [])


PARTS: Final = ("steps", "frozen", "retrieval", "batch", "loader")


def run(size: Size, kept: Path | None = None, only: str = "") -> list[Part]:
    """Everything, or one of PARTS."""
    parts: list[Part] = []
    started = time.perf_counter()
    each: tuple[Callable[[], Part], ...] = (
        lambda: steps(size),
        lambda: frozen(size),
        lambda: retrieval(size, kept),
        lambda: batch(size),
        lambda: loader(size),
    )
    for name, part in zip(PARTS, each, strict=True):
        if only not in ("", name):
            continue
        parts.append(part())
        done = "; ".join(map(str, parts[-1].targets)) or parts[-1].lines[-1]
        print(f"[{time.perf_counter() - started:.0f} s] {done}", file=sys.stderr, flush=True)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller samples and fewer rounds; all targets")
    parser.add_argument("--only", default="", choices=PARTS, help="one part and its targets")
    parser.add_argument("--out", type=Path, help="folder for the page (vl.md)")
    parser.add_argument("--model", type=Path, help="folder that keeps the model trained for retrieval")
    args = parser.parse_args()
    threads, load = use_threads(), os.getloadavg()[0]
    if args.only and args.out:
        parser.error("--out writes the whole page; leave out --only")
    parts = run(QUICK if args.quick else Size(), args.model, args.only)
    targets = [each for part in parts for each in part.targets]
    command = "python -m benchmarks.vl" + " --quick" * args.quick + (f" --only {args.only}" if args.only else "")
    command += f" --out {args.out}" if args.out else ""
    head = [
        "# What vision-language pretraining and retrieval cost",
        "",
        f"Command: `{command}`. Machine: {machine()}, torch {torch.__version__}; {threads} threads. Code: "
        f"{describe_version()['code']}. Date: {date.today().isoformat()}. Load before the start: {load:.1f}. Weights "
        "and pictures: random from seed 0, except where a model is trained.",
        "",
    ]
    if args.quick:
        head += ["Quick: smaller models, samples and fewer rounds than the page in benchmarks/results.", ""]
    lines = [line for part in parts for line in [*part.lines, ""]]
    page = "\n".join([*head, *lines, "## Targets", "", *(f"    {each}" for each in targets), ""])
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "vl.md").write_text(page, encoding="utf-8")
    print(page)
    sys.exit(0 if all(each.fine for each in targets) else 1)


if __name__ == "__main__":
    judged(main)

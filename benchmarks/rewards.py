"""What reward models cost: python -m benchmarks.rewards [--quick] [--out FOLDER]

1. Scoring: VLM-RM on frames that have the encoder's size, beside the bare encoder (transformers' forward pass on pixels
   that are normalised already) on the same batch; a CLIP ViT-B/32 with random weights, in float32.
2. Sweep: 100,000 stored half-precision embeddings of 512 numbers under 20 prompts and 10 alphas: all scores, and the
   table of their correlation with the truth, EPIC distance and AUC of success; the slower of the two counts.
3. Learning: stable-baselines3's SAC on Pendulum paid by a reward model (RelabelCallback), beside SAC without it plus
   the encoder alone on as many frames in batches of the same size. All environments render and resize every step,
   those of SAC alone too; one update per step; the project's own two towers at 64 pixels, random weights.
4. Memory: resident size while 64 environments are scored a million times, embeddings kept, the replay buffer wrapping.

What is compared takes turns in one process, every other round backwards; figures are medians over rounds, a comparison
is the median of the rounds' own ratios. Ends with a line per target; exit code 1 when one is short, 2 after an error.
`--quick` measures every target on smaller samples and says so. `--out` writes rewards.md there.
"""

import argparse
import gc
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from jaxtyping import Int64
from numpy import ndarray
from scipy.stats import theilslopes
from stable_baselines3 import __version__ as sb3_version
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.sb3_rewards import RelabelCallback
from agents.step_frames import StepFrame
from benchmarks import flops
from benchmarks.reward_shapes import (
    SMALL,
    VIT_B32,
    Shape,
    bare,
    encoder,
    normalised,
    pictures,
    products_per_frame,
    reward_of,
    two_tower,
)
from benchmarks.reward_steps import MemoryWatch, Noise, continuing, learner, pendulum
from benchmarks.turns import Seconds, Turn, in_turns
from benchmarks.verdict import Target, judged, machine
from core.run import describe_version
from core.threads import use_threads
from vl.embedding_store import EmbeddingStore
from vl.image_towers import ImageTowerConfig
from vl.reward_sweep import sweep, sweep_table
from vl.rewards import StepBatch

CPU: Final = torch.device("cpu")
LIMITS: Final = {  # at most
    "scoring_over_bare_encoder": 1.05,
    "sweep_seconds": 5.0,
    "sac_over_sac_and_encoder": 1.05,
    "memory_growth_mb": 8.0,
}
MILLION: Final = 1_000_000


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    batch: int = 32  # frames scored at once
    scoring_rounds: int = 10
    embeddings: int = 100_000
    prompts: int = 20
    alphas: int = 10
    rollout: int = 64  # steps of SAC between its updates, and frames encoded at once
    turn: int = 128  # steps of SAC in a round
    learning_rounds: int = 10
    memory_steps: int = MILLION
    memory_rows: int = 8_192  # of the replay buffer: full before a tenth of the way
    peak_seconds: float = 0.3  # for each size of matrices
    shape: Shape = VIT_B32
    side: int = 64  # of the two towers' pictures


QUICK: Final = Size(
    batch=4, scoring_rounds=5, turn=64, learning_rounds=3, memory_steps=40_000, memory_rows=2_048, peak_seconds=0.1
)  # fmt: skip
TINY: Final = Size(
    batch=4, scoring_rounds=2, embeddings=2_000, rollout=4, turn=8, learning_rounds=1, memory_steps=5_120,
    memory_rows=512, peak_seconds=0.01, shape=SMALL, side=16,
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """What was measured of one thing."""

    lines: list[str]  # Markdown
    target: Target


def target(name: str, value: float) -> Target:
    return Target(name, value, LIMITS[name], least=False)


def table(found: Seconds, units: int, unit: str) -> list[str]:
    """Medians per unit."""
    lines = [f"| | ms per {unit} | range | processor ms per {unit} |", "|---|---|---|---|"]
    for name, rows in found.items():
        each = 1e3 * rows / units
        wall, processor = np.median(each, axis=0)
        lines.append(f"| {name} | {wall:.3g} | {each[:, 0].min():.3g} to {each[:, 0].max():.3g} | {processor:.3g} |")
    return lines


def scoring(size: Size, peak: float) -> Part:
    """Scores beside the bare encoder."""
    embedder = encoder(size.shape, CPU)
    reward, frames = reward_of(embedder), pictures(size.batch, size.shape.side, CPU)
    pixels, goals = normalised(embedder, frames), torch.arange(size.batch) % len(reward.goal_vectors)
    turns = {
        "bare encoder": lambda: bare(embedder, pixels),
        "scores": lambda: reward.score(StepBatch(frame=frames), goals),
    }
    for turn in turns.values():
        turn()
    found = in_turns(turns, size.scoring_rounds)
    ratio, processor = np.median(found["scores"] / found["bare encoder"], axis=0)
    products = products_per_frame(embedder.encode_images, size.shape.side, CPU)
    rate = size.batch / float(np.median(found["scores"][:, 0]))
    lines = [
        "## Scoring beside the bare encoder", "",
        f"{size.batch} frames of {size.shape.side}x{size.shape.side} at once, {size.scoring_rounds} rounds.", "",
        *table(found, size.batch, "frame"), "",
        f"Scores take {ratio:.3f} of the bare encoder's time on the clock, {processor:.3f} of the processor's. A frame "
        f"is {products / 1e9:.3g} GFLOP: the matrix peak bounds this at {peak / products:.3g} frames a second, and "
        f"scoring reaches {rate:.3g}, {rate * products / peak:.0%} of it.",
    ]  # fmt: skip
    return Part(lines, target("scoring_over_bare_encoder", float(ratio)))


def sweeping(size: Size, peak: float) -> Part:
    """All prompts and alphas over stored embeddings; the best of three, for nothing else is compared."""
    drawn = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    store = EmbeddingStore(512)
    for count in torch.arange(size.embeddings).split(1_000):
        store.append(unit(torch.randn(len(count), 512, generator=drawn), dim=-1))
    goals, baseline = unit(torch.randn(size.prompts, 512, generator=drawn), dim=-1), torch.full((512,), 512**-0.5)
    alphas = [index / max(1, size.alphas - 1) for index in range(size.alphas)]
    truth = torch.rand(size.embeddings, generator=drawn)
    turns: dict[str, Turn] = {
        "all scores": lambda: deque(sweep(store, goals, baseline, alphas), maxlen=0),
        "table": lambda: sweep_table(store, goals, baseline, alphas, truth, truth > 0.95),
    }
    found = in_turns(turns, 3)
    scores, rows = (float(found[name][:, 0].min()) for name in turns)
    products = 2 * 2 * size.embeddings * size.prompts * 512
    moved = size.embeddings * (512 * 2 + size.prompts * size.alphas * 4)
    bandwidth = copied_per_second()
    lines = [
        "## Sweep over prompts and alphas", "",
        f"{size.prompts} prompts x {size.alphas} alphas over {size.embeddings:,} stored embeddings of 512 "
        f"half-precision numbers: all scores in {scores:.3g} s; correlation, EPIC distance and AUC of each prompt and "
        f"alpha in {rows:.3g} s. The two dot products of each frame and prompt are {products / 1e9:.3g} GFLOP, "
        f"{products / peak:.2g} s at the matrix peak; reading the embeddings and writing the scores, "
        f"{moved / 1e6:.0f} MB in all, is {moved / bandwidth:.2g} s at the {bandwidth / 1e9:.3g} GB/s of a copy.",
    ]  # fmt: skip
    return Part(lines, target("sweep_seconds", max(scores, rows)))


def copied_per_second() -> float:
    """Bytes read and written per second by a large copy."""
    source, best = torch.zeros(1 << 24), 0.0
    there = torch.empty_like(source)
    for _ in range(5):
        started = time.perf_counter()
        there.copy_(source)
        best = max(best, 2 * source.numel() * 4 / (time.perf_counter() - started))
    return best


def learning(size: Size, peak: float) -> Part:
    """SAC paid by a reward model, beside its parts."""
    tower = two_tower(ImageTowerConfig(image_size=size.side))
    reward = reward_of(tower)
    paid, alone = (learner(pendulum(size.side), size.rollout) for _ in range(2))
    callback = RelabelCallback(reward, batch_size=size.rollout)
    batches = pictures(size.turn, size.side, CPU).split(size.rollout)
    turns = {
        "SAC alone": continuing(alone, size.turn),
        "encoder alone": lambda: [reward.embed(batch) for batch in batches],
        "SAC with the reward": continuing(paid, size.turn, callback),
    }
    for turn in turns.values():
        turn()  # beyond the steps before the first update
    found = in_turns(turns, size.learning_rounds)
    ratio, processor = np.median(found["SAC with the reward"] / (found["SAC alone"] + found["encoder alone"]), axis=0)
    products = products_per_frame(tower.encode_images, size.side, CPU)
    rate = size.turn / float(np.median(found["encoder alone"][:, 0]))
    lines = [
        "## Learning with the reward", "",
        f"Rounds of {size.turn} steps, an update per step in batches of 256, {size.rollout} steps between updates; "
        f"{size.learning_rounds} rounds.", "",
        *table(found, size.turn, "step"), "",
        f"SAC with the reward takes {ratio:.3f} of SAC alone plus the encoder alone on the clock, {processor:.3f} of "
        f"the processor's time. Rendering and resizing, {1e3 * rendering(size.side):.2g} ms a step, is in both. The "
        f"encoder needs {products / 1e6:.3g} MFLOP a frame and does {rate:.3g} frames a second, "
        f"{rate * products / peak:.0%} of the matrix peak.",
    ]  # fmt: skip
    return Part(lines, target("sac_over_sac_and_encoder", float(ratio)))


def rendering(side: int, frames: int = 30) -> float:
    """Seconds of Pendulum's step with its picture."""
    env = StepFrame(pendulum(side).envs[0].unwrapped, size=side)
    env.reset(seed=0)
    started = time.perf_counter()
    for _ in range(frames):
        env.step(np.zeros(1, np.float32))
    return (time.perf_counter() - started) / frames


def memory(size: Size, _peak: float = 0.0) -> Part:
    """Resident size along many scored steps."""
    count, side = 64, 16
    env = DummyVecEnv([lambda: StepFrame(Noise(side)) for _ in range(count)])
    model = learner(env, 8, updates=0, rows=size.memory_rows)
    watch = MemoryWatch(size.memory_steps)
    reward = reward_of(two_tower(ImageTowerConfig(image_size=side, stem_width=8, width=8)))
    gc.collect()
    started = time.perf_counter()
    callback = RelabelCallback(reward, keep_embeddings=True)
    model.learn(size.memory_steps, callback=CallbackList([callback, watch]))
    seconds = time.perf_counter() - started
    steps, held = np.array(watch.seen).T
    late = held[steps >= size.memory_steps / 10]
    lines = [
        "## Memory", "",
        f"{count} environments whose pictures are there already, scored {int(steps[-1]):,} times in {seconds:.0f} s "
        f"({1e6 * seconds / steps[-1]:.0f} us a step) by small towers at {side} pixels; a replay buffer of "
        f"{size.memory_rows:,} rows that wraps, its embeddings kept. Resident size: {held[0] / 1e6:.1f} MB before, "
        f"{late[0] / 1e6:.1f} MB at a tenth of the way, {late[-1] / 1e6:.1f} MB at its end, at most "
        f"{late.max() / 1e6:.1f} MB between.",
    ]  # fmt: skip
    if size.memory_steps < MILLION:
        lines += ["", "Fewer than a million steps: the rest of the way is taken to grow as the median of these."]
    return Part(lines, target("memory_growth_mb", growth(steps, held, max(MILLION, size.memory_steps)) / 1e6))


def growth(steps: Int64[ndarray, " K"], held: Int64[ndarray, " K"], total: int) -> float:
    """Bytes gained between a tenth and the end of `total` steps.

    Of what was not run, the median slope between readings is expected (Theil and Sen): a leak grows along the way, and
    a single larger block does not.
    """
    late = steps >= steps[-1] / 10
    left = 0.9 * total - (steps[-1] - steps[late][0])
    slope = theilslopes(held[late], steps[late])[0]
    return float(held[-1] - held[late][0] + slope * max(0.0, left))


def run(size: Size) -> list[Part]:
    """Everything."""
    peak = flops.matrix_peak(torch.float32, CPU, seconds=size.peak_seconds)[0]
    started, parts = time.perf_counter(), []
    for part in (scoring, sweeping, learning, memory):
        parts.append(part(size, peak))
        print(f"[{time.perf_counter() - started:.0f} s] {parts[-1].target}", file=sys.stderr, flush=True)
    again = flops.matrix_peak(torch.float32, CPU, seconds=size.peak_seconds)[0]
    parts[0].lines[:0] = [
        f"Matrix peak in float32: {peak / 1e9:.3g} GFLOP/s before, {again / 1e9:.3g} after (a busy neighbour lowers "
        "it).",
        "",
    ]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller samples and fewer rounds; all targets")
    parser.add_argument("--out", type=Path, help="folder for the page (rewards.md)")
    args = parser.parse_args()
    threads, load = use_threads(), os.getloadavg()[0]
    parts = run(QUICK if args.quick else Size())
    command = "python -m benchmarks.rewards" + " --quick" * args.quick + (f" --out {args.out}" if args.out else "")
    head = [
        "# What reward models cost",
        "",
        f"Command: `{command}`. Machine: {machine()}, torch {torch.__version__}, stable-baselines3 {sb3_version}; "
        f"{threads} threads. Code: {describe_version()['code']}. Date: {date.today().isoformat()}. Load before the "
        f"start: {load:.1f}. Weights and frames: random from seed 0.",
        "",
    ]
    if args.quick:
        head += ["Quick: smaller samples and fewer rounds than the page in benchmarks/results.", ""]
    lines = [line for part in parts for line in [*part.lines, ""]]
    verdict = ["    " + str(part.target) for part in parts]
    page = "\n".join([*head, *lines, "## Targets", "", *verdict, ""])
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "rewards.md").write_text(page, encoding="utf-8")
    print(page)
    sys.exit(0 if all(part.target.fine for part in parts) else 1)


if __name__ == "__main__":
    judged(main)

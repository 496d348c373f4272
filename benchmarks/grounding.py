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
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from benchmarks import flops, gps_reference
from benchmarks.flops import Work
from benchmarks.gps_reference import PAPER, Sizes
from benchmarks.grounding_steps import (
    NAMES,
    ON_A_GPU,
    OURS,
    OURS_SINGLE,
    QUICK,
    REFERENCE,
    REFERENCE_BFLOAT16,
    REFERENCE_CACHED,
    Bench,
    Measures,
    Rounds,
    Size,
    Step,
    all_measures,
    judged_peer,
    loss_difference,
    measure,
    ratio,
)
from benchmarks.referrals import as_reference
from benchmarks.verdict import Target, judged, machine
from core.threads import use_threads
from scene.model_config import ModelConfig, gps_code

LIMIT: Final = {"cpu": 2.0, "cuda": 4.0}  # least times our step is faster than the reference
Peaks = dict[torch.dtype, tuple[float, float]]  # products per wall second, per processor second


def peaks_of(device: torch.device, seconds: float, before: Peaks | None = None) -> Peaks:
    """The matrix peak, or the higher of what is found now and before: a busy neighbour only ever lowers it."""
    found: Peaks = {}
    for dtype in (torch.float32, torch.bfloat16):
        wall, processor = flops.matrix_peak(dtype, device, seconds=seconds)
        last = before[dtype] if before else (0.0, 0.0)
        found[dtype] = (max(wall, last[0]), max(processor, last[1]))
    return found


def steps_of(bench: Bench) -> tuple[dict[str, Work], dict[str, Step]]:
    """What is compared, and what each step of it computes."""
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
    if not bench.size.ladder:
        candidates = {name: candidates[name] for name in (OURS, judged_peer(candidates))}
    return work, candidates


def comparison(bench: Bench, candidates: dict[str, Step]) -> Rounds:
    """Samples per second of both models."""
    candidates[OURS]()  # from now on memory and the states of the optimisers are there
    few = as_reference(bench.batches["single"].first(1), bench.sizes, cached=True)
    gps_reference.training_step(bench.theirs, bench.their_optimizer, few)
    return measure(bench, candidates, bench.size.rounds)


def table_of(bench: Bench, found: Rounds, work: dict[str, Work], peak: tuple[float, float]) -> list[str]:
    """The comparison beside what the matrix peak allows."""
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
    return lines


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
    peer = judged_peer(found)
    targets = [Target(f"{prefix}training_step_over_reference_wall", ratio(found, OURS, peer, 0), limit)]
    if device.type == "cpu":
        targets.append(Target("training_step_over_reference_processor", ratio(found, OURS, peer, 1), limit))
    return [*targets, Target(f"{prefix}loss_difference", difference, 1e-4, least=False)]


def ratios(found: Rounds) -> str:
    """Ours over each version of the reference, in words."""
    parts = []
    for name in (n for n in (REFERENCE, REFERENCE_BFLOAT16, REFERENCE_CACHED) if n in found):
        for ours in (n for n in (OURS, OURS_SINGLE) if n in found):
            wall, processor = ratio(found, ours, name, 0), ratio(found, ours, name, 1)
            parts.append(f"- {ours} / {name}: {wall:.2f} on the clock, {processor:.2f} per processor second")
    if REFERENCE_CACHED in found:
        wall, processor = (ratio(found, REFERENCE_CACHED, REFERENCE, column) for column in (0, 1))
        parts.append(
            f"- {REFERENCE_CACHED} / {REFERENCE}: {wall:.2f} on the clock, {processor:.2f} per processor second"
        )
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
    bfloat16 = all_measures(device).bfloat16
    peaks = peaks_of(device, size.peak_seconds)
    bench = Bench(size, device, config, sizes)
    difference = loss_difference(bench)
    work, candidates = steps_of(bench)
    found = comparison(bench, candidates)
    peaks = peaks_of(device, size.peak_seconds, peaks)
    table = table_of(bench, found, work, peaks[torch.bfloat16 if bfloat16 else torch.float32])
    lines = ["## Matrix peak", "", "The best of large square products before and after the steps.", ""]
    for dtype, (wall, processor) in peaks.items():
        per = f", {processor / 1e9:,.1f} per processor second" if processor else ""
        lines.append(f"- {str(dtype).removeprefix('torch.')}: {wall / 1e9:,.1f} GFLOP/s{per}")
    if not bfloat16:
        lines += ["", "bfloat16 is not native here (core/precision.py), so no step uses it."]
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
    parser.add_argument("--quick", action="store_true", help="smaller batches, one round; all targets, and no more")
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

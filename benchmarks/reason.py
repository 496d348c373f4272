"""What a step of reinforcement learning on a VLM costs: python -m benchmarks.reason [--quick] [--out FOLDER]

1. Step: a full GRPO step (answers, score, update) as train-reasoner takes it, beside TRL's GRPOTrainer with the same
   model, questions, batch and lengths (benchmarks/reason_peer.py). The two take turns in one process.
2. VGPO: what its weights add to a GRPO step that makes the same pass for old log-probs, in time and memory.
3. Memory: of an update over its tokens, for several vocabularies, in a process of its own; drawn in reason.png.

Ends with a line per target; exit code 1 when one is short, 2 after an error. `--quick` measures every target on smaller
samples and says so. `--out` writes reason.md and reason.png there. Steps on CUDA: benchmarks/reason_gpu.py.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch

from benchmarks import reason_memory
from benchmarks.reason_peer import Work, trl_steps
from benchmarks.reason_steps import Ours
from benchmarks.turns import in_turns
from benchmarks.verdict import Part, Target, judged, machine
from core.run import describe_version
from core.threads import use_threads

LEAST: Final = {"step_over_trl": 1.0}
MOST: Final = {
    "vgpo_time_added_percent": 3.0,
    "vgpo_memory_added_percent": 5.0,
    "update_memory_growth_with_vocabulary": 1.1,
}
AIM: Final = 1.3  # step_over_trl


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    works: tuple[Work, ...] = (Work(), Work(updates=2))  # beside TRL; the first decides
    rounds: int = 5
    vgpo: Work = Work()
    vgpo_rounds: int = 9
    memory: reason_memory.Sizes = reason_memory.Sizes()


FEW: Final = Work(prompts=1)
QUICK: Final = Size(
    (FEW,),
    2,
    FEW,
    3,
    reason_memory.Sizes((4, 16), 128, (1_024, 8_192), at_once=False, step=Work(prompts=1, new_tokens=32)),
)
BARE: Final = Work("tiny", 2, 2, 6, 4)
WIDE: Final = Work("tiny", 2, 16, 32, 4)  # so that memory can be told
SMALLEST: Final = Size((BARE,), 1, BARE, 1, reason_memory.Sizes((8, 64), 24, (1_024, 2_048), preset="tiny", step=WIDE))


def target(name: str, value: float) -> Target:
    least = name in LEAST
    return Target(name, value, LEAST[name] if least else MOST[name], least=least)


def beside_trl(size: Size) -> Part:
    lines = ["## A GRPO step beside TRL's", ""]
    ratios = []
    for work in size.works:
        ours = Ours(work)
        mine: list[float] = []

        def turn(ours: Ours = ours, mine: list[float] = mine) -> None:
            began = time.perf_counter()
            ours.step()
            mine.append(time.perf_counter() - began)

        theirs = np.array(trl_steps(work, size.rounds + 1, turn)[1:])  # the first is a warm-up
        own = np.array(mine[1:])
        ratio = theirs / own
        ratios.append(float(np.median(ratio)))
        tokens = work.prompts * work.samples * work.new_tokens
        spent = ", ".join(f"{name} {np.median(took[1:]):.3g} s" for name, took in ours.seconds.items())
        lines += [
            f"{ours.parameters / 1e6:.3g} M parameters; {work}.",
            "",
            "| | seconds per step | range | answer tokens per second |",
            "|---|---|---|---|",
        ]
        for name, took in (("TRL", theirs), ("train-reasoner", own)):
            middle = float(np.median(took))
            lines.append(f"| {name} | {middle:.3g} | {took.min():.3g} to {took.max():.3g} | {tokens / middle:.0f} |")
        lines += [
            "",
            f"Ratio {ratios[-1]:.3g} ({ratio.min():.3g} to {ratio.max():.3g} in {size.rounds} rounds; aim {AIM:g}). Of "
            f"ours: {spent}.",
            "",
        ]
    return Part(lines[:-1], [target("step_over_trl", ratios[0])])


def vgpo(size: Size, used: reason_memory.Used) -> Part:
    """Only the trajectory differs between the two: it is timed by itself, and the difference held against a step."""
    ours = Ours(size.vgpo)
    began = time.perf_counter()
    collected = ours.collected()
    ours.update(ours.trajectory(collected, updates=2))
    step = time.perf_counter() - began
    ways = {"no": False, "yes": True}
    found = in_turns(
        {name: lambda on=on: ours.trajectory(collected, updates=2, vgpo=on) for name, on in ways.items()},
        size.vgpo_rounds,
    )
    without, with_it = (float(found[name][:, 0].min()) for name in ways)  # neighbours can only add time
    added = with_it - without
    memory = used.vgpo / used.plain - 1
    lines = [
        "## What VGPO adds",
        "",
        f"{size.vgpo}. A GRPO step with a pass for old log-probs took {step:.3g} s; pass and advantages, "
        f"fastest of {size.vgpo_rounds}, {without:.4g} s without VGPO and {with_it:.4g} s with it: "
        f"{1e3 * added:.3g} ms more, {100 * added / step:.3g} % "
        f"of the step. Memory of such a step in its own process ({size.memory.step}): {used.plain:.4g} MB without, "
        f"{used.vgpo:.4g} MB with VGPO.",
    ]
    times = target("vgpo_time_added_percent", 100 * added / step)
    return Part(lines, [times, target("vgpo_memory_added_percent", 100 * memory)])


def memory(size: Size, used: reason_memory.Used) -> Part:
    sizes = size.memory
    heads = [f"{answers * sizes.new_tokens:,} tokens" for answers in sizes.answers]
    lines = [
        "## Memory of an update",
        "",
        f"Answers of {sizes.new_tokens} tokens to one prompt, model {sizes.preset!r}; MB beyond what was there before.",
        "",
        f"| vocabulary | logits | {' | '.join(heads)} |",
        "|---|---|" + "---|" * len(heads),
    ]
    for vocabulary in used.update:
        for name, table in (("in chunks", used.update), ("all at once", used.whole)):
            if vocabulary not in table:
                continue
            values = " | ".join(f"{value:.4g}" for value in table[vocabulary])
            lines.append(f"| {int(vocabulary):,} | {name} | {values} |")
    growth = used.growth_with_vocabulary
    lines += [
        "",
        f"A token more takes {growth:.3g} times as much memory with the largest vocabulary as with the smallest.",
    ]
    return Part(lines, [target("update_memory_growth_with_vocabulary", growth)])


def run(size: Size, out: Path | None = None) -> list[Part]:
    """Everything."""
    started = time.perf_counter()
    parts: list[Part] = []

    def add(part: Callable[[], Part]) -> None:
        parts.append(part())
        done = "; ".join(map(str, parts[-1].targets))
        print(f"[{time.perf_counter() - started:.0f} s] {done}", file=sys.stderr, flush=True)

    add(lambda: beside_trl(size))
    used = reason_memory.in_a_fresh_process(size.memory)
    add(lambda: vgpo(size, used))
    add(lambda: memory(size, used))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        reason_memory.draw(used, size.memory, out / "reason.png")
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller samples and fewer rounds; all targets")
    parser.add_argument("--out", type=Path, help="folder for the page (reason.md) and its plot (reason.png)")
    args = parser.parse_args()
    threads, load = use_threads(), os.getloadavg()[0]
    parts = run(QUICK if args.quick else Size(), args.out)
    targets = [each for part in parts for each in part.targets]
    from transformers import __version__ as transformers_version
    from trl import __version__ as trl_version

    command = "python -m benchmarks.reason" + " --quick" * args.quick + (f" --out {args.out}" if args.out else "")
    head = [
        "# What a step of reinforcement learning on a VLM costs",
        "",
        f"Command: `{command}`. Machine: {machine()}, torch {torch.__version__}, transformers {transformers_version}, "
        f"trl {trl_version}; {threads} threads. Code: {describe_version()['code']}. Date: {date.today().isoformat()}. "
        f"Load before the start: {load:.1f}. Weights, questions and pictures: random from seed 0.",
        "",
    ]
    if args.quick:
        head += ["Quick: smaller samples and fewer rounds than the page in benchmarks/results.", ""]
    lines = [line for part in parts for line in [*part.lines, ""]]
    page = "\n".join([*head, *lines, "## Targets", "", *(f"    {each}" for each in targets), ""])
    if args.out:
        (args.out / "reason.md").write_text(page, encoding="utf-8")
    print(page)
    sys.exit(0 if all(each.fine for each in targets) else 1)


if __name__ == "__main__":
    judged(main)

"""A GRPO step of a 3 B Qwen2.5-VL shape on one CUDA device: python -m benchmarks.reason_gpu [--cpu] [--out FILE]

The model has the sizes of Qwen2.5-VL-3B-Instruct and random weights in bfloat16; nothing is downloaded. Measured:
answer tokens per second while drawing them, seconds of drawing, of the pass for old log-probs and of the update, device
memory, and what share of the matrix peak, measured on the same device, each of the three reaches (2 operations a
parameter and token forwards, 6 with the backward pass; attention and pictures not counted).

`--cpu` runs the same code small, to show that it works; its figures say nothing about CUDA. Figures of an H200:
benchmarks/results/reason_gpu.md.
Needs torch with CUDA, transformers and what agents/ imports; neither TRL nor the network.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.vlm import VLM
from benchmarks.flops import matrix_peak
from benchmarks.reason_peer import WORDS, Work
from benchmarks.reason_steps import Ours
from core.errors import InputError

FULL = Work("qwen2.5-vl-3b", prompts=8, samples=8, new_tokens=256)
SMALL = Work("tiny", prompts=2, samples=2, new_tokens=8)
MICRO_ROWS = 8  # answers in a forward and backward pass


def policy(work: Work, device: torch.device) -> VLM:
    """Answers never end early."""
    more = {"family": "qwen2_5_vl"}
    config = SmallVLMConfig(**{**PRESETS[work.preset], **more})  # type: ignore[arg-type]
    vlm = VLM.create(config, [" ".join(WORDS)], seed=0, device=device, dtype=torch.bfloat16)
    vlm.vision_ids = tuple(sorted({*vlm.vision_ids, *vlm.eos_ids}))
    return vlm


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device is done."""
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def lines(work: Work, device: torch.device, rounds: int) -> list[str]:
    """The measurements, as Markdown."""
    ours = Ours(work, policy(work, device), micro_rows=min(MICRO_ROWS, work.prompts * work.samples), side=448)
    peak = matrix_peak(torch.bfloat16, device, seconds=0.5)[0]
    ours.update(ours.trajectory(ours.collected(), updates=2))  # a warm-up
    drawn = [timed(ours.collected, device) for _ in range(rounds)]
    collected = ours.collected()
    scored = [timed(lambda: ours.trajectory(collected, updates=2), device) for _ in range(rounds)]
    trajectory = ours.trajectory(collected, updates=2)
    updated = [timed(lambda: ours.update(trajectory), device) for _ in range(rounds)]
    answers = work.prompts * work.samples
    prompt_tokens = int(collected.prompts.attention_mask[:: work.samples].sum())
    tokens = answers * work.new_tokens
    found = [
        f"{ours.parameters / 1e9:.3g} B parameters, bfloat16; {work}; {prompt_tokens // work.prompts} tokens a prompt. "
        f"Matrix peak measured here: {peak / 1e12:.4g} TFLOP/s.",
        "",
        "| | seconds | answer tokens per second | share of the peak |",
        "|---|---|---|---|",
    ]
    for name, took, times in (("answers drawn", drawn, 2), ("old log-probs", scored, 2), ("update", updated, 6)):
        best = min(took)
        share = times * ours.parameters * (tokens + prompt_tokens) / best / peak
        found.append(f"| {name} | {best:.4g} | {tokens / best:.5g} | {100 * share:.3g} % |")
    step = sum(min(took) for took in (drawn, scored, updated))
    found += ["", f"A step takes {step:.4g} s, {tokens / step:.5g} answer tokens per second."]
    if device.type == "cuda":
        found.append(f"Most device memory: {torch.cuda.max_memory_allocated(device) / 1e9:.3g} GB.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="run small on the CPU")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    if not args.cpu and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here; --cpu runs the same code small")
    device = torch.device("cpu" if args.cpu else "cuda")
    where = "CPU, small" if args.cpu else torch.cuda.get_device_name(device)
    page = [f"# GRPO steps of a Qwen2.5-VL shape ({where}, torch {torch.__version__})", ""]
    page += lines(SMALL if args.cpu else FULL, device, 1 if args.cpu else 3)
    text = "\n".join([*page, ""])
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

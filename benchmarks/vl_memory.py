"""Contrastive steps with gradient caching for benchmarks/vl.py: memory of a process of its own, and exact gradients.

Alone: python -m benchmarks.vl_memory BATCH CHUNK SIDE prints what one step of a fresh process took, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.vl_steps import batch_of, noise
from core.memory import peak_memory_gb
from core.threads import use_threads
from vl.data import Batch
from vl.gradient_cache import contrastive_step
from vl.image_towers import ImageTowerConfig
from vl.model import VLModel
from vl.model_config import VLConfig
from vl.objectives import Objectives, objective_terms
from vl.text_towers import TextTowerConfig
from vl.tokenizer import train_tokenizer

ITC = Objectives(itc=1.0)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""What glibc is told, so that blocks above 1 MB go back when they are freed; it would keep up to 0.2 GB of them."""


@dataclass(frozen=True)
class Used:
    """What a step took."""

    chunks: int
    batch_gb: float  # of the pictures, texts and the table of positives
    before_gb: float  # resident before the step, batch included
    peak_gb: float  # of the process
    seconds: float
    loss: float

    @property
    def step_gb(self) -> float:
        """Beyond what was there before."""
        return self.peak_gb - self.before_gb


def made(count: int, side: int, width: int = 0) -> tuple[VLModel, Batch]:
    """The default model at a size, and a batch of noise with a text of its own each.

    Args:
        width: of a narrow image tower; 0 = the default.
    """
    texts = [" ".join(f"w{digit}{place}" for place, digit in enumerate(f"{number:05d}")) for number in range(count)]
    image = ImageTowerConfig(image_size=side)
    if width:
        image = replace(image, stem_width=width, width=width)
    small = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = VLConfig(image=image, text=TextTowerConfig(options=small | still))
    model = VLModel.create(config, train_tokenizer(texts), seed=0)
    return model, batch_of(model, noise(count, side), texts)


def resident_gb() -> float:
    """Resident size of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def step(count: int, chunk: int, side: int, width: int) -> Used:
    """A forward and backward pass of `count` pairs, `chunk` at a time."""
    model, batch = made(count, side, width)
    held: list[Tensor] = [batch.images, batch.gain, batch.input_ids, batch.attention_mask, batch.positive]
    before, started = resident_gb(), time.perf_counter()
    term = contrastive_step(model, batch, ITC, torch.Generator().manual_seed(0), chunk=chunk)["itc"]
    seconds = time.perf_counter() - started
    size = sum(tensor.nbytes for tensor in held) / 1e9
    return Used(-(-count // chunk), size, before, peak_memory_gb(), seconds, float(term))


def in_a_fresh_process(count: int, chunk: int, side: int, width: int) -> Used:
    """`step`, its memory not mixed with anything else."""
    command = [sys.executable, "-m", "benchmarks.vl_memory", *map(str, (count, chunk, side, width))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **MALLOC})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def gradient_difference(count: int, chunk: int, side: int, width: int) -> float:
    """Largest difference of a cached gradient from the uncached one, as a share of the largest of its parameter."""
    model, batch = made(count, side, width)
    objective_terms(model, batch, ITC, torch.Generator().manual_seed(0))["itc"].backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    contrastive_step(model, batch, ITC, torch.Generator().manual_seed(0), chunk=chunk)
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert set(found) == set(wanted)
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    return max(float((found[name] - wanted[name]).abs().max()) for name in wanted) / scale


@dataclass(frozen=True)
class Found:
    """What was measured."""

    lines: list[str]
    peak_gb: float
    growth_mb: float  # of the step, from few chunks to many
    difference: float


def memory(count: int, few: int, chunk: int, side: int, width: int) -> Found:
    """A large batch and a small one in chunks of the same size, and gradients against a step without chunks.

    Args:
        few: pairs of the small batch.
    """
    with ThreadPoolExecutor(2) as both:  # memory is judged, not time
        large, small = both.map(lambda pairs: in_a_fresh_process(pairs, chunk, side, width), (count, few))
    difference = gradient_difference(64, 16, side, width)
    growth = 1e3 * (large.step_gb - small.step_gb)
    lines = [
        f"Pictures of {side} px, {f'an image tower {width} wide' if width else 'the default image tower'}, chunks of "
        f"{chunk}, each batch in a fresh process (`{' '.join(map('='.join, MALLOC.items()))}`, so that freed blocks do "
        "not count), both at once:",
        "",
        "| pairs | chunks | peak of the process | before the step | of that the batch | in the step | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for pairs, used in ((few, small), (count, large)):
        lines.append(
            f"| {pairs:,} | {used.chunks} | {used.peak_gb:.3g} GB | {used.before_gb:.3g} GB | "
            f"{1e3 * used.batch_gb:.3g} MB | {1e3 * used.step_gb:.4g} MB | {used.seconds:.3g} |"
        )
    lines += [
        "",
        f"From {small.chunks} to {large.chunks} chunks the step takes {growth:.3g} MB more. Gradients of 64 pairs in "
        f"chunks of 16 differ from those without chunks by {difference:.2g} of the largest.",
    ]
    return Found(lines, large.peak_gb, growth, difference)


if __name__ == "__main__":
    use_threads()
    print(json.dumps(asdict(step(*map(int, sys.argv[1:])))))

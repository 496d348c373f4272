"""Memory of updates for benchmarks/reason.py, in a process of its own: python -m benchmarks.reason_memory SIZES

The process gives freed tensors back at once (MALLOC_MMAP_THRESHOLD_), and its peak is set back before each
measurement (/proc/self/clear_refs), so that one process measures many updates. Prints JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from agents.reasoning.log_probs import score
from agents.reasoning.types import Responses
from benchmarks.reason_peer import Work, make_vlm
from benchmarks.reason_steps import Ours
from core.threads import use_threads


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    answers: tuple[int, ...] = (4, 8, 16, 32)  # to one prompt
    new_tokens: int = 128
    vocabularies: tuple[int, ...] = (1_024, 8_192, 32_768)
    preset: str = "small"
    at_once: bool = True  # also with the logits of all tokens at once
    step: Work = Work()  # with and without VGPO


@dataclass(frozen=True)
class Used:
    """Megabytes beyond what was there before."""

    update: dict[str, list[float]]  # vocabulary -> for each number of answers
    whole: dict[str, list[float]]  # the same with logits of all tokens at once, where that was measured
    plain: float  # a GRPO step that makes the old log-probs
    vgpo: float  # the same with VGPO

    @property
    def growth_with_vocabulary(self) -> float:
        """Memory that a token more takes with the largest vocabulary, over that with the smallest."""
        small, large = list(self.update.values())[0], list(self.update.values())[-1]
        return (large[-1] - large[0]) / (small[-1] - small[0])


def resident_mb(name: str) -> float:
    """A size of this process: VmRSS now, or VmHWM, the largest since it was set back."""
    rows = Path("/proc/self/status").read_text().splitlines()
    return int(next(row for row in rows if row.startswith(name)).split()[1]) * 1024 / 1e6


def peak_mb(run: Callable[[], object]) -> float:
    """The most that `run` takes beyond what was there before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mb("VmRSS")
    run()
    return resident_mb("VmHWM") - before


def updates(sizes: Sizes, vocabulary: int, *, whole: bool) -> list[float]:
    """Megabytes of an update for each number of answers. Args: whole: logits of all tokens at once."""
    work = Work(sizes.preset, 1, 1, sizes.new_tokens)
    ours = Ours(work, make_vlm(work, vocabulary))
    asked = ours.vlm.encode([each.prompt for each in ours.asked.samples], ours.asked.pictures)

    def update(answers: int) -> None:
        ids = torch.full((answers, sizes.new_tokens), 5)
        given = Responses(ids, torch.ones_like(ids).bool(), ids[:, 0] > 0, ("",) * answers)
        chunk = ids.numel() if whole else 256
        score(ours.vlm, asked.repeat(answers), given, chunk=chunk, grad=True).log_prob.sum().backward()
        ours.vlm.model.zero_grad(set_to_none=True)

    update(sizes.answers[0])  # a warm-up
    return [peak_mb(lambda answers=answers: update(answers)) for answers in sizes.answers]  # type: ignore[misc]


def step(work: Work, *, vgpo: bool) -> float:
    """Megabytes of a GRPO step that makes the old log-probs."""
    ours = Ours(work)

    def run() -> None:
        ours.update(ours.trajectory(ours.collected(), updates=2, vgpo=vgpo))

    run()
    return peak_mb(run)


def measure(sizes: Sizes) -> Used:
    def table(whole: bool) -> dict[str, list[float]]:
        return {str(vocabulary): updates(sizes, vocabulary, whole=whole) for vocabulary in sizes.vocabularies}

    at_once = table(True) if sizes.at_once else {}
    return Used(table(False), at_once, step(sizes.step, vgpo=False), step(sizes.step, vgpo=True))


def in_a_fresh_process(sizes: Sizes) -> Used:
    command = [sys.executable, "-m", "benchmarks.reason_memory", json.dumps(asdict(sizes))]
    giving_back = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=giving_back)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return Used(**json.loads(done.stdout.splitlines()[-1]))


def draw(used: Used, sizes: Sizes, path: Path) -> None:
    """Memory of an update over its tokens, a line for each vocabulary."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tokens = [answers * sizes.new_tokens for answers in sizes.answers]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for number, vocabulary in enumerate(used.update):
        colour = f"C{number}"
        axes.plot(
            tokens, used.update[vocabulary], "o-", color=colour, label=f"vocabulary of {int(vocabulary):,}, in chunks"
        )
        if vocabulary not in used.whole:
            continue
        axes.plot(
            tokens, used.whole[vocabulary], "x:", color=colour, label=f"vocabulary of {int(vocabulary):,}, all at once"
        )
    axes.set_xlabel("answer tokens in the update")
    axes.set_ylabel("memory of the update, MB")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    use_threads()
    told = json.loads(sys.argv[1])
    told["step"] = Work(**told["step"])
    for name in ("answers", "vocabularies"):
        told[name] = tuple(told[name])
    print(json.dumps(asdict(measure(replace(Sizes(), **told)))))

"""Answers to held-out questions now and then in training: what a run's curves are made of."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import torch

from agents.reasoning.collection import Pay
from agents.reasoning.data_flow import Questions
from agents.reasoning.generation import generate
from agents.reasoning.passes import chance_of_pass
from agents.reasoning.task_files import SampleSet
from core import distributed

VAL: Final = "val_"
"""Before the names of what is measured on val."""


def of_set(name: str) -> str:
    """Before the names of what is measured on a set out of distribution: ood/far/accuracy beside val_accuracy."""
    return f"ood/{name}/"


def validate(
    vlm: Any,
    questions: SampleSet,
    pay: Pay,
    *,
    max_new_tokens: int,
    rows: int,
    precision: Callable[[], Any],
    passes: int = 0,
    seed: int = 0,
    prefix: str = VAL,
) -> dict[str, float]:
    """Accuracy and the like of answers to all questions; the processes share them. Every process calls this.

    As MAYE measures every epoch (Ma et al., arXiv:2504.02587, section 3): the likeliest answer (its T = 0.01, all but
    greedy) and, with `passes`, one answer at T = 0.6 and `passes` at T = 1.

    Args:
        rows: questions answered at once.
        precision: what passes through the model run under.
        passes: answers drawn to each question at T = 1; 0 = only the likeliest answer is asked for.
        seed: of those answers, the same noise at every look.
        prefix: before every name that is returned.

    Returns:
        Of the likeliest answers val_accuracy, val_reward, val_format (share of answers in the asked form), val_length
        (tokens), val_ended, and val_accuracy_<kind> for each kind of question where there are several. With `passes`
        also val_warm (accuracy at T = 0.6), val_pass@1 and val_pass@<passes> (T = 1, unbiased).
    """
    kinds = sorted({sample.kind for sample in questions.samples})
    names = ["accuracy", "reward", "format", "length", "ended"]
    names += [f"accuracy_{kind}" for kind in kinds] if len(kinds) > 1 else []
    tries = sorted({1, passes}) if passes else []
    names += ["warm", *(f"pass@{k}" for k in tries)] if passes else []
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)

    def add(name: str, values: Sequence[float]) -> None:
        sums[name] += sum(values)
        counts[name] += len(values)

    def answered(asked: Questions, samples: int, temperature: float, stream: int) -> tuple[Any, Any, Any]:
        generator = torch.Generator().manual_seed(2 * seed + stream)  # with the questions' numbers: of no batch
        with precision():
            answers = generate(
                vlm,
                asked.prompts(vlm, max_new_tokens),
                samples=samples,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                generator=generator,
                first_prompt=asked.places,
            )
        return answers, *pay([sample for sample in asked.samples for _ in range(samples)], answers)

    own = range(distributed.rank(), len(questions), distributed.world_size())
    for start in range(0, len(own), rows):
        numbers = own[start : start + rows]
        samples = tuple(questions.samples[i] for i in numbers)
        asked = Questions(samples, tuple(tuple(questions.pictures_of(i)) for i in numbers), tuple(numbers))
        answers, reward, parts = answered(asked, 1, 0.0, 0)
        right = parts["right"].tolist()
        add("accuracy", right)
        add("reward", reward.tolist())
        add("format", parts["format"].tolist())
        add("length", answers.mask.sum(1).tolist())
        add("ended", answers.ended.tolist())
        for sample, value in zip(samples, right if len(kinds) > 1 else ()):
            add(f"accuracy_{sample.kind}", [value])
        if passes:
            add("warm", answered(asked, 1, 0.6, 0)[2]["right"].tolist())
            found = answered(asked, passes, 1.0, 1)[2]["right"].view(-1, passes).sum(1).tolist()
            for k in tries:
                add(f"pass@{k}", [chance_of_pass(passes, int(count), k) for count in found])
    total = torch.tensor([[sums[name], counts[name]] for name in names], dtype=torch.float64)
    found_by_all = dict(zip(names, distributed.sum_over_ranks(total).tolist()))
    return {f"{prefix}{name}": value / max(count, 1.0) for name, (value, count) in found_by_all.items()}

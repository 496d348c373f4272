"""The likeliest answers to held-out questions: what a run's curve is made of."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from agents.reasoning.collection import Pay
from agents.reasoning.data_flow import Questions
from agents.reasoning.generation import generate
from agents.reasoning.task_files import SampleSet
from core import distributed


def validate(
    vlm: Any, questions: SampleSet, pay: Pay, *, max_new_tokens: int, rows: int, precision: Callable[[], Any]
) -> dict[str, float]:
    """Accuracy and the like of greedy answers; the processes share the questions. Every process calls this.

    Args:
        rows: questions answered at once.
        precision: what passes through the model run under.

    Returns:
        val_accuracy, val_reward, val_format (share of answers in the asked form), val_length (tokens), val_ended; and
        val_accuracy_<kind> for each kind of question where there are several.
    """
    kinds = sorted({sample.kind for sample in questions.samples})
    names = ["accuracy", "reward", "format", "length", "ended", *(f"accuracy_{kind}" for kind in kinds)]
    sums, counts = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)

    def add(name: str, values: Sequence[float]) -> None:
        sums[name] += sum(values)
        counts[name] += len(values)

    own = range(distributed.rank(), len(questions), distributed.world_size())
    for start in range(0, len(own), rows):
        numbers = own[start : start + rows]
        samples = tuple(questions.samples[i] for i in numbers)
        asked = Questions(samples, tuple(tuple(questions.pictures_of(i)) for i in numbers), tuple(numbers))
        prompts = asked.prompts(vlm, max_new_tokens)
        with precision():
            answers = generate(
                vlm, prompts, max_new_tokens=max_new_tokens, temperature=0.0, generator=torch.Generator()
            )
        reward, parts = pay(samples, answers)
        right = parts["right"].tolist()
        add("accuracy", right)
        add("reward", reward.tolist())
        add("format", parts["format"].tolist())
        add("length", answers.mask.sum(1).tolist())
        add("ended", answers.ended.tolist())
        for sample, value in zip(samples, right):
            add(f"accuracy_{sample.kind}", [value])
    total = torch.tensor([[sums[name], counts[name]] for name in names], dtype=torch.float64)
    found = dict(zip(names, distributed.sum_over_ranks(total).tolist()))
    shown = names if len(kinds) > 1 else names[:5]
    return {f"val_{name}": found[name][0] / max(found[name][1], 1.0) for name in shown}

"""What is logged of a step's answers: rewards and their parts, lengths, how many groups teach, how many reflect."""

from collections.abc import Mapping
from typing import Any

import torch

from agents.reasoning.collection import Collected, unique
from agents.reasoning.group_advantages import informative
from agents.reasoning.reflection import reflects
from core import distributed


def means(values: Mapping[str, Any]) -> dict[str, float]:
    """Mean of each row of numbers over the rows of all processes, which have the same names in the same order."""
    sums = [(float(torch.as_tensor(value, dtype=torch.float64).sum()), float(len(value))) for value in values.values()]
    if not sums:
        return {}
    total = distributed.sum_over_ranks(torch.tensor(sums, dtype=torch.float64)).tolist()
    return {name: part / max(count, 1.0) for name, (part, count) in zip(values, total)}


def total(value: float) -> float:
    """A number summed over processes."""
    return float(distributed.sum_over_ranks(torch.tensor(float(value), dtype=torch.float64)))


def of_answers(collected: Collected) -> dict[str, float]:
    """Means over all answers of a step to questions, before any are dropped."""
    return {
        **means(
            {
                "reward": collected.reward,
                "accuracy": collected.parts["right"],
                **{f"reward_{name}": part for name, part in sorted(collected.parts.items()) if name != "right"},
                "length": collected.responses.mask.sum(1),
                "informative": informative(collected.reward, collected.group),  # share of groups whose rewards differ
                "ended": collected.responses.ended,
                "reflection_ratio": [float(reflects(text)) for text in collected.responses.texts],
            }
        ),
        "groups": float(len(unique(collected.all_group))),
    }

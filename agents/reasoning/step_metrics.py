"""What is logged of a step's answers: rewards and their parts, lengths, how many groups teach, how many reflect."""

from collections.abc import Mapping
from typing import Any

import torch

from agents.reasoning.collection import Collected, unique
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
    """Means over all answers of a step, before any are dropped."""
    length = collected.responses.mask.sum(1)
    groups = unique(collected.all_group)
    return {
        **means(
            {
                "reward": collected.reward,
                "accuracy": collected.parts["right"],
                **{f"reward_{name}": part for name, part in sorted(collected.parts.items()) if name != "right"},
                "length": length,
                "ended": collected.responses.ended,
            }
        ),
        "informative": len(collected.teaching()) / max(1, len(groups)),
        "groups": float(len(groups)),
    }

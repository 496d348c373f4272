"""pass@k: the chance that at least one of k sampled answers is right."""

import math

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from core.errors import InputError


def chance_of_pass(samples: int, right: int, k: int) -> float:
    """The unbiased estimate of pass@k from `samples` answers of which `right` are right: 1 - C(n - c, k) / C(n, k).

    Raises:
        InputError: k is not in 1..samples, or `right` not in 0..samples.

    Source: Chen et al., Evaluating Large Language Models Trained on Code, arXiv:2107.03374, equation 1.
    """
    if not 1 <= k <= samples:
        raise InputError(f"pass@{k} cannot be estimated from {samples} answers to a prompt: sample at least {k}")
    if not 0 <= right <= samples:
        raise InputError(f"{right} of {samples} answers cannot be right")
    return 1 - math.comb(samples - right, k) / math.comb(samples, k)


def pass_at_k(right: Bool[Tensor, " B"], group: Int64[Tensor, " B"], k: int) -> Float64[Tensor, " P"]:
    """pass@k of each prompt, ordered by group number; its mean is the pass@k of the set, and k = 1 its accuracy.

    Args:
        right: which answers are.
        group: number of the prompt that row b answers; prompts may have different numbers of answers.

    Raises:
        InputError: a prompt with fewer than k answers.
    """
    prompts, place = torch.unique(group, return_inverse=True)
    number = torch.bincount(place, minlength=len(prompts)).tolist()
    good = torch.bincount(place[right], minlength=len(prompts)).tolist()
    return torch.tensor([chance_of_pass(n, c, k) for n, c in zip(number, good)], dtype=torch.float64)

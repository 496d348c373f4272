"""pass@k: the chance that at least one of k sampled answers is right."""

import math

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

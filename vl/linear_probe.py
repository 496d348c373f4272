"""A linear probe: multinomial logistic regression on frozen features, its L2 weight chosen on val.

    minimise  mean_i CE(W x_i + b, y_i) + l2 / 2 |W|^2

Features are standardised with the training rows' mean and deviation. The objective is convex and solved to its optimum
by L-BFGS in float64, from zero, so nothing is drawn. The protocol (one weight chosen on val over a logarithmic grid,
then train and val together) is CLIP's (Radford et al., arXiv:2103.00020, appendix A.3), with a coarser grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError

L2_WEIGHTS = tuple(10.0**power for power in range(-6, 3))
"""The grid from which val chooses."""


@dataclass
class Probe:
    """A linear classifier of features."""

    mean: Float[Tensor, " D"]
    deviation: Float[Tensor, " D"]
    weight: Float[Tensor, "K D"]
    bias: Float[Tensor, " K"]
    l2: float

    def logits(self, features: Float[Tensor, "M D"]) -> Float[Tensor, "M K"]:
        """One score per class, in float64."""
        return (features.double() - self.mean) / self.deviation @ self.weight.T + self.bias


def fit_probe(
    features: Float[Tensor, "M D"], label: Int64[Tensor, " M"], classes: int, l2: float, iterations: int = 500
) -> Probe:
    """The optimum for one L2 weight.

    Raises:
        InputError: no rows, or a label outside 0..classes-1.
    """
    if len(features) != len(label) or not len(label):
        raise InputError(f"{len(features)} features and {len(label)} labels; a probe needs one label per feature")
    if int(label.min()) < 0 or int(label.max()) >= classes:
        raise InputError(f"labels run {int(label.min())}..{int(label.max())}, expected 0..{classes - 1}")
    values = features.double()
    mean, deviation = values.mean(0), values.std(0, correction=0).clamp(min=1e-8)
    values = (values - mean) / deviation
    weight = torch.zeros(classes, values.shape[1], dtype=torch.float64, device=values.device, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, device=values.device, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(values @ weight.T + bias, label) + 0.5 * l2 * weight.square().sum()
        loss.backward()
        return loss

    solver.step(objective)  # type: ignore[arg-type]  # torch's stub wants a float, its code a tensor
    return Probe(mean, deviation, weight.detach(), bias.detach(), l2)


def choose_probe(
    train: tuple[Float[Tensor, "M D"], Int64[Tensor, " M"]],
    val: tuple[Float[Tensor, "V D"], Int64[Tensor, " V"]],
    classes: int,
    weights: Sequence[float] = L2_WEIGHTS,
) -> tuple[Probe, dict[float, float]]:
    """The probe fitted on train and val together with the L2 weight that is best on val; val accuracy of each weight.

    Of equally good weights the largest wins.
    """
    accuracy = {}
    for l2 in weights:
        probe = fit_probe(*train, classes, l2)
        accuracy[l2] = float((probe.logits(val[0]).argmax(1) == val[1]).double().mean())
    best = max(accuracy, key=lambda l2: (accuracy[l2], l2))
    both = torch.cat([train[0], val[0]]), torch.cat([train[1], val[1]])
    return fit_probe(*both, classes, best), accuracy

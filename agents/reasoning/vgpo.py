"""VGPO: tokens and answers that attend to the picture weigh more in the policy gradient.

The signal is not attention but a cosine: the final-norm state at each response token against the mean of those states
over the picture's placeholders (the prototype). Equations as numbered in the paper; t counts a response's own tokens
from 0 to T - 1, padding does not exist for any of them:

    focus             s_t = cos(h_t, prototype),  w_t = (s_t - min s) / (max s - min s)
    compensation (5)  C_t = beta * t / (T - 1)
    gate (6)          g_t = 1 for the max(1, floor(kappa * tail)) highest w_t of the tail t >= floor(gamma * T)
    intra (7, 8)      v_t = w_t (1 + g_t C_t), stretched to [0, 1] in its response
                      psi_t = clamp(1 + v_t - mean v, 0.1, 2)
    inter (9-11)      phi = mean or sum of v_t, stretched to [0, 1] in its group
                      alpha = clamp(1 + phi - mean phi, 0.9, 2)
    advantage         A_t = A * alpha * psi_t

Source: arXiv:2604.09349 by way of its released code, whose formulas the preset "paper-code" follows, with two faults
of that code mended in both presets: groups are those of the prompt, not neighbours in a batch sorted by length, and
padding takes no part. The preset "default" also

- stretches s within its response rather than within the batch, so that no answer depends on strangers,
- takes phi as a mean: a sum favours long answers,
- scales psi to mean one over its response and alpha over its group. As released, the floor of .9 lifts the mean of
  alpha to about 1.1, which is a larger learning rate under another name.

Weights multiply negative advantages too: in a wrong answer the tokens that looked are punished harder. They are
computed once per rollout from the pass that scores it under the policy that answered; the released code recomputes
them from the policy that learns, at each minibatch.
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from core import distributed
from core.errors import InputError, check_choice

EPS: Final = 1e-8  # added to what a stretch divides by, as released


@dataclass
class VGPOConfig:
    """Visual re-weighting of advantages. Each of its three parts can be left out."""

    enabled: bool = False  # whether a job weighs at all; `weights` does not ask
    preset: str = "default"  # default | paper-code
    compensation: bool = True  # equations 5 and 6: late tokens that look count for more
    intra: bool = True  # equations 7 and 8: weights of tokens
    inter: bool = True  # equations 9 to 11: weights of answers
    beta: float = 0.3  # most that compensation adds, at the last token
    gamma: float = 0.5  # share of a response before which nothing is compensated
    kappa: float = 0.2  # share of the rest that is
    stretch: str | None = None  # over what s is brought to [0, 1]: response | batch; null: what the preset says
    accumulate: str | None = None  # an answer's focus is the mean | sum of its tokens'; null: as the preset
    mean_one: bool | None = None  # psi has mean one over a response, alpha over a group; null: as the preset
    token_floor: float = 0.1  # least weight of a token
    answer_floor: float = 0.9  # least weight of an answer
    ceiling: float = 2.0  # largest weight of either

    def __post_init__(self) -> None:
        check_choice("vgpo.preset", self.preset, PRESETS)
        check_choice("vgpo.stretch", self.choice("stretch"), ("response", "batch"))
        check_choice("vgpo.accumulate", self.choice("accumulate"), ("mean", "sum"))
        for name in ("gamma", "kappa"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"vgpo.{name}={getattr(self, name)} is a share; expected 0 to 1")
        if self.beta < 0:
            raise InputError(f"vgpo.beta={self.beta} would weaken tokens that look; expected 0 or more")
        if not (0 <= self.token_floor <= 1 <= self.ceiling and 0 <= self.answer_floor <= 1):
            raise InputError(
                f"vgpo: token_floor={self.token_floor}, answer_floor={self.answer_floor}, ceiling={self.ceiling}; "
                "floors lie in 0 to 1 and the ceiling at 1 or above, for weights lie around 1"
            )

    def choice(self, name: str) -> Any:
        """`stretch`, `accumulate` or `mean_one`, as given or as the preset has it."""
        given = getattr(self, name)
        return PRESETS[self.preset][name] if given is None else given


PRESETS: Final[dict[str, dict[str, Any]]] = {
    "default": {"stretch": "response", "accumulate": "mean", "mean_one": True},
    "paper-code": {"stretch": "batch", "accumulate": "sum", "mean_one": False},
}


@dataclass(frozen=True, eq=False)
class VGPOWeights:
    """What advantages are multiplied by, and how it came about."""

    token: Float[Tensor, "B T"]  # psi; 0 where the mask is off
    answer: Float[Tensor, " B"]  # alpha
    focus: Float[Tensor, "B T"]  # v, in 0 to 1: what is drawn over tokens; 0 where the mask is off or nothing is seen
    statistics: dict[str, Tensor]  # means over rows that see; empty without such rows

    def applied(self, advantage: Float[Tensor, "B T"]) -> Float[Tensor, "B T"]:
        """The re-weighted advantage."""
        return advantage * self.answer[:, None] * self.token


def focus(hidden: Float[Tensor, "B T D"], prototype: Float[Tensor, "B D"]) -> Float[Tensor, "B T"]:
    """Cosine of each token's state with its row's prototype, in float32; 0 where either is zero. No gradient."""
    with torch.no_grad():
        unit = torch.nn.functional.normalize(prototype.float(), dim=-1)
        # row by row: half-precision states are never copied to float32 all at once
        along = unit.new_empty(hidden.shape[:2])
        for row, states in enumerate(hidden):
            along[row] = torch.mv(states.float(), unit[row])
        length = torch.linalg.vector_norm(hidden, dim=-1, dtype=torch.float32)
        return along / length.clamp(min=EPS)


def weights(
    focus: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    group: Int64[Tensor, " B"],
    sees: Bool[Tensor, " B"],
    config: VGPOConfig,
) -> VGPOWeights:
    """The weights of a whole rollout. With stretch=batch every process has to call this under torchrun.

    Args:
        focus: cosines of `focus()`. What it holds where the mask is off has no effect.
        mask: tokens that count.
        group: number of the prompt each row answers; a group lies on one process whole.
        sees: rows with a picture. The others, and rows without a token, have weight 1 and no part in a mean.
    """
    with torch.no_grad():
        # in float64: stretching two means that differ by rounding alone would make a difference of it
        return _weights(focus.double(), mask, group, sees, config)


def _weights(focus: Tensor, mask: Tensor, group: Tensor, sees: Tensor, config: VGPOConfig) -> VGPOWeights:
    live = mask & sees[:, None]  # (B, T)
    length = live.sum(1)
    step = live.cumsum(1) - 1  # t, where live
    w = _stretched_focus(focus, live, config.choice("stretch"))
    gate = _gate(w, live, length, config) if config.compensation else torch.zeros_like(live)
    late = step / (length - 1).clamp(min=1)[:, None]  # u_t; 0 for a single token
    v = _stretched(torch.where(gate, w * (1 + config.beta * late), w), live)

    token = mask.to(v.dtype)
    if config.intra:
        around = (1 + v - _row_mean(v, live)[:, None]).clamp(config.token_floor, config.ceiling)
        if config.choice("mean_one"):
            around = around / _row_mean(around, live).clamp(min=EPS)[:, None]
        token = torch.where(live, around, token)

    answer = torch.ones_like(v[:, 0])
    counted = length > 0
    if config.inter:
        phi = (v * live).sum(1) if config.choice("accumulate") == "sum" else _row_mean(v, live)
        answer = torch.where(counted, _answer_weights(phi, counted, group, config), answer)
    statistics = _statistics(w, v, gate, step, live, token, answer)
    return VGPOWeights(token.float(), answer.float(), v.float(), {name: x.float() for name, x in statistics.items()})


def _stretched_focus(focus: Tensor, live: Tensor, over: str) -> Float[Tensor, "B T"]:
    """w: the cosines brought to [0, 1] over their response or over all rows of all processes."""
    if over == "response":
        return _stretched(focus, live)
    ends = focus.new_tensor([torch.inf, -torch.inf])  # of a process without such rows
    low = distributed.gather_rows(torch.cat([focus[live], ends[:1]]).amin()[None]).amin()
    high = distributed.gather_rows(torch.cat([focus[live], ends[1:]]).amax()[None]).amax()
    return torch.where(live, (focus - low) / (high - low + EPS), 0.0)


def _stretched(values: Tensor, live: Tensor) -> Float[Tensor, "B T"]:
    """Min-max over each row's live tokens; 0 elsewhere, and everywhere in a row whose values are equal."""
    low = values.masked_fill(~live, torch.inf).amin(1, keepdim=True)
    high = values.masked_fill(~live, -torch.inf).amax(1, keepdim=True)
    return torch.where(live, (values - low) / (high - low + EPS), 0.0)


def _gate(w: Tensor, live: Tensor, length: Tensor, config: VGPOConfig) -> Bool[Tensor, "B T"]:
    """Equation 6; of equal values the earlier ones pass."""
    start = (config.gamma * length.double()).floor().long()
    tail = live & (live.cumsum(1) - 1 >= start[:, None])
    passing = (config.kappa * tail.sum(1).double()).floor().long().clamp(min=1)
    return tail & (_rank(w, tail) < passing[:, None])


def _rank(values: Tensor, among: Tensor) -> Int64[Tensor, "B T"]:
    """0 for the highest of a row, and so on; of equal values the earlier one comes first."""
    order = values.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )


def _answer_weights(phi: Tensor, counted: Tensor, group: Tensor, config: VGPOConfig) -> Float[Tensor, " B"]:
    """alpha; rows that do not count take no part."""
    place = torch.unique(group, return_inverse=True)[1]
    groups = int(place.max()) + 1 if len(place) else 0
    each = counted.to(phi.dtype)

    def mean(values: Tensor) -> Tensor:
        total = values.new_zeros(groups).index_add_(0, place, values * each)
        return (total / values.new_zeros(groups).index_add_(0, place, each).clamp(min=1))[place]

    low, high = (
        phi.new_full((groups,), end).scatter_reduce_(0, place, phi.masked_fill(~counted, end), kind)[place]
        for end, kind in ((torch.inf, "amin"), (-torch.inf, "amax"))
    )
    stretched = torch.where(counted, (phi - low) / (high - low + EPS), 0.0)
    alpha = (1 + stretched - mean(stretched)).clamp(config.answer_floor, config.ceiling)
    return alpha / mean(alpha).clamp(min=EPS) if config.choice("mean_one") else alpha


def _row_mean(values: Tensor, live: Tensor) -> Float[Tensor, " B"]:
    return torch.where(live, values, 0.0).sum(1) / live.sum(1).clamp(min=1)


def _mean_of(values: Tensor, chosen: Tensor) -> Float[Tensor, ""]:
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp(min=1)


def _statistics(
    w: Tensor, v: Tensor, gate: Tensor, step: Tensor, live: Tensor, token: Tensor, answer: Tensor
) -> dict[str, Tensor]:
    """What is logged of a rollout: where answers look, and how far the weights reach."""
    rows = live.any(1)
    if not rows.any():
        return {}
    length = live.sum(1, keepdim=True)
    late = live & (2 * step >= length)  # of an odd number of tokens the middle one is early
    early = live & ~late
    top = live & (_rank(w, live) < (0.4 * length).ceil())
    psi, alpha = token[live], answer[rows]
    return {
        "focus": v[live].mean(),  # mean of v: low when few tokens look
        "focus_late_over_early": _mean_of(w, late) / _mean_of(w, early).clamp(min=EPS),
        "focus_top_late": (top & late).sum() / top.sum(),  # share of the top 40 % of tokens in the later half
        "gated": gate.sum() / live.sum(),
        "psi_deviation": psi.std(correction=0),
        "psi_low": psi.amin(),
        "psi_high": psi.amax(),
        "alpha_mean": alpha.mean(),
        "alpha_deviation": alpha.std(correction=0),
        "alpha_low": alpha.amin(),
        "alpha_high": alpha.amax(),
    }

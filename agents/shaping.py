"""Turning a reward model's score of a frame into a reward an agent can learn from.

A VLM score is a potential, not a reward: paid at every step it would make lingering in a nice view optimal. So its
change is paid (`shaped_progress`, which leaves the best policy as it is), and the episode's end is paid by whether the
last frame looks like the goal (`stop_reward`). Scores of different goals live on different scales, which unlabelled
frames of the training homes put right (`Calibration`); no simulator truth enters.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from core.errors import InputError


def shaped_progress(
    potential: Float[Tensor, "*s"],
    next_potential: Float[Tensor, "*s"],
    terminated: Bool[Tensor, "*s"],
    *,
    gamma: float,
) -> Float[Tensor, "*s"]:
    """Potential-based shaping gamma * phi(s') - phi(s), with phi = 0 in terminal states.

    Added to any reward it changes every policy's return by the same amount, -phi(start), so the best policy stays the
    best. The terminal state's potential is zero by definition; at a time limit the episode goes on in the agent's
    eyes (its value is bootstrapped), so the potential stays.

    Source: Ng, Harada, Russell, ICML 1999; terminal states: Grzes, AAMAS 2017.
    """
    return gamma * next_potential.masked_fill(terminated, 0.0) - potential


@dataclass
class Calibration:
    """Per-goal scale of a reward model's scores, from unlabelled frames."""

    mean: Float[Tensor, " G"]  # of the goal's scores over the frames
    std: Float[Tensor, " G"]
    threshold: Float[Tensor, " G"]  # a high quantile of the standardised scores: what arriving looks like

    @classmethod
    def fit(cls, scores: Float[Tensor, "M G"], quantile: float) -> "Calibration":
        """From the scores of M frames for each of G goals.

        Raises:
            InputError: fewer than 2 frames, NaN scores, or a quantile outside (0, 1).
        """
        if not 0.0 < quantile < 1.0:
            raise InputError(f"calibration quantile is {quantile}, expected a number between 0 and 1, e.g. 0.99")
        if scores.ndim != 2 or len(scores) < 2 or not bool(torch.isfinite(scores).all()):
            raise InputError(f"calibration needs finite scores of at least 2 frames (M, G), got {tuple(scores.shape)}")
        mean, std = scores.mean(0), scores.std(0).clamp_min(1e-6)
        return cls(mean, std, torch.quantile((scores - mean) / std, quantile, dim=0))

    def standardise(self, score: Float[Tensor, " B"], goal: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Scores in units of their goal's spread over ordinary frames."""
        return (score - self.mean[goal]) / self.std[goal]


def stop_reward(
    score: Float[Tensor, " B"],
    threshold: Float[Tensor, " B"],
    *,
    temperature: float,
    penalty: float,
) -> Float[Tensor, " B"]:
    """What stopping here is worth: sigmoid((score - threshold) / temperature) - penalty, in (-penalty, 1 - penalty).

    Args:
        score: standardised score of the frame the agent stopped in.
        threshold: score at which stopping is worth one half before the penalty.
        temperature: softness of the step, in the same standard deviations.
        penalty: makes stopping in a frame that does not look like the goal worse than going on.
    """
    return torch.sigmoid((score - threshold) / temperature) - penalty


@dataclass
class FrameReward:
    """A reward made from a reward model's scores alone; the simulator's truth is never read.

    scale * (gamma * phi' - phi)  at every step, with phi the standardised score of the frame, and
    stop_weight * (sigmoid((phi' - threshold) / temperature) - penalty)  where the agent stops, and
    -step_cost  always.
    """

    calibration: Calibration
    gamma: float  # the learner's discount
    scale: float  # worth of one standard deviation of score
    stop_weight: float  # worth of stopping in a frame far above the threshold
    temperature: float  # softness of the threshold, in standard deviations
    penalty: float  # share of stop_weight lost when stopping anywhere
    step_cost: float

    def potential(self, score: Float[Tensor, " B"], goal: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """phi of frames: their standardised scores, cut at +-8 so that no odd frame dominates."""
        return self.calibration.standardise(score, goal).clamp(-8.0, 8.0)

    def __call__(
        self,
        potential: Float[Tensor, " B"],
        next_potential: Float[Tensor, " B"],
        goal: Int64[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Reward of a step.

        Args:
            potential: phi of the frame the agent acted on.
            next_potential: phi of the frame its action led to, before any reset.
            stopped: the agent ended the episode itself.
        """
        progress = shaped_progress(potential, next_potential, stopped, gamma=self.gamma)
        ending = stop_reward(
            next_potential, self.calibration.threshold[goal], temperature=self.temperature, penalty=self.penalty
        )
        return self.scale * progress + self.stop_weight * ending * stopped - self.step_cost

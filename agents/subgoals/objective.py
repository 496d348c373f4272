"""What subgoal-conditioned agents maximise: the bound of VSC-RL as written, its practical form, what its code does.

With o_i = log p(O | tau_i, sg_i) = J(tau_i) / alpha, up to a constant, of segment i under subgoal sg_i of goal g,

    SGC-ELBO_i = E[o_i] - KL(p_pi(tau_i | sg_i) || p_ref(tau_i | g)),     maximise the sum over i.

That the sum is the bound of the whole trajectory, E[J / alpha] - KL(p_pi(tau) || p_ref(tau | g)) <= log p(O | g), is
the paper's theorem. It holds (tests/agents/subgoals/test_objective.py enumerates a world) where

1. J is the sum of the segments' returns: no discount, or one that runs on from segment to segment. Discounted from each
   segment's own beginning, the sum is another number.
2. E and KL of a segment are given the state in which it begins, and that state is drawn as the *policy* gets there. Two
   whole distributions of tau_i compared, each with its own beginnings, count the divergence of beginnings on top.
3. The beginning holds all that the rest depends on: position, time left, a policy's memory.
4. Policy and reference act in one world, and segments are cut from what happened, the same for both.

Then KL is the expected sum over visited states of KL(pi(.|s, sg), ref(.|s, g)), which discrete actions give exactly,
and alpha times the bound is the expected sum of reward - alpha * KL over the steps. Its gradient is the policy gradient
with that reward, plus that of -alpha * KL at the states themselves: `learned_reward` and `step_loss`. With `bootstrap`
it is the gradient of the sum; without, of each segment from where it begins, as if nobody could help where that is.

The practical form (equation 7) weighs the log-likelihood of actions by exp(advantage within the segment / temperature)
and imitates an action of the reference: a *forward* divergence, which the bound does not have. The released code has
none at all: actions weigh 0 or 1, segments are filtered by DigiRL's critics, and what it calls imitation clones the
agent's own successes. `OBJECTIVES` has all three beside their controls.

Source: VSC-RL, arXiv:2502.07949, and github.com/ai-agents-2030/VSC_RL; AWR, arXiv:1910.00177; DigiRL, arXiv:2406.11896;
PPO, arXiv:1707.06347.
"""

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from agents.advantages import gae
from agents.ppo import surrogate
from agents.subgoals.critics import top_share
from agents.subgoals.divergence import DIVERGENCES
from agents.subgoals.segments import Segments, halving_returns, subgoal_advantages
from core.errors import InputError, check_choice

WEIGHT_LIMIT: Final = 20.0  # largest weight of an action, as in AWR
MARGIN: Final = 0.05  # what a step has to gain to count, in the code of DigiRL and VSC-RL
WORTHS: Final = ("surrogate", "exponential", "binary")


@dataclass(frozen=True)
class Objective:
    """What an agent maximises, as far as subgoals and the reference go; raises InputError for settings at odds."""

    reads_subgoal: bool  # the policy is told the subgoal under way, not the goal alone
    per_subgoal: bool  # segments end where a subgoal is done, else only with the episode
    worth: str = "surrogate"  # one of WORTHS: PPO's ratio times advantage; exp(advantage / temperature); 0 or 1
    bootstrap: bool = False  # a segment's end is worth what follows it, see `subgoal_advantages`
    subgoal_reward: float = 0.0  # added where a subgoal is done
    divergence: str = "none"  # from the reference, one of DIVERGENCES
    alpha: float = 0.0  # weight of the divergence: reward that a nat costs; beside weights, a plain factor
    in_return: bool = False  # actions answer for the divergence they lead to, as in the bound; else only for their own
    temperature: float = 1.0  # of exponential worth, in reward
    share: float = 1.0  # of binary worth: segments kept, those that beat the instruction critic by most
    clones_successes: bool = False  # before that, actions of segments that reached their subgoal are imitated

    def __post_init__(self) -> None:
        check_choice("worth", self.worth, WORTHS)
        check_choice("divergence", self.divergence, DIVERGENCES)
        if (self.divergence == "none") != (self.alpha == 0) or self.alpha < 0:
            raise InputError(
                f"divergence={self.divergence} with alpha={self.alpha}: a divergence needs alpha > 0, none needs 0"
            )
        if self.in_return and self.divergence != "reverse":
            raise InputError(f"in_return is for divergence=reverse, which the bound has; got {self.divergence}")
        if self.bootstrap and not self.per_subgoal:
            raise InputError("bootstrap says what a subgoal's end is worth; without per_subgoal no segment ends there")
        if self.temperature <= 0 or not 0 < self.share <= 1:
            raise InputError(f"temperature={self.temperature} should be positive, share={self.share} in (0, 1]")


OBJECTIVES: Final[dict[str, Objective]] = {
    "ppo": Objective(reads_subgoal=False, per_subgoal=False),
    "ppo-divergence": Objective(
        reads_subgoal=False, per_subgoal=False, divergence="reverse", alpha=0.01, in_return=True
    ),
    "ppo-bonus": Objective(reads_subgoal=False, per_subgoal=False, subgoal_reward=1.0),
    "ppo-told": Objective(reads_subgoal=True, per_subgoal=False),  # is it the objective, or being told?
    "digirl": Objective(reads_subgoal=False, per_subgoal=False, worth="binary", share=0.1),
    "vsc": Objective(
        reads_subgoal=True,
        per_subgoal=True,
        bootstrap=True,
        subgoal_reward=1.0,
        divergence="reverse",
        alpha=0.01,
        in_return=True,
    ),
    "vsc-imitation": Objective(
        reads_subgoal=True,
        per_subgoal=True,
        worth="exponential",
        subgoal_reward=1.0,
        divergence="imitation",
        alpha=0.05,
        temperature=0.5,
    ),
    "vsc-released": Objective(
        reads_subgoal=True, per_subgoal=True, worth="binary", subgoal_reward=1.0, share=0.1, clones_successes=True
    ),
}
"""The arms. alpha and temperature are this project's (that of the reverse divergence
chosen from 0.05 and 0.01 on another seed of door-key); the paper's own are not known to it. Share: DigiRL's code."""


def sgc_elbo(
    reward: Float[Tensor, "T B"],
    divergence: Float[Tensor, "T B"],
    segments: Segments,
    *,
    alpha: float,
    gamma: float = 1.0,
) -> Float[Tensor, " S"]:
    """Each segment's share of the bound in nats: its return / alpha - the divergence summed over its steps.

    Over rollouts of the policy its mean is the bound; with gamma 1, the sum over a trajectory's segments is the whole
    trajectory's.

    Args:
        divergence: exact reverse KL at each state, keeps its gradient. That of the states' distribution is not in it.
        alpha: reward per nat.
        gamma: discount of both from each segment's beginning, as advantages have it. Below 1 it is no bound any more.

    Raises:
        InputError: alpha not positive.
    """
    if alpha <= 0:
        raise InputError(f"alpha={alpha} should be positive: log p(O | tau) is the return divided by it")
    steps = torch.arange(len(reward), device=reward.device)[:, None]
    began = torch.where(segments.first, steps, 0).cummax(0).values
    return segments.total(gamma ** (steps - began).to(reward.dtype) * (reward / alpha - divergence))


def learned_reward(
    objective: Objective,
    reward: Float[Tensor, "T B"],
    done: Bool[Tensor, "T B"],
    divergence: Float[Tensor, "T B"],
) -> Float[Tensor, "T B"]:
    """What advantages are made of: the task's reward, what subgoals pay and, in the return, the divergence's price.

    Args:
        done: a subgoal was done with this step.
        divergence: at the state before it, of the policy that acted.
    """
    reward = reward + objective.subgoal_reward * done
    return reward - objective.alpha * divergence.detach() if objective.in_return else reward


def advantages(
    objective: Objective,
    reward: Float[Tensor, "T B"],
    value: Float[Tensor, "T B"],
    next_value: Float[Tensor, "T B"],
    done: Bool[Tensor, "T B"],
    terminated: Bool[Tensor, "T B"],
    truncated: Bool[Tensor, "T B"],
    *,
    gamma: float,
    lam: float,
) -> tuple[Float[Tensor, "T B"], Float[Tensor, "T B"]]:
    """Advantages and value targets within the objective's segments; the arguments are those of `subgoal_advantages`.

    Args:
        reward: of `learned_reward`.
    """
    if not objective.per_subgoal:
        return gae(reward, value, next_value, terminated, truncated, gamma=gamma, lam=lam)
    return subgoal_advantages(
        reward, value, next_value, done, terminated, truncated, gamma=gamma, lam=lam, bootstrap=objective.bootstrap
    )


def exponential_weights(advantage: Float[Tensor, "*s"], temperature: float) -> Float[Tensor, "*s"]:
    """exp(advantage / temperature), at most WEIGHT_LIMIT. Source: AWR, arXiv:1910.00177, section 3."""
    return (advantage / temperature).exp().clamp(max=WEIGHT_LIMIT)


def binary_weights(
    segments: Segments,
    done: Bool[Tensor, "T B"],
    chance: Float[Tensor, "T B"],
    next_chance: Float[Tensor, "T B"],
    beginning: Float[Tensor, " S"],
    *,
    share: float,
) -> Float[Tensor, "T B"]:
    """The released code's weights, 1 or 0: steps that gain, of segments that surprised.

    Kept are the `share` of segments with the highest success - beginning; of their steps those count where
    clip(next_chance - chance - 0.05 + r + G, 0, 1) > 0; r is 1 where the subgoal is done, G = 0.5^(steps to that).
    So every step of a kept success counts whose chance does not fall by more than G - 0.05, and of a kept failure each
    that raises the chance by more than 0.05. Only segments seen whole take part.

    Args:
        done: as `segments` were cut by.
        chance: of the step critic before the step; next_chance: after it.
        beginning: of the instruction critic, for each segment.

    Source: DigiRL, arXiv:2406.11896, and its code; that of VSC-RL, on segments instead of episodes.
    """
    kept = top_share(segments.reached.to(chance.dtype) - beginning, segments.whole, share)
    gain = next_chance - chance - MARGIN + done.to(chance.dtype) + halving_returns(segments, chance.dtype)
    return ((gain > 0) & segments.spread(kept)).to(chance.dtype)


def clone_weights(segments: Segments, dtype: torch.dtype = torch.float32) -> Float[Tensor, "T B"]:
    """What the released code calls imitation: 1 for the agent's own actions in segments that reached their subgoal.

    There it is the top tenth by a return of 0 or 1: the same where a tenth succeeds; where fewer do, its bar falls to 0
    and failures are cloned as well. That is not repeated here.
    """
    return segments.spread(segments.reached).to(dtype)


def step_loss(
    objective: Objective,
    log_prob: Float[Tensor, "*s"],
    old_log_prob: Float[Tensor, "*s"],
    worth: Float[Tensor, "*s"],
    divergence: Float[Tensor, "*s"],
    *,
    clip: float,
) -> Float[Tensor, "*s"]:
    """Loss of each step, to minimise; the caller takes the mean over the steps that count.

    Args:
        log_prob: of the actions taken, with gradient; old_log_prob: when they were taken.
        worth: without gradient. The advantage for worth=surrogate, else `exponential_weights`, or `binary_weights`
            (and `clone_weights` in a pass of its own before that).
        divergence: from the reference, with gradient. Where advantages or rewards were divided by a deviation, divide
            it by the same, or alpha no longer is reward per nat.
        clip: of the ratio, for worth=surrogate.
    """
    worth = worth.detach()
    if objective.worth == "surrogate":
        loss = -surrogate((log_prob - old_log_prob).exp(), worth, clip)
    else:
        loss = -worth * log_prob
    return loss + objective.alpha * divergence if objective.alpha else loss

"""Proximal policy optimisation on tensors: the update of one rollout.

Source: Schulman et al., arXiv:1707.06347. As in most implementations since (Huang et al., ICLR blog 2022) advantages
are normalised per minibatch and gradients clipped. Left out: value clipping, which Andrychowicz et al.
(arXiv:2006.05990) found harmful.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.advantages import gae
from agents.networks import Policy
from agents.rollout import Rollout


def clipped_surrogate(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, ""]:
    """PPO's loss (to minimise): -mean of min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A)."""
    ratio = (log_prob - old_log_prob).exp()
    return -torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    *,
    generator: torch.Generator,
    gamma: float,
    lam: float,
    epochs: int,
    minibatches: int,
    clip: float,
    entropy_coef: float,
    value_coef: float,
    max_grad_norm: float,
    max_kl: float,
) -> dict[str, float]:
    """Several epochs of PPO on one rollout.

    A policy with memory is trained on whole sequences, so its minibatches split the environments; one without splits
    single steps. Stops early after an epoch whose mean KL to the old policy passed `max_kl`.

    Returns:
        Means over the minibatches: policy_loss, value_loss, entropy, kl, clip_fraction; explained_variance; epochs.
    """
    advantage, target = gae(
        rollout.reward,
        rollout.value,
        rollout.next_value,
        rollout.terminated,
        rollout.truncated,
        gamma=gamma,
        lam=lam,
    )
    observation = policy.norm(rollout.observation)
    start, action, old_log_prob = rollout.start, rollout.action, rollout.log_prob
    explained = 1 - (target - rollout.value).var() / target.var().clamp_min(1e-8)
    memory = rollout.memory
    if policy.memory is None:  # every step stands alone: (T, B) -> (1, T * B)
        observation = observation.reshape(1, -1, observation.shape[-1])
        start, action, old_log_prob, advantage, target = (
            x.reshape(1, -1) for x in (start, action, old_log_prob, advantage, target)
        )
        memory = policy.initial_memory(observation.shape[1])

    names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
    records: list[Tensor] = []
    done_epochs = 0
    for _ in range(epochs):
        first = len(records)
        done_epochs += 1
        for rows in torch.randperm(action.shape[1], generator=generator).chunk(minibatches):
            logits, value = policy.unroll(observation[:, rows], start[:, rows], memory[rows])
            log_probs = torch.log_softmax(logits, dim=-1)
            log_prob = log_probs.gather(-1, action[:, rows, None]).squeeze(-1)
            part = advantage[:, rows]
            part = (part - part.mean()) / (part.std() + 1e-8)
            policy_loss = clipped_surrogate(log_prob, old_log_prob[:, rows], part, clip)
            value_loss = 0.5 * (value - target[:, rows]).pow(2).mean()
            entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
            loss = policy_loss + value_coef * value_loss - entropy_coef * entropy
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(policy.parameters(), max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                change = log_prob - old_log_prob[:, rows]
                kl = (change.exp() - 1 - change).mean()  # k3 of http://joschu.net/blog/kl-approx.html
                outside = ((change.exp() - 1).abs() > clip).float().mean()
                records.append(torch.stack([policy_loss.detach(), value_loss.detach(), entropy.detach(), kl, outside]))
        if torch.stack(records[first:])[:, 3].mean() > max_kl:
            break
    means = torch.stack(records).mean(0).tolist()
    return {**dict(zip(names, means)), "explained_variance": float(explained), "epochs": float(done_epochs)}

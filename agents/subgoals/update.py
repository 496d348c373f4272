"""One update of a subgoal-conditioned policy on a rollout, by any objective of agents/subgoals/objective.py.

The loop is PPO's (agents/ppo.py): passes of minibatches that are environments where the policy has a memory and single
steps where it has none, gradients summed over processes. What differs is what a step is worth and what else it costs:

    surrogate     advantages within segments, standardised over the rollout; the divergence is divided by the same
                  deviation, so alpha stays reward per nat
    exponential   exp(advantage / temperature) times log-likelihood; values are learned as for the surrogate
    binary        0 or 1 by the critics of outcomes (agents/subgoals/outcome_critics.py), the mean over the steps that
                  count; no values

Stored demonstrations may stand beside it, whatever the worth (agents/subgoals/replay.py).

Source: VSC-RL, arXiv:2502.07949; PPO, arXiv:1707.06347; AWR, arXiv:1910.00177.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.networks import Policy
from agents.ppo import explained_variance, minibatches_of
from agents.rollout import Rollout
from agents.subgoals.divergence import Reference, divergence
from agents.subgoals.objective import (
    Objective,
    advantages,
    binary_weights,
    clone_weights,
    exponential_weights,
    learned_reward,
    step_loss,
)
from agents.subgoals.outcome_critics import OutcomeCritics
from agents.subgoals.replay import Replayed
from agents.subgoals.segments import Segments, cut
from agents.subgoals.subgoal_env import Marks
from core import distributed
from core.errors import InputError


@dataclass(frozen=True)
class PassSettings:
    """How a rollout is gone through."""

    gamma: float
    lam: float
    epochs: int
    minibatches: int
    clip: float
    entropy_coef: float
    value_coef: float
    max_grad_norm: float
    max_kl: float  # of the surrogate: mean KL to the old policy after which passes stop

    @classmethod
    def of(cls, cfg: Any) -> "PassSettings":
        """From a job's configuration, which has keys of these names."""
        return cls(**{one.name: getattr(cfg, one.name) for one in fields(cls)})


@dataclass(frozen=True, eq=False)
class Worth:
    """What the steps of a rollout are worth to the policy, and what its values should be."""

    worth: Float[Tensor, "T B"]
    target: Float[Tensor, "T B"] | None  # None: values are not learned
    deviation: Float[Tensor, ""]  # that worth was divided by, and the divergence is to be


def segments_of(objective: Objective, marks: Marks, begins: Bool[Tensor, " B"]) -> Segments:
    """The segments an objective works on: those of subgoals, or whole episodes."""
    done = marks.subgoal | marks.goal if objective.per_subgoal else marks.goal
    return cut(done, marks.ended, begins)


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    marks: Marks,
    begins: Bool[Tensor, " B"],
    objective: Objective,
    reference: Reference,
    critics: OutcomeCritics | None,
    *,
    generator: torch.Generator,
    settings: PassSettings,
    replayed: Replayed | None = None,
) -> dict[str, float]:
    """Several passes over one rollout. Running statistics stay: call `policy.update_norms(rollout.observation)` after.

    Args:
        marks: of the rollout's steps.
        begins: the rollout's first step takes up a segment.
        reference: what the objective's divergence needs, at the rollout's steps.
        critics: for an objective of binary worth; they learn here.
        replayed: demonstrations to imitate beside, with as many environments and steps as the rollout.

    Returns:
        Means over the minibatches: policy_loss, value_loss, entropy, kl (to the policy that acted), divergence;
        replay_loss where demonstrations are replayed;
        explained_variance (0 where values are not learned), epochs, segments, reached (share of segments that ended
        with their subgoal done), kept (share of steps that count, of binary worth).

    Raises:
        InputError: continuous actions, or binary worth without critics.
    """
    if policy.log_std is not None:
        raise InputError("subgoal-conditioned learning is for discrete actions; use control=discrete")
    segments = segments_of(objective, marks, begins)
    found = {"segments": _total(segments.closed), "reached": _total(segments.reached)}
    found["reached"] /= max(found["segments"], 1.0)
    if objective.worth == "binary":
        if critics is None:
            raise InputError("binary worth needs critics of outcomes")
        if objective.clones_successes:
            weights = _mean_over_counted(clone_weights(segments))
            plain = replace(objective, divergence="none", alpha=0.0)
            first = Worth(weights, None, torch.ones(()))
            clone = _passes(policy, optimizer, rollout, first, plain, reference, generator, settings)
            found["clone_loss"] = clone["policy_loss"]
        found |= critics.update(policy, rollout.observation, segments, epochs=settings.epochs)
        chance, after, beginning = critics.judge(policy, rollout.observation, segments)
        done = segments.last & segments.spread(segments.reached)
        weights = binary_weights(segments, done, chance, after, beginning, share=objective.share)
        found["kept"] = _total(weights) / (weights.numel() * distributed.world_size())
        worth = Worth(_mean_over_counted(weights), None, torch.ones(()))
    else:
        worth = _advantages(policy, rollout, marks, segments, objective, reference, settings)
    found |= _passes(policy, optimizer, rollout, worth, objective, reference, generator, settings, replayed)
    if worth.target is not None:
        found["explained_variance"] = explained_variance(worth.target, rollout.value)
    return found


def _advantages(
    policy: Policy,
    rollout: Rollout,
    marks: Marks,
    segments: Segments,
    objective: Objective,
    reference: Reference,
    settings: PassSettings,
) -> Worth:
    """Worth by advantages."""
    away = torch.zeros_like(rollout.reward)
    if objective.in_return:
        away = divergence(objective.divergence, _old_logits(policy, rollout, settings.minibatches), reference)
    reward = learned_reward(objective, rollout.reward, marks.subgoal, away)
    advantage, target = advantages(
        objective,
        reward,
        rollout.value,
        rollout.next_value,
        marks.subgoal | marks.goal,
        rollout.terminated,
        rollout.truncated,
        gamma=settings.gamma,
        lam=settings.lam,
    )
    if objective.worth == "exponential":
        return Worth(exponential_weights(advantage, objective.temperature), target, torch.ones(()))
    mean, deviation = _moments(advantage)
    return Worth((advantage - mean) / deviation, target, deviation)


@torch.no_grad()
def _old_logits(policy: Policy, rollout: Rollout, parts: int) -> Float[Tensor, "T B A"]:
    """Logits of the policy that acted, a share of the environments at a time."""
    rows = torch.arange(rollout.start.shape[1], device=policy.device).chunk(parts)
    seen = policy.normalise(rollout.observation)
    pieces = [
        policy.unroll({name: x[:, part] for name, x in seen.items()}, rollout.start[:, part], rollout.memory[part])[0]
        for part in rows
    ]
    return torch.cat(pieces, 1)


def _passes(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    worth: Worth,
    objective: Objective,
    reference: Reference,
    generator: torch.Generator,
    settings: PassSettings,
    replayed: Replayed | None = None,
) -> dict[str, float]:
    """The passes themselves; means over their minibatches."""
    steps, batch = rollout.start.shape
    observation = policy.normalise(rollout.observation)
    columns: dict[str, Tensor] = {
        "start": rollout.start,
        "action": rollout.action,
        "log_prob": rollout.log_prob,
        "worth": worth.worth,
    }
    optional = {"target": worth.target, "logits": reference.logits, "reference_action": reference.action}
    columns |= {name: x for name, x in optional.items() if x is not None}
    memory, sequences = rollout.memory, policy.memory is not None
    if not sequences:  # every step stands alone: (T, B, ...) -> (1, T * B, ...)
        observation = {name: x.flatten(0, 1)[None] for name, x in observation.items()}
        columns = {name: x.flatten(0, 1)[None] for name, x in columns.items()}
        memory = policy.initial_memory(steps * batch)
    parameters = list(policy.parameters())
    records: list[Float[Tensor, " 6"]] = []
    done_epochs = 0
    for _ in range(settings.epochs):
        first = len(records)
        done_epochs += 1
        for rows, size in minibatches_of(
            steps, batch, settings.minibatches, sequences, generator, rollout.start.device
        ):
            part = {name: x[:, rows] for name, x in columns.items()}
            seen = {name: x.index_select(1, rows) for name, x in observation.items()}
            outputs, value = policy.unroll(seen, part["start"], memory[rows])
            actions = policy.distribution(outputs)
            log_prob = actions.log_prob(part["action"])
            count = size * len(outputs)
            away = divergence(
                objective.divergence, outputs, Reference(part.get("logits"), part.get("reference_action"))
            )
            losses = step_loss(
                objective, log_prob, part["log_prob"], part["worth"], away / worth.deviation, clip=settings.clip
            )
            policy_loss = losses.sum() / count
            entropy = actions.entropy().sum() / count
            value_loss = replay_loss = torch.zeros((), device=away.device)
            loss = policy_loss - settings.entropy_coef * entropy
            if worth.target is not None:
                value_loss = 0.5 * (value - part["target"]).square().sum() / count
                loss = loss + settings.value_coef * value_loss
            if replayed is not None:
                replay_loss = replayed.loss(rows, size)
                loss = loss + replayed.weight * replay_loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            distributed.sum_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                change = log_prob - part["log_prob"]
                kl = (change.exp() - 1 - change).sum() / count
                record = torch.stack([policy_loss, value_loss, entropy, kl, away.sum() / count, replay_loss])
                records.append(record.detach())
        epoch = distributed.sum_over_ranks(torch.stack(records[first:]))
        records[first:] = epoch.unbind()
        if objective.worth == "surrogate" and epoch[:, 3].mean() > settings.max_kl:
            break
    names = ("policy_loss", "value_loss", "entropy", "kl", "divergence", *(("replay_loss",) if replayed else ()))
    return {**dict(zip(names, torch.stack(records).mean(0).tolist())), "epochs": float(done_epochs)}


def _total(x: Tensor) -> float:
    """Sum over all processes."""
    return float(distributed.sum_over_ranks(x.double().sum()))


def _mean_over_counted(weights: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
    """Weights of 0 and 1 scaled so that a mean over all steps is one over those that count, on all processes."""
    whole = weights.numel() * distributed.world_size()
    return weights * (whole / max(_total(weights), 1.0))


def _moments(x: Float[Tensor, "T B"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Mean and deviation over all processes."""
    count = x.numel() * distributed.world_size()
    mean = distributed.sum_over_ranks(x.double().sum()) / count
    square = distributed.sum_over_ranks(((x.double() - mean) ** 2).sum())
    return mean.to(x.dtype), ((square / max(count - 1, 1)).sqrt() + 1e-8).to(x.dtype)

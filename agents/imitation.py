"""Behaviour cloning: learn what a teacher would do, as a warm start for PPO or as a baseline.

With `beta` below 1 the learner itself takes that much less of the steps, so it is corrected in the places its own
mistakes lead to, while the label is always the teacher's (DAgger). Differs from the paper in that each update sees the
newest steps only, not all that were ever collected: the teacher labels new ones at no cost.

Where asked for, the value learns beside it what the steps taken returned. That is the critic of whoever acted: cloned
for 40,000 steps with `beta` 1, it explained 78 % of the teacher's returns and 9-18 % of the clone's own, and PPO from
there did no better on val homes than with a fresh critic (FindObject, two seeds). So it is off unless named.

Source: Ross, Gordon and Bagnell, "A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning", AISTATS 2011, arXiv:1011.0686.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.advantages import gae
from agents.networks import Observation, Policy
from agents.ppo import explained_variance, minibatches_of
from agents.rollout import Ends, EpisodeLog, Progress, TensorEnv
from core import distributed
from core.errors import InputError

Teacher = Callable[[], Tensor]  # the right action for each environment as it stands now: (B,) int64 or (B, A) float


@dataclass
class Demonstration:
    """T steps of B environments with what the teacher would have done, and what came of what was done."""

    observation: Observation  # (T, B, ...) raw
    start: Bool[Tensor, "T B"]  # first step of an episode
    memory: Float[Tensor, "B M"]  # the policy's memory before the first step
    label: Tensor  # (T, B) int64, or (T, B, A) float
    reward: Float[Tensor, "T B"]
    terminated: Bool[Tensor, "T B"]
    truncated: Bool[Tensor, "T B"]
    value: Float[Tensor, "T B"] | None = None  # the policy's, where asked for
    next_value: Float[Tensor, "T B"] | None = None  # of what the step led to, before any reset


@torch.no_grad()
def demonstrate(
    env: TensorEnv,
    policy: Policy,
    teacher: Teacher,
    progress: Progress,
    steps: int,
    generator: torch.Generator,
    log: EpisodeLog,
    *,
    beta: float = 1.0,
    values: bool = False,
) -> Demonstration:
    """Act `steps` times in every environment; `progress` moves along in place.

    Args:
        teacher: asked once before each step.
        beta: chance that the teacher's action is the one taken, drawn anew for each environment and step.
        values: have the policy say what it thinks each step is worth.

    Raises:
        InputError: `beta` outside 0..1, or an action of the teacher that the environment does not know.
    """
    if not 0 <= beta <= 1:
        raise InputError(f"beta={beta} should be between 0 (the learner acts) and 1 (the teacher acts)")
    batch, device = env.num_envs, policy.device
    whole = batch * distributed.world_size()
    own = slice(distributed.rank() * batch, (distributed.rank() + 1) * batch)
    noise = policy.draw_noise((steps, whole), generator)[:, own].to(device)
    guided = (torch.rand((steps, whole), generator=generator, device=generator.device) < beta)[:, own].to(device)
    memory_at_start = progress.memory
    observations: dict[str, list[Tensor]] = {name: [] for name in policy.config.observations}
    starts, labels, ended, ends = [], [], [], Ends()
    value = torch.zeros(steps, batch, device=device)
    last_step = torch.arange(batch, device=device)
    for t in range(steps):
        for name, parts in observations.items():
            parts.append(progress.observation[name].clone())
        starts.append(progress.start)
        label = teacher().to(device)
        _check(label, env)
        labels.append(label)
        action, memory = label, progress.memory
        if beta < 1 or policy.memory is not None or values:
            memory = memory.masked_fill(progress.start[:, None], 0.0)
            outputs, value[t], memory = policy(policy.normalise(progress.observation), memory)
            drawn = policy.distribution(outputs).sample(noise[t])
            action = torch.where(guided[t] if label.ndim == 1 else guided[t][:, None], label, drawn)
        step = env.step(action)
        log.add(step)
        ended.append((step.reward, step.terminated, step.truncated))
        rows = last_step if t == steps - 1 else step.truncated.nonzero()[:, 0]
        if values and len(rows):
            ends.add(t, rows, {name: step.final_observation[name] for name in observations}, memory)
        progress.observation, progress.memory = step.observation, memory
        progress.start = step.terminated | step.truncated
    stacked = {name: torch.stack(parts) for name, parts in observations.items()}
    reward, terminated, truncated = (torch.stack(column) for column in zip(*ended))
    shown = Demonstration(
        stacked, torch.stack(starts), memory_at_start, torch.stack(labels), reward, terminated, truncated
    )
    if values:
        shown.value, shown.next_value = value, torch.cat([value[1:], value[-1:]])
        ends.write(policy, shown.next_value)
    return shown


def imitate(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    shown: Demonstration,
    *,
    generator: torch.Generator,
    epochs: int,
    minibatches: int,
    max_grad_norm: float,
    value_coef: float = 0.0,
    gamma: float = 0.99,
    lam: float = 0.95,
) -> dict[str, float]:
    """Raise the probability of the teacher's actions: several passes over one demonstration.

    Minibatches, memory and several processes as in `agents.ppo.update`.

    Args:
        value_coef: weight of the value loss, the target being GAE's; 0 leaves the value head as it is. Above it, the
            demonstration has to hold values.

    Returns:
        Means over the minibatches: clone_loss (-log probability of the label), agreement (share of labels that the
        policy thinks most probable; for continuous actions instead action_distance, the mean distance to them),
        entropy. With values also value_loss, and explained_variance before the passes.
    """
    steps, batch = shown.start.shape
    target = torch.zeros_like(shown.reward)
    explained: dict[str, float] = {}
    if value_coef:
        assert shown.value is not None and shown.next_value is not None, "demonstrate(..., values=True)"
        ends = (shown.terminated, shown.truncated)
        _, target = gae(shown.reward, shown.value, shown.next_value, *ends, gamma=gamma, lam=lam)
        explained["explained_variance"] = explained_variance(target, shown.value)
    observation = policy.normalise(shown.observation)
    start, label, memory = shown.start, shown.label, shown.memory
    sequences = policy.memory is not None
    if not sequences:
        observation = {name: x.flatten(0, 1)[None] for name, x in observation.items()}
        start, label, target = (x.flatten(0, 1)[None] for x in (start, label, target))
        memory = policy.initial_memory(steps * batch)
    parameters = list(policy.parameters())
    records = []
    for _ in range(epochs):
        for rows, size in minibatches_of(steps, batch, minibatches, sequences, generator, start.device):
            seen = {name: x.index_select(1, rows) for name, x in observation.items()}
            outputs, value = policy.unroll(seen, start[:, rows], memory[rows])
            actions, wanted = policy.distribution(outputs), label[:, rows]
            count = size * len(start)
            clone_loss = -actions.log_prob(wanted).sum() / count
            value_loss = 0.5 * (value - target[:, rows]).square().sum() / count
            loss = clone_loss + value_coef * value_loss if value_coef else clone_loss
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            distributed.sum_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                if policy.log_std is None:
                    agreement = (actions.mode() == wanted).sum() / count
                else:
                    agreement = (actions.mode() - wanted).norm(dim=-1).sum() / count
                entropy = actions.entropy().sum() / count
                records.append(torch.stack([clone_loss, agreement, entropy, value_loss]).detach())
    means = distributed.sum_over_ranks(torch.stack(records)).mean(0).tolist()
    agreement_name = "agreement" if policy.log_std is None else "action_distance"
    names = ("clone_loss", agreement_name, "entropy", "value_loss")[: 4 if value_coef else 3]
    return {**dict(zip(names, means)), **explained}


def clone(
    policy: Policy,
    env: TensorEnv,
    teacher: Teacher,
    *,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    steps: int,
    generator: torch.Generator,
    log: EpisodeLog,
    beta: float = 1.0,
    epochs: int = 1,
    minibatches: int = 4,
    max_grad_norm: float = 0.5,
    value_coef: float = 0.0,
    gamma: float = 0.99,
    lam: float = 0.95,
) -> dict[str, float]:
    """One update of behaviour cloning: `steps` in every environment, then passes over them, then the running norms.

    A job calls this in its loop, as it calls `collect` and `update` for PPO, and checkpoints the same five parts:
    policy, optimizer, generator, `progress`, `env`; a run resumed from them makes the same weights.

    Args:
        teacher: e.g. `lambda: expert(env.state, None)` with envs.expert.Expert.
        beta: share of steps the teacher takes; 1 = plain behaviour cloning, below 1 = DAgger.
        value_coef: weight of fitting the value to what the steps returned, discounted by `gamma`; 0 = it is not fitted.

    Returns:
        What `imitate` returns.
    """
    shown = demonstrate(env, policy, teacher, progress, steps, generator, log, beta=beta, values=value_coef > 0)
    settings: dict[str, Any] = {"epochs": epochs, "minibatches": minibatches, "max_grad_norm": max_grad_norm}
    settings |= {"value_coef": value_coef, "gamma": gamma, "lam": lam}
    result = imitate(policy, optimizer, shown, generator=generator, **settings)
    policy.update_norms(shown.observation)
    return result


def _check(label: Tensor, env: TensorEnv) -> None:
    shape = (env.num_envs, env.action_size) if env.action_size else (env.num_envs,)
    if tuple(label.shape) != shape or (env.num_actions and bool(((label < 0) | (label >= env.num_actions)).any())):
        raise InputError(
            f"the teacher gave actions of shape {tuple(label.shape)}, from {label.min().item()} to "
            f"{label.max().item()}; expected shape {shape}"
            + (f" and numbers below {env.num_actions}" if env.num_actions else "")
        )

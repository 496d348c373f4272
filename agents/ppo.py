"""Proximal policy optimisation on tensors: the update of one rollout.

Source: Schulman et al., arXiv:1707.06347. As in most implementations since (Huang et al., ICLR blog 2022) advantages
are normalised per minibatch and gradients clipped. Left out: value clipping, which Andrychowicz et al.
(arXiv:2006.05990) found harmful.

Data parallel (torchrun): the minibatches are those one process with all environments would draw. Every process holds
an equal generator, draws the whole permutation and takes the rows of its own environments; advantages are normalised
by the mean and deviation of the whole minibatch, losses divided by its size, gradients summed. So W processes with B/W
environments make the update of one process with B, to the rounding of sums, and shares of a minibatch differ a little
in size from process to process.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from agents.advantages import gae
from agents.networks import Policy
from agents.rollout import Rollout
from core import distributed


def clipped_surrogate(
    log_prob: Float[Tensor, "*s"], old_log_prob: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float
) -> Float[Tensor, ""]:
    """PPO's loss (to minimise): -mean of min(ratio * A, clip(ratio, 1 - clip, 1 + clip) * A)."""
    return -surrogate((log_prob - old_log_prob).exp(), advantage, clip).mean()


def surrogate(ratio: Float[Tensor, "*s"], advantage: Float[Tensor, "*s"], clip: float) -> Float[Tensor, "*s"]:
    return torch.min(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def minibatches_of(
    steps: int, batch: int, parts: int, sequences: bool, generator: torch.Generator, device: torch.device
) -> Iterator[tuple[Int64[Tensor, " M"], int]]:
    """One pass over a rollout in random order: this process's rows of each minibatch, and the size of all of it.

    Args:
        sequences: rows are environments, else single steps, numbered t * batch + environment.
        generator: in the same state on every process.
        device: of the rollout, where the rows will be looked up.
    """
    world, rank = distributed.world_size(), distributed.rank()
    whole = batch * world
    order = torch.randperm(whole if sequences else steps * whole, generator=generator, device=generator.device)
    order = order.to(device)
    for rows in order.chunk(parts):
        size = len(rows)
        if world > 1:
            env = rows % whole
            mine = (env >= rank * batch) & (env < (rank + 1) * batch)
            rows = (rows // whole * batch + env - rank * batch)[mine]
        yield rows, size


def _normalised(
    advantage: Float[Tensor, "T B"], passes: list[tuple[Int64[Tensor, " M"], int]]
) -> list[Float[Tensor, "T M"]]:
    """The advantages of each minibatch with mean 0 and deviation 1 over all processes; one message for the pass."""
    parts = [advantage[:, rows] for rows, _ in passes]
    if distributed.world_size() == 1:
        return [(part - part.mean()) / (part.std() + 1e-8) for part in parts]
    count = torch.tensor([size * len(advantage) for _, size in passes], dtype=torch.float64, device=advantage.device)
    mean = distributed.sum_over_ranks(torch.stack([part.double().sum() for part in parts])) / count
    square = torch.stack([((part.double() - m) ** 2).sum() for part, m in zip(parts, mean)])
    scale = (distributed.sum_over_ranks(square) / (count - 1)).sqrt() + 1e-8
    return [((part - m) / s).to(advantage.dtype) for part, m, s in zip(parts, mean, scale)]


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
    single steps. Stops early after an epoch whose mean KL to the old policy passed `max_kl`. The running statistics of
    the policy stay as they are: call `policy.update_norms(rollout.observation)` afterwards.

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
    explained = explained_variance(target, rollout.value)
    steps, batch = rollout.start.shape
    observation = policy.normalise(rollout.observation)
    start, action, old_log_prob, memory = rollout.start, rollout.action, rollout.log_prob, rollout.memory
    sequences = policy.memory is not None
    if not sequences:  # every step stands alone: (T, B, ...) -> (1, T * B, ...)
        observation = {name: x.flatten(0, 1)[None] for name, x in observation.items()}
        start, action, old_log_prob, advantage, target = (
            x.flatten(0, 1)[None] for x in (start, action, old_log_prob, advantage, target)
        )
        memory = policy.initial_memory(steps * batch)

    room: dict[str, Tensor] = {}
    parameters = list(policy.parameters())
    records: list[Float[Tensor, " 5"]] = []
    done_epochs = 0
    for _ in range(epochs):
        first = len(records)
        done_epochs += 1
        passes = list(minibatches_of(steps, batch, minibatches, sequences, generator, start.device))
        for (rows, size), part in zip(passes, _normalised(advantage, passes)):
            seen = {name: _take(x, rows, room, name) for name, x in observation.items()}
            outputs, value = policy.unroll(seen, start[:, rows], memory[rows])
            actions = policy.distribution(outputs)
            change = actions.log_prob(action[:, rows]) - old_log_prob[:, rows]
            ratio = change.exp()
            count = size * len(part)
            policy_loss = -surrogate(ratio, part, clip).sum() / count
            value_loss = 0.5 * (value - target[:, rows]).square().sum() / count
            entropy = actions.entropy().sum() / count
            loss = policy_loss + value_coef * value_loss - entropy_coef * entropy
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            distributed.sum_gradients(parameters)
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
            optimizer.step()
            with torch.no_grad():
                kl = (ratio - 1 - change).sum() / count  # k3 of http://joschu.net/blog/kl-approx.html
                outside = ((ratio - 1).abs() > clip).sum() / count
                records.append(torch.stack([policy_loss, value_loss, entropy, kl, outside]).detach())
        epoch = distributed.sum_over_ranks(torch.stack(records[first:]))
        records[first:] = epoch.unbind()
        if epoch[:, 3].mean() > max_kl:
            break
    means = torch.stack(records).mean(0).tolist()
    names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
    return {**dict(zip(names, means)), "explained_variance": explained, "epochs": float(done_epochs)}


def _take(x: Tensor, rows: Int64[Tensor, " M"], room: dict[str, Tensor], name: str) -> Tensor:
    """`x[:, rows]` in memory used again for each minibatch: fresh pages cost more than copying pictures does."""
    old = room.get(name)
    if old is None or old.shape[1] != len(rows):
        room[name] = x.index_select(1, rows)
        return room[name]
    return torch.index_select(x, 1, rows, out=old)


def explained_variance(target: Float[Tensor, "T B"], value: Float[Tensor, "T B"]) -> float:
    """Share of the targets' variance that the values explain, over all processes."""
    error = target - value
    sums = torch.stack([x.double().sum() for x in (target, target**2, error, error**2)])
    total, square, off, off_square = (
        distributed.sum_over_ranks(sums) / (target.numel() * distributed.world_size())
    ).tolist()
    return 1 - (off_square - off**2) / max(square - total**2, 1e-8)

"""A world small enough to write down every trajectory: four cells, two subgoals, a floor that slips.

The agent starts in cell 1, is to reach cell 3 and then cell 0. Each of T steps it walks left or right; with SLIP it
stays instead. A column of the tensors is one sequence of actions and slips, all 4^T of them. Where nothing is left to
do, policy and reference choose alike and no reward is paid.
"""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

CELLS, TARGETS, SLIP = 4, (3, 0), 0.2
NOTHING_LEFT = len(TARGETS)


@dataclass
class Trajectories:
    """All K of them: (T, K) tensors but the last."""

    cell: Tensor  # before the step
    aim: Tensor  # subgoal under way, NOTHING_LEFT after the last
    action: Tensor
    reward: Tensor
    done: Tensor  # the step did the subgoal
    world: Tensor  # probability that the floor did what it did
    end: Tensor  # (K,) cell after the last step


def every_trajectory(steps: int) -> Trajectories:
    """Reward: 1 where a subgoal is done, -0.1 for a step before that."""
    columns = list(itertools.product(itertools.product((0, 1), (False, True)), repeat=steps))
    action = torch.tensor([[a for a, _ in column] for column in columns]).T
    slips = torch.tensor([[s for _, s in column] for column in columns]).T
    cell = torch.full((len(columns),), 1)
    aim = torch.zeros(len(columns), dtype=torch.int64)
    targets = torch.tensor([*TARGETS, -1])
    rows = []
    for t in range(steps):
        moved = torch.where(slips[t], cell, (cell + 2 * action[t] - 1).clamp(0, CELLS - 1))
        done = moved == targets[aim]
        rows.append((cell, aim, torch.where(done, 1.0, -0.1) * (aim < NOTHING_LEFT), done))
        cell, aim = moved, aim + done
    cells, aims, reward, done = (torch.stack(row) for row in zip(*rows))
    return Trajectories(cells, aims, action, reward.double(), done, torch.where(slips, SLIP, 1 - SLIP).double(), cell)


def policies(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a policy (subgoal, cell, action), which learns, and of a reference (cell, action)."""
    generator = torch.Generator().manual_seed(seed)
    policy = torch.randn(len(TARGETS), CELLS, 2, generator=generator, dtype=torch.float64).requires_grad_()
    return policy, torch.randn(CELLS, 2, generator=generator, dtype=torch.float64)


def logits_of(world: Trajectories, policy: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both at every step, (T, K, 2)."""
    return torch.cat([policy, reference[None]])[world.aim, world.cell], reference[world.cell]


def log_probs_of(world: Trajectories, logits: Tensor) -> Tensor:
    """Of the actions taken, (T, K)."""
    return logits.log_softmax(-1).gather(-1, world.action[..., None])[..., 0]

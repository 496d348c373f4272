"""What a turn's prompt is worth: a small network on the model's state at the prompt's last token.

RL4VLM puts its value head there too (arXiv:2405.10292). Here it reads the state without training the model through it,
so that an update of the policy is the same whoever estimates the advantages.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from agents.reasoning.log_probs import answer_states
from agents.reasoning.types import Prompts, Responses
from core import distributed

HIDDEN, PASSES, RATE = 64, 20, 1e-3


class TurnCritic:
    """Values of prompts, fitted to what came of them; alike in all processes.

    In float32 whatever the model runs under: advantages are differences of values that lie close together.
    """

    def __init__(self, width: int, *, seed: int, device: torch.device | str = "cpu") -> None:
        """
        Args:
            width: of the model's states.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
        for parameter in self.network[-1].parameters():
            nn.init.zeros_(parameter)  # before anything is known, every turn is worth nothing
        self.network.to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE)

    @torch.no_grad()
    def values(self, states: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
        """What prompts with these states are worth."""
        with torch.autocast(states.device.type, enabled=False):
            return self.network(states)[:, 0]

    def fit(self, states: Float[Tensor, "B D"], target: Float[Tensor, " B"]) -> float:
        """Moves towards the targets, over the turns of all processes; returns the squared error before."""
        count = float(distributed.sum_over_ranks(torch.tensor(float(len(target)))))
        first = torch.zeros(())
        for number in range(PASSES):
            self.optimizer.zero_grad(set_to_none=True)
            with torch.autocast(states.device.type, enabled=False):  # of the backward pass too
                loss = mse_loss(self.network(states)[:, 0], target, reduction="sum") / count
                loss.backward()
            distributed.sum_gradients(self.network.parameters())
            self.optimizer.step()
            if number == 0:
                first = distributed.sum_over_ranks(loss.detach().cpu())
        return float(first)

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.network.load_state_dict(saved["network"])
        self.optimizer.load_state_dict(saved["optimizer"])


@torch.no_grad()
def prompt_states(vlm: Any, prompts: Prompts, *, rows: int) -> Float[Tensor, "B D"]:
    """The model's final state at the last token of each prompt.

    Args:
        rows: per forward pass.
    """
    parts = []
    for start in range(0, len(prompts), rows):
        here = prompts.rows(range(start, min(len(prompts), start + rows)))
        nothing = torch.full((len(here), 1), vlm.pad_id, device=vlm.device)
        said = Responses(nothing, torch.ones_like(nothing, dtype=torch.bool), nothing[:, 0] < 0, ("",) * len(here))
        parts.append(answer_states(vlm, here, said, as_inputs=False).predicting[:, 0].float())
    return torch.cat(parts)

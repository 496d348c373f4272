"""What a policy remembers of an episode: a GRU's units, or what a transformer saw in its last steps.

Both take the features of a step to a summary of the episode so far. Between steps the memory is one flat row of numbers
for each environment, and all zeros is the memory of an episode that has not begun: so rollouts, resets and checkpoints
handle both alike. `unroll` gives what one `forward` after the other would, without a loop where there is no recurrence.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import InputError

HEADS = 4


class GRUMemory(nn.GRUCell):
    """A gated recurrent unit; its summary is its memory.

    Attributes:
        size: M, numbers kept for an environment.
        width: of the summary.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__(features, width)
        self.size = self.width = width

    def step(self, features: Float[Tensor, "B E"], memory: Float[Tensor, "B M"]) -> tuple[Tensor, Tensor]:
        """Summary (B, W) and memory (B, M) after a step."""
        after = self(features, memory)
        return after, after

    def unroll(
        self, features: Float[Tensor, "T B E"], start: Bool[Tensor, "T B"], memory: Float[Tensor, "B M"]
    ) -> Float[Tensor, "T B W"]:
        """Summaries of a rollout; `start` marks first steps of episodes, where the memory is emptied."""
        # the input side has no recurrence: one product for all T
        gates_in = F.linear(features, self.weight_ih, self.bias_ih)
        keep = (~start).to(features.dtype)[..., None]
        rows = []
        for t in range(len(start)):
            memory = self._after(gates_in[t], memory * keep[t])
            rows.append(memory)
        return torch.stack(rows)

    def _after(self, gates_in: Float[Tensor, "B 3M"], memory: Float[Tensor, "B M"]) -> Float[Tensor, "B M"]:
        """One step from the finished input product."""
        gates = F.linear(memory, self.weight_hh, self.bias_hh)
        reset_in, update_in, new_in = gates_in.chunk(3, -1)
        reset_h, update_h, new_h = gates.chunk(3, -1)
        reset, update = torch.sigmoid(reset_in + reset_h), torch.sigmoid(update_in + update_h)
        new = torch.tanh(new_in + reset * new_h)
        return new + update * (memory - new)


class TransformerMemory(nn.Module):
    """Causal self-attention over the last steps of the episode, gated as in GTrXL.

    Each layer attends to its inputs at the step itself and at the `window` steps before, by content and by how long
    ago they were (a learned bias). These inputs are what is kept, and no gradient flows into those of an earlier
    rollout, as none flows into a GRU's memory. With L layers a step sees L times `window` steps back.

    Source: Parisotto et al., arXiv:1910.06764 (gates, normalisation before each part); Dai et al., arXiv:1901.02860
    (inputs kept by layer).

    Args:
        width: W, of each layer; a multiple of the heads.
        window: K, steps that are kept.

    Attributes:
        size: M = K + L * K * W, numbers kept for an environment: which of the K are there, then each layer's inputs,
            the oldest first.

    Raises:
        InputError: a width that the heads do not divide, no window or no layer.
    """

    def __init__(self, features: int, width: int, window: int, layers: int = 1) -> None:
        super().__init__()
        if width % HEADS or min(width, window, layers) < 1:
            raise InputError(
                f"a transformer of width {width}, window {window} and {layers} layers does not work: the width is a "
                f"multiple of {HEADS}, window and layers are positive"
            )
        self.width, self.window, self.size = width, window, window * (1 + layers * width)
        self.embed = nn.Linear(features, width)
        self.layers = nn.ModuleList(_Layer(width, window) for _ in range(layers))

    def step(self, features: Float[Tensor, "B E"], memory: Float[Tensor, "B M"]) -> tuple[Tensor, Tensor]:
        """Summary (B, W) and memory (B, M) after a step."""
        there, kept = self._split(memory)
        x, seen = self.embed(features)[None], []
        now = torch.ones_like(there[:, :1])
        allowed = torch.cat([there, now], 1)[:, None] > 0  # (B, 1, K + 1)
        for layer, before in zip(self.layers, kept):
            inputs = torch.cat([before, x])
            seen.append(inputs[1:])
            x = layer(x, inputs, allowed)
        after = torch.cat([torch.cat([there, now], 1)[:, 1:], *(part.transpose(0, 1).flatten(1) for part in seen)], 1)
        return x[0], after

    def unroll(
        self, features: Float[Tensor, "T B E"], start: Bool[Tensor, "T B"], memory: Float[Tensor, "B M"]
    ) -> Float[Tensor, "T B W"]:
        """Summaries of a rollout; `start` marks first steps of episodes, where the memory is emptied."""
        there, kept = self._split(memory)
        x = self.embed(features)
        allowed = self._allowed(there, start)
        for layer, before in zip(self.layers, kept):
            x = layer(x, torch.cat([before, x]), allowed)
        return x

    def _split(self, memory: Float[Tensor, "B M"]) -> tuple[Float[Tensor, "B K"], list[Float[Tensor, "K B W"]]]:
        """Which steps are there, and each layer's inputs at them."""
        there, inputs = memory[:, : self.window], memory[:, self.window :]
        parts = inputs.view(len(memory), len(self.layers), self.window, self.width)
        return there, list(parts.permute(1, 2, 0, 3))

    def _allowed(self, there: Float[Tensor, "B K"], start: Bool[Tensor, "T B"]) -> Bool[Tensor, "B T J"]:
        """Which of the J = K + T inputs each step may attend to: of its own episode, and within the window."""
        steps, window = len(start), self.window
        episode = start.cumsum(0).T  # (B, T); what was kept belongs to episode 0
        same = episode[:, :, None] == torch.cat([torch.zeros_like(there, dtype=episode.dtype), episode], 1)[:, None]
        known = torch.cat([there > 0, torch.ones_like(episode, dtype=torch.bool)], 1)[:, None]
        ago = _ago(steps, window, start.device)
        return same & known & (ago >= 0) & (ago <= window)


class _Layer(nn.Module):
    def __init__(self, width: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.norm, self.norm_inner = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.pair = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.gate, self.gate_inner = _Gate(width), _Gate(width)
        self.since = nn.Parameter(torch.zeros(HEADS, window + 1))  # by how many steps ago

    def forward(
        self, x: Float[Tensor, "T B W"], inputs: Float[Tensor, "J B W"], allowed: Bool[Tensor, "B T J"]
    ) -> Float[Tensor, "T B W"]:
        """The last T of the inputs, having attended to all that is allowed."""
        steps, batch, width = x.shape
        normed = self.norm(inputs)
        query = self.query(normed[-steps:]).view(steps, batch, HEADS, -1).permute(1, 2, 0, 3)
        key, value = self.pair(normed).view(len(inputs), batch, 2, HEADS, -1).permute(2, 1, 3, 0, 4)
        ago = _ago(steps, self.window, x.device).clamp(0, self.window)
        bias = self.since[:, ago][None].expand(batch, -1, -1, -1)
        read = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(~allowed[:, None], -torch.inf))
        read = self.out(read.permute(2, 0, 1, 3).reshape(steps, batch, width))
        x = self.gate(x, F.relu(read))
        return self.gate_inner(x, F.relu(self.inner(self.norm_inner(x))))


class _Gate(nn.Module):
    """GTrXL's gate in the form of a GRU, which at first lets most of what is there pass (its section 3.2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.new, self.old = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.mixed = nn.Linear(width, width, bias=False)
        self.bias = nn.Parameter(torch.full((width,), 2.0))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """What is there and what comes on top, each (..., W)."""
        reset_in, update_in, new_in = self.new(y).chunk(3, -1)
        reset_h, update_h = self.old(x).chunk(2, -1)
        update = torch.sigmoid(update_in + update_h - self.bias)
        new = torch.tanh(new_in + self.mixed(torch.sigmoid(reset_in + reset_h) * x))
        return x + update * (new - x)


def _ago(steps: int, window: int, device: torch.device) -> Tensor:
    """(T, J): how many steps before step t input j is; negative for those that come after it."""
    return torch.arange(steps, device=device)[:, None] + window - torch.arange(window + steps, device=device)

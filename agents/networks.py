"""The policy and value network: an MLP on an observation vector, with an optional GRU as memory.

Observations are standardised by running statistics that belong to the policy and are saved with it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from core.checkpoint import load_weights
from core.errors import InputError, existing_file
from core.files import atomic_write, read_json

FORMAT = "sightline-policy/1"
CLIP = 5.0  # standardised observations beyond this many standard deviations are cut off


@dataclass(frozen=True)
class PolicyShape:
    """What rebuilds the network."""

    observation_size: int
    num_actions: int
    width: int = 128  # units of each hidden layer
    memory: int = 128  # units of the GRU; 0 = no memory, a plain feed-forward policy


class RunningNorm(nn.Module):
    """Mean and variance of all observations seen so far, merged batch by batch."""

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("var", torch.ones(size, dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def update(self, batch: Float[Tensor, "*b F"]) -> None:
        """Merge a batch. Source: Chan, Golub, LeVeque (1979), pairwise update of mean and variance."""
        rows = batch.reshape(-1, batch.shape[-1]).double()
        mean, var, count = rows.mean(0), rows.var(0, unbiased=False), len(rows)
        total = self.count + count
        delta = mean - self.mean
        self.var.copy_((self.var * self.count + var * count + delta**2 * self.count * count / total) / total)
        self.mean.add_(delta * count / total)
        self.count.copy_(total)

    def forward(self, observation: Float[Tensor, "*b F"]) -> Float[Tensor, "*b F"]:
        scale = (self.var + 1e-6).rsqrt()
        return ((observation - self.mean.to(observation)) * scale.to(observation)).clamp(-CLIP, CLIP)


class Policy(nn.Module):
    """Action logits and value from a standardised observation vector.

    `forward` is one step of B environments, `unroll` is T of them; both read observations that went through
    `self.norm`, so that statistics may move between rollouts without old and new policy disagreeing.
    """

    def __init__(self, shape: PolicyShape) -> None:
        super().__init__()
        self.shape = shape
        self.norm = RunningNorm(shape.observation_size)
        self.body = _mlp(shape.observation_size, shape.width)
        self.value_body = _mlp(shape.observation_size, shape.width)
        self.memory = nn.GRUCell(shape.width, shape.memory) if shape.memory else None
        features = shape.width + shape.memory
        self.action_head = nn.Linear(features, shape.num_actions)
        self.value_head = nn.Linear(features, 1)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, 2**0.5)
                nn.init.zeros_(module.bias)
        # first actions nearly uniform, first values near zero: Andrychowicz et al., arXiv:2006.05990, section 3.2
        nn.init.orthogonal_(self.action_head.weight, 0.01)
        nn.init.orthogonal_(self.value_head.weight, 1.0)
        if self.memory is not None:
            nn.init.orthogonal_(self.memory.weight_hh)

    def initial_memory(self, batch: int) -> Float[Tensor, "B M"]:
        """What the memory holds when an episode starts: zeros (of width 0 without a GRU)."""
        return torch.zeros(batch, self.shape.memory, device=self.value_head.weight.device)

    def forward(
        self, observation: Float[Tensor, "B F"], memory: Float[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, " B"], Float[Tensor, "B M"]]:
        """Logits, value and the memory after this step."""
        features, value_features = self.body(observation), self.value_body(observation)
        if self.memory is not None:
            memory = self.memory(features, memory)
        logits, value = self._heads(features, value_features, memory)
        return logits, value, memory

    def unroll(
        self,
        observation: Float[Tensor, "T B F"],
        start: Bool[Tensor, "T B"],
        memory: Float[Tensor, "B M"],
    ) -> tuple[Float[Tensor, "T B A"], Float[Tensor, "T B"]]:
        """Logits and values of a rollout; `start` marks first steps of episodes, where the memory is emptied."""
        features, value_features = self.body(observation), self.value_body(observation)
        memories = observation.new_zeros(*observation.shape[:-1], 0)
        if self.memory is not None:
            steps = []
            # the input side of the GRU has no recurrence: one product for all T
            gates_in = nn.functional.linear(features, self.memory.weight_ih, self.memory.bias_ih)
            keep = (~start).to(features.dtype)[..., None]
            for t in range(len(features)):
                memory = _gru(gates_in[t], memory * keep[t], self.memory)
                steps.append(memory)
            memories = torch.stack(steps)
        return self._heads(features, value_features, memories)

    def _heads(self, features: Tensor, value_features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.action_head(torch.cat([features, memory], dim=-1))
        return logits, self.value_head(torch.cat([value_features, memory], dim=-1)).squeeze(-1)

    def save_pretrained(self, folder: str | Path, **extra: object) -> None:
        """Write policy.safetensors and policy.json; `extra` is JSON the caller needs back with the policy."""
        folder = Path(folder)
        atomic_write(folder / "policy.safetensors", save({k: v.contiguous() for k, v in self.state_dict().items()}))
        document = {"format": FORMAT, "shape": asdict(self.shape), **extra}
        atomic_write(folder / "policy.json", json.dumps(document, indent=1))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> tuple["Policy", dict]:
        """The policy and the JSON document saved with it.

        Raises:
            MissingFileError: no policy there. InputError: another format, or weights of another shape.
        """
        folder = Path(folder)
        path = folder / "policy.json"
        document = read_json(path, "policy description")
        weights = existing_file(folder / "policy.safetensors", "policy weights")
        try:
            if document["format"] != FORMAT:
                raise InputError(f"{path} has format {document['format']!r}, expected {FORMAT!r}; train it again")
            policy = cls(PolicyShape(**document["shape"]))
            loaded = load_file(weights)
        except (KeyError, TypeError, SafetensorError) as error:
            raise InputError(f"{folder} does not hold a readable policy ({error}); train it again") from error
        load_weights(policy, loaded, str(weights))
        return policy.eval(), document


def _mlp(size: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())


def _gru(gates_in: Float[Tensor, "B 3M"], memory: Float[Tensor, "B M"], cell: nn.GRUCell) -> Float[Tensor, "B M"]:
    """One step of nn.GRUCell from the finished input product."""
    gates = nn.functional.linear(memory, cell.weight_hh, cell.bias_hh)
    reset_in, update_in, new_in = gates_in.chunk(3, -1)
    reset_h, update_h, new_h = gates.chunk(3, -1)
    reset, update = torch.sigmoid(reset_in + reset_h), torch.sigmoid(update_in + update_h)
    new = torch.tanh(new_in + reset * new_h)
    return new + update * (memory - new)


def sample_action(
    logits: Float[Tensor, "B A"], generator: torch.Generator
) -> tuple[Int64[Tensor, " B"], Float[Tensor, " B"]]:
    """An action per row by its probability, and the action's log-probability."""
    log_probs = torch.log_softmax(logits, dim=-1)
    action = torch.multinomial(log_probs.exp(), 1, generator=generator)
    return action.squeeze(-1), log_probs.gather(-1, action).squeeze(-1)

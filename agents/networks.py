"""The policy and value network: encoders of named observations, a memory or none, two heads.

    policy = make_policy("recurrent", env.observation_spec, num_actions=env.num_actions)
    outputs, value, memory = policy(policy.normalise(observation), policy.initial_memory(B))
    action = policy.distribution(outputs).sample(noise)

Vectors are standardised by running statistics that belong to the policy and are saved with it.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from agents.distributions import Categorical, Gaussian
from agents.encoders import (
    IMAGE_ENCODERS,
    MLP,
    ImageEncoder,
    ObservationSpec,
    RunningNorm,
    TokenEncoder,
    initialise,
    kind_of,
)
from agents.recall import GRUMemory, TransformerMemory
from core.checkpoint import load_weights
from core.errors import InputError, check_choice, existing_file
from core.files import atomic_write, read_json
from core.precision import uses_bfloat16

FORMAT = "sightline-policy/2"
Observation = dict[str, Tensor]  # by name, (B, ...) or (T, B, ...)


@dataclass(frozen=True)
class PolicyConfig:
    """What rebuilds the network."""

    observations: Mapping[str, ObservationSpec]  # what it reads; an environment may show more
    num_actions: int = 0  # discrete actions; or
    action_size: int = 0  # numbers of a continuous action
    width: int = 128  # units of each hidden layer
    layers: int = 2  # hidden layers after the encoders, the policy's and the value's apart
    memory: int = 128  # units of the GRU, or width of the transformer; 0 = no memory, a plain feed-forward policy
    window: int = 0  # steps a transformer looks back on instead of a GRU, 0 = a GRU
    memory_layers: int = 1  # of the transformer
    image_encoder: str = "small"  # one of IMAGE_ENCODERS
    image_width: int = 128  # features of a picture
    token_width: int = 64  # features of the object tokens
    text_width: int = 64  # features of the sentence
    film: bool = False  # the sentence scales and shifts feature maps of pictures
    standardise: bool = True  # vectors by running mean and variance
    precision: str = "auto"  # of the image encoder: float32, bfloat16, or auto = bfloat16 where native

    def __post_init__(self) -> None:
        if bool(self.num_actions) == bool(self.action_size) or min(self.num_actions, self.action_size) < 0:
            raise InputError(
                f"num_actions={self.num_actions}, action_size={self.action_size}: exactly one of them is positive"
            )
        if self.window and not self.memory:
            raise InputError(f"window={self.window} is of a transformer of width memory=0; give memory= its width")
        check_choice("image_encoder", self.image_encoder, IMAGE_ENCODERS)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        kinds = [kind_of(name, spec) for name, spec in self.observations.items()]
        if not set(kinds) & {"vector", "image", "depth", "tokens"}:
            raise InputError(
                f"a policy needs a vector, a picture or tokens, got {sorted(self.observations) or 'nothing'}"
            )
        if kinds.count("image") > 1:
            raise InputError("a policy reads one picture; put several cameras side by side")
        pictures = {s.shape[:2] for (n, s), k in zip(self.observations.items(), kinds) if k in ("image", "depth")}
        if len(pictures) > 1:
            raise InputError(f"image and depth should be of one size, got {sorted(pictures)}")

    def names(self, kind: str) -> list[str]:
        """Observations read as `kind`, in the order of their names."""
        return sorted(name for name, spec in self.observations.items() if kind_of(name, spec) == kind)

    def size(self, kind: str) -> int:
        """Numbers in the last axis of those, together."""
        return sum(self.observations[name].shape[-1] for name in self.names(kind))


class Policy(nn.Module):
    """Action distribution and value from named observations.

    `forward` is one step of B environments, `unroll` is T of them; both read observations that went through
    `normalise`, so that statistics may move between rollouts without old and new policy disagreeing.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.norms = nn.ModuleDict()
        if config.standardise:
            for name in config.names("vector"):
                self.norms[name] = RunningNorm(config.observations[name].shape[0])
        text = config.size("text")
        size = config.size("vector")
        self.image: ImageEncoder | None = None
        pictures = config.names("image") + config.names("depth")
        if pictures:
            rows, columns = config.observations[pictures[0]].shape[:2]
            channels = config.size("image") + len(config.names("depth"))
            layers, film = IMAGE_ENCODERS[config.image_encoder], text if config.film else 0
            self.image = ImageEncoder(
                layers, (rows, columns), channels, bool(config.names("depth")), config.image_width, film
            )
            size += config.image_width
        self.tokens: TokenEncoder | None = None
        if config.names("tokens"):
            self.tokens = TokenEncoder(config.size("tokens"), text, config.token_width)
            size += config.token_width
        self.text: nn.Linear | None = None
        if text:
            self.text = nn.Linear(text, config.text_width)
            size += config.text_width
        self.encoded_size = size  # E of `encode`
        self.body = MLP(size, config.width, config.layers)
        self.value_body = MLP(size, config.width, config.layers)
        features = self.body.size
        self.memory = _make_memory(features, config)
        read = features + (self.memory.width if self.memory is not None else 0)
        self.action_head = nn.Linear(read, config.num_actions or config.action_size)
        self.value_head = nn.Linear(read, 1)
        self.log_std = nn.Parameter(torch.zeros(config.action_size)) if config.action_size else None
        initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # kernels of convolutions
        # first actions nearly uniform, first values near zero: Andrychowicz et al., arXiv:2006.05990, section 3.2
        nn.init.orthogonal_(self.action_head.weight, 0.01)
        nn.init.orthogonal_(self.value_head.weight, 1.0)
        if isinstance(self.memory, GRUMemory):
            nn.init.orthogonal_(self.memory.weight_hh)
        if self.image is not None and self.image.film is not None:
            nn.init.orthogonal_(self.image.film.weight, 0.1)  # begins close to passing the picture on as it is

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.value_head.weight.device

    def normalise(self, observation: Observation) -> Observation:
        """What `forward` and `unroll` read: vectors standardised, the rest as it is.

        Raises:
            InputError: something the policy reads is missing.
        """
        missing = [name for name in self.config.observations if name not in observation]
        if missing:
            raise InputError(
                f"the policy reads {', '.join(missing)}, the environment shows only {', '.join(sorted(observation))}"
            )
        return {
            name: self.norms[name](observation[name]) if name in self.norms else observation[name]
            for name in self.config.observations
        }

    def update_norms(self, observation: Observation) -> None:
        """Merges a rollout's vectors into the running statistics."""
        for name, norm in self.norms.items():
            assert isinstance(norm, RunningNorm)
            norm.update(observation[name])

    def initial_memory(self, batch: int) -> Float[Tensor, "B M"]:
        """What the memory holds when an episode starts: zeros (M = 0 without a memory)."""
        return torch.zeros(batch, self.memory.size if self.memory is not None else 0, device=self.device)

    def distribution(self, outputs: Float[Tensor, "*b A"]) -> Categorical | Gaussian:
        """Of the actions, from what the action head put out."""
        if self.log_std is None:
            return Categorical(torch.log_softmax(outputs, -1))
        return Gaussian(outputs, self.log_std)

    def draw_noise(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Noise for `distribution(...).sample` of a batch of `shape`."""
        if self.log_std is None:
            return Categorical.noise(shape, generator)
        return Gaussian.noise((*shape, self.config.action_size), generator)

    def forward(
        self, observation: Observation, memory: Float[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "B A"], Float[Tensor, " B"], Float[Tensor, "B M"]]:
        """Action outputs, value and the memory after this step."""
        encoded = self.encode(observation)
        features, value_features = self.body(encoded), self.value_body(encoded)
        summary = None
        if self.memory is not None:
            summary, memory = self.memory.step(features, memory)
        outputs, value = self._heads(features, value_features, summary)
        return outputs, value, memory

    def unroll(
        self, observation: Observation, start: Bool[Tensor, "T B"], memory: Float[Tensor, "B M"]
    ) -> tuple[Float[Tensor, "T B A"], Float[Tensor, "T B"]]:
        """Outputs and values of a rollout; `start` marks first steps of episodes, where the memory is emptied."""
        steps, batch = start.shape
        encoded = self.encode({name: x.flatten(0, 1) for name, x in observation.items()})
        features, value_features = self.body(encoded), self.value_body(encoded)
        summary = None
        if self.memory is not None:
            features_by_step = features.view(steps, batch, features.shape[-1])  # sizes said: a share may be empty
            summary = self.memory.unroll(features_by_step, start, memory).flatten(0, 1)
        outputs, value = self._heads(features, value_features, summary)
        return outputs.view(steps, batch, outputs.shape[-1]), value.view(steps, batch)

    def encode(self, observation: Observation) -> Float[Tensor, "B E"]:
        """All that is seen as one feature vector: (B, ...) observations, standardised."""
        config = self.config
        parts = [observation[name] for name in config.names("vector")]
        words = [observation[name] for name in config.names("text")]
        text = torch.cat(words, -1) if len(words) > 1 else words[0] if words else None
        if self.image is not None:
            image = next((observation[name] for name in config.names("image")), None)
            parts.append(self.image(image, observation.get("depth"), text, self._half()))
        if self.tokens is not None:
            parts.append(self.tokens(observation["tokens"], observation.get("token_mask"), text))
        if self.text is not None:
            parts.append(torch.tanh(self.text(text)))
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def _half(self) -> bool:
        return uses_bfloat16(self.config.precision, self.device.type)

    def _heads(self, features: Tensor, value_features: Tensor, summary: Tensor | None) -> tuple[Tensor, Tensor]:
        if summary is not None:
            features, value_features = torch.cat([features, summary], -1), torch.cat([value_features, summary], -1)
        return self.action_head(features), self.value_head(value_features).squeeze(-1)

    def save_pretrained(self, folder: str | Path, **extra: object) -> None:
        """Write policy.safetensors and policy.json; `extra` is JSON the caller needs back with the policy."""
        folder = Path(folder)
        weights = {name: x.detach().contiguous() for name, x in self.state_dict().items()}
        atomic_write(folder / "policy.safetensors", save(weights))
        document = {"format": FORMAT, "config": asdict(self.config), **extra}
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
            settings = dict(document["config"])
            settings["observations"] = {
                name: ObservationSpec(tuple(spec["shape"]), spec["dtype"])
                for name, spec in settings["observations"].items()
            }
            policy = cls(PolicyConfig(**settings))
            loaded = load_file(weights)
        except (KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise InputError(f"{folder} does not hold a readable policy ({error}); train it again") from error
        load_weights(policy, loaded, str(weights))
        return policy.eval(), document


# what each kind of policy reads of an environment's observations, and whether it remembers
POLICIES: dict[str, dict[str, Any]] = {
    "feedforward": {"reads": ("vector", "image", "depth", "text"), "memory": 0},
    "recurrent": {"reads": ("vector", "image", "depth", "text"), "memory": 128},
    "objects": {"reads": ("vector", "tokens", "token_mask", "text"), "memory": 0},
    "recurrent_objects": {"reads": ("vector", "tokens", "token_mask", "text"), "memory": 128},
}


def make_policy(
    kind: str,
    observation_spec: Mapping[str, ObservationSpec],
    *,
    num_actions: int = 0,
    action_size: int = 0,
    seed: int = 0,
    **changes: Any,
) -> Policy:
    """A fresh policy of a kind, one of POLICIES, for what an environment shows.

    Args:
        seed: of the initial weights; the global generator is left as it was.
        changes: fields of PolicyConfig.

    Raises:
        InputError: unknown kind, or the environment shows nothing that it reads.
    """
    check_choice("policy", kind, POLICIES)
    settings = dict(POLICIES[kind])
    reads = settings.pop("reads")
    seen = {name: spec for name, spec in observation_spec.items() if kind_of(name, spec) in reads}
    config = PolicyConfig(seen, num_actions, action_size, **{**settings, **changes})
    with torch.random.fork_rng(devices=[]):  # layers initialise themselves from the global generator
        torch.manual_seed(seed)
        return Policy(config)


def _make_memory(features: int, config: PolicyConfig) -> GRUMemory | TransformerMemory | None:
    if not config.memory:
        return None
    if not config.window:
        return GRUMemory(features, config.memory)
    return TransformerMemory(features, config.memory, config.window, config.memory_layers)

"""Tuned two-tower features: the image tower learns on with the policy, at a small learning rate.

The policy reads what frozen features give it (agents/features.py) and, beside that, the picture itself through the same
image tower: how much each cell looks like the sentence, and how far away it is. Gradients reach the tower this way; the
memory of the best match uses the tower as it stands. Sentences and the scale of scores stay those of the frozen model.
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from agents.encoders import ObservationSpec
from agents.networks import FORMAT, Policy, PolicyConfig
from agents.senses import RANGE_M
from core.checkpoint import load_weights
from core.errors import InputError, existing_file
from core.files import read_json
from vl.model import VLModel


class TowerEncoder(nn.Module):
    """In the place of a policy's image encoder: scores and depths of the tower's cells, as features.

    The sentence comes as the filter and offset that standardise its scores (D + 1 numbers).
    """

    def __init__(self, model: VLModel, width: int) -> None:
        super().__init__()
        self.tower, self.head = model.image_tower, model.image_head
        self.cells = model.image_tower.grid[0]
        self.out = nn.Linear(2 * self.cells**2, width)
        self.film = None

    def forward(
        self, image: UInt8[Tensor, "B H W 3"], depth: Float[Tensor, "B H W"], text: Float[Tensor, "B D1"], half: bool
    ) -> Float[Tensor, "B E"]:
        """Features, with gradient to the tower."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=half):
            maps = self.tower.as_map(self.head(self.tower(self.tower.pixels(image)).states))
        maps = maps.float()
        maps = maps / maps.mean((2, 3), keepdim=True).norm(dim=1, keepdim=True).clamp(min=1e-12)
        score = torch.einsum("bdhw,bd->bhw", maps, text[:, :-1]) - text[:, -1, None, None]
        far = torch.where(depth > 0, depth, 2 * RANGE_M)
        far = F.adaptive_avg_pool2d(far[:, None], (self.cells, self.cells)).clamp(max=RANGE_M) / RANGE_M
        return torch.relu(self.out(torch.cat([score.clamp(-8, 8).flatten(1), far.flatten(1)], 1)))


class TunedPolicy(Policy):
    """A policy that owns the image tower of `model`, which it shares with the senses."""

    def __init__(self, config: PolicyConfig, model: VLModel) -> None:
        super().__init__(config)
        encoder = TowerEncoder(model, config.image_width)
        nn.init.orthogonal_(encoder.out.weight, 2**0.5)
        nn.init.zeros_(encoder.out.bias)
        self.image = encoder  # type: ignore[assignment]

    def groups(self, lr: float, share: float) -> list[dict[str, Any]]:
        """Parameters for an optimiser: the tower learns at `share` of the rate."""
        tower = [*self.image.tower.parameters(), *self.image.head.parameters()]  # type: ignore[union-attr]
        own = {id(p) for p in tower}
        rest = [p for p in self.parameters() if id(p) not in own]
        return [{"params": rest, "lr": lr, "share": 1.0}, {"params": tower, "lr": lr * share, "share": share}]

    @classmethod
    def of(cls, config: PolicyConfig, model: VLModel, seed: int) -> "TunedPolicy":
        """A fresh one; the global generator is left as it was.

        Raises:
            InputError: the camera's picture has another size than the tower's.
        """
        size = model.config.image.size
        if model.config.kind != "two-tower" or model.config.image.pool != "mean":
            raise InputError("a tower is tuned cell by cell: it needs a two-tower model with image.pool=mean")
        if config.observations["image"].shape[:2] != size:
            raise InputError(
                f"a tower is tuned on pictures of its own {size[0]} x {size[1]}; give image_size={size[0]}"
            )
        for part in (model.image_tower, model.image_head):
            part.requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, model)

    @classmethod
    def load(cls, folder: str | Path, model: VLModel) -> "TunedPolicy":
        """What `save_pretrained` wrote; the tower of `model` becomes the tuned one.

        Raises:
            InputError: weights of another shape, or of another tower.
        """
        path = Path(folder) / "policy.json"
        document = read_json(path, "policy description")
        if document.get("format") != FORMAT or "config" not in document:
            raise InputError(f"{path} has format {document.get('format')!r}, expected {FORMAT!r}; train it again")
        settings = dict(document["config"])
        settings["observations"] = {
            name: ObservationSpec(tuple(spec["shape"]), spec["dtype"])
            for name, spec in settings["observations"].items()
        }
        policy = cls.of(PolicyConfig(**settings), model, seed=0)
        weights = existing_file(Path(folder) / "policy.safetensors", "policy weights")
        load_weights(policy, load_file(weights), str(weights))
        policy.eval()
        return policy

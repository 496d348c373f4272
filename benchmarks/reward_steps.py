"""What benchmarks/rewards.py compares: encoders of published shapes with random weights, a learner with and without a
reward model, and timing in turns."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, UInt8
from numpy import ndarray
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from agents.step_frames import StepFrame
from vl.embedder import DualEncoder
from vl.rewards import VLMReward
from vl.tokenizer import train_tokenizer
from vl.towers import ImageTowerConfig
from vl.two_tower import TwoTowerConfig, VLModel

Turn = Callable[[], object]
Seconds = dict[str, Float[ndarray, "R 2"]]  # name -> per round, on the clock and of the processor


@dataclass(frozen=True)
class Shape:
    """The image tower of a published dual encoder."""

    family: str  # transformers model type: clip or siglip
    patch: int  # pixels
    width: int
    layers: int
    heads: int
    hidden: int  # of the feed-forward part
    dim: int  # of the joint space
    side: int = 224  # pixels, height = width


VIT_B32: Final = Shape("clip", 32, 768, 12, 12, 3072, 512)
VIT_L14: Final = Shape("clip", 14, 1024, 24, 16, 4096, 768)
SO400M: Final = Shape("siglip", 14, 1152, 27, 16, 4304, 1152)
SMALL: Final = Shape("clip", 8, 32, 2, 2, 64, 16, side=32)
SMALL_SIGLIP: Final = Shape("siglip", 8, 32, 2, 2, 64, 32, side=32)


def encoder(shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32) -> DualEncoder:
    """Both towers with random weights; the text tower is tiny, for no text is read here."""
    vision = {
        "image_size": shape.side, "patch_size": shape.patch, "hidden_size": shape.width,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "intermediate_size": shape.hidden,
    }  # fmt: skip
    text: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    own: dict[str, Any] = {"projection_dim": shape.dim}
    if shape.family == "siglip":
        own, text = {}, text | {"projection_size": shape.dim}
    config = AutoConfig.for_model(shape.family, vision_config=vision, text_config=text, **own)
    with torch.random.fork_rng(devices=[]), torch.device(device):
        torch.manual_seed(0)
        return DualEncoder(AutoModel.from_config(config), None, {}, dtype)


def two_tower(image: ImageTowerConfig) -> VLModel:
    """The project's own towers with random weights."""
    return VLModel.create(TwoTowerConfig(image=image), train_tokenizer(["a chair"]), seed=0).eval()


def reward_of(embedder: DualEncoder | VLModel, seed: int = 0) -> VLMReward:
    """VLM-RM for eight goals at alpha 0.5; its vectors are random, which costs as much as any others."""
    vectors = torch.randn(9, embedder.dim, generator=torch.Generator().manual_seed(seed))
    vectors = torch.nn.functional.normalize(vectors, dim=-1).to(embedder.device)
    return VLMReward.from_vectors(embedder, vectors[:8], vectors[8], alpha=0.5)


def pictures(count: int, side: int, device: torch.device, seed: int = 0) -> UInt8[Tensor, "B S S 3"]:
    """Random frames."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return torch.from_numpy(drawn).to(device)


def normalised(embedder: DualEncoder, frames: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    """What the image tower reads, as transformers would hand it over."""
    pixels = frames.permute(0, 3, 1, 2).float() * embedder.scale + embedder.shift
    return pixels.contiguous().to(embedder.image_dtype)


@torch.no_grad()
def bare(embedder: DualEncoder, pixels: Float[Tensor, "B 3 S S"]) -> Any:
    """The encoder and nothing else: transformers' own forward pass on pixels that are ready."""
    return embedder.model.get_image_features(pixel_values=pixels)


def products_per_frame(embed: Callable[[UInt8[Tensor, "1 S S 3"]], object], side: int, device: torch.device) -> int:
    """Floating-point operations of the matrix products and convolutions of one frame."""
    # fused attention on a processor is not counted, its parts are
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        embed(pictures(1, side, device))
    return int(counter.get_total_flops())


def in_turns(turns: dict[str, Turn], rounds: int, wait: Callable[[], None] = lambda: None) -> Seconds:
    """All in turn, round after round, every other round backwards: a busy neighbour or a drift hits all of them."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in list(turns)[:: -1 if number % 2 else 1]:
            wall, processor = time.perf_counter(), time.process_time()
            turns[name]()
            wait()
            found[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(rows) for name, rows in found.items()}


class Noise(gymnasium.Env):
    """A task that costs next to nothing: its picture is one of a few, it ends by itself or by a limit of steps.

    So nearly all of the time and every byte belongs to what is measured around it.
    """

    action_space = spaces.Box(-1, 1, (1,), np.float32)
    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}
    render_mode = "rgb_array"

    def __init__(self, side: int, length: int = 50) -> None:
        self.pictures = pictures(length, side, torch.device("cpu")).numpy()
        self.length, self.steps, self.episode = length, 0, 0
        self.seen = np.zeros(3, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[ndarray, dict]:
        super().reset(seed=seed)
        self.steps, self.episode = 0, self.episode + 1
        return self.seen, {}

    def step(self, action: ndarray) -> tuple[ndarray, float, bool, bool, dict]:
        self.steps += 1
        ended, odd = self.steps == self.length, bool(self.episode % 2)
        return self.seen, 0.0, ended and odd, ended and not odd, {}

    def render(self) -> UInt8[ndarray, "S S 3"]:  # type: ignore[override]
        return self.pictures[self.steps - 1]


def pendulum(side: int) -> DummyVecEnv:
    """Gymnasium's Pendulum with a frame in every step's info."""
    return DummyVecEnv([lambda: StepFrame(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), size=side)])


def learner(env: Any, rollout: int, *, updates: int = -1, rows: int = 20_000) -> SAC:
    """SAC as stable-baselines3 sets it up, with rollouts of a number of steps.

    Args:
        updates: after each rollout; -1 = as many as it had steps, 0 = it only collects.
    """
    return SAC(
        "MlpPolicy", env, train_freq=(rollout, "step"), gradient_steps=updates, buffer_size=rows, seed=0, device="cpu",
        learning_starts=rollout if updates else 0,
    )  # fmt: skip


def continuing(model: SAC, steps: int, callback: BaseCallback | None = None) -> Turn:
    """A turn of learning that goes on where the last one ended."""

    def turn() -> SAC:
        return model.learn(steps, callback=callback, reset_num_timesteps=False)

    return turn


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


class MemoryWatch(BaseCallback):
    """Reads the resident size at every hundredth of the way."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.total, self.seen = total, [(0, resident())]

    def _on_step(self) -> bool:
        if self.num_timesteps - self.seen[-1][0] >= self.total / 100:
            self.seen.append((self.num_timesteps, resident()))
        return True

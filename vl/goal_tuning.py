"""Goal vectors tuned on a few labelled frames: learned context tokens in front of the prompt, both towers frozen.

CoOp (Zhou et al., "Learning to Prompt for Vision-Language Models", arXiv:2109.01134, section 3.2): M vectors stand
where M word embeddings would, between the start token and the prompt's own words, and are trained through the frozen
text tower. It differs from the paper in what is trained for: not a softmax over class names, but a logistic loss of
the reward itself (vl/rewards.py) on frames where the goal is reached or not, both kinds weighing the same; scale and
offset of the logit are learned and forgotten. Frames are seen through their embeddings, which cost the encoder once.

Some frames stop the training and others measure what it brought, so that the AUC is of frames that decided nothing.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import InputError, MissingFileError
from core.files import atomic_folder, plain, read_json
from vl.embedder import DualEncoder
from vl.model import VLModel
from vl.model_files import read_weights
from vl.reward_sweep import auc
from vl.rewards import VLMReward, vlm_rm_reward

FORMAT = "sightline-tuned-goal/1"
LOGIT_LR = 0.05
"""Learning rate of scale and offset of the logit: fast, so that the loss tells what the context is worth."""

PARTS = {"train": 0.6, "stop": 0.2, "measure": 0.2}
"""Shares of the frames (of their groups) that train the context, say when to stop, and measure the result."""


@dataclass
class TunedGoal:
    """A goal vector, the context it came from, and how it was made."""

    vector: Float[Tensor, " D"]  # mean unit embedding of the prompts with their context; a row of goal_vectors
    baseline_vector: Float[Tensor, " D"]  # of the baseline prompts, untuned; zeros without any
    context: Float[Tensor, "M E"]  # what stands in front of the prompts' token embeddings
    prompts: list[str]
    baseline: list[str]
    alpha: float  # of the reward it was tuned for
    seed: int
    frames: dict[str, dict[str, int]] = field(default_factory=dict)  # part -> {"reached": n, "not": n}
    source: str = ""  # where the frames came from, in the caller's words
    lr: float = 0.0
    steps: int = 0  # updates until training ended
    best_step: int = 0  # the update whose context this is: lowest loss of the frames that stop
    loss_first: float = 0.0  # of the frames that stop, before the first update
    loss_best: float = 0.0  # of the same, with this context
    auc_plain: float = 0.0  # of the frames that measure, with the prompts as they are
    auc_tuned: float = 0.0  # of the same, with this context

    def save(self, folder: str | Path) -> Path:
        """Writes goal.safetensors and goal.json into a new folder, whole or not at all."""
        from safetensors.torch import save_file

        told = {name: plain(getattr(self, name)) for name in _told()}
        with atomic_folder(folder) as place:
            tensors = {name: getattr(self, name).detach().cpu().contiguous() for name in _tensors()}
            save_file(tensors, str(place / "goal.safetensors"))
            content = json.dumps({"format": FORMAT, **told}, indent=2) + "\n"
            (place / "goal.json").write_text(content, encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "TunedGoal":
        """Reads what `save` wrote, on the CPU.

        Raises:
            MissingFileError: no such folder or file. InputError: cut short, or something else.
        """
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise MissingFileError(f"tuned goal not found: {path} (working folder: {Path.cwd()})")
        told = read_json(path / "goal.json", "tuned goal")
        tensors: dict[str, Any] = dict(read_weights(path / "goal.safetensors"))
        known = isinstance(told, dict) and told.pop("format", None) == FORMAT
        if not known or set(told) != set(_told()) or set(tensors) != set(_tensors()):
            raise InputError(f"{path} is not a tuned goal of format {FORMAT}; tune it again")
        return cls(**(tensors | told))


def tuned_reward(embedder: VLModel | DualEncoder, goals: Sequence[TunedGoal]) -> VLMReward:
    """The reward model of tuned goals, in their order.

    Raises:
        InputError: no goal, goals of different alpha or baseline, or goals that were tuned for another text tower.
    """
    if not goals:
        raise InputError("a reward model needs at least one goal")
    first = goals[0]
    for index, goal in enumerate(goals):
        if (goal.alpha, goal.baseline) != (first.alpha, first.baseline):
            raise InputError(
                f"goal {index} was tuned for alpha={goal.alpha} and baseline {goal.baseline}, goal 0 for "
                f"alpha={first.alpha} and {first.baseline}; one reward model has one of each"
            )
        tower = _TextSide(embedder, goal.prompts, len(goal.context))
        fits = goal.context.shape[1] == tower.width and goal.vector.shape == (embedder.dim,)
        if not fits or (tower.vector(goal.context.to(tower.device)).cpu() - goal.vector).abs().max() > 1e-3:
            raise InputError(f"goal {index} {goal.prompts} was tuned for another text tower than this; tune it again")
    vectors = torch.stack([goal.vector for goal in goals]).to(tower.device)
    baseline = first.baseline_vector if first.baseline else None
    return VLMReward.from_vectors(embedder, vectors, baseline, first.alpha)


def tune_goal(
    embedder: VLModel | DualEncoder,
    prompts: Sequence[str],
    embeddings: Float[Tensor, "N D"],
    reached: Bool[Tensor, " N"],
    *,
    seed: int,
    baseline: Sequence[str] = (),
    alpha: float = 0.0,
    groups: Sequence[int] | None = None,
    context: int = 4,
    lr: float = 2e-3,
    steps: int = 300,
    patience: int = 40,
    source: str = "",
) -> TunedGoal:
    """Learns context tokens for a goal's prompts from labelled frames.

    Args:
        embedder: the towers; nothing of them changes.
        prompts: of the goal, sharing the context; their unit embeddings are averaged.
        embeddings: unit image embeddings of the frames, by `embedder`.
        reached: whether the goal is reached in each frame.
        seed: of the split and of the first context.
        baseline: prompts without the goal, for alpha > 0; they are not tuned.
        alpha: of the reward that the vector is for.
        groups: frames of one episode or home are alike: frames with equal numbers go to the same part.
        context: M, number of tokens learned.
        lr: of Adam.
        steps: most updates, each with all training frames.
        patience: updates without a new lowest loss after which training ends.
        source: noted in the result.

    Raises:
        InputError: prompts that the tower cannot read with the context before them, embeddings that do not fit, or
            too few frames of a kind to have both in each part.
    """
    plain_reward = VLMReward(embedder, [list(prompts)], list(baseline), alpha)
    embeddings, positive = _checked_frames(embedder, embeddings, reached)
    parts = _split(positive.cpu().numpy(), groups, np.random.default_rng(seed))
    if context < 1 or steps < 1 or patience < 1 or lr <= 0:
        raise InputError(f"context={context}, steps={steps}, patience={patience} and lr={lr} should be positive")
    tower = _TextSide(embedder, list(prompts), context)
    device = tower.device
    embeddings, positive = embeddings.to(device), positive.to(device)
    baseline_vector = plain_reward.baseline_vector
    rows = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}

    def score(goal: Float[Tensor, " D"], part: str) -> Float[Tensor, " K"]:
        direction = F.normalize(goal - baseline_vector, dim=0)
        return vlm_rm_reward(embeddings[rows[part]], goal[None], direction[None], alpha)

    def loss(goal: Float[Tensor, " D"], part: str) -> Float[Tensor, ""]:
        return _balanced_loss(scale.exp() * score(goal, part) + offset, positive[rows[part]])

    def area(goal: Float[Tensor, " D"]) -> float:
        return auc(score(goal, "measure").cpu().numpy(), positive[rows["measure"]].cpu().numpy())

    generator = torch.Generator().manual_seed(seed)
    learned = tower.spread * torch.randn(context, tower.width, generator=generator)
    learned = learned.to(device).requires_grad_()
    with torch.no_grad():
        began = score(tower.vector(learned), "train")
        deviation = began.std().clamp(min=1e-6)
        scale, offset = -deviation.log(), -began.mean() / deviation  # logits start with mean 0 and deviation 1
    scale, offset = scale.requires_grad_(), offset.requires_grad_()
    trained = [learned, scale, offset]
    speeds: list[dict[str, Any]] = [{"params": [learned], "lr": lr}, {"params": [scale, offset], "lr": LOGIT_LR}]
    optimizer = torch.optim.Adam(speeds)

    with torch.no_grad():
        first = best = float(loss(tower.vector(learned), "stop"))
    kept, best_step, step = learned.detach().clone(), 0, 0
    while step < steps and step - best_step < patience:
        step += 1
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss(tower.vector(learned), "train"), trained)  # of the context alone
        for parameter, gradient in zip(trained, gradients):
            parameter.grad = gradient
        optimizer.step()
        with torch.no_grad():
            now = float(loss(tower.vector(learned), "stop"))
        if now < best:
            kept, best, best_step = learned.detach().clone(), now, step

    with torch.no_grad():
        vector = tower.vector(kept)
        areas = area(plain_reward.goal_vectors[0]), area(vector)
    counts = {
        name: {"reached": int(positive[part].sum()), "not": int((~positive[part]).sum())} for name, part in rows.items()
    }
    return TunedGoal(
        vector.cpu(), baseline_vector.cpu(), kept.cpu(), list(prompts), list(baseline), alpha, seed, counts, source,
        lr, step, best_step, first, best, *areas,
    )  # fmt: skip


class _TextSide:
    """A frozen text tower that reads prompts with M vectors in front of their words."""

    def __init__(self, embedder: VLModel | DualEncoder, prompts: list[str], context: int) -> None:
        if isinstance(embedder, VLModel):
            if embedder.one is not None:
                raise InputError("goals are tuned through a text tower; a one-tower model has none")
            encoder: Any = embedder.text_tower.encoder
            limit, full = embedder.config.max_tokens, False
        elif isinstance(embedder, DualEncoder):
            encoder = embedder.model.text_model
            limit, full = embedder.max_tokens, embedder.pad_to_full
        else:
            raise InputError(f"goals are tuned through a VLModel or a DualEncoder, not a {type(embedder).__name__}")
        self.embedder, self.context, self.device = embedder, context, embedder.device
        self.table: nn.Embedding = encoder.get_input_embeddings()
        self.ids, self.mask, self.first = _with_places(embedder.tokenizer, prompts, context, limit, full)
        self.ids, self.mask = self.ids.to(self.device), self.mask.to(self.device)
        self.reads_mask = not full  # SigLIP was trained without a mask

    @property
    def width(self) -> int:
        """E, of a token embedding."""
        return self.table.weight.shape[1]

    @property
    def spread(self) -> float:
        """Standard deviation of the tower's own token embeddings: the size of a word."""
        return float(self.table.weight.detach().float().std())

    def vector(self, context: Float[Tensor, "M E"]) -> Float[Tensor, " D"]:
        """Mean unit embedding of the prompts with this context; with gradient where the context has one."""
        with _replaced(self.table, context, self.first):
            mask = {"attention_mask": self.mask} if self.reads_mask else {}
            return self.embedder.text_features(self.ids, **mask).mean(0)


@contextlib.contextmanager
def _replaced(table: nn.Embedding, context: Float[Tensor, "M E"], first: int) -> Iterator[None]:
    """While it lasts, the embeddings of tokens `first` .. `first` + M are the context."""

    def replace(_: nn.Module, __: Any, output: Float[Tensor, "B L E"]) -> Float[Tensor, "B L E"]:
        middle = context.to(output.dtype).expand(len(output), -1, -1)
        return torch.cat([output[:, :first], middle, output[:, first + len(context) :]], dim=1)

    hook = table.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()


def _with_places(
    tokenizer: Any, prompts: list[str], context: int, limit: int, full: bool
) -> tuple[Int64[Tensor, "B L"], Int64[Tensor, "B L"], int]:
    """Token ids with M places for the context behind the start token (if there is one), mask, and the first place.

    A place holds the id of the prompt's first word: neither padding nor an end token, which towers look for in ids.
    """
    rows = tokenizer(prompts, verbose=False)["input_ids"]
    start = {tokenizer.bos_token_id, tokenizer.cls_token_id} - {None}
    first = 1 if rows[0][0] in start else 0
    rows = [[*ids[:first], *[ids[first]] * context, *ids[first:]] for ids in rows]
    longest = max(range(len(rows)), key=lambda index: len(rows[index]))
    if len(rows[longest]) > limit:
        raise InputError(
            f"a prompt and {context} context tokens make {len(rows[longest])} tokens, the model reads at most {limit}: "
            f"{prompts[longest][:80]!r}; shorten it or learn fewer"
        )
    padded = tokenizer.pad(
        {"input_ids": rows}, padding="max_length" if full else True, max_length=limit if full else None,
        return_tensors="pt", return_attention_mask=True,
    )  # fmt: skip
    return padded["input_ids"], padded["attention_mask"], first


def _balanced_loss(logit: Float[Tensor, " K"], positive: Bool[Tensor, " K"]) -> Float[Tensor, ""]:
    """Logistic loss, the mean of each kind weighing one half."""
    each = F.binary_cross_entropy_with_logits(logit, positive.to(logit.dtype), reduction="none")
    return 0.5 * (each[positive].mean() + each[~positive].mean())


def _checked_frames(
    embedder: VLModel | DualEncoder, embeddings: Float[Tensor, "N D"], reached: Bool[Tensor, " N"]
) -> tuple[Float[Tensor, "N D"], Bool[Tensor, " N"]]:
    if embeddings.ndim != 2 or embeddings.shape[1] != embedder.dim:
        raise InputError(f"embeddings have shape {tuple(embeddings.shape)}, expected (N, {embedder.dim})")
    if reached.shape != embeddings.shape[:1] or reached.dtype != torch.bool:
        raise InputError(
            f"labels are {reached.dtype} of shape {tuple(reached.shape)}, expected one truth value for each of "
            f"{len(embeddings)} frames"
        )
    if not bool(torch.isfinite(embeddings).all()):
        raise InputError("embeddings hold NaN or infinite numbers; look at the frames they came from")
    return embeddings.detach().float(), reached


def _split(
    positive: Bool[np.ndarray, " N"], groups: Sequence[int] | None, rng: np.random.Generator
) -> dict[str, Int64[np.ndarray, " K"]]:
    """Rows of each part; groups stay whole, and those with and without a positive are shared out alike."""
    group = np.arange(len(positive)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if group.shape != positive.shape:
        raise InputError(f"groups have shape {group.shape}, expected one number for each of {len(positive)} frames")
    has = np.zeros(int(group.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(has, group, positive)
    part_of = np.empty(len(has), dtype=np.int64)
    for kind in (True, False):
        members = rng.permutation(np.flatnonzero(has == kind))
        held = [max(1, round(PARTS[name] * len(members))) for name in ("stop", "measure")]
        part_of[members] = 0
        part_of[members[: held[0]]] = 1
        part_of[members[held[0] : sum(held)]] = 2
    parts = {name: np.flatnonzero(part_of[group] == index) for index, name in enumerate(PARTS)}
    for name, rows in parts.items():
        if not 0 < positive[rows].sum() < len(rows):
            raise InputError(
                f"the frames that {name} would hold {int(positive[rows].sum())} with the goal reached and "
                f"{int((~positive[rows]).sum())} without; label more frames (in at least 3 groups of each kind)"
            )
    return parts


def _tensors() -> tuple[str, ...]:
    return ("vector", "baseline_vector", "context")


def _told() -> list[str]:
    return [item.name for item in fields(TunedGoal) if item.name not in _tensors()]

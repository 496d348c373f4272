"""Pretrains a grounding model on built scenes: sightline pretrain-grounding scenes=SCENES

First the object encoder and the word vectors learn which object is "the red armchair" (object-level contrast). Then the
encoder is frozen, every object's feature is computed once for several draws of its points, and the spatial, text and
joint transformers learn which object a referral sentence means. Every random draw is a function of (seed, step), so a
killed run continues to the same numbers.

Source: stages and losses of SceneVerse (arXiv:2401.09340, section 4.2), at a size for two processor cores.
"""

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from scene.batch import GroundingRoom, ReferralBatch, collate_tokens, grounding_rooms, object_set, referral_batch
from scene.grounder import Grounder, predict, tokenize
from scene.grounding import ANCHOR, GroundingModel
from scene.losses import anchor_loss, info_nce, mask_words, masked_word_loss, referral_loss, scale_of
from scene.model_config import ModelConfig
from scene.objects import rotate_points, subsample
from scene.store import SceneStore
from vl.tokenizer import train_tokenizer

MIRROR_WORDS = (("left", "right"), ("leftmost", "rightmost"))
MAX_TOKENS = 64  # of a sentence or a scene caption; longer ones are cut
DRAWN = 2  # points drawn per object and scene, as a multiple of those the encoder reads at once


@dataclass
class PretrainGroundingConfig(JobConfig):
    """Grounded pretraining: objects first, then sentences."""

    CUDA = True

    scenes: str = MISSING  # folder made by build-scenes
    object_steps: int = 150  # updates of the object encoder
    object_batch: int = 128  # objects per such update
    object_lr: float = 2e-3  # its peak learning rate
    object_pool: int = 20_000  # objects whose points stay in memory for it
    steps: int = 600  # updates on referral sentences
    batch_scenes: int = 16  # rooms per update
    batch_sentences: int = 8  # sentences per room
    lr: float = 1.5e-3  # peak learning rate on sentences
    warmup: float = 0.05  # share of each stage's updates until the peak
    weight_decay: float = 0.05  # of weight matrices
    clip: float = 1.0  # largest gradient norm
    anchor_loss: float = 0.5  # weight of finding the things a sentence relates to
    scene_loss: float = 0.1  # weight of the contrast between scenes and their captions
    word_loss: float = 0.0  # weight of masked-word prediction; above 0, 15 % of the words are hidden in training
    mirror: bool = True  # show half of the rooms in a mirror, left and right exchanged
    samplings: int = 4  # cached draws of each object's points
    eval_every: int = 100  # updates between evaluations on val; the best weights are kept
    checkpoint_every: int = 50  # updates between checkpoints
    dim: int = 128  # width of every tower
    heads: int = 4  # attention heads
    hidden: int = 256  # width of feed-forward layers
    text_layers: int = 2  # of the text tower
    spatial_layers: int = 2  # of the transformer over objects
    fusion_layers: int = 2  # of the joint transformer
    points: int = 256  # per object
    dropout: float = 0.1  # share
    vocab_size: int = 4096  # largest vocabulary

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("object_steps", "steps", "batch_scenes", "batch_sentences", "samplings", "eval_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: expected at least 1")
        if self.dim % self.heads:
            raise InputError(f"dim={self.dim} does not split over heads={self.heads}")
        if not 0 <= self.dropout < 1 or not 0 <= self.warmup < 1:
            raise InputError(f"dropout={self.dropout}, warmup={self.warmup}: expected shares in [0, 1)")


CONFIG = PretrainGroundingConfig


def run(cfg: PretrainGroundingConfig) -> dict[str, Any]:
    """Trains, writes `model/` into the run folder and returns the result that also lands in result.json."""
    folder = RunFolder.open(cfg, "pretrain-grounding")
    if (finished := folder.result()) is not None:
        folder.close()
        return finished
    started = time.monotonic()
    store = SceneStore(cfg.scenes)
    train, val = load_rooms(store, "train", cfg), load_rooms(store, "val", cfg)

    texts = [text for room in train for text in (*room.sentences, *room.objects.captions, room.caption)]
    tokenizer = train_tokenizer(texts, cfg.vocab_size)
    for room in (*train, *val):
        lines = [*room.sentences, room.caption]
        *room.tokens, room.caption_tokens = tokenizer(lines, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    swap = mirror_tokens(tokenizer) if cfg.mirror else None

    model = build_model(cfg, len(tokenizer))
    optimizer = make_optimizer(model, cfg.weight_decay)
    objects = ObjectPool(train)
    start = 0
    best: dict[str, Any] = {"accuracy": -1.0, "model": {}, "step": 0}
    if (saved := folder.checkpoints.latest()) is not None:
        start, state = saved
        load_weights(
            model, state["model"], f"the checkpoint of step {start} in {folder.path} (were the scenes rebuilt?)"
        )
        optimizer.load_state_dict(state["optimizer"])
        best = state["best"]
        if start >= cfg.object_steps:
            encode_rooms(model, store, train, cfg, cfg.samplings)
            encode_rooms(model, store, val, cfg, 0)

    folder.rewind(start)  # also without a checkpoint: drops the rows of a run killed before its first
    total = cfg.object_steps + cfg.steps
    with track(total - start, "pretrain-grounding") as progress:
        for step in range(start, total):
            rng = np.random.default_rng([cfg.seed, step])
            if step < cfg.object_steps:
                peak, share = cfg.object_lr, step / cfg.object_steps
            else:
                peak, share = cfg.lr, (step - cfg.object_steps) / cfg.steps
            for group in optimizer.param_groups:
                group["lr"] = peak * learning_rate_factor(share, cfg.warmup)

            model.train()
            with seeded(cfg.seed, step, cfg.device):
                if step < cfg.object_steps:
                    loss, shown = object_loss(model, tokenizer, *objects.draw(cfg.object_batch, cfg.points, rng))
                else:
                    batch = referral_batch(
                        train, cfg.batch_scenes, cfg.batch_sentences, tokenizer.pad_token_id, rng, swap
                    )
                    weights = {"anchor": cfg.anchor_loss, "scene": cfg.scene_loss, "word": cfg.word_loss}
                    loss, shown = sentence_loss(model, tokenizer, batch, weights)
                optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
                optimizer.step()

            done = step + 1
            shown = {"loss": loss.item(), **shown, "grad_norm": norm.item()}
            if done % 10 == 0 or done == total:
                folder.log(done, **shown)
            if done == cfg.object_steps:  # from here on the object encoder is frozen
                encode_rooms(model, store, train, cfg, cfg.samplings)
                encode_rooms(model, store, val, cfg, 0)
                objects.points.clear()
                folder.log(done, object_accuracy=object_accuracy(model, tokenizer, val))
            if done > cfg.object_steps and ((done - cfg.object_steps) % cfg.eval_every == 0 or done == total):
                accuracy = val_accuracy(model, val, tokenizer.pad_token_id)
                folder.log(done, val_accuracy=accuracy)
                if accuracy > best["accuracy"]:
                    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                    best = {"accuracy": accuracy, "model": weights, "step": done}
            if done % cfg.checkpoint_every == 0 or done == total:
                folder.checkpoints.save(
                    done, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
                )
            progress.advance(loss=shown["loss"])

    model.load_state_dict(best["model"])
    shutil.rmtree(folder.path / "model", ignore_errors=True)  # of a run killed between here and its result
    Grounder(model.cpu(), tokenizer).save_pretrained(folder.path / "model")
    counts = [len(room.objects) for room in val for _ in room.sentences]
    print(f"accuracy on val {best['accuracy']:.3f}; the grounder is in {folder.path / 'model'}")
    return folder.finish(
        {
            "val_accuracy": best["accuracy"],
            "val_chance": float(np.mean([1 / n for n in counts])),
            "val_sentences": len(counts),
            "best_step": best["step"],
            "train_rooms": len(train),
            "train_sentences": sum(len(room.sentences) for room in train),
            "parameters": sum(p.numel() for p in model.parameters()),
            "seconds": round(time.monotonic() - started, 1),
            "model": str(folder.path / "model"),
        }
    )


def load_rooms(store: SceneStore, split: str, cfg: PretrainGroundingConfig) -> list[GroundingRoom]:
    """The rooms and sentences of a split; points stay in memory for about the first `object_pool` objects.

    Raises:
        InputError: the split has no sentences.
    """
    referrals = store.referrals(split)
    scenes = (store.load(scene_id) for scene_id in store.split(split))
    rooms: list[GroundingRoom] = []
    kept = 0
    for room in grounding_rooms(scenes, referrals, DRAWN * cfg.points, cfg.seed, captions=cfg.scene_loss > 0):
        if kept >= cfg.object_pool:
            drop_points(room)
        kept += len(room.objects)
        rooms.append(room)
    if not rooms:
        raise InputError(f"{store.folder} has no {split} sentences; build it again with more scenes")
    return rooms


def drop_points(room: GroundingRoom) -> None:
    """Frees the points; `encode_rooms` draws them again where it needs them."""
    room.objects = replace(room.objects, points=room.objects.points[:, :0])


def build_model(cfg: PretrainGroundingConfig, vocab_size: int) -> GroundingModel:
    """A model with random weights decided by the seed alone."""
    with seeded(cfg.seed, -1, "cpu"):
        model = GroundingModel(
            ModelConfig(
                vocab_size=vocab_size,
                dim=cfg.dim,
                heads=cfg.heads,
                hidden=cfg.hidden,
                text_layers=cfg.text_layers,
                spatial_layers=cfg.spatial_layers,
                fusion_layers=cfg.fusion_layers,
                points=cfg.points,
                max_tokens=MAX_TOKENS,
                dropout=cfg.dropout,
            )
        )
    return model.to(cfg.device)


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW with the betas of SceneVerse; biases, norms and scales do not decay."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)


def learning_rate_factor(share: float, warmup: float) -> float:
    """Linear warm-up, then a cosine down to a tenth; `share` of the stage is done."""
    if share < warmup:
        return (share + 1e-3) / warmup
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


@contextmanager
def seeded(seed: int, step: int, device: str) -> Iterator[None]:
    """Makes what torch draws inside (initial weights, dropout) a function of (seed, step); restores its state after."""
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(np.random.SeedSequence([seed, step + 1]).generate_state(1, np.uint64)[0] >> 1))
        yield


def mirror_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[int, int]:
    """Token ids that change places in a mirror, both directions; pairs the vocabulary does not hold are left out."""
    vocabulary = tokenizer.get_vocab()
    pairs = [(vocabulary[a], vocabulary[b]) for a, b in MIRROR_WORDS if a in vocabulary and b in vocabulary]
    return {x: y for a, b in pairs for x, y in ((a, b), (b, a))}


class ObjectPool:
    """The objects whose points are in memory, with their captions."""

    def __init__(self, rooms: Sequence[GroundingRoom]) -> None:
        kept = [room.objects for room in rooms if room.objects.points.shape[1]]
        self.points = [objects.points[i] for objects in kept for i in range(len(objects))]
        self.captions = [caption for objects in kept for caption in objects.captions]

    def draw(self, count: int, points: int, rng: np.random.Generator) -> tuple[Tensor, list[str]]:
        """Points (M, P, 6) of random objects, each turned about z by a random angle, and their captions."""
        chosen = rng.choice(len(self.points), size=min(count, len(self.points)), replace=False)
        cloud = subsample(torch.stack([self.points[i] for i in chosen]), points, rng)
        yaw = torch.from_numpy(rng.uniform(-np.pi, np.pi, len(chosen)))
        return rotate_points(cloud, yaw.float()), [self.captions[i] for i in chosen]


def object_loss(
    model: GroundingModel, tokenizer: PreTrainedTokenizerFast, points: Tensor, captions: list[str]
) -> tuple[Tensor, dict[str, float]]:
    """Object-level contrast: each object's feature against the captions of the batch."""
    device = model.object_log_scale.device
    unique = sorted(set(captions))
    ids = torch.tensor([unique.index(caption) for caption in captions], device=device)
    tokens, words = tokenize(tokenizer, unique, model.config.max_tokens)
    text = model.caption_features(tokens.to(device), words.to(device))
    features = model.object_projection(model.object_encoder(points.to(device)))
    scale = scale_of(model.object_log_scale)
    return info_nce(features, text[ids], scale, ids), {"object_scale": scale.item()}


def sentence_loss(
    model: GroundingModel, tokenizer: PreTrainedTokenizerFast, batch: ReferralBatch, weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, float]]:
    """Referral loss, and what else has a weight: anchors, scenes against their captions, masked words."""
    device = model.object_log_scale.device
    batch = batch.to(device)
    tokens, hidden = batch.tokens, None
    if weights["word"] > 0:
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ()).item()))
        special = torch.tensor(tokenizer.all_special_ids)
        masked, hidden = mask_words(tokens.cpu(), special, tokenizer.mask_token_id, len(tokenizer), generator)
        tokens, hidden = masked.to(device), hidden.to(device)
    encoded = model.encode_scene(batch.scenes)
    fused = model.fuse(encoded, tokens, batch.words, batch.scene)
    parts = {"referral": referral_loss(fused.scores, batch.target)}
    if weights["anchor"] > 0:
        parts["anchor"] = anchor_loss(fused.fit[..., ANCHOR], batch.anchors)
    if weights["scene"] > 0:
        captions, words = (x.to(device) for x in collate_tokens(batch.captions, tokenizer.pad_token_id))
        same = (captions[:, None] == captions[None]).all(-1).float().argmax(1)  # rooms described alike
        scene, text = model.scene_features(encoded), model.caption_features(captions, words)
        parts["scene"] = info_nce(scene, text, scale_of(model.scene_log_scale), same)
    if hidden is not None:
        parts["word"] = masked_word_loss(model.word_logits(fused), hidden)
    loss = sum((weights.get(name, 1.0) * part for name, part in parts.items()), torch.zeros((), device=device))
    shown = {f"{name}_loss": part.item() for name, part in parts.items()}
    return loss, shown | {"accuracy": (fused.scores.argmax(1) == batch.target).float().mean().item()}


def encode_rooms(
    model: GroundingModel, store: SceneStore, rooms: Sequence[GroundingRoom], cfg: PretrainGroundingConfig, draws: int
) -> None:
    """Fills `features` with the frozen encoder and frees the points.

    Args:
        draws: encodings per object, of different points and turned by random angles; 0 = one, as it stands.
    """
    device = next(model.parameters()).device
    for index, room in enumerate(rooms):
        objects = room.objects
        if not objects.points.shape[1]:
            objects = object_set(store.load(objects.scene_id), DRAWN * cfg.points, seed=cfg.seed, room=objects.room)
        rng = np.random.default_rng([cfg.seed, index, draws])
        clouds = [subsample(objects.points, cfg.points, rng) for _ in range(max(draws, 1))]
        if draws:
            clouds = [rotate_points(c, torch.from_numpy(rng.uniform(-np.pi, np.pi, len(c))).float()) for c in clouds]
        features = model.object_encoder.encode(torch.cat(clouds).to(device)).cpu()
        room.features = features.view(len(clouds), len(objects), -1)
        drop_points(room)


@torch.no_grad()
def object_accuracy(model: GroundingModel, tokenizer: PreTrainedTokenizerFast, rooms: Sequence[GroundingRoom]) -> float:
    """Share of objects whose own caption is the nearest among all captions of these rooms."""
    model.eval()
    device = model.object_log_scale.device
    captions = [caption for room in rooms for caption in room.objects.captions]
    unique = sorted(set(captions))
    tokens, words = tokenize(tokenizer, unique, model.config.max_tokens)
    text = nn.functional.normalize(model.caption_features(tokens.to(device), words.to(device)), dim=-1)
    features = torch.cat([room.features[0] for room in rooms if room.features is not None]).to(device)
    nearest = (model.object_projection(features) @ text.T).argmax(1).tolist()
    return float(np.mean([unique[i] == caption for i, caption in zip(nearest, captions)]))


def val_accuracy(model: GroundingModel, rooms: Sequence[GroundingRoom], pad_id: int) -> float:
    """Share of sentences whose target scores highest."""
    predicted = predict(model, rooms, pad_id)
    hits = [(p == room.targets) for p, room in zip(predicted, rooms)]
    return float(torch.cat(hits).float().mean())


if __name__ == "__main__":
    job_main("pretrain-grounding")

"""Batches of pretraining with what frozen towers make of them, from disk where that is possible.

The features of the training images, and of the distinct texts, are computed once (`vl.feature_cache`) where a frozen
tower sees the same input each time it comes. Masked texts are other inputs each time: they are read anew.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core import distributed
from core.files import atomic_file
from vl.data import Batch
from vl.encoded import Encoded
from vl.feature_cache import FeatureCache, FeatureSpec
from vl.model import VLModel
from vl.pairs import PairBatches
from vl.pretrain_config import PretrainVLConfig
from vl.pretrain_data import Source, TrainBatches, share_of, token_rows

READABLE = "readable.npy"
"""In a folder of image features: bool (N,), which pictures were read."""

BLOCK = {"image": 32, "text": 256}
"""Items encoded at once."""


@dataclass
class Inputs:
    """One process's part of a training batch; `image` and `text`: what frozen towers made of it, where it is known."""

    batch: Batch
    image: Encoded | None = None
    text: Encoded | None = None


class Feed:
    """Training batches with cached features; `batch(step)` may be called from several threads."""

    def __init__(
        self,
        batches: TrainBatches,
        images: FeatureCache | None = None,
        texts: tuple[FeatureCache, dict[bytes, int]] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            texts: features, and the row of each tokenised text (`token_rows`).
        """
        self.batches, self.images, self.texts, self.device = batches, images, texts, device
        self.steps_per_epoch = batches.steps_per_epoch

    def batch(self, step: int) -> Inputs:
        """This process's part of batch number `step`."""
        rows = distributed.share(self.batches.batch_size, "batch_size")
        whole = self.batches.batch(step, pictures=rows if self.images is None else False)
        batch = share_of(whole, rows) if len(rows) < len(whole.text) else whole
        found = Inputs(batch)
        if self.images is not None:
            found.image = self.images.encoded(self.batches.items(step)[rows.start : rows.stop], self.device)
        if self.texts is not None:
            features, row = self.texts
            found.text = features.encoded([row[key] for key in token_rows(batch)], self.device)
        return found


def why_not_cached(cfg: PretrainVLConfig) -> dict[str, str]:
    """Why the features of the images, and of the texts, cannot be kept; empty where they can."""
    wanted, model = cfg.objectives, cfg.model
    reasons = {}
    for name, frozen in (("image", model.image.freeze), ("text", model.text.freeze)):
        reasons[name] = (
            "cache_features=no"
            if cfg.cache_features == "no"
            else "one tower reads image and text together"
            if model.kind == "one-tower"
            else f"the {name} tower is trained"
            if not frozen
            else "gradient_cache encodes its own chunks"
            if cfg.gradient_cache
            else ""
        )
    if not reasons["image"]:
        changed = [f"{name}={getattr(cfg, name)}" for name in ("flip", "jitter", "patch_dropout") if getattr(cfg, name)]
        if changed:
            reasons["image"] = f"{', '.join(changed)} show{'s' if len(changed) == 1 else ''} it other images each time"
        elif not (wanted.itc or wanted.fuses()):
            reasons["image"] = "no objective reads images"
    if not reasons["text"] and not (wanted.itc or wanted.itm):
        reasons["text"] = "the objectives read masked or causal texts, others each time"
    return reasons


def frozen_features(
    cfg: PretrainVLConfig, model: VLModel, source: Source, batches: TrainBatches, folder: Path, half: bool
) -> tuple[Feed, dict[str, str]]:
    """The feed of a run, with every feature that can be kept computed, and what was done about each, in words.

    Args:
        folder: where the features lie.
        half: towers compute under bfloat16 autocast as in training.

    Raises:
        InputError: the features do not fit the disk, or float16.
    """
    device = model.device
    notes = {name: f"not cached: {reason}" for name, reason in why_not_cached(cfg).items() if reason}

    def keep(modality: str) -> str:
        return "states" if cfg.objectives.fuses() or model.needs_states(modality) else "embedding"

    def kept(encoded: Encoded, modality: str) -> Encoded:
        return encoded if keep(modality) == "states" else model.only_pooled(encoded, modality)

    was_training = model.training
    model.eval()
    images, texts = None, None
    if "image" not in notes:

        def image_states(rows: range) -> Encoded:
            pixels = model.pixels(torch.from_numpy(batches.images(np.arange(rows.start, rows.stop))))
            with torch.autocast(device.type, torch.bfloat16, enabled=half):
                return kept(model.image_states(pixels), "image")

        spec = FeatureSpec(model.cache_key("image"), source.train_digest(), len(batches), keep("image"), half)
        images = FeatureCache.build(folder, spec, image_states, block=BLOCK["image"])
        if isinstance(batches, PairBatches):
            keep_readable(images.folder / READABLE, batches)
        notes["image"] = _note(images)
    if "text" not in notes:
        tokens = token_table(model, source.all_texts())
        ordered = sorted(tokens, key=lambda key: (len(key), key))  # alike in length: little padding

        def text_states(rows: range) -> Encoded:
            ids = [np.frombuffer(key, dtype=np.int64) for key in ordered[rows.start : rows.stop]]
            longest = len(ids[-1])
            padded = torch.full((len(ids), longest), int(model.tokenizer.pad_token_id))
            mask = torch.zeros(len(ids), longest, dtype=torch.int64)
            for i, row in enumerate(ids):
                padded[i, : len(row)], mask[i, : len(row)] = torch.from_numpy(row.copy()), 1
            with torch.autocast(device.type, torch.bfloat16, enabled=half and device.type == "cuda"):
                return kept(model.text_states(padded.to(device), mask.to(device)), "text")

        data, half_text = _digest_of(ordered), half and device.type == "cuda"
        spec = FeatureSpec(model.cache_key("text"), data, len(ordered), keep("text"), half_text)
        features = FeatureCache.build(folder, spec, text_states, block=BLOCK["text"])
        texts = features, {key: row for row, key in enumerate(ordered)}
        notes["text"] = _note(features)
    model.train(was_training)
    return Feed(batches, images, texts, device), notes


def keep_readable(file: Path, batches: PairBatches) -> None:
    """Keeps beside features which pictures were read when they were made, or puts it back: they are not read again."""
    if file.exists():
        batches.readable |= np.load(file, allow_pickle=False)
    elif batches.readable.any():  # of several processes, the one that made the features
        with atomic_file(file) as target:
            np.save(target, batches.readable)


def token_table(model: VLModel, texts: list[str]) -> set[bytes]:
    """The tokens of each distinct text that the model can read, as `token_rows` gives them."""
    found: set[bytes] = set()
    for start in range(0, len(texts), 4096):
        rows = model.tokenizer(texts[start : start + 4096], truncation=False, verbose=False)["input_ids"]
        found.update(np.array(row, dtype=np.int64).tobytes() for row in rows if len(row) <= model.config.max_tokens)
    return found


def _digest_of(keys: list[bytes]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for key in keys:
        digest.update(len(key).to_bytes(8, "little") + key)
    return digest.hexdigest()[:16]


def _note(cache: FeatureCache) -> str:
    return f"{len(cache)} cached in {cache.bytes / 1e6:.1f} MB, error {cache.error:.1e} of the largest"

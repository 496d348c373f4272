"""Train a two-tower model from scratch on views and their captions.

sightline pretrain-vl views=runs/render-views/...        (the folder that `sightline render-views` filled)

Leaves model/ (weights of the evaluation with the best mean reciprocal rank on the val homes), metrics.jsonl and
result.json in its run folder.
"""

import math
import shutil
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from core.checkpoint import load_weights
from core.errors import InputError, check_choice
from core.files import atomic_folder
from core.job import JobConfig, job_main
from core.precision import uses_bfloat16
from core.progress import track
from core.run import RunFolder
from vl.data import Batch, CaptionedViews, ViewBatches, mirrored
from vl.encoders import load_pretrained
from vl.losses import LOSSES
from vl.model import VLConfig, VLModel
from vl.retrieval import recall_at, target_ranks
from vl.tokenizer import train_tokenizer


@dataclass
class PretrainVLConfig(JobConfig):
    """Image-text pretraining: sightline pretrain-vl views=FOLDER lr=3e-4"""

    CUDA = True

    views: str = ""  # folder of rendered views (train/ and val/ inside)
    model: VLConfig = field(default_factory=VLConfig)  # shape of the towers
    loss: str = "softmax"  # softmax (CLIP) or sigmoid (SigLIP)
    overlap: str = "positive"  # a caption that also holds for another view of the batch is: positive, ignored, negative
    steps: int = 450  # updates
    batch_size: int = 256  # view-caption pairs per update
    lr: float = 3e-3  # peak learning rate
    warmup_steps: int = 40  # updates of linear warm-up; cosine decay to 0 follows
    weight_decay: float = 0.05  # of weight matrices
    grad_clip: float = 1.0  # largest gradient norm
    precision: str = "auto"  # of the image tower's products: float32, bfloat16, or auto = bfloat16 where native
    object_share: float = 0.6  # share of captions that name one object instead of the whole view
    flip: bool = True  # mirror half of the images, exchanging left and right in their captions
    jitter: float = 0.1  # largest relative change of brightness
    vocab_size: int = 2000  # most words of the tokenizer trained on the captions
    eval_every: int = 150  # updates between evaluations on val views
    eval_views: int = 500  # val views with distinct captions to retrieve from (fewer if there are fewer)
    checkpoint_every: int = 100  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("loss", self.loss, tuple(LOSSES))
        check_choice("overlap", self.overlap, ("positive", "ignored", "negative"))
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        for name in ("steps", "batch_size", "eval_every", "eval_views", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.lr <= 0 or self.warmup_steps < 0 or self.grad_clip <= 0:
            raise InputError(
                f"lr={self.lr} and grad_clip={self.grad_clip} should be positive, warmup_steps={self.warmup_steps} not "
                "negative"
            )


CONFIG = PretrainVLConfig


def learning_rate(step: int, steps: int, warmup_steps: int, peak: float) -> float:
    """Linear to `peak` over the warm-up, then a cosine that reaches 0 after the last step."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def make_tokenizer(cfg: PretrainVLConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    """The pretrained text encoder's own tokenizer, or one trained on the captions."""
    if cfg.model.text.pretrained:
        found = load_pretrained(AutoTokenizer, cfg.model.text.pretrained)
        if not isinstance(found, PreTrainedTokenizerFast):
            raise InputError(
                f"{cfg.model.text.pretrained} has no fast tokenizer (tokenizer.json); choose another encoder"
            )
        return found
    corpus = [*texts, *(mirrored(text) for text in texts)] if cfg.flip else texts
    return train_tokenizer(corpus, cfg.vocab_size, max_length=cfg.model.max_tokens)


def make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and kernels only, not on biases, norms and position maps."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and "position" not in name and "embeddings" not in name
        (decayed if matrix else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)


def batch_loss(model: VLModel, batch: Batch, loss: str, overlap: str, half: bool = False) -> Tensor:
    """Contrastive loss of one batch; each distinct caption is encoded once.

    Args:
        half: run the image tower in bfloat16. The text tower stays in float32: its small products gain nothing.
    """
    device = model.device
    pixels = model.pixels(batch.images, batch.gain)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        image = model.image_features(pixels)
    text = model.text_features(batch.input_ids.to(device), batch.attention_mask.to(device))[batch.text.to(device)]
    also_true = batch.positive.to(device)
    return LOSSES[loss](
        image,
        text,
        model.logit_scale,
        model.logit_bias,
        also_true if overlap == "positive" else None,
        also_true if overlap == "ignored" else None,
    )


def evaluate(model: VLModel, views: CaptionedViews, chosen: np.ndarray, captions: list[str]) -> dict[str, float]:
    """Retrieval among the chosen views, both ways."""
    model.eval()
    images = model.encode_images(np.ascontiguousarray(views.images[np.sort(chosen)]))
    images = images[torch.from_numpy(np.argsort(np.argsort(chosen))).to(images.device)]
    similarity = (model.encode_texts(captions) @ images.T).cpu().numpy()
    model.train()
    target = np.arange(len(chosen))
    to_view, to_text = target_ranks(similarity, target), target_ranks(similarity.T, target)
    return {
        "val_text_to_view_R@1": recall_at(to_view, 1),
        "val_text_to_view_R@10": recall_at(to_view, 10),
        "val_view_to_text_R@1": recall_at(to_text, 1),
        "val_mrr": float((1 / to_view).mean() + (1 / to_text).mean()) / 2,
    }


def run(cfg: PretrainVLConfig) -> dict[str, Any]:
    """Train, evaluate on val homes now and then, keep the best weights as model/."""
    if not cfg.views:
        raise InputError("views is required: views=FOLDER, the folder that `sightline render-views` filled")
    train, val = CaptionedViews.open(cfg.views, "train"), CaptionedViews.open(cfg.views, "val")
    folder = RunFolder.open(cfg, "pretrain-vl")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    tokenizer = make_tokenizer(cfg, train.texts)
    model = VLModel.create(cfg.model, tokenizer, seed=cfg.seed).to(cfg.device)
    model.train()
    optimizer = make_optimizer(model, cfg.lr, cfg.weight_decay)
    batches = ViewBatches(
        train,
        tokenizer,
        cfg.batch_size,
        seed=cfg.seed,
        object_share=cfg.object_share,
        flip=cfg.flip,
        jitter=cfg.jitter,
        max_tokens=cfg.model.max_tokens,
    )
    gallery, captions = val.distinct(cfg.eval_views, seed=0, at_most=True)

    half = uses_bfloat16(cfg.precision, cfg.device)
    start, seconds = 0, 0.0
    best: dict[str, Any] = {"step": 0, "score": -1.0, "metrics": {}, "weights": {}}
    latest = folder.checkpoints.latest()
    if latest is not None:
        start, state = latest
        load_weights(model, state["model"], f"the checkpoint in {folder.path}")
        optimizer.load_state_dict(state["optimizer"])
        best, seconds = state["best"], state["seconds"]
    folder.rewind(start)

    with track(cfg.steps, "two-tower") as progress:
        progress.advance(start)
        for step in range(start, cfg.steps):
            began = time.perf_counter()
            lr = learning_rate(step, cfg.steps, cfg.warmup_steps, cfg.lr)
            for group in optimizer.param_groups:
                group["lr"] = lr
            with torch.random.fork_rng(devices=[]):  # dropout, where a text encoder has it, depends on the step alone
                torch.manual_seed(cfg.seed * 1_000_003 + step)
                loss = batch_loss(model, batches.batch(step), cfg.loss, cfg.overlap, half)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), cfg.grad_clip)
            optimizer.step()
            if not math.isfinite(loss.item()):
                raise InputError(f"the loss became {loss.item()} at step {step}; lower lr (now {cfg.lr})")
            done, shown = step + 1, {"loss": loss.item()}
            metrics = {"loss": loss.item(), "lr": lr, "grad_norm": norm.item(), "logit_scale": model.logit_scale.item()}
            if done % cfg.eval_every == 0 or done == cfg.steps:
                found = evaluate(model, val, gallery, captions)
                metrics |= found
                shown["val_R@1"] = found["val_text_to_view_R@1"]
                if found["val_mrr"] > best["score"]:
                    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                    best = {"step": done, "score": found["val_mrr"], "metrics": found, "weights": weights}
            seconds += time.perf_counter() - began
            folder.log(done, **metrics)
            progress.advance(1, **shown)
            if done % cfg.checkpoint_every == 0 and done < cfg.steps:
                folder.checkpoints.save(
                    done,
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "best": best,
                        "seconds": seconds,
                    },
                )

    load_weights(model, best["weights"], "the best evaluation")
    target = folder.path / "model"
    if target.exists():  # written by a run that was killed before its result
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        model.save_pretrained(temporary)
    recall = best["metrics"]["val_text_to_view_R@1"]
    print(f"text-to-view R@1 on {len(gallery)} val views {recall:.3f}; the two towers are in {folder.path / 'model'}")
    return folder.finish(
        {
            "model": "model",
            "best_step": best["step"],
            **best["metrics"],
            "val_gallery": len(gallery),
            "val_homes": len({val.scene_id[v] for v in gallery}),
            "train_views": len(train),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "precision": "bfloat16" if half else "float32",
            "seconds": round(seconds, 1),
            "pairs_per_second": round(cfg.steps * cfg.batch_size / max(seconds, 1e-9)),
        }
    )


if __name__ == "__main__":
    job_main("pretrain-vl")

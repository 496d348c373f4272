"""Fine-tune a vision-language model on a task: a head of answers on the fusion, everything or a part of it trained.

sightline finetune-vl task=nlvr1 data=FOLDER model=FOLDER        (a model with a fusion, from `sightline pretrain-vl`)

`data` holds files of the task's official form. Leaves model/ (weights of the evaluation that was best on the val split
by the task's official metric; its config has the answers), metrics.jsonl and result.json in its run folder. Several
processes train one model when torchrun starts the job: each takes its questions of a batch.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core import distributed
from core.checkpoint import Checkpoints, load_checkpoint, load_weights
from core.errors import InputError, check_choice
from core.files import replace_folder
from core.help import field_comments
from core.job import JobConfig, job_main
from core.precision import uses_bfloat16
from core.progress import track
from core.run import RunFolder
from vl.answer_batches import AnswerBatches, ask
from vl.answering import (
    answer_loss,
    answer_scores,
    answers_of,
    check_blind,
    check_examples,
    leave_out_unreadable,
    predict,
    targets,
    with_answers,
)
from vl.embed_folder import picture_size
from vl.kept_states import KeptStates, keep_states
from vl.model import VLModel
from vl.optimise import SCHEDULES, make_optimizer, rate_factor, seeded, set_rates, update
from vl.picture_cache import Crop, PictureCache
from vl.tasks import TASKS, Task, TaskData, task_named


@dataclass
class FinetuneVLConfig(JobConfig):
    """Fine-tuning on a task: sightline finetune-vl task=nlvr1 data=FOLDER model=FOLDER"""

    CUDA = True

    task: str = ""  # nlvr1, nlvr2, snli-ve, vqa or refcoco
    data: str = ""  # folder with the task's official files
    model: str = ""  # model folder to start from, with a fusion or of one tower
    train_split: str = "train"  # split, or a part of one (test:train)
    val_split: str = "val"  # split, or a part of one (test:val)
    steps: int = 0  # updates; 0 = as `epochs` says
    epochs: float = 10.0  # passes over the training split
    batch_size: int = 64  # questions per update
    lr: float = 3e-4  # peak learning rate
    fusion_factor: float = 1.0  # times lr for the fusion
    head_factor: float = 5.0  # times lr for the answer head
    warmup: float = 0.1  # share of the updates with linear warm-up
    schedule: str = "cosine"  # decay to 0 after the warm-up: cosine or linear
    weight_decay: float = 0.05  # of weight matrices
    grad_clip: float = 1.0  # largest gradient norm
    freeze_image: bool = False  # leave the image tower as it is
    freeze_text: bool = False  # leave the text tower as it is
    freeze_fusion: bool = False  # leave the fusion as it is
    least_answers: int = 9  # vqa: questions that an answer must be the most common one of, to be learned
    blind: bool = False  # every picture is grey: what can be known from the text alone
    jitter: float = 0.0  # largest relative change of brightness in training
    cache_gb: float = 1.0  # memory for decoded pictures, and as much for a frozen tower's states; the rest is read anew
    max_unreadable: float = 0.05  # share of unreadable training pictures, or of texts, above which the run stops
    precision: str = "auto"  # float32, bfloat16, or auto = bfloat16 where native
    eval_every: int = 0  # updates between evaluations on the val split; 0 = ten in all
    checkpoint_every: int = 100  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task == "retrieval":
            raise InputError(
                "task=retrieval needs no answers: go on pretraining on the task's pairs, "
                "sightline pretrain-vl init=FOLDER objectives.itc=1 objectives.itm=1"
            )
        if self.task:
            check_choice("task", self.task, [name for name, task in TASKS.items() if trainable(task)])
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        for name in ("batch_size", "checkpoint_every", "lr", "grad_clip", "head_factor", "fusion_factor"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("steps", "eval_every", "cache_gb", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")
        if self.epochs <= 0 and not self.steps:
            raise InputError(f"epochs={self.epochs} should be positive where steps are not given")
        for name in ("warmup", "jitter", "max_unreadable"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be in [0, 1)")


CONFIG = FinetuneVLConfig


def trainable(task: Task) -> bool:
    """Whether a task is learned by an answer head."""
    return task.predicts in ("label", "answer", "box")


def evaluate(
    model: VLModel,
    task: Task,
    val: TaskData,
    cache: PictureCache,
    blind: bool,
    batch_size: int,
    kept: KeptStates | None,
) -> dict[str, float]:
    """The official metrics on the val split, named val_<metric>."""
    answers = predict(model, task, val.examples, cache, blind=blind, batch_size=batch_size, kept=kept)
    scores = task.score(val.examples, answers.for_metric(task))
    return {f"val_{name}": value for name, value in scores.items() if isinstance(value, float)}


def run(cfg: FinetuneVLConfig) -> dict[str, Any]:
    """Train, evaluate on val now and then, keep the best weights as model/."""
    for name in ("task", "data", "model"):
        if not getattr(cfg, name):
            raise InputError(f"{name} is required: {name}=... ({field_comments(FinetuneVLConfig)[name]})")
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        if cfg.batch_size < distributed.world_size():
            raise InputError(
                f"batch_size={cfg.batch_size} leaves some of {distributed.world_size()} processes without a question; "
                "give at least one for each"
            )
        task = task_named(cfg.task)
        if cfg.blind:
            check_blind(task)
        train_data, val = task.load(cfg.data, cfg.train_split), task.load(cfg.data, cfg.val_split)
        model = with_answers(
            VLModel.from_pretrained(cfg.model),
            answers_of(task, train_data.examples, cfg.least_answers),
            task.images,
            seed=cfg.seed,
            freeze_image=cfg.freeze_image,
            freeze_text=cfg.freeze_text,
            freeze_fusion=cfg.freeze_fusion,
        ).to(device)
        for data in (train_data, val):
            leave_out_unreadable(model, data, cfg.max_unreadable)
            check_examples(model, task, data.examples, labels=True)
        folder = RunFolder.open(cfg, "finetune-vl") if distributed.is_main() else None
        finished = folder.result() if folder is not None else None
        if distributed.from_main(int(finished is not None)):
            if folder is not None:
                folder.close()
            return finished or {}
        return train(cfg, task, model, train_data, val, folder)


def train(
    cfg: FinetuneVLConfig, task: Task, model: VLModel, train: TaskData, val: TaskData, folder: RunFolder | None
) -> dict[str, Any]:
    """The loop: ask, loss, step, log, evaluate, checkpoint.

    Args:
        model: with the task's answer head, on the device of this process.
        folder: of the run; None in all processes but the main one.
    """
    model.train()
    groups = model.parameter_groups(cfg.lr, cfg.fusion_factor, cfg.head_factor, cfg.weight_decay)
    optimizer = make_optimizer("adamw", groups)
    height, width = picture_size(model)
    train_gb, val_gb = shares(train, val, cfg.cache_gb)
    train_cache = PictureCache(train.pictures, height, width, gigabytes=train_gb)
    val_cache = PictureCache(val.pictures, height, width, gigabytes=val_gb)
    kept = val_kept = None
    if cfg.freeze_image and model.one is None and not (cfg.blind or cfg.jitter):
        kept = keep_states(model, all_crops(train), train_cache, train_gb)
        val_kept = keep_states(model, all_crops(val), val_cache, val_gb)
    batches = AnswerBatches(
        train.examples,
        train_cache,
        model.tokens,
        cfg.batch_size,
        seed=cfg.seed,
        jitter=cfg.jitter,
        blind=cfg.blind,
        max_unreadable=cfg.max_unreadable,
        pixels=kept is None,
    )
    steps = cfg.steps or max(1, round(cfg.epochs * batches.steps_per_epoch))
    eval_every = cfg.eval_every or max(1, math.ceil(steps / 10))
    half = uses_bfloat16(cfg.precision, model.device.type)

    seconds = 0.0
    best: dict[str, Any] = {"step": 0, "score": -1.0, "metrics": {}, "weights": {}}
    place = Path(cfg.out).expanduser() if folder is None else folder.path
    checkpoints = Checkpoints(place / "checkpoints") if folder is None else folder.checkpoints
    latest = checkpoints.latest() if folder is not None else None
    start = distributed.from_main(latest[0] if latest else 0)
    saved = latest[1] if latest else load_checkpoint(checkpoints.path(start)) if start else None
    if saved is not None:
        load_weights(model, saved["model"], f"the checkpoint in {place}")
        optimizer.load_state_dict(saved["optimizer"])
        best, seconds = saved["best"], saved["seconds"]
    if folder is not None:
        folder.rewind(start)

    with track(steps, task.name) as progress:
        progress.advance(start)
        for step in range(start, steps):
            began = time.perf_counter()
            rate = rate_factor(step, steps, round(cfg.warmup * steps), cfg.schedule)
            set_rates(optimizer, rate)
            examples, batch = batches.batch(step)
            target = targets(task, model.config.answers, examples).to(model.device)
            share = len(examples) / distributed.sum_over_ranks(torch.tensor(float(len(examples)), device=model.device))
            with (
                seeded(model.device, cfg.seed, step, distributed.rank()),  # dropout depends on the step alone
                torch.autocast(model.device.type, torch.bfloat16, enabled=half),
            ):
                scores = answer_scores(model, batch, kept.of(batch.crops) if kept else None)
            part = answer_loss(scores, target) * share
            optimizer.zero_grad(set_to_none=True)
            part.backward()
            loss = distributed.sum_over_ranks(part.detach()).item()
            if not math.isfinite(loss):
                raise InputError(f"the loss became {loss} at step {step}; lower lr (now {cfg.lr})")
            norm = update(optimizer, model.parameters(), cfg.grad_clip)
            done, shown = step + 1, {"loss": loss}
            metrics = {"loss": loss, "lr": rate * cfg.lr, "grad_norm": norm.item()}
            if done % eval_every == 0 or done == steps:
                found = evaluate(model, task, val, val_cache, cfg.blind, cfg.batch_size, val_kept)
                metrics |= found
                score = shown[f"val_{task.main}"] = found[f"val_{task.main}"]
                if score > best["score"]:
                    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                    best = {"step": done, "score": score, "metrics": found, "weights": weights}
            seconds += time.perf_counter() - began
            if folder is not None:
                folder.log(done, **metrics)
            progress.advance(1, **shown)
            if folder is not None and done % cfg.checkpoint_every == 0 and done < steps:
                checkpoints.save(
                    done,
                    {
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "best": best,
                        "seconds": seconds,
                    },
                )

    result: dict[str, Any] = {}
    if folder is not None:
        load_weights(model, best["weights"], "the best evaluation")
        replace_folder(folder.path / "model", model.save_pretrained)
        print(
            f"{task.name} {task.main} on {cfg.val_split} {best['score']:.3f}; the model is in {folder.path / 'model'}"
        )
        result = folder.finish(
            {
                "model": "model",
                "task": task.name,
                "blind": cfg.blind,
                "best_step": best["step"],
                **best["metrics"],
                "steps": steps,
                "train_examples": len(train.examples),
                "val_examples": len(val.examples),
                "dropped": {"train": train.dropped, "val": val.dropped},
                "unreadable": {"train": train_cache.causes(), "val": val_cache.causes()},
                "answers": len(model.config.answers),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
                "kept_states": kept is not None,
                "precision": "bfloat16" if half else "float32",
                "seconds": round(seconds, 1),
            }
        )
    distributed.barrier()
    return result


def all_crops(data: TaskData) -> Iterator[Crop]:
    """Every picture, or box of one, that a split asks about."""
    return (crop for example in data.examples for crops in ask(example).crops for crop in crops)


def shares(train: TaskData, val: TaskData, gigabytes: float) -> tuple[float, float]:
    """Memory for each split, by their numbers of examples."""
    count = len(train.examples) + len(val.examples)
    return gigabytes * len(train.examples) / count, gigabytes * len(val.examples) / count


if __name__ == "__main__":
    job_main("finetune-vl")

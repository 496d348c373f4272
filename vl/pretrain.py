"""Trains a vision-language model on images and their texts.

sightline pretrain-vl views=runs/render-views/...        (the folder that `sightline render-views` filled)
sightline pretrain-vl data=pairs.jsonl val_data=val.jsonl images=FOLDER vl_recipe=laptop-fusion

Any weighted sum of objectives (objectives.itc=1 objectives.itm=1 ...), on two towers with or without fusion or on one
tower, each part trained or frozen. What frozen towers make of inputs that stay the same is computed once and kept on
disk. Several processes train one model when torchrun starts the job; each takes its share of the batch. Every random
draw is a function of (seed, step): a killed and resumed run ends with the same numbers.

Leaves model/ (weights of the best evaluation on val: mean reciprocal rank of retrieval where objectives.itc is on, else
the loss), metrics.jsonl and result.json in its run folder.
"""

import dataclasses
import math
import shutil
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core import distributed
from core.checkpoint import Checkpoints, load_checkpoint, load_weights
from core.errors import InputError
from core.files import replace_folder
from core.flops import counted_flops
from core.job import job_main
from core.memory import peak_memory_gb
from core.precision import uses_bfloat16
from core.progress import track
from core.run import RunFolder
from vl.gradient_cache import contrastive_step
from vl.loader import LoaderProfile, Prefetch
from vl.model import VLModel
from vl.objectives import objective_terms, weighted_sum
from vl.optimise import make_optimizer, rate_factor, seeded, set_rates, update
from vl.pairs import PairBatches
from vl.pretrain_config import PretrainVLConfig
from vl.pretrain_data import Source, open_source
from vl.pretrain_eval import Evaluation, shown, summed
from vl.pretrain_features import Inputs, frozen_features
from vl.pretrain_start import build_model

CONFIG = PretrainVLConfig
NOTHING: dict[str, Any] = {"step": 0, "score": -math.inf, "metrics": {}, "weights": {}}


def run(cfg: PretrainVLConfig) -> dict[str, Any]:
    """Trains, writes `model/` into the run folder and returns the result that also lands in result.json.

    In several processes (torchrun) the main one does so; the others return nothing.
    """
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        rows = distributed.share(cfg.batch_size, "batch_size")
        if cfg.objectives.itm and len(rows) < 2:
            raise InputError(
                f"batch_size={cfg.batch_size} leaves {len(rows)} pair for each of {distributed.world_size()} "
                "processes; objectives.itm compares a process's own pairs, give at least 2 for each"
            )
        source = open_source(cfg)
        folder = RunFolder.open(cfg, "pretrain-vl") if distributed.is_main() else None
        finished = folder.result() if folder is not None else None
        if distributed.from_main(int(finished is not None)):
            if folder is not None:
                folder.close()
            return finished or {}
        return train(cfg, device, source, folder)


class Terms:
    """The objectives of a batch, in the precision of the run."""

    def __init__(self, cfg: PretrainVLConfig, model: VLModel, half: bool) -> None:
        """
        Args:
            half: bfloat16 for the image tower; on CUDA, and where the image tower is all there is, for everything. On
                a CPU the small products of texts and fusion gain nothing by it.
        """
        self.cfg, self.model, wanted = cfg, model, cfg.objectives
        self.half_image = half
        self.reads_images = bool(wanted.itc or wanted.fuses())
        self.half_all = half and (model.device.type == "cuda" or not (self.reads_images or wanted.text_mlm))

    def __call__(self, inputs: Inputs, generator: torch.Generator, drop: float = 0.0) -> dict[str, Tensor]:
        """Each objective's share of this process, with gradient.

        Args:
            drop: share of patches left out.
        """
        model, batch, image = self.model, inputs.batch, inputs.image
        if image is None and self.reads_images:
            pixels = model.pixels(batch.images, batch.gain)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self.half_image):
                image = model.image_states(pixels, drop=drop, generator=generator)
                if self.cfg.objectives.itc:
                    image = model.with_embedding(image, "image")
            if self.half_image and not self.half_all:  # what follows computes in float32
                image.layers = [layer.float() for layer in image.layers]
                image.pooled = None if image.pooled is None else image.pooled.float()
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.half_all):
            return objective_terms(model, batch, self.cfg.objectives, generator, image=image, text=inputs.text)

    def backward(self, inputs: Inputs, generator: torch.Generator) -> dict[str, Tensor]:
        """The same, its gradients added to the model's."""
        cfg, model = self.cfg, self.model
        if cfg.gradient_cache:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self.half_image):
                return contrastive_step(
                    model,
                    inputs.batch,
                    cfg.objectives,
                    generator,
                    chunk=cfg.gradient_cache,
                    drop=cfg.patch_dropout,
                )
        terms = self(inputs, generator, cfg.patch_dropout)
        weighted_sum(terms, self.cfg.objectives).backward()
        return {name: term.detach() for name, term in terms.items()}


def train(cfg: PretrainVLConfig, device: torch.device, source: Source, folder: RunFolder | None) -> dict[str, Any]:
    """The loop: read, forward, loss, step, log, evaluate, checkpoint.

    Args:
        folder: of the run; None in all processes but the main one.
    """
    place = Path(cfg.out).expanduser() if folder is None else folder.path
    half = uses_bfloat16(cfg.precision, cfg.device)
    model, taken = build_model(cfg, source)
    source.size = model.config.image.size  # image_size=0: that of the pretrained tower
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(
        cfg.optimizer, model.parameter_groups(cfg.lr, cfg.fusion_factor, cfg.head_factor, cfg.weight_decay)
    )
    batches = source.train(model.tokenizer)
    features = Path(cfg.features).expanduser() if cfg.features else place / "features"
    feed, notes = frozen_features(cfg, model, source, batches, features, half)
    if folder is not None:
        for name, note in notes.items():
            if model.one is None and getattr(cfg.model, name).freeze:
                print(f"{name} features {note}")
    step_terms = Terms(cfg, model, half)
    evaluate = Evaluation(cfg, model, source, step_terms)

    checkpoints = Checkpoints(place / "checkpoints") if folder is None else folder.checkpoints
    found = checkpoints.latest() if folder is not None else None
    start = distributed.from_main(found[0] if found else 0)
    saved = found[1] if found else load_checkpoint(checkpoints.path(start)) if start else None
    best, seconds, updating_s, flops = NOTHING, 0.0, 0.0, 0
    profile = LoaderProfile(workers=cfg.workers)
    if saved is not None:
        load_weights(model, saved["model"], f"the checkpoint in {place}")
        optimizer.load_state_dict(saved["optimizer"])
        best, flops = saved["best"], saved["flops"]
        seconds, updating_s = saved["seconds"], saved["updating_s"]
        profile.wait_s, profile.model_s = saved["wait_s"], saved["model_s"]
        if isinstance(batches, PairBatches):
            batches.unreadable.restore(saved["unreadable"])
    if folder is not None:
        folder.rewind(start)

    ahead = Prefetch(feed, start, cfg.steps, workers=cfg.workers, ahead=max(2, cfg.workers))
    with track(cfg.steps, "pretrain-vl") as progress, ahead:
        progress.advance(start)
        for step in range(start, cfg.steps):
            began = time.perf_counter()
            inputs = next(ahead)
            read = time.perf_counter()
            set_rates(optimizer, rate_factor(step, cfg.steps, cfg.warmup_steps, cfg.schedule))
            optimizer.zero_grad(set_to_none=True)
            with (
                seeded(device, cfg.seed, step, distributed.rank()) as generator,
                counted_flops(step == 0) as counter,
            ):
                terms = step_terms.backward(inputs, generator)
            if counter is not None:
                flops = counter.get_total_flops()
            losses = summed({**terms, "loss": weighted_sum(terms, cfg.objectives)})
            if not math.isfinite(losses["loss"]):
                raise InputError(f"the loss became {losses['loss']} at step {step}; lower lr (now {cfg.lr})")
            norm = update(optimizer, trained, cfg.grad_clip)
            model.clamp_theta()
            done = step + 1
            metrics = {**losses, "lr": cfg.lr * rate_factor(step, cfg.steps, cfg.warmup_steps, cfg.schedule)}
            metrics |= {"grad_norm": norm.item(), "logit_scale": model.logit_scale.item()}
            updated = time.perf_counter()
            profile.add(read - began, updated - read, pictures=len(inputs.batch.text))
            updating_s += updated - began
            if done % cfg.eval_every == 0 or done == cfg.steps:
                score, measured = evaluate()
                metrics |= measured
                if score > best["score"]:
                    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
                    best = {"step": done, "score": score, "metrics": measured, "weights": weights}
            seconds += time.perf_counter() - began
            if folder is not None:
                folder.log(done, **metrics)
            progress.advance(1, loss=losses["loss"], **shown(metrics))
            if folder is not None and done % cfg.checkpoint_every == 0 and done < cfg.steps:
                state: dict[str, Any] = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
                state |= {"wait_s": profile.wait_s, "model_s": profile.model_s}
                state |= {"seconds": seconds, "updating_s": updating_s, "flops": flops}
                state |= {"unreadable": batches.unreadable.state()} if isinstance(batches, PairBatches) else {}
                checkpoints.save(done, state)

    result: dict[str, Any] = {}
    if not best["weights"]:
        raise InputError(f"no evaluation gave a number; lower lr (now {cfg.lr})")
    if folder is not None:
        load_weights(model, best["weights"], "the best evaluation")
        replace_folder(place / "model", model.save_pretrained)
        if cfg.export_towers:
            replace_folder(place / "towers", model.export_towers)
        if not cfg.features:
            shutil.rmtree(place / "features", ignore_errors=True)
        print(profile.verdict())
        print(evaluate.summary(best["metrics"], place / "model"))
        result = folder.finish(
            {
                "model": "model",
                **({"towers": "towers"} if cfg.export_towers else {}),
                "best_step": best["step"],
                **best["metrics"],
                **evaluate.described(),
                "train_views": len(batches),
                **({"init": taken} if cfg.init else {}),
                **({"one_tower": dataclasses.asdict(model.started)} if model.started is not None else {}),
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "trainable_parameters": sum(parameter.numel() for parameter in trained),
                "flops_per_step": flops,
                "peak_memory_gb": round(peak_memory_gb(), 3),
                **device_memory(device),
                "precision": "bfloat16" if half else "float32",
                "features": notes,
                **({"unreadable": batches.unreadable.counts()} if isinstance(batches, PairBatches) else {}),
                "steps": cfg.steps,
                "seconds": round(seconds, 1),
                "updating_seconds": round(updating_s, 1),  # reading and learning, without evaluations
                "pairs_per_second": round(cfg.steps * cfg.batch_size / max(updating_s, 1e-9), 1),
                "loader": profile.summary(),
            }
        )
    distributed.barrier()
    return result


def device_memory(device: torch.device) -> dict[str, float]:
    """Largest memory that tensors took on a GPU; nothing on the CPU, where `peak_memory_gb` says it."""
    if device.type != "cuda":
        return {}
    return {"device_memory_gb": round(torch.cuda.max_memory_allocated(device) / 1e9, 3)}


if __name__ == "__main__":
    job_main("pretrain-vl")

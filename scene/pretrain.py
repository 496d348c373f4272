"""Trains a grounding model on built scenes: sightline pretrain-grounding scenes=SCENES

stages=object,scene: first the object encoder and the words learn which object is "the red armchair"; then the encoder
is frozen, every object's feature is computed once for several draws of its points, and the spatial, text and joint
transformers learn which object a sentence means. stages=finetune goes on from a trained model (init=FOLDER) with task=
referral, multi (sentences that mean several objects or none) or answers (questions). stages=scene without init has no
trained encoder to freeze: it is trained along with the sentences, unless encoder=frozen. recipe=gps-paper and others
(configs/recipe) hold published settings.

Several processes train one model when torchrun starts the job. Every random draw is a function of (seed, stage, step):
a killed and resumed run ends with the same numbers.

Source: stages and losses of SceneVerse (arXiv:2401.09340, section 4.2).
"""

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core import distributed
from core.checkpoint import Checkpoints, load_checkpoint, load_weights
from core.errors import InputError
from core.job import job_main
from core.memory import peak_memory_gb
from core.progress import track
from core.run import RunFolder
from scene.calibration import calibrated
from scene.curriculum import Curriculum, ObjectStage, SentenceStage
from scene.grounder import Grounder
from scene.optimise import learning_rate_factor, make_optimizer, seeded, set_rates, update
from scene.pretrain_config import STAGES, PretrainGroundingConfig
from scene.rooms import text_bytes
from scene.sampling import padding
from scene.sentence_stage import MEASURES

CONFIG = PretrainGroundingConfig
VAL_MEASURES = tuple(f"val_{name}" for name in MEASURES.values())
NOTHING: dict[str, Any] = {"score": -1.0, "model": {}, "step": 0}


def run(cfg: PretrainGroundingConfig) -> dict[str, Any]:
    """Trains, writes `model/` into the run folder and returns the result that also lands in result.json.

    In several processes (torchrun) the main one does so; the others return nothing.
    """
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        folder = RunFolder.open(cfg, "pretrain-grounding") if distributed.is_main() else None
        finished = folder.result() if folder is not None else None
        if distributed.from_main(int(finished is not None)):
            if folder is not None:
                folder.close()
            return finished or {}
        return train(cfg, device, folder)


def train(cfg: PretrainGroundingConfig, device: torch.device, folder: RunFolder | None) -> dict[str, Any]:
    """The stages one after another: draw, loss, update, log, evaluate, checkpoint.

    Args:
        folder: of the run; None in all processes but the main one.
    """
    started = time.monotonic()
    place = Path(cfg.out).expanduser() if folder is None else folder.path
    curriculum = Curriculum(cfg, device, place)
    model = curriculum.model
    checkpoints = Checkpoints(place / "checkpoints") if folder is None else folder.checkpoints
    found = checkpoints.latest() if folder is not None else None
    start = distributed.from_main(found[0] if found else 0)
    saved = found[1] if found else load_checkpoint(checkpoints.path(start)) if start else None
    best = NOTHING
    if saved is not None:
        where = f"the checkpoint of step {start} in {checkpoints.folder} (were the scenes rebuilt?)"
        load_weights(model, saved["model"], where)
        best = saved["best"]
    if folder is not None:
        folder.rewind(start)  # also without a checkpoint: drops the rows of a run killed before its first

    steps = {name: curriculum.steps(name) for name in cfg.stage_names}
    total, first = sum(steps.values()), 0
    result: dict[str, Any] = {}
    with track(total - start, "pretrain-grounding") as progress:
        for name in cfg.stage_names:
            last = first + steps[name]
            if start >= last and last < total:
                first = last
                continue
            if start <= first and best["model"]:  # a stage goes on from the best weights of the one before
                model.load_state_dict(best["model"])
                best = NOTHING
            stage = curriculum.stage(name)
            optimizer = make_optimizer(model, curriculum.rates(name), cfg.weight_decay)
            if saved is not None and first < start:
                optimizer.load_state_dict(saved["optimizer"])
            trained = [p for p in model.parameters() if p.requires_grad]
            warmup = cfg.object_warmup if isinstance(stage, ObjectStage) else cfg.warmup
            for done in range(max(start, first) + 1, last + 1):
                step = done - first - 1
                set_rates(optimizer, learning_rate_factor(step, steps[name], warmup, cfg.floor))
                model.train()
                with seeded(device, cfg.seed, STAGES.index(name) + 1, step, distributed.rank()):
                    loss, shown = stage.loss(step)
                    logged = summed({"loss": loss.detach(), **shown})
                    if not math.isfinite(logged["loss"]):
                        raise InputError(unusable(logged["loss"], name, step, stage.batch_name(step), checkpoints))
                    norm = update(optimizer, trained, loss, cfg.clip)
                if folder is not None and (done % 10 == 0 or done == total):
                    folder.log(done, **logged, grad_norm=norm.item())
                measured: dict[str, float] = {}
                if isinstance(stage, ObjectStage) and done == last:
                    measured = {"object_accuracy": curriculum.object_accuracy()}
                if isinstance(stage, SentenceStage) and ((done - first) % cfg.eval_every == 0 or done == last):
                    score = curriculum.score(stage)
                    measured = {f"val_{MEASURES[stage.task]}": score}
                    if score > best["score"]:
                        weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
                        best = {"score": score, "model": weights, "step": done}
                if folder is not None and measured:
                    folder.log(done, **measured)
                if folder is not None and (done % cfg.checkpoint_every == 0 or done == last):
                    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": best}
                    checkpoints.save(done, state)
                progress.advance(loss=logged["loss"])
            if isinstance(stage, SentenceStage) and last == total:
                result |= conclusion(stage, curriculum, best)
            first = last

    if best["model"]:
        model.load_state_dict(best["model"])
    if folder is not None:
        shutil.rmtree(place / "model", ignore_errors=True)  # of a run killed between here and its result
        grounder = Grounder(model, curriculum.tokenizer, curriculum.answers, None, curriculum.provenance())
        if best["model"] and cfg.task != "answers":
            grounder.conformal = calibrated(
                grounder, curriculum.stores, score="member" if cfg.task == "multi" else "score", seed=cfg.seed
            )
        grounder.save_pretrained(place / "model")
        # from the log, since an earlier part of the run may have measured it
        result |= next(({name: row[name]} for row in folder.rows() for name in row if name == "object_accuracy"), {})
        figures = ", ".join(f"{k} {v:.3f}" for k, v in result.items() if k in (*VAL_MEASURES, "object_accuracy"))
        print(f"{figures}; the grounder is in {place / 'model'}")
        result |= {
            "left_out": curriculum.left_out,
            "parameters": sum(p.numel() for p in model.parameters()),
            "peak_memory_gb": round(peak_memory_gb(), 2),
            "seconds": round(time.monotonic() - started, 1),
            "model": str(place / "model"),
        }
        if not cfg.cache:
            shutil.rmtree(place / "features", ignore_errors=True)
        result = folder.finish(result)
    distributed.barrier()
    return result


def summed(parts: Mapping[str, Tensor]) -> dict[str, float]:
    """The sums over all processes, fetched in one piece."""
    values = distributed.sum_over_ranks(torch.stack([value.float() for value in parts.values()]))
    return dict(zip(parts, values.tolist()))


def unusable(loss: float, stage: str, step: int, batch: str, checkpoints: Checkpoints) -> str:
    """What to say when the loss is no number."""
    kept = checkpoints.steps()
    where = f"the checkpoint of step {kept[-1]} stays in {checkpoints.folder}" if kept else "there is no checkpoint yet"
    return (
        f"the loss is {loss} at step {step} of stage {stage} ({batch}); {where}. Train again with a lower learning "
        "rate, or with precision=float32, and look at these scenes for coordinates that are no numbers"
    )


def conclusion(stage: SentenceStage, curriculum: Curriculum, best: Mapping[str, Any]) -> dict[str, Any]:
    """What is worth knowing about the last stage."""
    val, train = curriculum.rooms("val", stage.task), stage.sampler.rooms
    unknown = np.concatenate([room.tokens.values == curriculum.tokenizer.unk_token_id for room in train])
    # questions none of whose right answers the head has (with init, those of init): out of reach
    unanswerable = np.concatenate([room.answers.lengths == 0 for room in val])
    return {
        f"val_{MEASURES[stage.task]}": best["score"],
        "val_chance": float(np.average([1 / len(room.objects) for room in val], weights=[len(room) for room in val])),
        "val_sentences": sum(len(room) for room in val),
        **({"val_unanswerable": round(float(unanswerable.mean()), 4)} if stage.task == "answers" else {}),
        "best_step": best["step"],
        "encoder": "frozen" if stage.cloud is None else "trained",
        "train_rooms": len(train),
        "train_sentences": sum(len(room) for room in train),
        "train_text_mb": round(text_bytes(train) / 1e6, 2),
        "unknown_words": round(float(unknown.mean()), 4),
        "padding": round(padding(train, [stage.sampler.batch(step) for step in range(32)]), 3),
    }


if __name__ == "__main__":
    job_main("pretrain-grounding")

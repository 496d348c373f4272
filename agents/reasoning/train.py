"""Train a vision-language model to reason, by reward on its own answers or by imitation.

sightline train-reasoner data=QUESTIONS algorithm=sft                        a small model from scratch, warmed up
sightline train-reasoner data=QUESTIONS model=RUN/model reasoner_recipe=grpo      then by reward
sightline train-reasoner data=QUESTIONS model=RUN/model reasoner_recipe=vgpo
sightline train-reasoner data=mine.jsonl model=HUB_ID lora=16 precision=auto device=cuda
torchrun --nproc_per_node 2 -m agents.reasoning.train data=QUESTIONS model=RUN/model out=RUN

`data` is a folder of `sightline build-questions` or a JSONL file of your own. A step by reward is MAYE's four
(arXiv:2504.02587), each one function: `data_flow` picks questions, `collect` has the policy answer them and pays the
answers, `make_trajectory` adds log-probabilities and advantages, `update_policy` learns. Algorithms differ in two of
the functions called there (agents/reasoning/group_advantages.py, policy_losses.py). Where every answer of a batch earns
the same there is nothing to learn, and the step changes nothing.

Leaves model/ (ready for `sightline evaluate-reasoner`), metrics.jsonl and result.json in its run folder. Every random
draw is a function of (seed, step): a killed run continues with resume=auto and ends with the same weights; several
processes make the update of one.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.reasoning.collection import Collected, collect, join, unique
from agents.reasoning.data_flow import Order, Questions, data_flow
from agents.reasoning.generation import generate
from agents.reasoning.group_advantages import overlong_penalty
from agents.reasoning.rewards import reward_of
from agents.reasoning.start import Data, make_vlm, open_data
from agents.reasoning.state import Done, resume, save
from agents.reasoning.step_metrics import of_answers, total
from agents.reasoning.supervised import imitate, worked_answers
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.trajectory import Reference, make_trajectory
from agents.reasoning.types import Prompts, Responses, Sample
from agents.reasoning.update import Descent, update_policy
from agents.reasoning.validation import validate
from agents.reasoning.vlm import VLM
from core import distributed
from core.checkpoint import Checkpoints
from core.errors import InputError
from core.files import replace_folder
from core.job import job_main
from core.memory import peak_memory_gb
from core.precision import uses_bfloat16
from core.progress import track
from core.run import RunFolder
from vl.optimise import rate_factor, seeded, set_rates

CONFIG = TrainReasonerConfig
LEARNED = 3  # passes that a token learned from costs: one forwards, about two backwards


def run(cfg: TrainReasonerConfig) -> dict[str, Any]:
    """Trains in this process, or in all those that torchrun started; the main one returns the result."""
    if not cfg.data:
        raise InputError("data is required: data=FOLDER, made by build-questions, or data=FILE.jsonl")
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        distributed.share(cfg.prompts, "prompts")
        data = open_data(cfg)
        folder = RunFolder.open(cfg, "train-reasoner") if distributed.is_main() else None
        finished = folder.result() if folder is not None else None
        if distributed.from_main(int(finished is not None)):
            if folder is not None:
                folder.close()
            return finished or {}
        return train(cfg, device, data, folder)


def train(cfg: TrainReasonerConfig, device: torch.device, data: Data, folder: RunFolder | None) -> dict[str, Any]:
    """The loop: a step by reward or imitation, log, look at the val split, checkpoint.

    Args:
        folder: of the run; None in all processes but the main one.
    """
    half = uses_bfloat16(cfg.precision, cfg.device)
    vlm = make_vlm(cfg, data, device, half)
    # without dropout the old and the new policy are one function of their weights; checkpointing needs train mode
    vlm.model.train(cfg.gradient_checkpointing)
    descent = Descent.of(
        vlm.model, lr=cfg.lr, weight_decay=cfg.weight_decay, max_grad_norm=cfg.max_grad_norm, half=half
    )
    reference = Reference(vlm, adapted=cfg.lora > 0) if cfg.kl.coef else None
    order = Order(data.train.samples, data.train.pictures_of, seed=cfg.seed)
    steps = cfg.steps or max(1, round(cfg.epochs * len(order) / cfg.prompts))
    eval_every = cfg.eval_every or math.ceil(len(order) / cfg.prompts)
    place = Path(cfg.out).expanduser() if folder is None else folder.path
    checkpoints = Checkpoints(place / "checkpoints") if folder is None else folder.checkpoints
    done = resume(checkpoints, vlm.model, descent.optimizer, writes=folder is not None)
    if folder is not None:
        folder.rewind(done.step or -1)

    def look() -> dict[str, float]:
        """Accuracy on the val split, which joins the curve."""
        found = validate(
            vlm, data.val, Pay(cfg, done.step, device), max_new_tokens=cfg.max_new_tokens, rows=cfg.micro_rows,
            precision=descent.precision,
        )  # fmt: skip
        done.curve.append({"step": done.step, "epoch": done.asked / len(order), **found})
        return found

    if not done.step:
        began = look()
        if folder is not None:
            folder.log(0, epoch=0.0, **began)
    with track(steps, f"reasoner ({cfg.algorithm})") as bar:
        bar.advance(done.step)
        for step in range(done.step, steps):
            began_s = time.perf_counter()
            rate = rate_factor(step, steps, round(cfg.warmup * steps), cfg.schedule)
            set_rates(descent.optimizer, rate)
            with seeded(device, cfg.seed, step) as generator:
                if cfg.algorithm == "sft":
                    metrics = step_by_imitation(cfg, vlm, descent, order, done)
                else:
                    metrics = step_by_reward(cfg, vlm, reference, descent, order, done, generator)
            done.step = step + 1
            took = time.perf_counter() - began_s
            metrics |= {
                "lr": cfg.lr * rate,
                "epoch": done.asked / len(order),
                "forward_tokens": done.forward_tokens,
                "answers": float(done.answers),
                "seconds": took,
            }
            if done.step % eval_every == 0 or done.step == steps:
                metrics |= look()
            done.seconds += took
            if folder is not None:
                folder.log(done.step, **metrics)
                if done.step % cfg.checkpoint_every == 0 and done.step < steps:
                    save(checkpoints, done, vlm.model, descent.optimizer)
            shown = ("reward", "accuracy", "loss", "val_accuracy")
            bar.advance(1, **{name: metrics[name] for name in shown if name in metrics})

    result = conclude(cfg, vlm, descent, data, done, folder) if folder is not None else {}
    distributed.barrier()
    return result


def step_by_reward(
    cfg: TrainReasonerConfig,
    vlm: VLM,
    reference: Reference | None,
    descent: Descent,
    order: Order,
    done: Done,
    generator: torch.Generator,
) -> dict[str, float]:
    """One step of MAYE's pipeline. Returns what is logged of it, means over all processes."""
    began = time.perf_counter()
    pay = Pay(cfg, done.step, descent.device)

    # 1 data flow and 2 response collection, more than once where groups that teach nothing are replaced
    collected = answered(cfg, vlm, descent, next_questions(cfg, order, done), pay, generator)
    rounds = 1
    while cfg.asks_on and len(collected.teaching()) < cfg.prompts and rounds < cfg.most_rounds:
        more = answered(cfg, vlm, descent, next_questions(cfg, order, done), pay, generator)
        collected = join(collected, more, vlm.pad_id)
        rounds += 1
    metrics = {**of_answers(collected), "rounds": float(rounds), "seconds_collect": time.perf_counter() - began}
    if cfg.asks_on:
        collected = collected.only(collected.teaching()[: cfg.prompts])

    # 3 trajectory
    in_reward, in_loss = (cfg.kl.coef if cfg.kl.place == where else 0.0 for where in ("reward", "loss"))
    with descent.precision():
        trajectory, found = make_trajectory(
            vlm,
            reference,
            collected,
            algorithm=cfg.algorithm,
            temperature=cfg.temperature,
            updates=cfg.passes * cfg.minibatches,
            kl_cost=in_reward,
            kl_kind=cfg.kl.kind,
            vgpo=cfg.vgpo if cfg.vgpo.enabled else None,
            mask_cut_off=cfg.mask_cut_off,
            rows=cfg.micro_rows,
        )
    metrics |= found

    # 4 policy update
    metrics |= update_policy(
        vlm,
        descent,
        trajectory,
        groups=unique(collected.all_group),
        algorithm=cfg.algorithm,
        clip=cfg.clip,
        kl_coef=in_loss,
        kl_kind=cfg.kl.kind,
        temperature=cfg.temperature,
        longest_response=cfg.max_new_tokens,
        passes=cfg.passes,
        minibatches=cfg.minibatches,
        micro_rows=cfg.micro_rows,
        generator=generator,
    )
    done.answers += int(metrics["groups"]) * cfg.samples
    done.idle += metrics["updates"] == 0
    done.forward_tokens += total(collected.tokens) + total(metrics.pop("trajectory_tokens"))
    done.forward_tokens += LEARNED * metrics.pop("update_tokens")
    return metrics


def step_by_imitation(
    cfg: TrainReasonerConfig, vlm: VLM, descent: Descent, order: Order, done: Done
) -> dict[str, float]:
    """One step of supervised fine-tuning on worked answers."""
    questions = next_questions(cfg, order, done)
    prompts = vlm.encode([sample.prompt for sample in questions.samples], questions.pictures)
    answers = worked_answers(vlm, questions.samples, cfg.reward.style, cfg.max_new_tokens)
    metrics = imitate(vlm, descent, prompts, answers, micro_rows=cfg.micro_rows)
    done.answers += cfg.prompts
    done.forward_tokens += LEARNED * metrics.pop("update_tokens")
    return metrics


def next_questions(cfg: TrainReasonerConfig, order: Order, done: Done) -> Questions:
    """The next `prompts` questions; this process's share of them."""
    questions = data_flow(order, done.place, cfg.prompts)
    done.place += cfg.prompts
    done.asked += cfg.prompts
    return questions


def answered(
    cfg: TrainReasonerConfig,
    vlm: VLM,
    descent: Descent,
    questions: Questions,
    pay: "Pay",
    generator: torch.Generator,
) -> Collected:
    """The policy's paid answers to questions."""

    def answers(prompts: Prompts) -> Responses:
        return generate(
            vlm,
            prompts,
            samples=cfg.samples,
            max_new_tokens=cfg.max_new_tokens,
            temperature=cfg.temperature,
            top_p=cfg.top_p,
            generator=generator,
            first_prompt=distributed.rank() * len(questions),
        )

    with descent.precision():
        return collect(vlm, questions, answers, pay, cfg.samples)


class Pay:
    """What answers earn at a step of this run."""

    def __init__(self, cfg: TrainReasonerConfig, step: int, device: torch.device) -> None:
        self.cfg, self.step, self.device = cfg, step, device

    def __call__(
        self, samples: Sequence[Sample], responses: Responses
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        length = responses.mask.sum(1)
        reward, parts = reward_of(
            samples, responses.texts, responses.ended, length, self.cfg.reward, step=self.step
        )
        if self.cfg.overlong_buffer:
            longest, buffer = self.cfg.max_new_tokens, self.cfg.overlong_buffer
            parts["overlong"] = overlong_penalty(length.cpu(), longest=longest, cache=buffer)
            reward = reward + parts["overlong"]
        return reward.to(self.device), {name: part.to(self.device) for name, part in parts.items()}


def conclude(
    cfg: TrainReasonerConfig, vlm: VLM, descent: Descent, data: Data, done: Done, folder: RunFolder
) -> dict[str, Any]:
    """Writes the model and finishes the run."""
    replace_folder(folder.path / "model", vlm.save_pretrained)
    last, best = done.curve[-1], max(done.curve, key=lambda point: point["val_accuracy"])
    print(
        f"accuracy on {cfg.val_split} {done.curve[0]['val_accuracy']:.3f} before, {last['val_accuracy']:.3f} after; "
        f"the model is in {folder.path / 'model'}"
    )
    return folder.finish(
        {
            "model": "model",
            "algorithm": cfg.algorithm,
            **{name: value for name, value in last.items() if name.startswith("val_")},
            "val_accuracy_before": done.curve[0]["val_accuracy"],
            "val_accuracy_best": best["val_accuracy"],
            "best_step": best["step"],
            "steps": done.step,
            "idle_steps": done.idle,
            "epochs": done.asked / len(data.train),
            "questions": done.asked,
            "answers": done.answers,
            "forward_tokens": done.forward_tokens,
            "train_questions": len(data.train),
            "val_questions": len(data.val),
            "parameters": sum(parameter.numel() for parameter in vlm.model.parameters()),
            "trainable_parameters": sum(parameter.numel() for parameter in descent.trained),
            "precision": "bfloat16" if descent.half else "float32",
            "peak_memory_gb": round(peak_memory_gb(), 3),
            "seconds": round(done.seconds, 1),
        }
    )


if __name__ == "__main__":
    job_main("train-reasoner")

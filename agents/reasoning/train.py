"""Train a vision-language model to reason, by reward on its own answers or by imitation.

sightline train-reasoner data=QUESTIONS reasoner_recipe=sft                       a small model from scratch, warmed up
sightline train-reasoner data=QUESTIONS model=RUN/model reasoner_recipe=grpo      then by reward
sightline train-reasoner data=QUESTIONS model=RUN/model reasoner_recipe=vgpo
sightline train-reasoner data=QUESTIONS 'val_ood=[FAR.jsonl]'                     a curve out of distribution, too
sightline train-reasoner data=mine.jsonl model=HUB_ID lora=16 precision=auto device=cuda
sightline train-reasoner environment.scenes=SCENES model=RUN/model steps=100      acting in homes, turn by turn
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agents.reasoning.collection import Collected, Pay, collect, join, play, unique
from agents.reasoning.curriculum import best_responses
from agents.reasoning.data_flow import Questions, data_flow
from agents.reasoning.generation import generate
from agents.reasoning.start import Material, Stage, make_vlm, open_material
from agents.reasoning.state import Done, resume, save
from agents.reasoning.step_metrics import of_answers, total
from agents.reasoning.supervised import imitate, worked_answers
from agents.reasoning.task_files import SampleSet
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.trajectory import Reference, make_trajectory
from agents.reasoning.turn_config import save_style
from agents.reasoning.types import Prompts, Responses
from agents.reasoning.update import Descent, update_policy
from agents.reasoning.validation import VAL, of_set, validate
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
HELP = "Where none is right, warm up by reasoner_recipe=sft first and name what it leaves: model=RUN/model"
LEARNED = 3  # passes that a token learned from costs: one forwards, about two backwards


def run(cfg: TrainReasonerConfig) -> dict[str, Any]:
    """Trains in this process, or in all those that torchrun started; the main one returns the result."""
    if not cfg.data and not cfg.environment.scenes:
        raise InputError("data is required: data=FOLDER, made by build-questions, or data=FILE.jsonl")
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        distributed.share(cfg.prompts, "prompts")
        material = open_material(cfg)
        folder = RunFolder.open(cfg, "train-reasoner") if distributed.is_main() else None
        finished = folder.result() if folder is not None else None
        if distributed.from_main(int(finished is not None)):
            if folder is not None:
                folder.close()
            return finished or {}
        return train(cfg, device, material, folder)


def train(
    cfg: TrainReasonerConfig, device: torch.device, material: Material, folder: RunFolder | None
) -> dict[str, Any]:
    """The loop: a step by reward or imitation, log, look at what is held out, checkpoint.

    Args:
        folder: of the run; None in all processes but the main one.
    """
    half = uses_bfloat16(cfg.precision, cfg.device)
    vlm = make_vlm(cfg, material, device, half)
    # without dropout the old and the new policy are one function of their weights; checkpointing needs train mode
    vlm.model.train(cfg.gradient_checkpointing)
    descent = Descent.of(
        vlm.model, lr=cfg.lr, weight_decay=cfg.weight_decay, max_grad_norm=cfg.max_grad_norm, half=half
    )
    reference = Reference(vlm, adapted=cfg.lora > 0) if cfg.kl.coef else None

    place = Path(cfg.out).expanduser() if folder is None else folder.path
    checkpoints = Checkpoints(place / "checkpoints") if folder is None else folder.checkpoints
    done, more = resume(checkpoints, vlm.model, descent.optimizer, writes=folder is not None)
    if material.episodes is not None:
        material.episodes.load_state_dict(more, vlm)
    learner = Learner(cfg, vlm, reference, descent, material, done)
    steps, epoch_steps = material.steps, math.ceil(material.epoch / cfg.prompts)
    if folder is not None:
        folder.rewind(done.step or -1)
    if not done.step:
        before = learner.look()
        if folder is not None:
            folder.log(0, epoch=0.0, **before)

    with track(steps, f"reasoner ({cfg.algorithm})") as bar:
        bar.advance(done.step)
        while not learner.finished:
            began, step = time.perf_counter(), done.step
            rate = rate_factor(step, steps, round(cfg.warmup * steps), cfg.schedule)
            set_rates(descent.optimizer, rate)
            with seeded(device, cfg.seed, step) as generator:
                metrics = learner.learn(material.stage(step), generator)
            done.step += 1
            metrics |= {"lr": cfg.lr * rate, "epoch": learner.epoch, "forward_tokens": done.forward_tokens}
            metrics |= {"answers": float(done.answers), "seconds": time.perf_counter() - began}
            if learner.finished or done.step % (cfg.eval_every or epoch_steps) == 0:
                metrics |= learner.look()
            done.seconds += time.perf_counter() - began
            if folder is not None:
                folder.log(done.step, **metrics)
                if done.step % cfg.checkpoint_every == 0 and not learner.finished:
                    more = {} if material.episodes is None else material.episodes.state_dict()
                    save(checkpoints, done, vlm.model, descent.optimizer, more)
            shown = ("reward", "loss", f"val_{learner.main}")
            bar.advance(1, **{name: metrics[name] for name in shown if name in metrics})

    result = conclude(learner, folder) if folder is not None else {}
    distributed.barrier()
    return result


@dataclass
class Learner:
    """A policy that learns, and the ways in which a step can teach it."""

    cfg: TrainReasonerConfig
    vlm: VLM
    reference: Reference | None
    descent: Descent
    material: Material
    done: Done

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or as many answers collected as were asked for."""
        enough = bool(self.cfg.answers) and self.done.answers >= self.cfg.answers
        return enough or self.done.step >= self.material.steps

    @property
    def epoch(self) -> float:
        """Questions asked so far, in passes over all of them."""
        return self.done.asked / self.material.epoch

    @property
    def main(self) -> str:
        """What a look says first of all."""
        return "accuracy" if self.material.episodes is None else "success"

    def learn(self, stage: Stage, generator: torch.Generator) -> dict[str, float]:
        """One step. Returns what is logged of it, over all processes."""
        if self.done.step == stage.first:
            self.done.place = 0
        if stage.algorithm == "sft":
            return self.by_imitation(self.ask(stage))
        if stage.algorithm == "best-of":
            return self.by_own_best(stage, generator)
        return self.by_reward(stage, generator)

    def by_reward(self, stage: Stage, generator: torch.Generator) -> dict[str, float]:
        """MAYE's four steps."""
        cfg, began = self.cfg, time.perf_counter()

        # 1 data flow and 2 response collection
        if self.material.episodes is not None:
            with self.descent.precision():
                collected, metrics = play(self.vlm, self.material.episodes, self.done.step, generator)
            self.done.asked += cfg.prompts
            self.done.answers += int(total(len(collected)))
        else:
            collected = self.answers(self.ask(stage), generator)
            rounds = 1
            while cfg.asks_on and len(collected.teaching()) < cfg.prompts and rounds < cfg.most_rounds:
                collected = join(collected, self.answers(self.ask(stage), generator), self.vlm.pad_id)
                rounds += 1
            metrics = {**of_answers(collected), "rounds": float(rounds)}
            if cfg.asks_on:
                collected = collected.only(collected.teaching()[: cfg.prompts])
        took = time.perf_counter() - began

        # 3 trajectory
        in_reward, in_loss = (cfg.kl.coef if cfg.kl.place == place else 0.0 for place in ("reward", "loss"))
        with self.descent.precision():
            trajectory, seen = make_trajectory(
                self.vlm,
                self.reference,
                collected,
                algorithm=stage.algorithm,
                temperature=cfg.temperature,
                updates=cfg.passes * cfg.minibatches,
                kl_cost=in_reward,
                kl_kind=cfg.kl.kind,
                vgpo=cfg.vgpo if cfg.vgpo.enabled else None,
                mask_cut_off=cfg.mask_cut_off,
                rows=cfg.micro_rows,
            )

        # 4 policy update
        learned = update_policy(
            self.vlm,
            self.descent,
            trajectory,
            groups=unique(collected.all_group),
            algorithm=stage.algorithm,
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
        self.count(learned, total(collected.tokens) + total(seen.pop("trajectory_tokens")))
        speed = total(int(collected.responses.mask.sum())) / (time.perf_counter() - began)
        return {**metrics, **seen, **learned, "seconds_collect": took, "tokens_per_second": speed}

    def by_imitation(self, questions: Questions) -> dict[str, float]:
        """Supervised fine-tuning on worked answers."""
        prompts = questions.prompts(self.vlm, self.cfg.max_new_tokens)
        answers = worked_answers(self.vlm, questions.samples, self.cfg.reward.style, self.cfg.max_new_tokens)
        learned = imitate(self.vlm, self.descent, prompts, answers, micro_rows=self.cfg.micro_rows)
        self.done.answers += self.cfg.prompts
        self.count(learned, 0.0)
        return learned

    def by_own_best(self, stage: Stage, generator: torch.Generator) -> dict[str, float]:
        """Rejection-sampled fine-tuning: the best right answer to each question is imitated, if one is right."""
        collected = self.answers(self.ask(stage), generator)
        responses = collected.responses
        best = best_responses(
            collected.reward, collected.parts["right"] > 0, responses.mask.sum(1), collected.group, responses.texts
        )
        learned = imitate(
            self.vlm, self.descent, collected.prompts.rows(best), responses.rows(best), micro_rows=self.cfg.micro_rows
        )
        self.count(learned, total(collected.tokens))
        return {**of_answers(collected), **learned, "imitated": total(len(best))}

    def ask(self, stage: Stage) -> Questions:
        """The next `prompts` questions of a stage; this process's share of them."""
        assert stage.order is not None
        questions = data_flow(stage.order, self.done.place, self.cfg.prompts)
        self.done.place += self.cfg.prompts
        self.done.asked += self.cfg.prompts
        return questions

    def answers(self, questions: Questions, generator: torch.Generator) -> Collected:
        """The policy's answers to questions, paid."""
        cfg = self.cfg

        def answer(prompts: Prompts) -> Responses:
            return generate(
                self.vlm,
                prompts,
                samples=cfg.samples,
                max_new_tokens=cfg.max_new_tokens,
                temperature=cfg.temperature,
                top_p=cfg.top_p,
                generator=generator,
                first_prompt=distributed.rank() * len(questions),
            )

        self.done.answers += cfg.prompts * cfg.samples
        with self.descent.precision():
            return collect(self.vlm, questions, answer, self.pay(), cfg.samples)

    def pay(self) -> Pay:
        """What answers earn now."""
        cfg = self.cfg
        return Pay(cfg.reward, cfg.max_new_tokens, cfg.overlong_buffer, self.done.step, self.descent.device)

    def count(self, learned: dict[str, float], read: float) -> None:
        """Adds a step's compute to the counters, and whether it learned anything; `read`: tokens without gradient."""
        self.done.forward_tokens += read + LEARNED * learned.pop("update_tokens")
        self.done.idle += learned["updates"] == 0

    def look(self) -> dict[str, float]:
        """How answers do on held-out questions, in and out of distribution, or in val homes; joins the curve."""
        cfg, episodes = self.cfg, self.material.episodes
        if episodes is not None:
            with self.descent.precision():
                figures = episodes.evaluate(self.vlm, cfg.val_episodes)
            found = {f"val_{name}": float(value) for name, value in figures.items() if isinstance(value, int | float)}
        else:
            assert self.material.val is not None
            found = self.held_out(self.material.val, VAL)
            for name, questions in self.material.ood.items():
                found |= self.held_out(questions, of_set(name))
        self.done.curve.append({"step": float(self.done.step), "epoch": self.epoch, **found})
        return found

    def held_out(self, questions: SampleSet, prefix: str) -> dict[str, float]:
        """What a look says of one held-out set."""
        cfg = self.cfg
        return validate(
            self.vlm,
            questions,
            self.pay(),
            max_new_tokens=cfg.max_new_tokens,
            rows=cfg.micro_rows,
            precision=self.descent.precision,
            passes=cfg.val_passes,
            seed=cfg.seed,
            prefix=prefix,
        )


def conclude(learner: Learner, folder: RunFolder) -> dict[str, Any]:
    """Writes the model and finishes the run."""
    cfg, done, material, model = learner.cfg, learner.done, learner.material, folder.path / "model"

    def fill(target: Path) -> None:
        learner.vlm.save_pretrained(target)
        if material.episodes is not None:
            save_style(target, material.episodes.style)

    replace_folder(model, fill)
    main = f"val_{learner.main}"
    before, last = done.curve[0], done.curve[-1]
    best = max(done.curve, key=lambda look: look[main])
    where = "in val homes" if material.episodes is not None else f"on {looked_at(cfg)}"
    if done.idle:
        what = "episodes from a start" if material.episodes is not None else "answers to a question"
        print(f"{done.idle} of {done.step} steps changed nothing: all {what} earned the same. {HELP}")
    for name in material.ood:
        far = f"{of_set(name)}{learner.main}"
        print(f"{learner.main} on {name}, out of distribution, {before[far]:.3f} before, {last[far]:.3f} after")
    print(f"{learner.main} {where} {before[main]:.3f} before, {last[main]:.3f} after; the model is in {model}")
    return folder.finish(
        {
            "model": "model",
            "algorithm": cfg.algorithm,
            **{name: value for name, value in last.items() if name not in ("step", "epoch")},
            f"{main}_before": before[main],
            f"{main}_best": best[main],
            "best_step": int(best["step"]),
            "steps": done.step,
            "idle_steps": done.idle,
            "epochs": learner.epoch,
            "asked": done.asked,
            "answers": done.answers,
            "forward_tokens": done.forward_tokens,
            "epoch_questions": material.epoch,
            "parameters": sum(parameter.numel() for parameter in learner.vlm.model.parameters()),
            "trainable_parameters": sum(parameter.numel() for parameter in learner.descent.trained),
            "precision": "bfloat16" if learner.descent.half else "float32",
            "peak_memory_gb": round(peak_memory_gb(), 3),
            "seconds": round(done.seconds, 1),
        }
    )


def looked_at(cfg: TrainReasonerConfig) -> str:
    """The questions that accuracies are about, in words."""
    if cfg.data.endswith(".jsonl") and cfg.val_data == cfg.data:
        return "the questions learned from (hold some out: val_split=FILE.jsonl)"
    return cfg.val_split


if __name__ == "__main__":
    job_main("train-reasoner")

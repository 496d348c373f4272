"""Train a decomposer on ALFRED: from a goal sentence that a person wrote to the steps of the plan it describes.

sightline train-decomposer data=FOLDER        with ALFRED's train_sample800.jsonl.gz; default $SIGHTLINE_DATA/alfred

The model also reads single step instructions and writes their one step: people's words for things and actions, several
times as many as there are goals. Some tasks of the training file are held out for choosing the best weights. Leaves
model/, metrics.jsonl and result.json in its run folder.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from agents.subgoals.alfred import Split, data_folder, held_out, read
from agents.subgoals.sequence_model import LearnedSteps, SequenceConfig, SequenceModel, sentences
from agents.subgoals.step_grammar import ONE, PAD, Grammar
from agents.subgoals.step_metrics import METRICS, compare
from agents.subgoals.step_words import StepWords
from core.checkpoint import load_weights
from core.errors import InputError
from core.files import replace_folder
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from vl.optimise import make_optimizer, rate_factor, seeded, set_rates, update
from vl.tokenizer import SPECIAL_TOKENS, train_tokenizer

LONGEST: Final = 64  # words read of a sentence
FIRST_WORD: Final = len(SPECIAL_TOKENS)
UNKNOWN: Final = SPECIAL_TOKENS.index("[UNK]")
MAIN: Final = "edit"
"""The figure on held-out tasks that chooses the weights; smoother than exact matches of a few hundred sentences."""


@dataclass
class TrainDecomposerConfig(JobConfig):
    """A decomposer learned from people's goals: sightline train-decomposer data=FOLDER"""

    data: str = ""  # folder with ALFRED's files; empty = alfred/ in the folder that SIGHTLINE_DATA names
    val_share: float = 0.1  # share of the training file's tasks held out to choose the weights
    steps: int = 800  # updates
    batch_size: int = 32  # goals an update, and as many step instructions
    instructions: float = 0.5  # weight of the loss on step instructions; 0 = goals alone
    lr: float = 3e-3  # peak learning rate
    warmup: float = 0.05  # share of the updates with linear warm-up
    weight_decay: float = 0.01  # of all weights
    grad_clip: float = 1.0  # largest gradient norm
    label_smoothing: float = 0.1  # share of the target spread over all tokens
    width: int = 128  # of embeddings and GRUs
    dropout: float = 0.3  # of embeddings, states and what the head reads
    word_dropout: float = 0.1  # share of the words that are read as unknown
    vocabulary: int = 2048  # words known at most
    eval_every: int = 200  # updates between evaluations on the held-out tasks
    checkpoint_every: int = 100  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("steps", "batch_size", "lr", "grad_clip", "eval_every", "checkpoint_every"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("instructions", "weight_decay"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")
        for name in ("warmup", "label_smoothing", "dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be in [0, 1)")
        if not 0 < self.val_share < 1:
            raise InputError(f"val_share={self.val_share} should be between 0 and 1")


CONFIG = TrainDecomposerConfig


@dataclass(frozen=True)
class Pairs:
    """Sentences and the rows of tokens they stand for, padded."""

    ids: Int[Tensor, "M L"]
    mask: Bool[Tensor, "M L"]
    tokens: Int[Tensor, "M S"]

    def drawn(self, count: int, draw: torch.Generator) -> "Pairs":
        """Some of them, with replacement, no wider than they need be."""
        index = torch.randint(len(self.ids), (count,), generator=draw)
        mask, tokens = self.mask[index], self.tokens[index]
        words, places = int(mask.sum(1).max()), int((tokens != PAD).sum(1).max())
        return Pairs(self.ids[index, :words], mask[:, :words], tokens[:, :places])


def paired(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], rows: Sequence[Sequence[int]]) -> Pairs:
    """Sentences tokenised, rows padded."""
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for place, row in zip(tokens, rows):
        place[: len(row)] = torch.tensor(row)
    return Pairs(*sentences(tokenizer, texts), tokens)


def run(cfg: TrainDecomposerConfig) -> dict[str, Any]:
    """Train, evaluate on the held-out tasks now and then, keep the best weights as model/."""
    whole = read(data_folder(cfg.data), "train")
    kept, val = held_out(whole, cfg.val_share)
    told = [(text, step) for text, step in kept.instructions if text]
    tokenizer = train_tokenizer(
        [goal for goal, _ in kept.goals] + [text for text, _ in told], cfg.vocabulary, max_length=LONGEST
    )
    grammar = Grammar.of(demo.steps for demo in kept.demonstrations)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        model = SequenceModel(SequenceConfig(len(tokenizer), len(grammar), cfg.width, cfg.dropout))
    learned = LearnedSteps(model, tokenizer, grammar, StepWords.of(told))
    folder = RunFolder.open(cfg, "train-decomposer")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished
    with folder:
        return train(cfg, learned, kept, val, folder)


def train(
    cfg: TrainDecomposerConfig, learned: LearnedSteps, kept: Split, val: Split, folder: RunFolder
) -> dict[str, Any]:
    """The loop: draw, loss, step, log, evaluate, checkpoint."""
    model, grammar = learned.model, learned.grammar
    goals = paired(learned.tokenizer, *zip(*((goal, grammar.encode(demo.steps)) for goal, demo in kept.goals)))
    told = [(text, grammar.encode([step], ONE)) for text, step in kept.instructions if text]
    single = paired(learned.tokenizer, *zip(*told)) if told and cfg.instructions else None
    optimizer = make_optimizer(
        "adamw", [{"params": list(model.parameters()), "lr": cfg.lr, "weight_decay": cfg.weight_decay}]
    )
    best: dict[str, Any] = {"step": 0, "score": -1.0, "metrics": {}, "weights": {}}
    start, seconds = 0, 0.0
    latest = folder.checkpoints.latest()
    if latest is not None:
        start, saved = latest
        load_weights(model, saved["model"], f"the checkpoint in {folder.path}")
        optimizer.load_state_dict(saved["optimizer"])
        best, seconds = saved["best"], saved["seconds"]
    folder.rewind(start)

    model.train()
    with track(cfg.steps, "decomposer") as progress:
        progress.advance(start)
        for step in range(start, cfg.steps):
            began = time.perf_counter()
            rate = rate_factor(step, cfg.steps, round(cfg.warmup * cfg.steps), "cosine")
            set_rates(optimizer, rate)
            with seeded(torch.device("cpu"), cfg.seed, step) as draw:  # drawing and dropout depend on the step alone
                loss = goal_loss = token_loss(cfg, model, goals.drawn(cfg.batch_size, draw), draw)
                if single is not None:
                    loss = loss + cfg.instructions * token_loss(cfg, model, single.drawn(cfg.batch_size, draw), draw)
            if not math.isfinite(loss.item()):
                raise InputError(f"the loss became {loss.item()} at step {step}; lower lr (now {cfg.lr})")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = update(optimizer, model.parameters(), cfg.grad_clip)
            done, shown = step + 1, {"loss": goal_loss.item()}
            metrics = {
                "loss": loss.item(),
                "goal_loss": goal_loss.item(),
                "lr": rate * cfg.lr,
                "grad_norm": norm.item(),
            }
            if done % cfg.eval_every == 0 or done == cfg.steps:
                found = evaluate(learned, val)
                metrics |= found
                shown[f"val_{MAIN}"] = found[f"val_{MAIN}"]
                if found[f"val_{MAIN}"] > best["score"]:
                    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                    best = {"step": done, "score": found[f"val_{MAIN}"], "metrics": found, "weights": weights}
            seconds += time.perf_counter() - began
            folder.log(done, **metrics)
            progress.advance(1, **shown)
            if done % cfg.checkpoint_every == 0 and done < cfg.steps:
                state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
                folder.checkpoints.save(done, {**state, "best": best, "seconds": seconds})

    load_weights(model, best["weights"], "the best evaluation")
    replace_folder(folder.path / "model", learned.save_pretrained)
    print(
        f"held-out tasks: {best['metrics']['val_exact']:.1%} exact, edit similarity {best['score']:.3f}; "
        f"the model is in {folder.path / 'model'}"
    )
    return folder.finish(
        {
            "model": "model",
            "best_step": best["step"],
            **best["metrics"],
            "steps": cfg.steps,
            "train_goals": len(goals.ids),
            "train_instructions": 0 if single is None else len(single.ids),
            "val_goals": len(val.goals),
            "dropped": list(kept.dropped),
            "against_the_grammar": sum(not grammar.keeps(demo.steps) for demo in kept.demonstrations),
            "words": len(learned.tokenizer),
            "tokens": len(grammar),
            "phrases": len(learned.phrases),
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "seconds": round(seconds, 1),
        }
    )


def token_loss(cfg: TrainDecomposerConfig, model: SequenceModel, pairs: Pairs, draw: torch.Generator) -> Tensor:
    """Cross-entropy of the next token, teacher-forced, over all tokens of the rows; some words are hidden."""
    hidden = (torch.rand(pairs.ids.shape, generator=draw) < cfg.word_dropout) & (pairs.ids >= FIRST_WORD)
    scores = model(pairs.ids.masked_fill(hidden, UNKNOWN), pairs.mask, pairs.tokens[:, :-1])
    return F.cross_entropy(
        scores.flatten(0, 1), pairs.tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=cfg.label_smoothing
    )


def evaluate(learned: LearnedSteps, split: Split) -> dict[str, float]:
    """Means of all figures over the goals of held-out tasks, named val_<figure>."""
    goals = split.goals
    rows = [compare(said, demo.steps) for said, (_, demo) in zip(learned.plans([goal for goal, _ in goals]), goals)]
    return {f"val_{name}": sum(row[name] for row in rows) / len(rows) for name in METRICS}


if __name__ == "__main__":
    job_main("train-decomposer")

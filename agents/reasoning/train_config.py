"""What train-reasoner can be told: sightline train-reasoner --help"""

import math
from dataclasses import dataclass, field
from typing import Final

from agents.reasoning.curriculum import FORMS
from agents.reasoning.kl import KLS
from agents.reasoning.policy_losses import CLIPS, LOSSES, Clip
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.small_vlm import SmallVLMConfig
from agents.reasoning.turn_config import EnvironmentConfig
from agents.reasoning.vgpo import VGPOConfig
from core.errors import InputError, check_choice
from core.job import JobConfig
from vl.optimise import SCHEDULES

IMITATION: Final = ("sft", "best-of")
"""Without a policy gradient: worked answers are imitated, or the best of the policy's own right answers."""

ALGORITHMS: Final = (*IMITATION, *LOSSES)
STAGES: Final = (*FORMS, "best-of")
"""What the stages of a curriculum ask; the last asks open questions and imitates the best right answers."""

ASKS_ON: Final = ("dapo",)
"""Published with dynamic sampling."""
ALONE: Final = ("reinforce++",)
"""Compare an answer with the whole batch, so that one answer to a question will do."""


@dataclass
class KLConfig:
    """How far the policy may go from where the run began."""

    coef: float = 0.0  # weight of the divergence; 0 = no reference model
    kind: str = "k3"  # estimator: k1, k2 or k3
    place: str = "loss"  # subtracted from the reward, or added to the loss


@dataclass
class TrainReasonerConfig(JobConfig):
    """A reasoning vision-language policy: sightline train-reasoner data=FOLDER algorithm=grpo"""

    CUDA = True

    data: str = ""  # folder made by build-questions, or a JSONL file of your own questions
    train_split: str = "train"  # split to learn from
    also: list[str] = field(default_factory=list)  # more such folders or files, whose train split is learned from too
    val_split: str = "val"  # split whose accuracy is logged, or a .jsonl file; without one data=FILE is its own
    # held-out questions of other kinds than are learned from (out of distribution), splits of data= or .jsonl files:
    # measured at each look too, never chosen by
    val_ood: list[str] = field(default_factory=list)
    model: str = ""  # folder or hub id to start from (model/ of an earlier run); empty = a small one from scratch
    small: SmallVLMConfig = field(default_factory=SmallVLMConfig)  # shape of that small one
    lora: int = 0  # rank of low-rank adapters, 0 = all weights learn
    freeze_vision: bool = False  # the vision tower stays as it is
    gradient_checkpointing: bool = False  # less memory for activations, a third more time
    precision: str = "float32"  # float32, bfloat16, or auto = bfloat16 where native

    # sft, best-of (rejection-sampled fine-tuning), grpo, dr-grpo, dapo, gspo, rloo, reinforce++ or
    # reinforce++-baseline
    algorithm: str = "grpo"
    stages: list[str] = field(default_factory=list)  # forms of the questions, in turn: yes-no, choice, open, best-of
    prompts: int = 16  # questions, or starts of episodes, per step, summed over processes
    samples: int = 8  # answers to each, or episodes from each
    max_new_tokens: int = 64  # of an answer
    temperature: float = 1.0  # of sampling and of all log-probabilities
    top_p: float = 1.0  # share of probability that is sampled from
    epochs: float = 1.0  # passes over the questions
    steps: int = 0  # of collecting and updating, in each stage; 0 = as `epochs` says
    answers: int = 0  # stop once so many were collected, those that dynamic sampling drops among them; 0 = never
    dynamic_sampling: bool | None = None  # ask on until every group has right and wrong answers; null = as published
    most_rounds: int = 4  # dynamic sampling: rounds of questions per step, after which it makes do
    overlong_buffer: int = 0  # tokens before the limit in which the reward falls by up to 1 (DAPO), 0 = none
    mask_cut_off: bool = False  # answers cut off at the limit are not learned from
    reward: RewardConfig = field(default_factory=RewardConfig)

    clip_low: float | None = None  # limit of a falling probability ratio; null = as published for the algorithm
    clip_high: float | None = None  # of a rising one
    dual_clip: float = 0.0  # limit of the ratio for bad answers, 0 = none (3 is usual)
    kl: KLConfig = field(default_factory=KLConfig)
    vgpo: VGPOConfig = field(
        default_factory=lambda: VGPOConfig(enabled=False)
    )  # visually focused weights on the advantages
    minibatches: int = 1  # updates per pass over what was collected
    passes: int = 1  # over it
    micro_rows: int = 16  # answers per forward and backward pass, a matter of memory alone
    lr: float = 1e-4  # peak learning rate
    warmup: float = 0.05  # share of the run with linear warm-up
    schedule: str = "constant"  # after the warm-up: constant, cosine or linear
    weight_decay: float = 0.01  # of weight matrices
    max_grad_norm: float = 1.0  # gradients are cut to this norm

    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)  # episodes instead of questions
    oracle_episodes: int = 200  # environment: episodes of the oracle that algorithm=sft imitates
    val_episodes: int = 32  # environment: played in val homes at each look

    eval_every: int = 0  # steps between looks at the held-out questions; 0 = once an epoch
    val_questions: int = 256  # drawn from each held-out set, the same in every run; 0 = all
    val_passes: int = 0  # answers drawn to each of them for pass@k, and one at T = 0.6; 0 = only the likeliest
    checkpoint_every: int = 20  # steps between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        check_choice("schedule", self.schedule, SCHEDULES)
        check_choice("kl.kind", self.kl.kind, KLS)
        check_choice("kl.place", self.kl.place, ("loss", "reward"))
        for stage in self.stages:
            check_choice("stages", stage, STAGES)
        for name in (
            "prompts", "samples", "max_new_tokens", "most_rounds", "minibatches", "passes", "micro_rows",
            "oracle_episodes", "val_episodes", "checkpoint_every", "lr", "max_grad_norm",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in (
            "steps", "lora", "answers", "overlong_buffer", "eval_every", "val_questions", "val_passes",
            "weight_decay", "dual_clip",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")
        if not (self.epochs > 0 or self.steps or self.answers):
            raise InputError(f"epochs={self.epochs} should be positive where neither steps nor answers are given")
        if not self.temperature > 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"temperature={self.temperature} should be positive and top_p={self.top_p} in (0, 1]: without chance "
                "all answers to a question are one"
            )
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup={self.warmup} should be in [0, 1)")
        if self.kl.coef < 0:
            raise InputError(f"kl.coef={self.kl.coef} should not be negative")
        if self.overlong_buffer >= self.max_new_tokens:
            raise InputError(
                f"overlong_buffer={self.overlong_buffer} should be shorter than max_new_tokens={self.max_new_tokens}"
            )
        if self.algorithm not in ("sft", *ALONE) and self.samples < 2:
            raise InputError(
                f"samples={self.samples}: algorithm={self.algorithm} compares answers to one question; give at least 2"
            )
        if self.minibatches > self.prompts:
            raise InputError(f"minibatches={self.minibatches} is more than prompts={self.prompts}: some would be empty")
        if self.lora and not self.model:
            raise InputError(f"lora={self.lora} adapts a trained model; name one with model=, or leave lora out")
        if self.answers and (self.algorithm == "sft" or self.stages):
            raise InputError(
                f"answers={self.answers} counts what one way of learning collects; give steps= for algorithm=sft and "
                "for stages"
            )
        if self.environment.scenes:
            self._check_environment()
        if self.algorithm in LOSSES:
            self.clip  # noqa: B018  # refuses impossible limits

    def _check_environment(self) -> None:
        """Raises InputError for what only questions have."""
        given = [
            name
            for name in ("data", "also", "val_ood", "stages", "dynamic_sampling", "overlong_buffer")
            if getattr(self, name)
        ]
        if given:
            raise InputError(
                f"environment.scenes={self.environment.scenes} learns from episodes; leave out {given[0]}, which is "
                "for questions"
            )
        if self.algorithm == "best-of" or (self.kl.coef and self.kl.place == "reward"):
            raise InputError(
                "episodes divide their return by environment.credit: algorithm=best-of and kl.place=reward are for "
                "questions"
            )

    @property
    def val_data(self) -> str:
        """Where the held-out questions are."""
        return self.val_split if self.val_split.endswith(".jsonl") else self.data

    @property
    def clip(self) -> Clip:
        """Limits of the probability ratio, as given or as published."""
        published = CLIPS[self.algorithm]
        low = published.low if self.clip_low is None else self.clip_low
        return Clip(low, published.high if self.clip_high is None else self.clip_high, self.dual_clip)

    def steps_over(self, questions: int) -> int:
        """Steps of a stage over so many questions, or until `answers` are collected if each is asked for once."""
        if self.steps or self.answers:
            return self.steps or math.ceil(self.answers / (self.prompts * self.samples))
        return max(1, round(self.epochs * questions / self.prompts))

    @property
    def asks_on(self) -> bool:
        """Whether a step asks until every group has right and wrong answers."""
        if self.environment.scenes:
            return False
        return self.algorithm in ASKS_ON if self.dynamic_sampling is None else self.dynamic_sampling

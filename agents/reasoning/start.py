"""How a run begins: what it learns from, read and checked, and the model that shall learn it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from agents.reasoning.answers import stated
from agents.reasoning.curriculum import in_form
from agents.reasoning.data_flow import Order
from agents.reasoning.episode_source import EpisodesSource
from agents.reasoning.question_sets import open_beside, set_file
from agents.reasoning.rewards import check_samples
from agents.reasoning.task_files import SampleSet, joined, open_samples
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.turn_config import STYLE_FILE, TurnStyle, read_style
from agents.reasoning.types import PICTURE
from agents.reasoning.vlm import VLM
from core import distributed


@dataclass(frozen=True)
class Stage:
    """A part of a run: a form of the questions and a way to learn from them."""

    algorithm: str
    order: Order | None  # of questions, or of the oracle's turns; None = episodes are played
    first: int  # step of the run that it begins with
    steps: int


@dataclass(frozen=True)
class Material:
    """What a run learns from, and what it is looked at with."""

    stages: tuple[Stage, ...]
    epoch: int  # questions of an epoch; homes, where episodes are played
    val: SampleSet | None
    episodes: EpisodesSource | None  # in the simulator, instead of questions
    ood: dict[str, SampleSet] = field(default_factory=dict)  # by name: looked at too, out of distribution

    @property
    def steps(self) -> int:
        """Of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The one that a step belongs to."""
        return next(stage for stage in reversed(self.stages) if stage.first <= step)

    def words(self, style: str) -> Iterator[str]:
        """Everything a small model has to be able to read and say.

        Not that of sets out of distribution: that a run looks at them must not change what it learns.
        """
        if self.episodes is not None:
            yield from self.episodes.texts()
        asked = [stage.order.samples for stage in self.stages if stage.order is not None]
        for samples in (*asked, self.val.samples if self.val is not None else ()):
            for sample in samples:
                yield sample.prompt.replace(PICTURE, " ")
                yield stated(sample.answer, style)
                yield sample.worked
                yield from sample.choices


def open_material(cfg: TrainReasonerConfig) -> Material:
    """Questions in all forms that they are asked in, or episodes.

    Raises:
        InputError: a file, split or home is not there, a line is no sample, a reward is unknown, an answer is one
            that its reward could never pay (the message names the sample), or a held-out set is learned from.
    """
    if cfg.environment.scenes:
        return _episodes(cfg)
    note_test_split(cfg)
    train = joined([open_samples(data, cfg.train_split) for data in (cfg.data, *cfg.also)])
    val = open_samples(cfg.val_data, cfg.val_split)
    check_samples(train.samples)
    check_samples(val.samples)
    taken = {set_file(data, cfg.train_split): "learned from" for data in (cfg.data, *cfg.also)}
    taken[set_file(cfg.data, cfg.val_split)] = "looked at already, as val_split"
    ood = open_beside(cfg.data, cfg.val_ood, "val_ood", taken)
    if cfg.val_questions:
        val, ood = val.drawn(cfg.val_questions), {name: each.drawn(cfg.val_questions) for name, each in ood.items()}
    steps = cfg.steps_over(len(train))
    stages = []
    for number, name in enumerate(cfg.stages or ["open"]):
        algorithm = name if name == "best-of" else cfg.algorithm
        samples = in_form(train.samples, "open" if name == "best-of" else name, seed=cfg.seed)
        stages.append(Stage(algorithm, Order(samples, train.pictures_of, seed=cfg.seed), number * steps, steps))
    return Material(tuple(stages), len(train), val, None, ood)


def _episodes(cfg: TrainReasonerConfig) -> Material:
    episodes = EpisodesSource(
        cfg.environment,
        starts=cfg.prompts,
        copies=cfg.samples,
        max_new_tokens=cfg.max_new_tokens,
        temperature=cfg.temperature,
        top_p=cfg.top_p,
        rows=cfg.micro_rows,
        seed=cfg.seed,
    )
    note_other_style(cfg, episodes.style)
    order, epoch = None, len(episodes.simulator.homes)
    if cfg.algorithm == "sft":
        worked = episodes.worked(cfg.oracle_episodes)
        order, epoch = Order(worked.samples, worked.pictures_of, seed=cfg.seed), len(worked)
    return Material((Stage(cfg.algorithm, order, 0, cfg.steps_over(epoch)),), epoch, None, episodes)


def note_test_split(cfg: TrainReasonerConfig) -> None:
    """Says where a run looks at the test split: the curve may be shown, but a choice by it is tuning on the test."""
    if not distributed.is_main():
        return
    for item in cfg.val_ood:
        if Path(item).stem == "test":
            print(f"note: val_ood={item} is looked at while training; report its curve, and choose by val alone")
    if Path(cfg.val_split).stem == "test":
        print(
            f"note: val_split={cfg.val_split}: what is chosen by this run's accuracy (best_step, or settings) is "
            "chosen on the test split; report another set"
        )


def note_other_style(cfg: TrainReasonerConfig, style: TurnStyle) -> None:
    """Says where a model will be asked in another way than it was trained to be: that may be meant, or forgotten."""
    if not distributed.is_main() or not (Path(cfg.model).expanduser() / STYLE_FILE).is_file() or not cfg.model:
        return
    before, now = asdict(read_style(Path(cfg.model).expanduser())), asdict(style)
    other = [f"{name}={now[name]} (trained with {before[name]})" for name in now if now[name] != before[name]]
    if other:
        print(f"note: this run asks {cfg.model} in another way than before: {', '.join(other)}")


def make_vlm(cfg: TrainReasonerConfig, material: Material, device: torch.device, half: bool) -> VLM:
    """The model to begin with: loaded, or made from `small` with the words of the material.

    Args:
        half: passes will be in bfloat16; weights that do not learn are then kept so.

    Raises:
        InputError: nothing that answers questions about pictures loads from there.
    """
    if cfg.model:
        return VLM.from_pretrained(
            cfg.model,
            device=device,
            dtype=torch.bfloat16 if half and cfg.lora else torch.float32,
            lora=cfg.lora,
            freeze_vision=cfg.freeze_vision,
            gradient_checkpointing=cfg.gradient_checkpointing,
        )
    vlm = VLM.create(cfg.small, material.words(cfg.reward.style), seed=cfg.seed, device=device)
    if cfg.freeze_vision:
        vlm.freeze_vision()
    if cfg.gradient_checkpointing:
        vlm.model.gradient_checkpointing_enable({"use_reentrant": False})
    return vlm

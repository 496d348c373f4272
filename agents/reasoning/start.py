"""How a run begins: its questions, read and checked, and the model that shall learn to answer them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from agents.reasoning.rewards import check_samples
from agents.reasoning.supervised import PLAIN
from agents.reasoning.task_files import SampleSet, open_samples
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.types import PICTURE
from agents.reasoning.vlm import VLM


@dataclass(frozen=True)
class Data:
    """What is learned from, and what is only asked."""

    train: SampleSet
    val: SampleSet


def open_data(cfg: TrainReasonerConfig) -> Data:
    """Both splits, or the val split as small as asked for.

    Raises:
        InputError: a file or split is not there, a line is no sample, a reward is unknown, or an answer is one that its
            reward could never pay; the message names the sample.
    """
    train, val = open_samples(cfg.data, cfg.train_split), open_samples(cfg.data, cfg.val_split)
    check_samples(train.samples)
    check_samples(val.samples)
    return Data(train, val.first(cfg.val_questions) if cfg.val_questions else val)


def words_of(data: Data, style: str) -> Iterator[str]:
    """Everything a small model has to be able to read and say."""
    for sample in (*data.train.samples, *data.val.samples):
        yield sample.prompt.replace(PICTURE, " ")
        yield PLAIN[style].format(sample.answer)
        yield sample.worked
        yield from sample.choices


def make_vlm(cfg: TrainReasonerConfig, data: Data, device: torch.device, half: bool) -> VLM:
    """The model to begin with: loaded, or made from `small` with the words of the questions.

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
    vlm = VLM.create(cfg.small, words_of(data, cfg.reward.style), seed=cfg.seed, device=device)
    if cfg.freeze_vision:
        vlm.freeze_vision()
    if cfg.gradient_checkpointing:
        vlm.model.gradient_checkpointing_enable({"use_reentrant": False})
    return vlm

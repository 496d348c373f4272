"""What the steps of reinforcement learning on a vision-language model hand each other.

A `Sample` is a question with its pictures and its exact answer; `Prompts` are samples as a model's inputs; `Responses`
what it answered; a `Trajectory` both with all that an update needs. Letters: B rows, G responses to one prompt, L
prompt tokens, T response tokens, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from numpy import ndarray
from torch import Tensor

PICTURE: Final = "<picture>"
"""Stands in a prompt for the next of its pictures."""

Picture = UInt8[ndarray, "H W 3"]


@dataclass(frozen=True)
class Sample:
    """A question, what it is about, and when an answer is right."""

    id: str
    prompt: str  # with PICTURE once for each picture
    pictures: tuple[str, ...]  # names, read by the task's `vl.pictures.Pictures`
    answer: str  # the exact answer
    reward: str = "exact"  # which check decides, one of agents/reasoning/rewards.py ANSWER_CHECKS
    choices: tuple[str, ...] = ()  # of a multiple-choice question
    kind: str = ""  # of question ("count", "colour", ...): what tables split by
    needs_picture: bool = True  # False: the words alone decide (text-dependent)
    group: str = ""  # home or sentence: what intervals resample
    worked: str = (
        ""  # a worked answer to imitate (supervised fine-tuning); empty: think and answer tags around `answer`
    )


@dataclass(frozen=True, eq=False)
class Prompts:
    """Samples as inputs of one model. Rows keep their pictures: `rows` and `repeat` move all that belongs together."""

    input_ids: Int64[Tensor, "B L"]  # padded on the left; a picture is as many placeholder ids as it has features
    attention_mask: Int64[Tensor, "B L"]  # 0 on padding
    on_picture: Bool[Tensor, "B L"]  # the placeholders
    pictures: tuple[dict[str, Tensor], ...]  # one dict a row, of the family's picture tensors; {} without pictures

    def __len__(self) -> int:
        return len(self.input_ids)

    def rows(self, index: Sequence[int] | Int64[Tensor, " K"]) -> "Prompts":
        """Chosen rows in the given order, which may repeat; with their own pictures."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.input_ids.device)
        return Prompts(
            self.input_ids[chosen],
            self.attention_mask[chosen],
            self.on_picture[chosen],
            tuple(self.pictures[i] for i in chosen.tolist()),
        )

    def repeat(self, times: int) -> "Prompts":
        """Each row `times` times in a row: responses i * times to (i + 1) * times - 1 answer prompt i."""
        return self.rows(torch.arange(len(self)).repeat_interleave(times))


@dataclass(frozen=True, eq=False)
class Responses:
    """What a model answered."""

    ids: Int64[Tensor, "B T"]  # padded on the right
    mask: Bool[Tensor, "B T"]  # tokens that count: up to and with the end token
    ended: Bool[Tensor, " B"]  # False: cut off at the length limit
    texts: tuple[str, ...]  # decoded, without special tokens

    def rows(self, index: Sequence[int] | Int64[Tensor, " K"]) -> "Responses":
        """Chosen rows in the given order."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.ids.device)
        return Responses(
            self.ids[chosen], self.mask[chosen], self.ended[chosen], tuple(self.texts[i] for i in chosen.tolist())
        )


@dataclass(frozen=True, eq=False)
class Scored:
    """What one forward pass says about given responses; see agents/reasoning/log_probs.py."""

    log_prob: Float[Tensor, "B T"]  # of each token under the sampling temperature; 0 where the mask is off
    entropy: Float[Tensor, "B T"] | None = None  # nats, of the whole distribution
    hidden: Float[Tensor, "B T D"] | None = None  # final-norm state where token t is the input, no gradient
    prototype: Float[Tensor, "B D"] | None = None  # mean final-norm state over the placeholders; 0 without pictures
    sees: Bool[Tensor, " B"] | None = None  # has pictures


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Prompts, responses and all that an update needs of them; rows of one prompt share a group number."""

    prompts: Prompts
    responses: Responses
    old_log_prob: Float[Tensor, "B T"] | None  # None: one update is made, from the very policy that answered
    reference_log_prob: Float[Tensor, "B T"] | None  # None: no reference model
    reward: Float[Tensor, " B"]
    group: Int64[Tensor, " B"]  # number of the prompt, unique over all processes of the batch
    advantage: Float[Tensor, "B T"]  # per token, weights included; 0 where the mask is off

    def __len__(self) -> int:
        return len(self.reward)

    def rows(self, index: Sequence[int] | Int64[Tensor, " K"]) -> "Trajectory":
        """Chosen rows in the given order, every field alike."""
        chosen = torch.as_tensor(index, dtype=torch.int64, device=self.reward.device)
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Prompts | Responses):
                moved[item.name] = value.rows(chosen)
            elif value is not None:
                moved[item.name] = value[chosen]
        return replace(self, **moved)

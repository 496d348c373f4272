"""Step 2 of 4, response collection: the policy answers each question several times, and answers are paid.

A group is the responses to one question; it is never split between processes. Answers are paid here, not later, since
dynamic sampling (DAPO) has to know which groups teach anything before it stops asking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agents.reasoning.data_flow import Questions
from agents.reasoning.group_advantages import informative
from agents.reasoning.padding import join_prompts, join_responses
from agents.reasoning.types import Prompts, Responses, Sample
from core import distributed

Pay = Callable[[Sequence[Sample], Responses], tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]]
"""Rewards of responses to the samples they answer, and the parts they are made of; see agents/reasoning/rewards.py."""


@dataclass(frozen=True, eq=False)
class Collected:
    """Responses of this process, and what every process knows of all R responses, in the order of the questions."""

    prompts: Prompts  # one row a response
    responses: Responses
    samples: tuple[Sample, ...]
    reward: Float[Tensor, " B"]
    parts: dict[str, Float[Tensor, " B"]]  # of the reward, "accuracy" among them
    group: Int64[Tensor, " B"]
    all_accuracy: Float[Tensor, " R"]
    all_group: Int64[Tensor, " R"]
    tokens: int  # that went through the model of this process to get these, and those that were dropped

    def __len__(self) -> int:
        return len(self.reward)

    def teaching(self) -> list[int]:
        """Groups in which some answers are right and some are not."""
        return unique(self.all_group[informative(self.all_accuracy, self.all_group)])

    def only(self, groups: list[int]) -> "Collected":
        """The responses of these groups."""
        kept = torch.tensor(groups, dtype=torch.int64, device=self.group.device)
        own, everywhere = torch.nonzero(torch.isin(self.group, kept))[:, 0], torch.isin(self.all_group, kept)
        return Collected(
            self.prompts.rows(own),
            self.responses.rows(own),
            tuple(self.samples[i] for i in own.tolist()),
            self.reward[own],
            {name: part[own] for name, part in self.parts.items()},
            self.group[own],
            self.all_accuracy[everywhere],
            self.all_group[everywhere],
            self.tokens,
        )


def unique(group: Int64[Tensor, " R"]) -> list[int]:
    """The groups' numbers, each once, as they come."""
    return list(dict.fromkeys(group.tolist()))


def collect(
    vlm: Any,
    questions: Questions,
    generate: Callable[[Prompts], Responses],
    pay: Pay,
    samples: int,
) -> Collected:
    """Answers each question `samples` times and pays the answers.

    Args:
        generate: answers every prompt that often, see `agents.reasoning.generation.generate`.

    Raises:
        InputError: a prompt does not fit the model, or a reward is no number; the message names the sample.
    """
    asked = vlm.encode([sample.prompt for sample in questions.samples], questions.pictures)
    responses = generate(asked)
    rows = [sample for sample in questions.samples for _ in range(samples)]
    reward, parts = pay(rows, responses)
    group = torch.tensor(questions.places, device=reward.device).repeat_interleave(samples)
    return Collected(
        asked.repeat(samples),
        responses,
        tuple(rows),
        reward,
        parts,
        group,
        distributed.gather_rows(parts["accuracy"]),
        distributed.gather_rows(group),
        int(asked.attention_mask.sum() + responses.mask.sum()),
    )


def join(one: Collected, other: Collected, pad_id: int) -> Collected:
    """The responses of two rounds, those of the first round first."""
    return Collected(
        join_prompts(one.prompts, other.prompts, pad_id),
        join_responses(one.responses, other.responses, pad_id),
        one.samples + other.samples,
        torch.cat([one.reward, other.reward]),
        {name: torch.cat([one.parts[name], other.parts[name]]) for name in one.parts},
        torch.cat([one.group, other.group]),
        torch.cat([one.all_accuracy, other.all_accuracy]),
        torch.cat([one.all_group, other.all_group]),
        one.tokens + other.tokens,
    )

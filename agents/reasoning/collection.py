"""Step 2 of 4, response collection: the policy answers each question several times, and answers are paid.

A group is the responses to one question; it is never split between processes. Answers are paid here, not later, since
dynamic sampling (DAPO) has to know which groups teach anything before it stops asking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agents.reasoning.data_flow import Questions
from agents.reasoning.group_advantages import informative, overlong_penalty
from agents.reasoning.padding import join_prompts, join_responses, tokens_read
from agents.reasoning.rewards import RewardConfig, reward_of
from agents.reasoning.types import Prompts, Responses, Sample
from core import distributed

if TYPE_CHECKING:
    from agents.reasoning.episode_source import EpisodesSource  # loads the simulator


@dataclass(frozen=True)
class Pay:
    """What answers earn, at one step of a run."""

    reward: RewardConfig
    longest: int  # tokens of an answer
    overlong: int  # tokens before the limit over which DAPO's penalty grows, 0 = none
    step: int  # harder rules of a reward hold from some step on
    device: torch.device

    def __call__(
        self, samples: Sequence[Sample], responses: Responses
    ) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
        """The reward of each response to its sample, and the parts it is made of."""
        length = responses.mask.sum(1)
        reward, parts = reward_of(samples, responses.texts, responses.ended, length, self.reward, step=self.step)
        if self.overlong:
            parts["overlong"] = overlong_penalty(length.cpu(), longest=self.longest, cache=self.overlong)
            reward = reward + parts["overlong"]
        return reward.to(self.device), {name: part.to(self.device) for name, part in parts.items()}


@dataclass(frozen=True, eq=False)
class Collected:
    """Responses of this process, and what every process knows of all R responses, in the order of the questions."""

    prompts: Prompts  # one row a response
    responses: Responses
    samples: tuple[Sample, ...]
    reward: Float[Tensor, " B"]
    parts: dict[str, Float[Tensor, " B"]]  # of the reward; "accuracy" and "right" of answers to questions
    group: Int64[Tensor, " B"]
    all_accuracy: Float[Tensor, " R"]
    all_group: Int64[Tensor, " R"]
    tokens: int  # that went through the model of this process to get these, and those that were dropped
    advantage: Float[Tensor, "B T"] | None = None  # of turns in episodes, which have their own ways to divide a return

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
    """The policy answers each question `samples` times, and the answers are paid.

    Args:
        generate: answers every prompt that often, see `agents.reasoning.generation.generate`.

    Raises:
        InputError: a prompt does not fit the model, or a reward is no number; the message names the sample.
    """
    asked = questions.prompts(vlm, pay.longest)
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


def play(
    vlm: Any, episodes: "EpisodesSource", step: int, generator: torch.Generator
) -> tuple[Collected, dict[str, float]]:
    """The turns of a step's episodes in the simulator, one row each, and what is told of the episodes.

    A group is all turns of the episodes from one start. Every process calls this.
    """
    rows = episodes.collect(vlm, step, generator)
    starts = torch.arange(episodes.starts, device=rows.group.device)
    tokens = tokens_read(rows.prompts, rows.responses)
    nothing = rows.reward.new_zeros(0)
    played = Collected(rows.prompts, rows.responses, (), rows.reward, {}, rows.group, nothing, starts, tokens,
                       rows.advantage)  # fmt: skip
    return played, rows.metrics


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

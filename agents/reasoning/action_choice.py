"""How probable each action is under a language model that acts: numbers where `sim_policy` draws an answer.

An answer is a thought and then the name of an action (action_text.py). After a given thought each name is written out
and scored, and what the model would say instead of any name is left out:

    p(a | thought) = p("<answer> a </answer>" | prompt, thought) / sum over the names

Over several drawn thoughts the mean is taken. In expectation it is the probability that the model answers so; its
logarithm, with few thoughts, is a little too low (Jensen).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.reasoning.answers import ANSWER, END_ANSWER
from agents.reasoning.generation import evaluating, generate
from agents.reasoning.log_probs import score
from agents.reasoning.types import Prompts


def action_log_probs(
    vlm: Any, prompts: Prompts, names: Sequence[str], thoughts: Sequence[str], *, rows: int = 256
) -> Float[Tensor, "B A"]:
    """Log-probability of each action in each row, normalised over the actions.

    Args:
        names: of the A actions.
        thoughts: what stands before each row's answer, think tags included; "" for none.
        rows: answers scored in one pass of the model.
    """
    said = [f"{thought}{ANSWER} {name} {END_ANSWER}" for thought in thoughts for name in names]
    with evaluating(vlm.model):
        scored = score(
            vlm,
            prompts.repeat(len(names)),
            vlm.encode_answers(said),
            rows=max(1, rows // len(names)) * len(names),  # the answers to one prompt in the same pass
        )
    # the thought is the same before each name, so its probability cancels
    return scored.log_prob.double().sum(1).view(-1, len(names)).log_softmax(-1).float()


def draw_thoughts(
    vlm: Any, prompts: Prompts, count: int, *, max_new_tokens: int, seed: int, numbers: Sequence[int]
) -> list[str]:
    """What the model says before its answer: `count` times for each prompt in turn, "" where it gets to no answer.

    Args:
        seed: of the noise, with `numbers`, one for each prompt; see `take_turn`.
    """
    responses = generate(
        vlm,
        prompts,
        samples=count,
        max_new_tokens=max_new_tokens,
        generator=torch.Generator().manual_seed(seed),
        first_prompt=numbers,
    )
    return [text[: text.index(ANSWER)] if ANSWER in text else "" for text in responses.texts]


def thoughtful_log_probs(
    vlm: Any,
    prompts: Prompts,
    names: Sequence[str],
    *,
    thoughts: int,
    max_new_tokens: int,
    seed: int,
    numbers: Sequence[int],
    rows: int = 256,
) -> tuple[Float[Tensor, "B A"], int]:
    """Log of the mean probability of each action over drawn thoughts, and how many of the thoughts got to no answer.

    Args:
        thoughts: drawn for each row; 0 = the answer comes at once.
        max_new_tokens, seed, numbers: of the thoughts, see `draw_thoughts`.
        rows: as of `action_log_probs`.
    """
    if not thoughts:
        return action_log_probs(vlm, prompts, names, [""] * len(prompts), rows=rows), 0
    said = draw_thoughts(vlm, prompts, thoughts, max_new_tokens=max_new_tokens, seed=seed, numbers=numbers)
    each = action_log_probs(vlm, prompts.repeat(thoughts), names, said, rows=rows)
    mean = each.view(len(prompts), thoughts, len(names)).logsumexp(1) - math.log(thoughts)
    return mean, said.count("")

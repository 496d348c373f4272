"""Supervised fine-tuning: worked answers are imitated, the mean over all their tokens of -log p.

Also what rejection-sampled fine-tuning does with the right answers it keeps (Curr-ReFT, arXiv:2503.07065).
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.reasoning.answers import extract, stated
from agents.reasoning.log_probs import score
from agents.reasoning.padding import microbatches, tokens_read
from agents.reasoning.types import Prompts, Responses, Sample
from agents.reasoning.update import Descent
from core import distributed
from core.errors import InputError


def worked_answers(vlm: Any, samples: Sequence[Sample], style: str, longest: int) -> Responses:
    """What to imitate: each sample's worked answer, or its plain one in the form that answers are read from.

    Raises:
        InputError: no answer is read from one in this style, or one has more than the `longest` tokens that the policy
            may say, or one that it never says, such as a letter its tokenizer lacks; the message names the sample.
    """
    answers: Responses = vlm.encode_answers([one.worked or stated(one.answer, style) for one in samples])
    for sample in samples:
        if sample.worked and extract(sample.worked, style).text is None:
            raise InputError(
                f"the worked answer of question {sample.id!r} states no answer in style {style!r}: {sample.worked!r}. "
                f"It should end like {stated(sample.answer, style)!r}, or name its style in reward.style"
            )
    for sample, ids, kept in zip(samples, answers.ids.tolist(), answers.mask.sum(1).tolist()):
        tokens = int(kept)
        if strange := {*ids[: tokens - 1]} & {*vlm.vision_ids, *vlm.eos_ids}:
            token = vlm.tokenizer.convert_ids_to_tokens(min(strange))
            raise InputError(
                f"the worked answer of question {sample.id!r} has {token!r} in it, which no answer can say: "
                f"{sample.worked or sample.answer!r}. Put it in other letters"
            )
        if tokens > longest:
            raise InputError(
                f"the worked answer of question {sample.id!r} has {tokens} tokens with its end, "
                f"max_new_tokens={longest}; raise that, or shorten the answer"
            )
    return answers


def imitate(vlm: Any, descent: Descent, prompts: Prompts, responses: Responses, *, micro_rows: int) -> dict[str, float]:
    """One update towards the given responses of all processes; each brings its own rows, or none.

    Where no process has any, nothing changes.

    Returns:
        The loss (nats per token), the gradient norm, and the tokens that went through the model.
    """
    began = time.perf_counter()
    tokens = int(distributed.sum_over_ranks(responses.mask.sum()))
    if not tokens:
        return {"loss": 0.0, "grad_norm": 0.0, "updates": 0.0, "update_tokens": 0.0, "seconds_update": 0.0}
    total: Tensor = torch.zeros((), device=vlm.device)
    passed = 0
    number = torch.arange(len(prompts), device=vlm.device)
    for rows in microbatches(number, responses.mask.sum(1), micro_rows):
        asked, said = prompts.rows(rows), responses.rows(rows)
        with descent.precision():
            log_prob = score(vlm, asked, said, grad=True).log_prob
        loss = -(log_prob * said.mask).sum() / tokens
        loss.backward()
        total += loss.detach()
        passed += tokens_read(asked, said)
    norm = descent.step()
    return {
        "loss": float(distributed.sum_over_ranks(total)),
        "grad_norm": norm,
        "updates": 1.0,
        "update_tokens": float(distributed.sum_over_ranks(torch.tensor(passed))),
        "seconds_update": time.perf_counter() - began,
    }

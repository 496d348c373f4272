"""Which questions a reasoning model's page shows, and where the model looked while it answered them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from numpy import ndarray

from agents.reasoning.log_probs import score
from agents.reasoning.task_files import SampleSet
from agents.reasoning.types import Responses, Sample
from agents.reasoning.vgpo import focus
from agents.reasoning.vlm import VLM
from agents.reasoning.ways import Answered

Focus = list[tuple[str, float]]
"""Tokens and their visual focus in 0 to 1."""
ROWS = 16  # answers looked at in one pass
OUTCOMES = ((False, True), (True, True), (False, False), (True, False))
"""(right before, right after) in the order questions are taken: learnt, kept, never right, lost."""


def choose(
    samples: Sequence[Sample], before: Bool[ndarray, " Q"], after: Bool[ndarray, " Q"], count: int, seed: int
) -> list[int]:
    """Questions to show: outcomes in turn, within an outcome the kind shown least so far, otherwise drawn blindly.

    Args:
        before: right before training; `after` again where that is not known.
    """
    waiting: dict[tuple[bool, bool], list[int]] = defaultdict(list)
    for index in np.random.default_rng(seed).permutation(len(samples)).tolist():
        waiting[bool(before[index]), bool(after[index])].append(index)
    chosen: list[int] = []
    kinds: Counter[str] = Counter()
    while len(chosen) < count and any(waiting.values()):
        for outcome in OUTCOMES:
            if waiting[outcome] and len(chosen) < count:
                index = min(waiting[outcome], key=lambda i: kinds[samples[i].kind])
                waiting[outcome].remove(index)
                kinds[samples[index].kind] += 1
                chosen.append(index)
    return chosen


def focus_of(vlm: VLM, questions: SampleSet, answered: Answered, chosen: Sequence[int]) -> dict[int, Focus]:
    """Where the model looked while it gave its first answers to the chosen questions; those with pictures alone.

    Returns:
        Of each question the tokens of its answer with their visual focus: the cosine of the model's state at the token
        with its mean state over the picture, brought to 0 to 1 within the answer.
    """
    seen = [index for index in chosen if questions.samples[index].pictures and answered.tokens[index][0]]
    if not seen:
        return {}
    prompts = vlm.encode(
        [questions.samples[index].prompt for index in seen], [questions.pictures_of(index) for index in seen]
    )
    said = [answered.tokens[index][0] for index in seen]
    ids = torch.full((len(seen), max(map(len, said))), vlm.pad_id)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for row, tokens in enumerate(said):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = True
    ended = torch.tensor([bool(answered.ended[index, 0]) for index in seen])
    texts = tuple(answered.texts[index][0] for index in seen)
    responses = Responses(ids.to(vlm.device), mask.to(vlm.device), ended.to(vlm.device), texts)
    scored = score(vlm, prompts, responses, hidden=True, rows=ROWS)
    assert scored.hidden is not None and scored.prototype is not None
    cosine = focus(scored.hidden, scored.prototype).cpu()
    found = {}
    for row, index in enumerate(seen):
        values = cosine[row, : len(said[row])]
        stretched = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-8)
        words = [vlm.tokenizer.decode([token]) for token in said[row]]
        found[index] = list(zip(words, stretched.tolist()))
    return found

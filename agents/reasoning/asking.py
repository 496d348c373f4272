"""Asking a reasoning model a set of questions: with their own pictures, with grey ones, or with those of others."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from agents.reasoning.generation import generate
from agents.reasoning.task_files import SampleSet
from agents.reasoning.types import Sample
from agents.reasoning.vlm import VLM, without_pictures
from agents.reasoning.ways import Answered, Way


def ask(
    vlm: VLM,
    questions: SampleSet,
    way: Way,
    *,
    k: int,
    max_new_tokens: int,
    batch_size: int,
    seed: int,
    advance: Callable[[float], Any] = lambda count: None,
) -> Answered:
    """All questions of a set, in one way.

    Args:
        k: answers to each question where the way asks for many.
        batch_size: answers generated at once, at least one question's.
        advance: told how many questions more are done.

    Raises:
        InputError: a prompt does not fit the model, or a picture does not read.
    """
    count = k if way.many else 1
    source = exchanged(questions.samples, seed) if way.pictures == "exchanged" else list(range(len(questions)))
    texts: list[str] = []
    tokens: list[tuple[int, ...]] = []
    ends: list[bool] = []
    step = max(1, batch_size // count)
    for first in range(0, len(questions), step):
        chosen = range(first, min(first + step, len(questions)))
        pictures = [questions.pictures_of(source[i]) for i in chosen]
        if way.pictures == "grey":
            pictures = without_pictures(pictures)
        prompts = vlm.encode([questions.samples[i].prompt for i in chosen], pictures, reserve=max_new_tokens)
        answers = generate(
            vlm,
            prompts,
            samples=count,
            max_new_tokens=max_new_tokens,
            temperature=way.temperature,
            top_p=way.top_p,
            generator=torch.Generator().manual_seed(seed),  # with first_prompt: answers of one large batch
            first_prompt=first,
        )
        texts += answers.texts
        tokens += [tuple(ids[kept].tolist()) for ids, kept in zip(answers.ids.cpu(), answers.mask.cpu())]
        ends += answers.ended.tolist()
        advance(len(chosen))
    starts = range(0, len(texts), count)
    return Answered(
        tuple(tuple(texts[i : i + count]) for i in starts),
        tuple(tuple(tokens[i : i + count]) for i in starts),
        np.array(ends).reshape(-1, count),
    )


def exchanged(samples: Sequence[Sample], seed: int) -> list[int]:
    """For each question, the question whose pictures it is shown instead: of as many pictures and the same kind.

    The pictures come from another group (home or sentence) wherever no group has more than half of the questions of
    its kind; each question's pictures are used once. Questions without pictures, and a kind's only question, keep
    what they have.
    """
    generator = np.random.default_rng(seed)
    alike: dict[tuple[str, int], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        alike[sample.kind, len(sample.pictures)].append(index)
    source = list(range(len(samples)))
    for (_, pictures), members in sorted(alike.items()):
        if not pictures:
            continue
        groups: dict[str, list[int]] = defaultdict(list)
        for index in generator.permutation(members).tolist():
            groups[samples[index].group].append(index)
        row = [index for group in groups.values() for index in group]
        largest = max(map(len, groups.values()))
        shift = largest if len(groups) > 1 else 1  # a group is one piece of the row: none reaches over `largest`
        for place, index in enumerate(row):
            source[index] = row[(place + shift) % len(row)]
    return source

"""Exact match: whether an answer is one of the right ones, word for word, or in the lenient form of language models."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from core.errors import InputError
from scene.protocols.metric import Metric
from scene.protocols.predictions import complete
from scene.protocols.records import Example, Prediction

Answers = tuple[str, ...]


def answers_given(examples: Sequence[Example], predictions: Mapping[str, Prediction]) -> list[Answers]:
    """The ranked answers to every example, in its order; who said nothing said "".

    Raises:
        InputError: an example whose right answers are unknown, or without prediction; or predictions none of which
            has answers.
    """
    closed = [example.id for example in examples if not example.answers]
    if closed:
        raise InputError(
            f"{len(closed)} of {len(examples)} questions have no right answers to measure against, the first is "
            f"{closed[0]!r}; the answers of test splits are kept by their benchmark's server: measure on val"
        )
    found = [prediction.answers for prediction in complete(examples, predictions).values()]
    if examples and not any(found):
        raise InputError(
            f"none of the {len(found)} predictions has answers: questions are answered by "
            '{"id": ..., "answers": ["best", "second", ...]}'
        )
    return [ranked or ("",) for ranked in found]


def exact_match(said: Sequence[Answers], right: Sequence[Answers], top: int) -> Metric:
    """EM@k, as ScanQA's released scripts/score.py counts: one of the first k answers is right, letter by letter."""
    hits = [not set(ranked[:top]).isdisjoint(true) for ranked, true in zip(said, right)]
    return Metric.mean(f"EM@{top}", np.array(hits, dtype=bool))


def refined_match(said: Sequence[Answers], right: Sequence[Answers]) -> Metric:
    """The lenient match of papers on language models, as LEO's released evaluation has it (arXiv:2311.12871).

    Both sides are cleaned, spaces dropped; right is what equals a right answer, contains one, or is part of one, as
    letters: "table" fits "tablecloth". The released code also takes the empty answer for right; here it is wrong.
    """
    hits = [_fits(ranked[0], true) for ranked, true in zip(said, right)]
    return Metric.mean("EM@1 (refined)", np.array(hits, dtype=bool))


def _fits(said: str, right: Answers) -> bool:
    mine = _letters(said)
    others = [_letters(answer) for answer in right]
    return bool(mine) and any(other and (mine in other or other in mine) for other in others)


def _letters(text: str) -> str:
    return "".join(clean_answer(text).split())


_SPELLINGS: Final = (
    {"letf": "left", "let": "left", "tehre": "there", "rigth": "right", "rght": "right"}
    | {"behine": "behind", "tv": "TV", "chai": "chair", "wasing": "washing", "waslked": "walked"}
    | {"oclock": "o'clock", "none": "zero", "backwards": "backward"}
)
_NUMBERS: Final = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)


def clean_answer(text: str) -> str:
    """An answer in the form that SQA3D's and LEO's evaluation compare: lower case, numbers as words up to twenty, no
    articles, and the misspellings of its annotators mended."""
    text = re.sub(r"[^a-z0-9,'\s\-:]+", "", " ".join(text.lower().split(" ")))
    text = re.sub(r" {2,}", " ", text).strip()
    text = re.sub(r"\bo' +clock\b", "o'clock", text)
    text = re.sub(r"\b[a-z]+\b", lambda found: _SPELLINGS.get(found.group(), found.group()), text)
    text = re.sub(r"\b\d+\b", lambda found: _number(found.group()), text)
    text = re.sub(r"\b([a-zA-Z]+)\d\b", r"\1", text)  # "mat2"
    return re.sub(r"\b(?:a|an|the) (?=[a-zA-Z])", "", text)


def _number(digits: str) -> str:
    if digits == "23":
        return "twenty-three"
    return (
        _NUMBERS[int(digits)]
        if len(digits) <= 2 and int(digits) < len(_NUMBERS) and str(int(digits)) == digits
        else digits
    )

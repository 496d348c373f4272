"""Curr-ReFT: the same questions first as yes or no, then as multiple choice, then open; and what is kept to imitate.

Source: Deng et al., arXiv:2503.07065. There each stage has data of its own; here any sample with a checkable answer is
put into each form, wrong answers being right answers to other questions of its kind. A trainer runs the stages one
after the other, each from the model of the one before. Rejection-sampled fine-tuning keeps, of several responses to a
prompt, right ones, best first; there a large model judged which is best, here the reward does, then brevity.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.reasoning.answers import extract, plain, worked
from agents.reasoning.rewards import is_right
from agents.reasoning.types import Sample
from core.errors import InputError, check_choice

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
OPTIONS: Final = 4  # of a multiple-choice question, where its kind has as many answers


def in_form(samples: Sequence[Sample], form: str, *, seed: int) -> list[Sample]:
    """Samples as one stage asks them, in the same order.

    Args:
        form: one of FORMS. Samples that already ask so, and for multiple choice also those that ask yes or no, stay as
            they are; "open" leaves all as they are.
        seed: decides which wrong answers are shown, and where the right one stands.

    Returns:
        Samples with ids "<id>/<form>". Half of the yes-or-no questions of each kind have the answer yes. Wrong answers
        are as frequent as they are among the right answers of the kind. A worked answer keeps its thought.

    Raises:
        InputError: an unknown form; a kind of question that has but one answer.
    """
    check_choice("form", form, FORMS)
    return FORMS[form](samples, seed)


def as_yes_no(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Is the answer this one? See `in_form`."""
    asked = list(samples)
    for kind, rows in _kinds(samples, {"yes-no"}).items():
        draw = random.Random(f"yes-no {seed} {kind}")
        order = draw.sample(rows, len(rows))
        for place, row in enumerate(order):
            sample, yes = samples[row], place % 2 == 0
            wrong = next(_wrong(samples, order, row, draw))
            shown = sample.answer if yes else wrong
            prompt = f"{sample.prompt} Is the answer {shown}? Answer yes or no."
            asked[row] = _asked(sample, prompt, "yes" if yes else "no", "yes-no")
    return asked


def as_choice(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Which of these is the answer? See `in_form`."""
    asked = list(samples)
    for kind, rows in _kinds(samples, {"yes-no", "choice"}).items():
        draw = random.Random(f"choice {seed} {kind}")
        order = draw.sample(rows, len(rows))
        for row in order:
            sample, shown = samples[row], {plain(samples[row].answer): samples[row].answer}
            for other in _wrong(samples, order, row, draw):
                shown.setdefault(plain(other), other)
                if len(shown) == OPTIONS:
                    break
            options = draw.sample(list(shown.values()), len(shown))
            listed = " ".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))
            prompt = f"{sample.prompt} Choose one: {listed}"
            asked[row] = replace(_asked(sample, prompt, sample.answer, "choice"), choices=tuple(options))
    return asked


def as_open(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Questions as they are."""
    return list(samples)


FORMS: Final[dict[str, Callable[[Sequence[Sample], int], list[Sample]]]] = {
    "yes-no": as_yes_no,
    "choice": as_choice,
    "open": as_open,
}
"""The stages of the curriculum, in its order."""


def _kinds(samples: Sequence[Sample], without: set[str]) -> dict[str, list[int]]:
    """Rows of samples by kind and check, but for those of the given checks."""
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for row, sample in enumerate(samples):
        if sample.reward not in without:
            kinds[f"{sample.kind or 'without kind'}, reward {sample.reward}"].append(row)
    return kinds


def _wrong(samples: Sequence[Sample], order: Sequence[int], row: int, draw: random.Random) -> Iterator[str]:
    """Answers of other samples of the kind that are wrong for this one, from a random place on; at least one.

    Raises:
        InputError: there is none.
    """
    sample, start, found = samples[row], draw.randrange(len(order)), False
    for turn in range(len(order)):
        other = samples[order[(start + turn) % len(order)]].answer
        if not is_right(sample, other):
            found = True
            yield other
    if not found:
        raise InputError(
            f"sample {sample.id!r}: all questions of its kind ({sample.kind or 'none'}) have the answer "
            f"{sample.answer!r}, so no wrong one can be shown; leave the kind out of the curriculum"
        )


def _asked(sample: Sample, prompt: str, answer: str, form: str) -> Sample:
    """A sample with another question and answer; the thought of its worked answer still leads there."""
    thought = extract(sample.worked).thought
    way = "" if thought is None else worked(thought, answer)
    return replace(sample, id=f"{sample.id}/{form}", prompt=prompt, answer=answer, reward=form, worked=way)


def best_responses(
    reward: Float[Tensor, " B"],
    right: Bool[Tensor, " B"],
    lengths: Int64[Tensor, " B"],
    group: Int64[Tensor, " B"],
    texts: Sequence[str],
    *,
    keep: int = 1,
) -> list[int]:
    """Rows to imitate: of each prompt's right responses the `keep` best, best first; prompts in order of group number.

    Best is the highest reward, then the fewest tokens, then the first row. A text that a prompt got twice is kept once.
    A prompt without a right response gives none.
    """
    order = sorted(range(len(texts)), key=lambda row: (int(group[row]), -float(reward[row]), int(lengths[row]), row))
    kept: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in order:
        mine = kept[int(group[row])]
        if bool(right[row]) and len(mine) < keep:
            mine.setdefault(texts[row], row)
    return [row for mine in kept.values() for row in mine.values()]

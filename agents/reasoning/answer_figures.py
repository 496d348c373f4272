"""What judged answers say about a reasoning model: accuracy, what seeing adds, length, reflection.

Every figure is a mean over questions, and its interval is drawn over groups (homes or sentences): questions of one
group are alike. Letters: Q questions, G answers to each.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from agents.reasoning.passes import chance_of_pass
from agents.reasoning.reflection import reflection
from agents.reasoning.types import Sample
from agents.reasoning.ways import WAYS, Answered
from core.intervals import grouped_mean, grouped_rate

Entry = dict[str, Any]  # value, interval, n (questions)
ALL, SEEN, TOLD = "all", "needs the picture", "words suffice"
MAJORITY, CHANCE, ORACLE = "most frequent answer", "chance", "the exact answers"
BEFORE = "before training"
CONTROLS: Final = {
    "blind": "grey pictures",
    "exchanged": "pictures of other questions",
    BEFORE: "the model before training, with its own pictures",
    MAJORITY: "always the answer that is most frequent among the questions of its kind and check",
    CHANCE: "one of the choices, or one of the answers to questions of its kind and check, drawn evenly",
    ORACLE: "what the check makes of the exact answers themselves",
}


@dataclass(frozen=True, eq=False)
class Judged:
    """Answers and what the checks say of them."""

    answered: Answered
    said: tuple[tuple[str | None, ...], ...]  # Q of G: what stands in the answer's place; None where there is none
    score: Float[ndarray, "Q G"]  # of the check, in [0, 1]
    correct: Bool[ndarray, "Q G"]


def subsets(samples: Sequence[Sample]) -> dict[str, Bool[ndarray, " Q"]]:
    """All questions; those that need the picture and those that do not, where there are both; each kind."""
    needs = np.array([sample.needs_picture for sample in samples])
    kinds = np.array([sample.kind for sample in samples])
    found = {ALL: np.ones(len(samples), dtype=bool)}
    if needs.any() and not needs.all():
        found |= {SEEN: needs, TOLD: ~needs}
    return found | {str(kind): kinds == kind for kind in sorted(set(kinds.tolist())) if kind}


def per_question(
    samples: Sequence[Sample], judged: Mapping[str, Judged], k: int, oracle: Float[ndarray, " Q"]
) -> dict[str, Float[ndarray, " Q"]]:
    """Rows of the accuracy table, each as a value per question."""
    rows: dict[str, Float[ndarray, " Q"]] = {}
    for way, found in judged.items():
        if way in WAYS and WAYS[way].many:
            right = found.correct.sum(1)
            draws = found.correct.shape[1]
            rows |= {pass_name(j): np.array([chance_of_pass(draws, int(c), j) for c in right]) for j in powers(k)}
        else:
            rows[way] = found.correct[:, 0].astype(float)
    return rows | {MAJORITY: majority(samples), CHANCE: chance(samples), ORACLE: oracle}


def pass_name(k: int) -> str:
    return f"pass@{k}"


def powers(k: int) -> list[int]:
    """1, 2, 4, ... below k, and k."""
    return [2**i for i in range(k.bit_length()) if 2**i < k] + [k]


def majority(samples: Sequence[Sample]) -> Float[ndarray, " Q"]:
    """Whether the answer most frequent among the questions alike is right; it knows the set, no guess does."""
    best = {
        key: min(count, key=lambda answer: (-count[answer], answer)) for key, count in _answers_alike(samples).items()
    }
    return np.array([float(sample.answer == best[_alike(sample)]) for sample in samples])


def chance(samples: Sequence[Sample]) -> Float[ndarray, " Q"]:
    """How probable it is to hit each answer by drawing evenly."""
    answers = _answers_alike(samples)
    return np.array([1 / len(sample.choices or answers[_alike(sample)]) for sample in samples])


def _alike(sample: Sample) -> tuple[str, str]:
    """Kind and check: whether yes or no is asked for, or left or right, the words of a question tell."""
    return sample.kind, sample.reward


def _answers_alike(samples: Sequence[Sample]) -> dict[tuple[str, str], Counter[str]]:
    """How often each answer is right, among questions of one kind and one check."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for sample in samples:
        counts.setdefault(_alike(sample), Counter())[sample.answer] += 1
    return counts


def table(samples: Sequence[Sample], rows: Mapping[str, Float[ndarray, " Q"]]) -> dict[str, dict[str, Entry]]:
    """Row -> subset -> mean with its interval over groups."""
    parts, groups = subsets(samples), group_names(samples)
    return {
        row: {name: entry(values[chosen], groups[chosen]) for name, chosen in parts.items()}
        for row, values in rows.items()
    }


def gains(samples: Sequence[Sample], rows: Mapping[str, Float[ndarray, " Q"]]) -> dict[str, dict[str, Entry]]:
    """What the right picture and training add, question by question at T = 0.01.

    Control -> subset -> accuracy minus that of the control: a grey picture, another one, the model before training.
    """
    parts, groups = subsets(samples), group_names(samples)
    return {
        control: {
            name: entry((rows["cold"] - rows[control])[chosen], groups[chosen], rate=False)
            for name, chosen in parts.items()
        }
        for control in ("blind", "exchanged", BEFORE)
        if control in rows
    }


def entry(values: Float[ndarray, " M"], groups: ndarray, rate: bool = True) -> Entry:
    """A mean, its 95 % interval over groups, and what it counts.

    Args:
        rate: ones and zeros are hits and misses, of which all or none have an interval too; differences are not.
    """
    whole = rate and np.isin(values, (0, 1)).all()
    return {
        "value": float(values.mean()),
        "interval": list((grouped_rate if whole else grouped_mean)(values, groups)),
        "n": len(values),
        "groups": len(set(groups.tolist())),
    }


def group_names(samples: Sequence[Sample]) -> ndarray:
    """The group of each question; a question without one stands alone."""
    return np.array([sample.group or f"question {index}" for index, sample in enumerate(samples)])


def manner(samples: Sequence[Sample], judged: Mapping[str, Judged]) -> dict[str, dict[str, Any]]:
    """How a model answers, by way of asking: tokens, share that ends in time, share with an answer in its place."""
    groups = group_names(samples)
    found = {}
    for way, answers in judged.items():
        length = answers.answered.length.astype(float)
        right = answers.correct
        given = np.array([[said is not None for said in row] for row in answers.said])
        found[way] = {
            "length": entry(length.mean(1), groups),
            "length_correct": float(length[right].mean()) if right.any() else None,
            "length_incorrect": float(length[~right].mean()) if not right.all() else None,
            "ended": entry(answers.answered.ended.mean(1), groups),
            "answer_given": entry(given.mean(1), groups),
        }
    return found


def reflections(judged: Judged) -> dict[str, dict[str, float]]:
    """Reflection ratio and its four conditional ratios over all answers of one way: of whole words, and as MAYE counts.

    MAYE finds its words inside others, too ("wait" in "waiter").
    """
    texts = [text for row in judged.answered.texts for text in row]
    right = torch.from_numpy(judged.correct.ravel())
    return {
        name: asdict(reflection(texts, right, as_maye=as_maye))
        for name, as_maye in (("whole words", False), ("as MAYE", True))
    }

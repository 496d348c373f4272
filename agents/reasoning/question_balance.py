"""Choosing questions so that their words alone do not tell the answers, and measuring how far that succeeded."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.reasoning.detection_reward import box_iou
from agents.reasoning.types import Sample


@dataclass(frozen=True)
class Asked:
    """A question that may be asked."""

    sample: Sample
    key: str  # questions with one key could be told apart by their pictures alone
    turn: str = ""  # what takes turns among them; empty: the answer

    @property
    def level(self) -> str:
        """What is to be even among the questions of a key."""
        return self.turn or self.sample.answer


def balanced(asked: Sequence[Asked], wanted: int, least: int, rng: np.random.Generator) -> list[Sample]:
    """Up to `wanted` questions of which, for each key, every answer comes equally often.

    The questions of a key are taken in rounds of one for each answer. A round in which fewer than `least` different
    answers are left is not taken, so no answer makes up more than one in `least` of the questions of its key. Keys take
    turns.
    """
    by_key: defaultdict[str, defaultdict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for place in rng.permutation(len(asked)):
        by_key[asked[place].key][asked[place].level].append(asked[place].sample)
    rounds: list[list[list[Sample]]] = []  # by number, the rounds of the keys that have so many
    for key in sorted(by_key):
        for number in range(max(map(len, by_key[key].values()))):
            row = [samples[number] for _, samples in sorted(by_key[key].items()) if len(samples) > number]
            if len(row) < least:
                break
            if len(rounds) <= number:
                rounds.append([])
            rounds[number].append(row)
    chosen: list[Sample] = []
    for same in rounds:
        for place in rng.permutation(len(same)):
            if len(chosen) + len(same[place]) > wanted:
                return chosen
            chosen += same[place]
    return chosen


def blind_guess(samples: Sequence[Sample]) -> float:
    """What saying always the same gets right, or one of the choices that the question names, whichever is more.

    Questions of different checks (yes or no, left or right) are guessed apart: their words tell which they are. Of
    boxes the same is the box of median edges, and right is an IoU above a half.
    """
    by_check: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_check[sample.reward].append(sample)
    return sum(_guess(rows) * len(rows) for rows in by_check.values()) / max(len(samples), 1)


def _guess(samples: Sequence[Sample]) -> float:
    if samples[0].reward == "box":
        median = np.median([json.loads(sample.answer) for sample in samples], axis=0).round().astype(int).tolist()
        return float(np.mean([box_iou(json.dumps(median), sample.answer) > 0.5 for sample in samples]))
    same = max(Counter(sample.answer for sample in samples).values()) / len(samples)
    return max(same, float(np.mean([1 / len(sample.choices) if sample.choices else 0.0 for sample in samples])))


def words_only(train: Sequence[Sample], samples: Sequence[Sample]) -> float:
    """How often the most common answer that a question's very words had in training is right.

    Questions whose words never came are answered with the most common answer of the training questions.
    """
    of_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for sample in train:
        of_words[sample.prompt][sample.answer] += 1
        of_words[""][sample.answer] += 1
    right = 0
    for sample in samples:
        known = of_words.get(sample.prompt) or of_words[""]
        right += bool(known) and min(known, key=lambda answer: (-known[answer], answer)) == sample.answer
    return right / max(len(samples), 1)

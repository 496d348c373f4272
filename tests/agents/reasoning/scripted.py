"""A stand-in for a language model that answers questions by a function, so that episodes go as a test says."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from agents.reasoning.types import Prompts, Responses

END = 1


def say(action: str) -> str:
    """A well-formed answer."""
    return f"<think> so </think> <answer> {action} </answer>"


class Scripted:
    """Has what turns need of a VLM; a token is a word.

    Attributes:
        row: number of the environment whose question is being answered.
        asked: all questions so far.
        batches: how many were answered at a time.
        numbers: of the environments last asked.
    """

    row = 0
    pad_id, device = 0, torch.device("cpu")

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.batches: list[int] = []
        self.numbers: list[int] = []
        self.words = ["", "</s>"]

    def encode(self, prompts: Sequence[str], pictures: Sequence[Any], *, reserve: int = 1) -> Prompts:
        assert len(prompts) == len(pictures) and all(len(shown) == 1 for shown in pictures)
        self.asked += prompts
        ids = torch.full((len(prompts), 1), 2)
        return Prompts(ids, ids * 0 + 1, ids < 0, tuple({} for _ in prompts))

    def responses(self, texts: Sequence[str]) -> Responses:
        """Given texts as what was answered."""
        rows = [[self._number(word) for word in text.split()] + [END] for text in texts]
        length = max(map(len, rows))
        ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
        return Responses(ids, ids > 0, torch.ones(len(rows), dtype=torch.bool), tuple(texts))

    def _number(self, word: str) -> int:
        if word not in self.words:
            self.words.append(word)
        return self.words.index(word)

    def decode(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[str, ...]:
        kept = [row[counts].tolist() for row, counts in zip(ids, mask)]
        return tuple(" ".join(self.words[number] for number in row if number > END) for row in kept)

    def generate(self, prompts: Prompts, numbers: Sequence[int]) -> Responses:
        self.batches.append(len(prompts))
        self.numbers = list(numbers)
        texts = []
        for number, question in zip(numbers, self.asked[-len(prompts) :]):
            Scripted.row = number
            texts.append(self.answer(question))
        return self.responses(texts)


@pytest.fixture
def by_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has turns answered by `Scripted` models."""

    def generate(vlm: Scripted, prompts: Prompts, *, first_prompt: Sequence[int], **_: Any) -> Responses:
        return vlm.generate(prompts, first_prompt)

    monkeypatch.setattr("agents.reasoning.turns.generate", generate)

import contextlib

import pytest
import torch

import agents.reasoning.validation as validation
from agents.reasoning.collection import Pay
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.task_files import SampleSet
from core import distributed
from tests.agents.reasoning.colour_questions import fresh_vlm, questions


def test_looks_are_means_over_all_processes_and_split_by_kind(tmp_path, monkeypatch):
    asked_of = questions(tmp_path)
    found = SampleSet(asked_of.samples[:9], asked_of.pictures)  # six colours and three sums
    vlm, asked = fresh_vlm(found), []

    def answer(vlm, prompts, **options):
        texts = []
        for row in range(len(prompts)):
            sample = found.samples[asked[row]]
            texts.append(f"<think> so </think> <answer> {sample.answer if sample.kind == 'colour' else '9'} </answer>")
        del asked[: len(prompts)]
        assert options["temperature"] == 0
        return vlm.encode_answers(texts)

    def look(rank: int, world: int) -> dict[str, float]:
        asked[:] = range(rank, 9, world)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        pay = Pay(RewardConfig(), 12, 0, 0, torch.device("cpu"))
        return validation.validate(vlm, found, pay, max_new_tokens=12, rows=2, precision=contextlib.nullcontext)

    monkeypatch.setattr(validation, "generate", answer)
    whole = look(0, 1)
    assert whole["val_accuracy"] == pytest.approx(6 / 9) and whole["val_format"] == whole["val_ended"] == 1
    assert (whole["val_accuracy_colour"], whole["val_accuracy_sum"]) == (1, 0) and whole["val_length"] == 8

    sums = []
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda total: sums.append(total.clone()) or total)
    look(0, 2), look(1, 2)
    together = sums[0] + sums[1]
    assert together[0].tolist() == [6, 9]  # right answers of all, each asked once

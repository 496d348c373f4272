import contextlib

import pytest
import torch

import agents.reasoning.validation as validation
from agents.reasoning.collection import Pay
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.task_files import SampleSet
from agents.reasoning.validation import VAL, of_set
from core import distributed
from tests.agents.reasoning.colour_questions import fresh_vlm, questions


def test_looks_are_means_over_all_processes_and_split_by_kind(tmp_path, monkeypatch):
    asked_of = questions(tmp_path)
    found = SampleSet(asked_of.samples[:9], asked_of.pictures)  # six colours and three sums
    vlm, asked = fresh_vlm(found), []

    def answer(vlm, prompts, **options):  # the likeliest answers
        texts = []
        for row in range(len(prompts)):
            sample = found.samples[asked[row]]
            texts.append(f"<think> so </think> <answer> {sample.answer if sample.kind == 'colour' else '9'} </answer>")
        del asked[: len(prompts)]
        assert options["temperature"] == 0
        return vlm.encode_answers(texts)

    def look(rank: int, world: int, **options) -> dict[str, float]:
        asked[:] = range(rank, 9, world)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world)
        pay = Pay(RewardConfig(), 12, 0, 0, torch.device("cpu"))
        return validation.validate(
            vlm, found, pay, max_new_tokens=12, rows=2, precision=contextlib.nullcontext, **options
        )

    monkeypatch.setattr(validation, "generate", answer)
    whole = look(0, 1)
    assert whole["val_accuracy"] == pytest.approx(6 / 9) and whole["val_format"] == whole["val_ended"] == 1
    assert {name.replace(VAL, of_set("far")): value for name, value in whole.items()} == look(
        0, 1, prefix=of_set("far")
    )
    assert (whole["val_accuracy_colour"], whole["val_accuracy_sum"]) == (1, 0) and whole["val_length"] == 8

    sums = []
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda total: sums.append(total.clone()) or total)
    look(0, 2), look(1, 2)
    together = sums[0] + sums[1]
    assert together[0].tolist() == [6, 9]  # right answers of all, each asked once


def test_passes_are_counted_of_answers_drawn_alike_in_any_batch(tmp_path, monkeypatch):
    asked_of = questions(tmp_path)
    found = SampleSet(asked_of.samples[:4], asked_of.pictures)
    vlm, seen = fresh_vlm(found), []

    def answer(vlm, prompts, *, samples, temperature, generator, first_prompt, **options):
        noise = generator.initial_seed()
        seen.extend((temperature, noise, number) for number in first_prompt)
        right = {0.0: lambda n, g: n == 0, 0.6: lambda n, g: n < 3, 1.0: lambda n, g: g < n}[temperature]
        texts = [
            f"<think> so </think> <answer> {found.samples[n].answer if right(n, g) else 'none'} </answer>"
            for n in first_prompt
            for g in range(samples)
        ]
        return vlm.encode_answers(texts)

    monkeypatch.setattr(validation, "generate", answer)
    pay = Pay(RewardConfig(), 12, 0, 0, torch.device("cpu"))
    looks = []
    for rows in (3, 4):
        seen.clear()
        looks.append(
            validation.validate(
                vlm, found, pay, max_new_tokens=12, rows=rows, precision=contextlib.nullcontext, passes=3, seed=5
            )
        )
        looks.append(sorted(seen))
    assert looks[0] == looks[2] and looks[1] == looks[3]
    assert (looks[0]["val_accuracy"], looks[0]["val_warm"]) == (0.25, 0.75)
    assert looks[0]["val_pass@1"] == pytest.approx((0 + 1 + 2 + 3) / 12)  # of three answers n are right to question n
    assert looks[0]["val_pass@3"] == 0.75

"""Probabilities of named actions: those of the whole table of logits, normalised over the names."""

import numpy as np
import pytest
import torch

import agents.reasoning.action_choice as action_choice
from agents.reasoning.action_choice import action_log_probs, draw_thoughts, thoughtful_log_probs
from agents.reasoning.action_text import GoalView, turn_prompt, worked_turn
from agents.reasoning.answers import ANSWER
from agents.reasoning.log_probs import score
from agents.reasoning.small_vlm import PRESETS, SmallVLMConfig
from agents.reasoning.vlm import VLM
from tests.agents.reasoning.test_log_probs import plain

NAMES = ("stop", "forward", "turn left", "turn right")
GOALS = ("find the red armchair", "find a bed")
THOUGHTS = ("<think> i do not see the goal. </think> ", "")


@pytest.fixture(scope="module")
def vlm() -> VLM:
    said = ["<think> i do not see the goal. </think> <answer> stop </answer>"]
    return VLM.create(SmallVLMConfig(**PRESETS["tiny"]), [*(turn_prompt(goal, NAMES) for goal in GOALS), *said], seed=0)


@pytest.fixture(scope="module")
def prompts(vlm):
    pictures = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    return vlm.encode([turn_prompt(goal, NAMES) for goal in GOALS], [[one] for one in pictures], reserve=24)


@torch.no_grad()
def test_they_are_those_of_the_answers_written_out(vlm, prompts):
    found = action_log_probs(vlm, prompts, NAMES, THOUGHTS)
    for row, thought in enumerate(THOUGHTS):
        answers = vlm.encode_answers([f"{thought}<answer> {name} </answer>" for name in NAMES])
        whole = plain(vlm, prompts.rows([row] * 4), answers, 1.0)["log_prob"].sum(1)
        torch.testing.assert_close(found[row], whole.log_softmax(-1), rtol=1e-4, atol=1e-4)
    assert found.exp().sum(-1).tolist() == pytest.approx([1, 1], abs=1e-6)
    torch.testing.assert_close(found, action_log_probs(vlm, prompts, NAMES, THOUGHTS, rows=4), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_mean_over_thoughts_is_one_of_probabilities(vlm, prompts, monkeypatch):
    said = ["<think> a </think> ", "", THOUGHTS[0], THOUGHTS[0]]
    monkeypatch.setattr(action_choice, "draw_thoughts", lambda *_, **__: said)
    asked = {"max_new_tokens": 8, "seed": 0, "numbers": [3, 4]}
    found, lost = thoughtful_log_probs(vlm, prompts, NAMES, thoughts=2, **asked)
    each = action_log_probs(vlm, prompts.repeat(2), NAMES, said).exp().view(2, 2, 4)
    torch.testing.assert_close(found.exp(), each.mean(1), rtol=1e-4, atol=1e-6)
    assert lost == 1
    at_once, none_lost = thoughtful_log_probs(vlm, prompts, NAMES, thoughts=0, **asked)
    assert torch.equal(at_once, action_log_probs(vlm, prompts, NAMES, ["", ""])) and none_lost == 0


def test_thoughts_are_of_their_number_and_not_of_the_batch(vlm, prompts):
    asked = {"max_new_tokens": 12, "seed": 5}
    both = action_choice.generate(
        vlm, prompts, samples=2, max_new_tokens=12, generator=torch.Generator().manual_seed(5), first_prompt=[7, 9]
    ).texts
    alone = action_choice.generate(
        vlm, prompts.rows([1]), samples=2, max_new_tokens=12, generator=torch.Generator().manual_seed(5),
        first_prompt=[9],
    ).texts  # fmt: skip
    assert both[2:] == alone
    found = draw_thoughts(vlm, prompts, 2, numbers=[7, 9], **asked)
    assert found == [text[: text.index(ANSWER)] if ANSWER in text else "" for text in both]


@torch.no_grad()
def test_a_model_that_learned_turns_puts_its_probability_on_what_it_learned(vlm, prompts):
    """The scores follow the weights: after steps of imitation the imitated action leads in its own prompt."""
    wanted = ("turn right", "forward")
    answers = vlm.encode_answers([worked_turn(name, GoalView()) for name in wanted])
    optimizer = torch.optim.Adam(vlm.model.parameters(), lr=1e-2)
    with torch.enable_grad():
        for _ in range(100):
            loss = -score(vlm, prompts, answers, grad=True).log_prob.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    said, lost = thoughtful_log_probs(vlm, prompts, NAMES, thoughts=3, max_new_tokens=24, seed=0, numbers=[0, 1])
    assert [NAMES[int(k)] for k in said.argmax(-1)] == list(wanted) and said.max(-1).values.exp().min() > 0.9
    assert lost == 0

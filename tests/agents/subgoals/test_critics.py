import math

import pytest
import torch

from agents.subgoals.critics import InstructionCritic, StepCritic, chance, outcome_loss, top_share
from agents.subgoals.segments import cut, halving_returns
from core import distributed
from core.errors import InputError


def test_the_loss_is_the_cross_entropy_on_whether_anything_was_earned_summed_over_heads():
    logits = torch.tensor([[[0.0, 0.0], [0.0, math.log(3)]]]).expand(2, 2, 2)  # chances 1/2 and 3/4
    loss = outcome_loss(logits, torch.tensor([0.03, 0.0]))
    assert loss.tolist() == pytest.approx([math.log(2) + math.log(4 / 3), math.log(2) + math.log(4)])


def test_the_loss_pulls_the_chance_towards_the_outcome():
    logits = torch.zeros(2, 1, 2, requires_grad=True)
    outcome_loss(logits, torch.tensor([1.0, 0.0])).sum().backward()
    assert logits.grad[:, 0].tolist() == [[0.5, -0.5], [-0.5, 0.5]]


def test_of_two_heads_the_less_hopeful_counts():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    assert chance(logits).item() == pytest.approx(0.5)


def test_a_step_critic_learns_which_states_lead_to_the_subgoal_and_an_instruction_critic_which_begin_well():
    """A feature that says whether the segment succeeds, and another that says nothing."""
    generator = torch.Generator().manual_seed(0)
    done = torch.zeros(4, 64, dtype=torch.bool)
    done[-1, ::2] = True
    ended = torch.zeros_like(done)
    ended[-1] = True
    segments = cut(done, ended, torch.ones(64, dtype=torch.bool))
    features = torch.rand(4, 64, 2, generator=generator)
    features[..., 0] = (torch.arange(64) % 2 == 0).float()
    returns = halving_returns(segments)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        step, instruction = StepCritic(2, width=8), InstructionCritic(2)
    parameters = [*step.parameters(), *instruction.parameters()]
    for _ in range(100):
        loss = outcome_loss(step(features), returns).mean() + outcome_loss(instruction(features[0]), returns[0]).mean()
        with torch.no_grad():
            for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters)):
                parameter -= 0.5 * slope
    for hope in (chance(step(features))[0], chance(instruction(features[0]))):
        assert hope[::2].min() > 0.8 and hope[1::2].max() < 0.2


def test_critics_speak_in_heads_and_two_classes():
    features = torch.zeros(3, 5, 7)
    assert StepCritic(7)(features).shape == (3, 5, 2, 2)
    assert InstructionCritic(7)(features).shape == (3, 5, 1, 2)
    assert chance(StepCritic(7)(features)).shape == (3, 5)


def test_the_top_share_is_what_lies_above_the_quantile():
    score, known = torch.arange(11.0), torch.ones(11, dtype=torch.bool)
    assert top_share(score, known, 0.1).nonzero().squeeze(-1).tolist() == [9, 10]  # the bar is 9
    assert top_share(score, known, 1.0).all()


def test_segments_without_an_outcome_neither_set_the_bar_nor_pass():
    score = torch.tensor([1.0, 2.0, 100.0, 50.0])
    known = torch.tensor([True, True, False, False])
    assert top_share(score, known, 0.5).tolist() == [False, True, False, False]
    assert not top_share(score, known & False, 0.5).any()


def test_a_success_that_nobody_expected_passes_before_an_expected_one():
    reached, hope = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.9, 0.2, 0.5, 0.01])
    known = torch.ones(4, dtype=torch.bool)
    assert top_share(reached - hope, known, 0.25).tolist() == [False, True, False, False]


def test_where_few_succeed_success_alone_filters_nothing():
    score = torch.zeros(40)
    score[7] = 1.0
    assert top_share(score, torch.ones(40, dtype=torch.bool), 0.1).all()


def test_the_bar_is_that_of_all_processes(monkeypatch):
    """This process is the second of two; the first holds three high scores."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda sizes: sizes + torch.tensor([3, 0]))
    monkeypatch.setattr(distributed, "gather_rows", lambda rows: torch.cat([torch.tensor([7.0, 8.0, 9.0]), rows]))
    score = torch.tensor([1.0, 8.5])
    assert top_share(score, torch.ones(2, dtype=torch.bool), 0.5).tolist() == [False, True]  # the bar is 8, not 4.75
    assert not top_share(score, torch.tensor([True, False]), 0.5).any()


@pytest.mark.parametrize("share", [0.0, 1.5, -0.1])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(InputError, match="share="):
        top_share(torch.zeros(3), torch.ones(3, dtype=torch.bool), share)


def test_outcomes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="should be"):
        outcome_loss(torch.zeros(3, 2, 2), torch.zeros(4))

import pytest
import torch

from agents.reasoning.turn_credit import centred, discounted_returns, gigpo, token_weights, turn_gae

EPISODE = torch.tensor([0, 0, 0, 1, 1])
TURN = torch.tensor([0, 1, 2, 0, 1])
ONE_GROUP = torch.zeros(5, dtype=torch.int64)


def test_returns_discount_what_comes_later_within_an_episode():
    reward = torch.tensor([1.0, 0.0, 4.0, 0.0, 2.0])
    returns = discounted_returns(reward, EPISODE, TURN, gamma=0.5)
    assert returns.tolist() == [1 + 0 + 0.25 * 4, 0 + 0.5 * 4, 4, 0.5 * 2, 2]


def test_the_order_of_rows_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    reward, anchor = torch.randn(5, generator=generator), torch.tensor([7, 8, 7, 7, 9])
    turned = torch.randperm(5, generator=generator)
    straight = gigpo(reward, EPISODE, TURN, ONE_GROUP, anchor)
    shuffled = gigpo(*(column[turned] for column in (reward, EPISODE, TURN, ONE_GROUP, anchor)))
    torch.testing.assert_close(shuffled, straight[turned])


def test_gigpo_adds_what_the_episode_and_what_the_state_is_worth():
    reward = torch.tensor([0.0, 0.0, 4.0, 0.0, 2.0])
    anchor = torch.tensor([10, 11, 12, 10, 12])  # both start at 10, 11 is met once, 12 by both
    got = gigpo(reward, EPISODE, TURN, ONE_GROUP, anchor, gamma=0.5, omega=2.0)
    whole = [1.0, 1.0, 1.0, -1.0, -1.0]  # returns 4 and 2, mean 3: three turns do not count thrice
    step = [0.0, 0.0, 1.0, 0.0, -1.0]  # at 10: 1 and 1; at 11 alone; at 12: 4 and 2
    assert got.tolist() == [w + 2.0 * s for w, s in zip(whole, step)]
    assert gigpo(reward, EPISODE, TURN, ONE_GROUP, anchor, omega=0.0).tolist() == whole


def test_states_of_different_starts_are_not_compared():
    reward, anchor = torch.tensor([0.0, 0.0, 4.0, 0.0, 2.0]), torch.full((5,), 3)
    group = torch.tensor([0, 0, 0, 1, 1])
    got = gigpo(reward, EPISODE, TURN, group, anchor, gamma=1.0)
    assert got.tolist() == [0, 0, 0, 0, 0]  # each episode alone; within one, all returns are the same without discount


def test_deviations_are_unbiased_and_equal_or_lonely_values_give_zero():
    value, group = torch.tensor([1.0, 3.0, 5.0, 5.0, 9.0]), torch.tensor([0, 0, 1, 1, 2])
    got = centred(value, group, std=True, eps=1e-12)
    torch.testing.assert_close(got, torch.tensor([-(0.5**0.5), 0.5**0.5, 0.0, 0.0, 0.0]))


def test_a_turn_that_happens_twice_or_is_missing_is_refused():
    with pytest.raises(ValueError, match="twice"):
        discounted_returns(torch.zeros(3), torch.zeros(3, dtype=torch.int64), torch.tensor([0, 0, 1]), gamma=1.0)
    with pytest.raises(ValueError, match="count 0, 1, 2"):
        discounted_returns(torch.zeros(2), torch.zeros(2, dtype=torch.int64), torch.tensor([0, 2]), gamma=1.0)


def test_turn_gae_bootstraps_where_an_episode_was_cut_off_and_not_where_it_ended():
    reward = torch.tensor([0.0, 1.0, 0.0, 1.0])
    episode, turn = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    value = torch.tensor([0.5, 0.25, 0.5, 0.25])
    next_value = torch.tensor([0.25, 8.0, 0.25, 8.0])
    terminated = torch.tensor([False, True, False, False])
    advantage, target = turn_gae(reward, value, next_value, terminated, episode, turn, gamma=0.5, lam=0.5)
    ended, cut = 1 - 0.25, 1 + 0.5 * 8 - 0.25  # one-step errors of the last turns
    first = 0.5 * 0.25 - 0.5
    assert advantage.tolist() == [first + 0.25 * ended, ended, first + 0.25 * cut, cut]
    assert target.tolist() == (advantage + value).tolist()


def test_weights_give_the_gradient_of_the_weighted_sum_of_thought_and_action():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    on_action = torch.tensor([[False, False, True], [False, True, False]])
    weight = token_weights(mask, on_action, thought_weight=0.25)
    assert weight.tolist() == [[0.25, 0.25, 1.0], [0.25, 1.0, 0.0]]
    log_prob = torch.tensor([[-1.0, -2.0, -0.5], [-0.25, -3.0, 0.0]], requires_grad=True)
    advantage = torch.tensor([2.0, -1.0])
    ratio = torch.exp(log_prob - log_prob.detach())
    (ratio * weight * advantage[:, None]).sum().backward()
    # RL4VLM: advantage x gradient of (lambda log p(thought) + log p(action))
    assert log_prob.grad is not None and log_prob.grad.tolist() == [[0.5, 0.5, 2.0], [-0.25, -1.0, 0.0]]

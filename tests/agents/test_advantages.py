import pytest
import torch

from agents.advantages import ReturnScale, gae

NO, YES = torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)


def test_a_time_limit_keeps_the_bootstrap_and_a_terminal_state_drops_it():
    one = torch.ones(1, 1)
    at_limit, _ = gae(one, 0 * one, 5 * one, NO, YES, gamma=1.0, lam=1.0)
    at_end, _ = gae(one, 0 * one, 5 * one, YES, NO, gamma=1.0, lam=1.0)
    assert (at_limit.item(), at_end.item()) == (6.0, 1.0)


def test_lambda_zero_is_the_one_step_error_and_lambda_one_the_return_minus_value():
    reward = torch.tensor([[1.0], [2.0], [3.0]])
    value = torch.tensor([[0.5], [1.0], [2.0]])
    next_value = torch.tensor([[1.0], [2.0], [4.0]])
    no = torch.zeros(3, 1, dtype=torch.bool)
    one_step, _ = gae(reward, value, next_value, no, no, gamma=0.5, lam=0.0)
    assert one_step.squeeze().tolist() == [1 + 0.5 * 1 - 0.5, 2 + 0.5 * 2 - 1, 3 + 0.5 * 4 - 2]
    full, target = gae(reward, value, next_value, no, no, gamma=0.5, lam=1.0)
    returns = [1 + 0.5 * 2 + 0.25 * 3 + 0.125 * 4, 2 + 0.5 * 3 + 0.25 * 4, 3 + 0.5 * 4]
    assert target.squeeze().tolist() == pytest.approx(returns)
    assert full.squeeze().tolist() == pytest.approx([r - v for r, v in zip(returns, [0.5, 1.0, 2.0])])


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_nothing_leaks_across_an_episode_end(kind):
    generator = torch.Generator().manual_seed(0)
    reward, value, next_value = torch.rand(3, 6, 2, generator=generator)
    end, none = torch.zeros(6, 2, dtype=torch.bool), torch.zeros(6, 2, dtype=torch.bool)
    end[2] = True
    flags = {"terminated": none, "truncated": none, kind: end}
    before, _ = gae(reward, value, next_value, **flags, gamma=0.9, lam=0.8)
    reward[3:] += 100.0
    after, _ = gae(reward, value, next_value, **flags, gamma=0.9, lam=0.8)
    assert torch.equal(before[:3], after[:3])
    assert not torch.equal(before[3:], after[3:])


def test_tensors_of_different_shapes_are_refused():
    one = torch.ones(1, 1)
    with pytest.raises(ValueError, match="one shape"):
        gae(one, one, one[0], NO, NO, gamma=1.0, lam=1.0)


def test_rewards_are_divided_by_the_deviation_of_discounted_returns():
    reward, ended = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([[False], [True], [False]])
    scale = ReturnScale(1, gamma=0.5)
    returns = torch.tensor([1.0, 0.5 * 1 + 2, 6.0])  # the second episode starts from nothing
    torch.testing.assert_close(scale(reward, ended), reward / returns.std(unbiased=False))


def test_a_resumed_scale_goes_on_as_the_original():
    generator = torch.Generator().manual_seed(0)
    whole, resumed = ReturnScale(3, gamma=0.9), ReturnScale(3, gamma=0.9)
    first, second = torch.rand(2, 5, 3, generator=generator)
    never = torch.zeros(5, 3, dtype=torch.bool)
    whole(first, never)
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(whole(second, never), resumed(second, never))

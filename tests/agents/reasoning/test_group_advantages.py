import threading

import pytest
import torch

from agents.reasoning import group_advantages
from agents.reasoning.group_advantages import (
    ADVANTAGES,
    GROUP_EPS,
    advantages,
    informative,
    overlong_penalty,
    token_returns,
    whitened,
    without_cut_off,
)
from core.errors import InputError

REWARD = torch.tensor([1.0, 0.0, 0.5, 3.0, 0.0, 0.0])
GROUP = torch.tensor([4, 9, 4, 9, 4, 9])  # interleaved: 1, 0.5, 0 and 0, 3, 0
ONE_TOKEN = torch.ones(6, 1, dtype=torch.bool)


def of_rows(name: str, reward=REWARD, group=GROUP) -> list[float]:
    return advantages(name, reward, group, torch.ones(len(reward), 1, dtype=torch.bool))[:, 0].tolist()


def test_each_advantage_by_hand():
    root3 = 3**0.5  # deviation of 0, 3, 0; that of 1, 0.5, 0 is 0.5
    assert of_rows("dr-grpo") == pytest.approx([0.5, -1, 0, 2, -0.5, -1])
    assert of_rows("rloo") == pytest.approx([0.75, -1.5, 0, 3, -0.75, -1.5])  # 1 - (0.5 + 0) / 2, ...
    low, high = 1 / (0.5 + GROUP_EPS), 1 / (root3 + GROUP_EPS)
    assert of_rows("grpo") == pytest.approx([0.5 * low, -high, 0, 2 * high, -0.5 * low, -high], abs=1e-6)
    assert of_rows("grpo") == of_rows("dapo") == of_rows("gspo")
    spread = (6.5 / 5) ** 0.5  # of 0.5, -1, 0, 2, -0.5, -1
    expected = [x / spread for x in (0.5, -1, 0, 2, -0.5, -1)]
    assert of_rows("reinforce++-baseline") == pytest.approx(expected, abs=1e-6)


def test_reinforce_without_groups_has_mean_zero_and_deviation_one_over_all_tokens():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]]).bool()
    found = advantages("reinforce++", torch.tensor([1.0, 0.0, 2.0]), torch.arange(3), mask)
    # returns 1, 1, 1, 0, 2, 2: mean 7 / 6, squared deviations 17 / 6
    scale = (17 / 6 / 5) ** 0.5
    expected = [[(1 - 7 / 6) / scale] * 3, [-7 / 6 / scale, 0, 0], [(2 - 7 / 6) / scale] * 2 + [0]]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("name", [*ADVANTAGES, "reinforce++"])
def test_rows_may_stand_in_any_order(name):
    mask = torch.arange(4) < torch.tensor([4, 1, 3, 2, 4, 2])[:, None]
    order = torch.tensor([3, 5, 0, 2, 1, 4])
    plain = advantages(name, REWARD, GROUP, mask)
    assert torch.allclose(advantages(name, REWARD[order], GROUP[order], mask[order]), plain[order], atol=1e-6)
    assert not plain[~mask].any() and plain.abs().sum() > 0


@pytest.mark.parametrize("name", ADVANTAGES)
def test_equal_rewards_and_lone_answers_have_the_advantage_zero_exactly(name):
    reward = torch.tensor([0.1, 0.1, 0.1, 0.7])
    assert of_rows(name, reward, torch.tensor([0, 0, 0, 1])) == [0, 0, 0, 0]


def test_equal_returns_have_the_advantage_zero():
    assert not advantages("reinforce++", torch.full((6,), 0.1), GROUP, ONE_TOKEN).any()


def test_only_groups_with_different_rewards_inform():
    reward, group = torch.tensor([1.0, 0.2, 0.0, 0.2, 5.0]), torch.tensor([3, 8, 3, 8, 1])
    assert informative(reward, group).tolist() == [True, False, True, False, False]


def test_what_a_token_costs_is_missing_from_all_returns_up_to_it():
    mask = torch.tensor([[True, True, True, False]])
    cost = torch.tensor([[0.1, 0.2, 0.3, torch.nan]])
    returns = token_returns(torch.tensor([1.0]), mask, cost=cost)
    assert returns[0].tolist() == pytest.approx([0.4, 0.5, 0.7, 0])
    halved = token_returns(torch.tensor([1.0]), mask, cost=cost, gamma=0.5)
    assert halved[0].tolist() == pytest.approx([-0.1 + 0.5 * (-0.2 + 0.5 * 0.7), -0.2 + 0.5 * 0.7, 0.7, 0])


def test_discounts_count_the_tokens_that_count():
    mask = torch.tensor([[True, False, True, True]])
    for gamma in (1.0, 0.5):
        found = token_returns(torch.tensor([8.0]), mask, gamma=gamma)
        assert found[0].tolist() == [8 * gamma**2, 0, 8 * gamma, 8]


def test_a_group_compares_rewards_after_their_costs():
    mask = torch.tensor([[True, True], [True, False]])
    cost = torch.tensor([[0.2, 0.3], [0.1, 9.0]])
    found = advantages("dr-grpo", torch.tensor([1.0, 1.0]), torch.zeros(2, dtype=torch.int64), mask, cost=cost)
    assert torch.allclose(found, torch.tensor([[-0.2, -0.2], [0.2, 0.0]]))  # 0.5 against 0.9


def test_two_processes_whiten_by_the_statistics_of_both(monkeypatch):
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(3) < torch.tensor([3, 1, 2, 3, 3, 1])[:, None]
    meeting, said, found = threading.Barrier(2), {}, {}

    def summed(tensor):
        said[threading.get_ident()] = tensor
        meeting.wait(10)
        total = sum(said.values())
        meeting.wait(10)
        return total

    def process(rows):
        found[rows.start] = whitened(values[rows], mask[rows])

    whole = whitened(values, mask)
    monkeypatch.setattr(group_advantages.distributed, "sum_over_ranks", summed)
    threads = [threading.Thread(target=process, args=(rows,)) for rows in (slice(0, 2), slice(2, 6))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.allclose(torch.cat([found[0], found[2]]), whole, atol=1e-6)


def test_a_process_without_rows_is_no_special_case():
    nothing, mask = torch.zeros(0), torch.zeros(0, 3, dtype=torch.bool)
    for name in [*ADVANTAGES, "reinforce++"]:
        assert advantages(name, nothing, nothing.long(), mask).shape == (0, 3)


def test_long_answers_pay_over_the_last_tokens():
    length = torch.tensor([1, 80, 85, 90, 100, 120])
    assert overlong_penalty(length, longest=100, cache=20).tolist() == pytest.approx([0, 0, -0.25, -0.5, -1, -1])
    with pytest.raises(InputError, match="cache=0; expected 1 to the longest answer, 100"):
        overlong_penalty(length, longest=100, cache=0)


def test_answers_that_were_cut_off_can_be_left_out():
    mask = torch.tensor([[True, True], [True, False]])
    assert without_cut_off(mask, torch.tensor([False, True])).tolist() == [[False, False], [True, False]]


def test_bad_input_is_named():
    with pytest.raises(InputError, match="reward of row 1 is nan"):
        of_rows("grpo", torch.tensor([0.0, torch.nan]), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="algorithm='gropo' is unknown; did you mean 'grpo'"):
        of_rows("gropo")
    with pytest.raises(InputError, match="gamma=0.9 has no meaning for rloo"):
        advantages("rloo", REWARD, GROUP, ONE_TOKEN, gamma=0.9)

import pytest
import torch

from agents.subgoals.segments import cut, halving_returns, segment_returns, subgoal_advantages

T, F = True, False


def column(*values):
    return torch.tensor(values)[:, None]


def two_environments():
    """Five steps: the first environment does a subgoal at step 1 and its episode ends at 3; the second does nothing
    and goes on with what it was at."""
    done = torch.tensor([[F, F], [T, F], [F, F], [F, F], [F, F]])
    ended = torch.tensor([[F, F], [F, F], [F, F], [T, F], [F, F]])
    return cut(done, ended, torch.tensor([T, F]))


def test_segments_end_where_a_subgoal_or_an_episode_does():
    segments = two_environments()
    assert len(segments) == 4
    assert segments.number.T.tolist() == [[0, 0, 1, 1, 2], [3, 3, 3, 3, 3]]
    assert segments.to_end.T.tolist() == [[1, 0, 1, 0, 0], [4, 3, 2, 1, 0]]
    assert segments.first.T.tolist() == [[T, F, T, F, T], [T, F, F, F, F]]
    assert segments.last.T.tolist() == [[F, T, F, T, T], [F, F, F, F, T]]


def test_segments_know_how_they_ended_and_whether_they_were_seen_whole():
    segments = two_environments()
    assert segments.reached.tolist() == [T, F, F, F]
    assert segments.closed.tolist() == [T, T, F, F]
    assert segments.whole.tolist() == [T, T, F, F]


def test_what_an_earlier_rollout_began_is_closed_but_not_whole():
    segments = cut(column(F, T, T), column(F, F, F), torch.tensor([F]))
    assert segments.closed.tolist() == [T, T]
    assert segments.whole.tolist() == [F, T]


def test_a_subgoal_done_with_the_last_step_of_an_episode_counts_as_done():
    segments = cut(column(F, T), column(F, T), torch.tensor([T]))
    assert segments.reached.tolist() == [T]


def test_a_subgoal_done_at_every_step_makes_forty_segments_of_one():
    every = torch.ones(40, 1, dtype=torch.bool)
    segments = cut(every, ~every, torch.tensor([T]))
    assert len(segments) == 40 and bool(segments.whole.all())
    assert segments.to_end.sum() == 0


def test_nothing_ever_done_is_one_segment_without_outcome():
    never = torch.zeros(6, 1, dtype=torch.bool)
    segments = cut(never, never, torch.tensor([T]))
    assert (len(segments), bool(segments.closed), bool(segments.reached)) == (1, F, F)


def test_sums_beginnings_and_what_is_spread_belong_to_their_segment():
    segments = two_environments()
    x = torch.arange(10.0).view(5, 2)  # 0 2 4 6 8 and 1 3 5 7 9
    assert segments.total(x).tolist() == [2.0, 10.0, 8.0, 25.0]
    assert segments.at_first(x).tolist() == [0.0, 4.0, 8.0, 1.0]
    assert segments.spread(segments.reached).T.tolist() == [[T, T, F, F, F], [F] * 5]


def test_a_segments_sum_hands_its_gradient_to_its_steps():
    x = torch.zeros(5, 2, requires_grad=True)
    two_environments().total(x)[1].backward()
    assert x.grad.T.tolist() == [[0, 0, 1, 1, 0], [0] * 5]


def test_returns_are_discounted_to_the_segments_end_and_no_further():
    reward = torch.ones(5, 2)
    returns = segment_returns(reward, two_environments(), gamma=0.5)
    assert returns.T.tolist() == [[1.5, 1.0, 1.5, 1.0, 1.0], [1.9375, 1.875, 1.75, 1.5, 1.0]]


def test_halving_returns_are_one_at_the_end_and_nothing_where_the_subgoal_was_missed():
    segments = cut(column(F, F, T, F, F), column(F, F, F, F, T), torch.tensor([T]))
    assert halving_returns(segments).squeeze().tolist() == [0.25, 0.5, 1.0, 0.0, 0.0]


def test_a_slow_count_of_segments_agrees():
    generator = torch.Generator().manual_seed(0)
    done, ended = torch.rand(2, 30, 7, generator=generator) < 0.15
    reward = torch.rand(30, 7, generator=generator)
    segments = cut(done, ended, torch.ones(7, dtype=torch.bool))
    number, lists = torch.empty(30, 7, dtype=torch.int64), []
    for b in range(7):
        fresh = True
        for t in range(30):
            if fresh:
                lists.append([])
            lists[-1].append((t, b))
            number[t, b] = len(lists) - 1
            fresh = bool(done[t, b] | ended[t, b])
    assert torch.equal(segments.number, number)
    returns = segment_returns(reward, segments, gamma=0.9)
    for steps in lists:
        expected = sum(0.9**i * float(reward[t, b]) for i, (t, b) in enumerate(steps))
        assert float(returns[steps[0]]) == pytest.approx(expected, abs=1e-5)
        assert int(segments.to_end[steps[0]]) == len(steps) - 1


def advantage(reward, value, next_value, done, *, bootstrap, ends=(F, F, F), lam=1.0):
    got, target = subgoal_advantages(
        *(column(*x) for x in (reward, value, next_value, done, ends, (F, F, F))),
        gamma=0.5,
        lam=lam,
        bootstrap=bootstrap,
    )
    torch.testing.assert_close(target, got + column(*value))
    return got.squeeze().tolist()


def test_advantages_stop_at_a_subgoals_end_and_look_beyond_only_by_the_value_of_the_next():
    reward, value, next_value, done = (0.0, 1.0, 0.0), (0.5, 1.0, 2.0), (1.0, 2.0, 4.0), (F, T, F)
    # step 1 ends the subgoal: 1 - 1 alone, or 1 + 0.5 * 2 - 1 with what follows; step 0: 0.5 * 1 - 0.5 and half of that
    assert advantage(reward, value, next_value, done, bootstrap=False) == [0.0, 0.0, 0.0]
    assert advantage(reward, value, next_value, done, bootstrap=True) == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("bootstrap", [False, True])
def test_what_comes_after_a_subgoal_leaves_its_advantages_alone(bootstrap):
    before = advantage((0.0, 1.0, 0.0), (0.5, 1.0, 2.0), (1.0, 2.0, 4.0), (F, T, F), bootstrap=bootstrap)
    after = advantage((0.0, 1.0, 9.0), (0.5, 1.0, 2.0), (1.0, 2.0, 4.0), (F, T, F), bootstrap=bootstrap)
    assert before[:2] == after[:2] and before[2] != after[2]


def test_a_subgoal_done_as_the_task_ends_is_worth_nothing_more():
    done, ends = (F, F, T), (F, F, T)
    got = advantage((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 8.0), done, bootstrap=True, ends=ends)
    assert got == [0.25, 0.5, 1.0]


def test_shapes_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"cut\(\) needs"):
        cut(column(F, T), column(F, T, F), torch.tensor([T]))
    with pytest.raises(ValueError, match=r"cut\(\) needs"):
        cut(column(F, T)[:0], column(F, T)[:0], torch.tensor([T]))
    one = torch.ones(2, 1)
    with pytest.raises(ValueError, match="should share"):
        subgoal_advantages(one, one, one, torch.tensor([T, F]), one > 2, one > 2, gamma=1.0, lam=1.0, bootstrap=False)

import itertools

import pytest
import torch

from agents.shaping import Calibration, shaped_progress, stop_reward
from core.errors import InputError

GAMMA = 0.9


def best_policies(states: int, reward, step, terminal: set[int]) -> set[tuple[int, ...]]:
    """All deterministic policies of a small chain with the highest return from every state, by plain enumeration."""
    returns = {}
    for policy in itertools.product((0, 1), repeat=states):
        row = []
        for start in range(states):
            state, total = start, 0.0
            for t in range(60):
                if state in terminal:
                    break
                after = step(state, policy[state])
                total += GAMMA**t * reward(state, policy[state], after)
                state = after
            row.append(total)
        returns[policy] = row
    best = [max(row[s] for row in returns.values()) for s in range(states)]
    return {p for p, row in returns.items() if all(abs(a - b) < 1e-2 for a, b in zip(row, best))}


def test_shaping_leaves_the_best_policies_as_they_are_even_with_a_misleading_potential():
    terminal = {4}
    potential = torch.tensor([5.0, -3.0, 8.0, 0.5, 30.0])  # loud, and largest in the terminal state

    def step(state, action):
        return min(4, state + 1) if action else max(0, state - 1)

    def plain(state, action, after):
        return 1.0 if after in terminal else -0.01

    def shaped(state, action, after):
        extra = shaped_progress(potential[state], potential[after], torch.tensor(after in terminal), gamma=GAMMA)
        return plain(state, action, after) + float(extra)

    def naive(state, action, after):  # pays the terminal state's potential too, and pays for levels, not progress
        return plain(state, action, after) + float(potential[after])

    truth = best_policies(5, plain, step, terminal)
    assert best_policies(5, shaped, step, terminal) == truth
    assert best_policies(5, naive, step, terminal) != truth


def test_a_time_limit_keeps_the_potential_and_a_terminal_state_zeroes_it():
    phi, after = torch.tensor([2.0, 2.0]), torch.tensor([4.0, 4.0])
    assert shaped_progress(phi, after, torch.tensor([False, True]), gamma=0.5).tolist() == [0.0, -2.0]


def test_calibration_puts_goals_of_different_scale_on_one():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 2, generator=generator) * torch.tensor([0.1, 3.0]) + torch.tensor([5.0, -1.0])
    fitted = Calibration.fit(scores, quantile=0.9)
    for goal in (0, 1):
        rows = fitted.standardise(scores[:, goal], torch.full((500,), goal))
        assert rows.mean().item() == pytest.approx(0.0, abs=1e-4)
        assert rows.std().item() == pytest.approx(1.0, abs=1e-4)
        assert (rows > fitted.threshold[goal]).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_calibration_refuses_what_has_no_spread_or_no_meaning():
    with pytest.raises(InputError, match="at least 2 frames"):
        Calibration.fit(torch.zeros(1, 3), quantile=0.9)
    with pytest.raises(InputError, match="between 0 and 1"):
        Calibration.fit(torch.zeros(5, 3), quantile=90)


def test_stopping_at_the_threshold_is_worth_a_half_and_far_below_costs_the_penalty():
    score, threshold = torch.tensor([2.0, -50.0, 50.0]), torch.full((3,), 2.0)
    paid = stop_reward(score, threshold, temperature=0.5, penalty=0.2)
    assert paid.tolist() == pytest.approx([0.3, -0.2, 0.8])

import pytest
import torch

from agents.shaping import Calibration, FrameReward, shaped_progress, stop_reward
from core.errors import InputError

GAMMA, LONG = 0.9, 300  # 0.9 ** 300 is 2e-14


def optimal(
    transition: torch.Tensor, rewards: list[torch.Tensor], ends: torch.Tensor, after: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Value and best actions of a finite decision process, by going back from the last step; exact, in float64.

    Args:
        transition: (S, A, S) probabilities.
        rewards: (S, A, S) paid for each step, the first one first.
        ends: (S,) terminal states, worth 0.
        after: (S,) worth of being cut off after the last step; None = 0.

    Returns:
        (S,) value at the start, and (T, S, A) which actions are best.
    """
    value, best = torch.zeros(len(ends), dtype=torch.float64) if after is None else after, []
    for paid in reversed(rewards):
        worth = (transition * (paid + GAMMA * value.masked_fill(ends, 0.0))).sum(-1)
        value = worth.amax(1).masked_fill(ends, 0.0)
        best.append((worth >= worth.amax(1, keepdim=True) - 1e-9) & ~ends[:, None])
    return value, torch.stack(best[::-1])


def process(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A random process of 6 states, the last of them terminal, 3 actions, and a loud potential."""
    generator = torch.Generator().manual_seed(seed)
    transition = torch.rand(6, 3, 6, generator=generator, dtype=torch.float64) ** 4
    transition = transition / transition.sum(-1, keepdim=True)
    reward = torch.randn(6, 3, 6, generator=generator, dtype=torch.float64)
    potential = 20 * torch.randn(6, generator=generator, dtype=torch.float64)
    return transition, reward, potential, torch.arange(6) == 5


def progress(potential: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
    """shaped_progress of every step (S, A, S)."""
    before, after = potential[:, None, None].expand(6, 3, 6), potential.expand(6, 3, 6)
    return shaped_progress(before, after, ends.expand(6, 3, 6), gamma=GAMMA)


@pytest.mark.parametrize("seed", range(5))
def test_shaping_moves_every_value_by_the_potential_and_leaves_the_best_actions(seed):
    transition, reward, potential, ends = process(seed)
    shaped = reward + progress(potential, ends)
    value, best = optimal(transition, LONG * [reward], ends)
    shaped_value, shaped_best = optimal(transition, LONG * [shaped], ends)
    assert torch.equal(shaped_best[0], best[0])
    torch.testing.assert_close(shaped_value[~ends], (value - potential)[~ends])


def test_a_terminal_potential_or_a_level_in_place_of_progress_changes_the_best_actions():
    changed = []
    for seed in range(5):
        transition, reward, potential, ends = process(seed)
        _, best = optimal(transition, LONG * [reward], ends)
        kept = progress(potential, torch.zeros(6, dtype=torch.bool))  # as if the terminal state were none
        level = potential.expand(6, 3, 6)
        for wrong in (kept, level):
            changed.append(not torch.equal(optimal(transition, LONG * [reward + wrong], ends)[1][0], best[0]))
    assert sum(changed[0::2]) >= 3 and sum(changed[1::2]) >= 3


@pytest.mark.parametrize("seed", range(5))
def test_a_time_limit_that_is_bootstrapped_keeps_the_potential_and_one_that_ends_all_needs_a_zero(seed):
    transition, reward, potential, ends = process(seed)
    shaped = reward + progress(potential, ends)
    # cut off after 4 steps, and valued as it would go on: what PPO does where an episode is truncated
    further, further_shaped = (optimal(transition, LONG * [paid], ends)[0] for paid in (reward, shaped))
    value, best = optimal(transition, 4 * [reward], ends, further)
    shaped_value, shaped_best = optimal(transition, 4 * [shaped], ends, further_shaped)
    assert torch.equal(shaped_best, best)
    torch.testing.assert_close(shaped_value[~ends], (value - potential)[~ends])
    # over after 4 steps: every state the last one leads to is terminal
    last = reward + progress(potential, torch.ones(6, dtype=torch.bool))
    assert torch.equal(optimal(transition, [*3 * [shaped], last], ends)[1], optimal(transition, 4 * [reward], ends)[1])


def test_what_a_frame_reward_pays_for_stopping_can_change_the_best_action():
    # one state: stop at once for the task's -1, or wait for 0; a stop reward of 4 x (1 - 0.25) turns the choice
    calibration = Calibration(torch.zeros(1), torch.ones(1), torch.zeros(1))
    kinds = {"gamma": GAMMA, "scale": 1.0, "temperature": 0.1, "penalty": 0.25, "step_cost": 0.0}
    goal, phi = torch.zeros(2, dtype=torch.int64), torch.full((2,), 3.0)
    stopped = torch.tensor([True, False])
    task = torch.tensor([-1.0, 0.0])
    for weight, stops in ((0.0, False), (4.0, True)):
        paid = task + FrameReward(calibration, stop_weight=weight, **kinds)(phi, phi, goal, stopped)
        value_of_waiting = paid[1] / (1 - GAMMA)  # for ever
        assert bool(paid[0] > value_of_waiting) == stops


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

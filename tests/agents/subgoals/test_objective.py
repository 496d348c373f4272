import math
from dataclasses import replace

import pytest
import torch

from agents.ppo import clipped_surrogate
from agents.subgoals.divergence import Reference, reverse
from agents.subgoals.objective import (
    OBJECTIVES,
    Objective,
    advantages,
    binary_weights,
    exponential_weights,
    learned_reward,
    sgc_elbo,
    step_loss,
)
from agents.subgoals.segments import cut, segment_returns
from core.errors import InputError
from tests.agents.subgoals import corridor

STEPS, ALPHA = 5, 0.7
WORLD = corridor.every_trajectory(STEPS)
"""Every trajectory of the corridor; what follows sums over all of them."""
EXACT = Objective(
    reads_subgoal=True, per_subgoal=True, bootstrap=True, divergence="reverse", alpha=ALPHA, in_return=True
)


def segments():
    none = torch.zeros_like(WORLD.done)
    return cut(WORLD.done, none, torch.ones_like(WORLD.done[0]))


def seen(policy, reference):
    """Log-probabilities of the actions under both, exact KL at every state, probability of every trajectory."""
    logits, other = corridor.logits_of(WORLD, policy, reference)
    own = corridor.log_probs_of(WORLD, logits)
    weight = WORLD.world.prod(0) * own.sum(0).exp()
    return own, corridor.log_probs_of(WORLD, other), reverse(logits, Reference(other)), weight


def per_column(x):
    """(S,) to (K,): summed over the segments of each trajectory."""
    column = torch.arange(WORLD.done.shape[1]).expand_as(WORLD.done)
    return x.new_zeros(WORLD.done.shape[1]).index_add(0, segments().at_first(column), x)


def conditional_kl(own, other, index):
    """KL of the index-th segments of policy and reference given where they begin, by counting them one by one.

    Returns:
        It, the KL of whole distributions of these segments, and that of their beginnings.
    """
    both = {True: (WORLD.world.log() + own).T.tolist(), False: (WORLD.world.log() + other).T.tolist()}
    chances = {True: {}, False: {}}  # policy or reference: beginning -> segment -> probability
    for k in range(WORLD.done.shape[1]):
        rows = (WORLD.aim[:, k] == index).nonzero()[:, 0].tolist()
        if not rows:
            continue
        start = (rows[0], int(WORLD.cell[rows[0], k]))
        after = int(WORLD.cell[rows[-1] + 1, k]) if rows[-1] + 1 < STEPS else int(WORLD.end[k])
        segment = (*WORLD.cell[rows, k].tolist(), after, *WORLD.action[rows, k].tolist())
        for mine, log_probs in both.items():  # of the whole trajectory: what follows the segment is summed over
            known = chances[mine].setdefault(start, {})
            known[segment] = known.get(segment, 0.0) + math.exp(sum(log_probs[k]))
    begin = {mine: {s: sum(table.values()) for s, table in chances[mine].items()} for mine in chances}

    def kl(p, q):
        return sum(p[x] * math.log(p[x] / q[x]) for x in p)

    given = sum(
        begin[True][s]
        * kl(
            {x: p / begin[True][s] for x, p in chances[True][s].items()},
            {x: p / begin[False][s] for x, p in chances[False][s].items()},
        )
        for s in begin[True]
    )
    flat = [{(s, x): p for s in chances[mine] for x, p in chances[mine][s].items()} for mine in (True, False)]
    return given, kl(*flat), kl(begin[True], begin[False])


def test_the_corridor_is_enumerated_whole():
    _, _, _, weight = seen(*corridor.policies())
    assert weight.sum().item() == pytest.approx(1.0)
    assert 0.05 < (weight * (WORLD.done.sum(0) >= 1)).sum() < 0.95
    assert (WORLD.done.sum(0) == 2).any()


def test_the_bounds_of_the_segments_sum_to_the_bound_of_the_whole_trajectory():
    own, other, kl, weight = seen(*corridor.policies())
    whole = (weight * (WORLD.reward.sum(0) / ALPHA - (own - other).sum(0))).sum()
    parts = (weight * per_column(sgc_elbo(WORLD.reward, kl, segments(), alpha=ALPHA))).sum()
    assert parts.item() == pytest.approx(whole.item(), abs=1e-12)


def test_the_bound_is_below_the_log_probability_of_success():
    policy, reference = corridor.policies()
    own, other, _, weight = seen(policy, reference)
    prior = WORLD.world.prod(0) * other.sum(0).exp()
    evidence = (prior * (WORLD.reward.sum(0) / ALPHA).exp()).sum().log()
    assert (weight * (WORLD.reward.sum(0) / ALPHA - (own - other).sum(0))).sum() < evidence


def test_the_kl_of_segments_given_their_beginnings_is_the_sum_of_step_kls_where_the_policy_goes():
    own, other, kl, weight = (x.detach() for x in seen(*corridor.policies()))
    for index in range(len(corridor.TARGETS)):
        steps = (weight * (kl * (WORLD.aim == index)).sum(0)).sum().item()
        assert steps > 0.01
        assert conditional_kl(own, other, index)[0] == pytest.approx(steps, abs=1e-10)


def test_whole_distributions_of_segments_count_the_divergence_of_their_beginnings_on_top():
    own, other, _, _ = (x.detach() for x in seen(*corridor.policies()))
    given, whole, beginnings = conditional_kl(own, other, 0)
    assert beginnings == pytest.approx(0.0, abs=1e-12) and whole == pytest.approx(given)
    given, whole, beginnings = conditional_kl(own, other, 1)  # begins at a time of the policy's making
    assert whole == pytest.approx(given + beginnings, abs=1e-10)
    assert abs(beginnings) > 0.01


def test_a_discount_from_each_segments_beginning_breaks_the_sum():
    own, _, kl, weight = seen(*corridor.policies())
    time = 0.9 ** torch.arange(STEPS, dtype=torch.float64)[:, None]
    whole = (weight * (time * (WORLD.reward / ALPHA - kl)).sum(0)).sum()
    parts = (weight * per_column(sgc_elbo(WORLD.reward, kl, segments(), alpha=ALPHA, gamma=0.9))).sum()
    assert abs(parts - whole) > 0.01
    # it is what the segments' own returns give
    returns = segments().at_first(segment_returns(WORLD.reward / ALPHA - kl.detach(), segments(), gamma=0.9))
    assert (weight * per_column(returns)).sum().item() == pytest.approx(parts.item())


def exact_values(reward, weight):
    """V of time, cell and subgoal, by the mean over all that comes of it, and of what each step led to."""
    to_go = reward.flip(0).cumsum(0).flip(0)
    time = torch.arange(STEPS)[:, None]
    place = (time * 3 + WORLD.aim) * corridor.CELLS + WORLD.cell
    room = torch.zeros(STEPS * 3 * corridor.CELLS, dtype=torch.float64)
    share = room.index_add(0, place.flatten(), weight.expand_as(reward).flatten())
    worth = room.index_add(0, place.flatten(), (weight * to_go).flatten())
    value = (worth / share.clamp(min=1e-300))[place]
    return value, torch.cat([value[1:], torch.zeros_like(value[:1])])


def gradient_of_the_loss(objective, lam):
    policy, reference = corridor.policies()
    own, _, kl, weight = seen(policy, reference)
    weight = weight.detach()
    reward = learned_reward(objective, WORLD.reward, WORLD.done, kl)
    value, next_value = exact_values(reward, weight)
    end = torch.zeros_like(WORLD.done)
    end[-1] = True
    none = torch.zeros_like(end)
    worth, _ = advantages(objective, reward, value, next_value, WORLD.done, end, none, gamma=1.0, lam=lam)
    loss = (weight * step_loss(objective, own, own.detach(), worth, kl, clip=0.2).sum(0)).sum()
    return torch.autograd.grad(loss, policy)[0]


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_the_loss_has_the_gradient_of_the_bound(lam):
    policy, reference = corridor.policies()
    own, other, _, weight = seen(policy, reference)
    bound = (weight * (WORLD.reward.sum(0) / ALPHA - (own - other).sum(0))).sum()
    wanted = torch.autograd.grad(bound, policy)[0]
    torch.testing.assert_close(gradient_of_the_loss(EXACT, lam), -ALPHA * wanted)


def test_without_bootstrap_it_is_that_of_each_segment_from_where_it_begins():
    policy, reference = corridor.policies()
    own, other, _, weight = seen(policy, reference)
    bound = 0.0
    for index in (*range(len(corridor.TARGETS)), corridor.NOTHING_LEFT):
        inside = WORLD.aim == index
        chance = weight.detach() * ((own - own.detach()) * inside).sum(0).exp()  # only this segment's part can move
        bound = bound + (chance * ((WORLD.reward / ALPHA - own + other) * inside).sum(0)).sum()
    wanted = torch.autograd.grad(bound, policy)[0]
    got = gradient_of_the_loss(replace(EXACT, bootstrap=False), 1.0)
    torch.testing.assert_close(got, -ALPHA * wanted)
    assert not torch.allclose(got, gradient_of_the_loss(EXACT, 1.0))


def test_a_penalty_outside_the_return_forgets_that_actions_lead_to_divergence():
    assert not torch.allclose(
        gradient_of_the_loss(EXACT, 1.0), gradient_of_the_loss(replace(EXACT, in_return=False), 1.0), atol=1e-3
    )


def test_an_arm_without_subgoals_is_ppo():
    generator = torch.Generator().manual_seed(0)
    log_prob, old, worth = torch.randn(3, 4, 2, generator=generator)
    nothing = torch.zeros_like(old)
    mean = step_loss(OBJECTIVES["ppo"], log_prob, old, worth, nothing, clip=0.2).mean()
    assert mean.item() == pytest.approx(clipped_surrogate(log_prob, old, worth, 0.2).item())


def test_what_arms_are_paid():
    reward, done, kl = torch.tensor([[0.5], [0.0]]), torch.tensor([[False], [True]]), torch.tensor([[2.0], [4.0]])
    assert learned_reward(OBJECTIVES["ppo"], reward, done, kl).squeeze().tolist() == [0.5, 0.0]
    assert learned_reward(OBJECTIVES["ppo-bonus"], reward, done, kl).squeeze().tolist() == [0.5, 1.0]
    paid = learned_reward(OBJECTIVES["vsc"], reward, done, kl).squeeze().tolist()
    assert paid == pytest.approx([0.5 - 0.05 * 2, 1.0 - 0.05 * 4])
    assert learned_reward(OBJECTIVES["vsc-imitation"], reward, done, kl).squeeze().tolist() == [0.5, 1.0]


def test_a_bonus_is_an_episodes_and_a_subgoals_return_its_own():
    reward, zero = torch.tensor([[0.0], [1.0], [1.0]]), torch.zeros(3, 1)
    done, never = torch.tensor([[False], [True], [False]]), torch.zeros(3, 1, dtype=torch.bool)
    end = torch.tensor([[False], [False], [True]])
    worth = {
        name: advantages(OBJECTIVES[name], reward, zero, zero, done, end, never, gamma=1.0, lam=1.0)[0].squeeze()
        for name in ("ppo-bonus", "vsc-imitation")
    }
    assert worth["ppo-bonus"].tolist() == [2.0, 2.0, 1.0]
    assert worth["vsc-imitation"].tolist() == [1.0, 1.0, 1.0]


def test_weighted_regression_and_imitation_add_up_and_the_weight_carries_no_gradient():
    log_prob = torch.tensor([-1.0, -2.0], requires_grad=True)
    worth = exponential_weights(torch.tensor([0.0, 0.5]), 0.5).requires_grad_()
    kl = torch.tensor([3.0, 1.0], requires_grad=True)
    loss = step_loss(OBJECTIVES["vsc-imitation"], log_prob, log_prob.detach(), worth, kl, clip=0.2)
    e = float(torch.tensor(1.0).exp())
    assert loss.tolist() == pytest.approx([1 + 0.05 * 3, 2 * e + 0.05])
    loss.sum().backward()
    assert log_prob.grad.tolist() == pytest.approx([-1.0, -e])
    assert kl.grad.tolist() == pytest.approx([0.05, 0.05]) and worth.grad is None


def test_exponential_weights_end_at_twenty():
    assert exponential_weights(torch.tensor([0.0, 1000.0]), 0.5).tolist() == [1.0, 20.0]


def test_released_weights_are_zero_or_one():
    value, next_value = torch.tensor([0.5, 0.5, 0.5, 0.9]), torch.tensor([0.5, 0.56, 0.54, 0.1])
    reward, returns = torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([0.25, 0.0, 0.0, 1.0])
    # 0.25 - 0.05 > 0; 0.06 - 0.05 > 0; 0.04 - 0.05 < 0; -0.8 - 0.05 + 2 > 0
    assert binary_weights(value, next_value, reward, returns).tolist() == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"worth": "surogate"}, "did you mean 'surrogate'"),
        ({"divergence": "kl"}, "divergence='kl' is unknown"),
        ({"divergence": "reverse"}, "needs alpha > 0"),
        ({"alpha": 0.1}, "none needs 0"),
        ({"divergence": "imitation", "alpha": 0.1, "in_return": True}, "in_return is for divergence=reverse"),
        ({"per_subgoal": False, "bootstrap": True}, "without per_subgoal"),
        ({"temperature": 0.0}, "should be positive"),
        ({"share": 0.0}, "share=0.0"),
    ],
)
def test_settings_at_odds_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        Objective(**{"reads_subgoal": True, "per_subgoal": True, **changes})


def test_a_bound_without_a_temperature_is_refused():
    with pytest.raises(InputError, match="alpha=0.0"):
        sgc_elbo(WORLD.reward, WORLD.reward, segments(), alpha=0.0)

import math
from dataclasses import replace

import pytest
import torch

from agents.ppo import clipped_surrogate
from agents.subgoals.divergence import Reference, divergence, reverse
from agents.subgoals.objective import (
    OBJECTIVES,
    Objective,
    advantages,
    binary_weights,
    clone_weights,
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


def conditional_kl(own, other, index, *, knows_time=True):
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
        start = (rows[0] * knows_time, int(WORLD.cell[rows[0], k]))
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


def test_beginnings_that_leave_out_what_the_rest_depends_on_break_the_sum():
    own, other, kl, weight = (x.detach() for x in seen(*corridor.policies()))
    steps = (weight * (kl * (WORLD.aim == 1)).sum(0)).sum().item()
    assert abs(conditional_kl(own, other, 1, knows_time=False)[0] - steps) > 1e-4  # the time left decides how it ends


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
    assert paid == pytest.approx([0.5 - 0.01 * 2, 1.0 - 0.01 * 4])
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


def released(chance, next_chance, beginning, *, share):
    """Weights of two environments of three steps: the first reaches its subgoal at the end, the second does not."""
    done = torch.tensor([[False, False], [False, False], [True, False]])
    ended = torch.tensor([[False, False], [False, False], [True, True]])
    parts = cut(done, ended, torch.ones(2, dtype=torch.bool))
    weights = binary_weights(
        parts, done, torch.tensor(chance).T, torch.tensor(next_chance).T, torch.tensor(beginning), share=share
    )
    return weights.T.tolist()


def test_released_weights_are_one_where_a_step_gains_and_else_zero():
    # first: 0.25 - 0.05 - 0.3 < 0, 0.5 - 0.05 - 0.3 > 0, 1 + 1 - 0.05 - 0.9 > 0; second: gains 0.06, 0.04 and 0
    chance, next_chance = [[0.9, 0.6, 0.9], [0.2, 0.26, 0.3]], [[0.6, 0.3, 0.0], [0.26, 0.3, 0.3]]
    assert released(chance, next_chance, [0.5, 0.5], share=1.0) == [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]]


def test_released_weights_keep_the_segments_that_surprised_be_they_failures():
    chance, next_chance = [[0.5, 0.5, 0.5], [0.1, 0.3, 0.5]], [[0.5, 0.5, 0.5], [0.3, 0.5, 0.7]]
    assert released(chance, next_chance, [0.5, 0.5], share=0.5) == [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    assert released(chance, next_chance, [1.1, 0.0], share=0.5) == [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def test_a_segment_that_an_earlier_rollout_began_is_not_weighed_by_the_released_code_but_cloned():
    done, never = torch.tensor([[False], [True]]), torch.zeros(2, 1, dtype=torch.bool)
    parts = cut(done, never, torch.tensor([False]))
    half = torch.full((2, 1), 0.5)
    assert binary_weights(parts, done, half, half, torch.zeros(1), share=1.0).sum() == 0
    assert clone_weights(parts).sum() == 2


def test_failures_are_not_cloned_where_few_succeed():
    done = torch.zeros(2, 40, dtype=torch.bool)
    done[1, 7] = True
    parts = cut(done, torch.tensor([[False], [True]]).expand(2, 40), torch.ones(40, dtype=torch.bool))
    assert clone_weights(parts).sum(0).nonzero().squeeze(-1).tolist() == [7]


@pytest.mark.parametrize("name", ["vsc", "vsc-imitation", "vsc-released"])
def test_each_form_of_vsc_learns_the_corridor(name):
    """From what it did in 256 episodes at a time, next to a reference that goes either way."""
    objective, reference = OBJECTIVES[name], torch.zeros(corridor.CELLS, 2, dtype=torch.float64)
    policy = torch.zeros(len(corridor.TARGETS), corridor.CELLS, 2, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    end, never = torch.zeros_like(WORLD.done[:, :256]), torch.zeros_like(WORLD.done[:, :256])
    end[-1] = True
    chances = []
    for _ in range(25):
        _, _, _, weight = seen(policy, reference)
        chances.append(float((weight.detach() * (WORLD.done.sum(0) == 2)).sum()))
        drawn = weight.detach().multinomial(256, replacement=True, generator=generator)
        logits, other = (x[:, drawn] for x in corridor.logits_of(WORLD, policy, reference))
        done, busy = WORLD.done[:, drawn], WORLD.aim[:, drawn] < corridor.NOTHING_LEFT
        parts = cut(done, end, torch.ones_like(done[0]))
        likely = torch.where(torch.rand(logits.shape[:2], generator=generator) < 0.5, 0, 1)
        away = divergence(objective.divergence, logits, Reference(other, likely))
        zero = torch.zeros_like(away)
        reward = learned_reward(objective, zero, done, away)
        if objective.worth == "binary":
            beginning = torch.full((len(parts),), 0.5, dtype=torch.float64)
            worth = binary_weights(parts, done, zero, zero, beginning, share=objective.share)
        else:
            worth, _ = advantages(objective, reward, zero, zero, done, end, never, gamma=0.9, lam=1.0)
            worth = worth - worth.mean()
            if objective.worth == "exponential":
                worth = exponential_weights(worth, objective.temperature)
        log_prob = logits.log_softmax(-1).gather(-1, WORLD.action[:, drawn][..., None])[..., 0]
        loss = step_loss(objective, log_prob, log_prob.detach(), worth, away, clip=0.2)[busy].mean()
        (slope,) = torch.autograd.grad(loss, policy)
        with torch.no_grad():
            policy -= 5.0 * slope
    assert chances[0] < 0.02 and chances[-1] > 4 * chances[0], chances


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

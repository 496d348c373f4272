"""Demonstrations that are kept and imitated on: which are kept, what is drawn, what the loss is, when it ends."""

import copy

import pytest
import torch

from agents.imitation import demonstrate, imitate
from agents.subgoals.learner import Replay
from agents.subgoals.replay import DemonstrationStore, Replayed
from core.errors import InputError
from tests.agents.subgoals.key_corridor import Trainer

STEPS = 10


def shown(run, steps=STEPS):
    return demonstrate(run.env, run.policy, run.env.teacher, run.progress, steps, run.generator, run.log)


def test_the_newest_are_kept_and_the_last_one_whatever_its_size():
    run = Trainer("ppo")
    store, tight = DemonstrationStore(2 * 8 * STEPS + 1), DemonstrationStore(1)
    made = [shown(run) for _ in range(4)]
    for one in made:
        store.add(one)
        tight.add(one)
    assert [id(one) for one in store.shown] == [id(one) for one in made[2:]]
    assert [id(one) for one in tight.shown] == [id(made[3])]
    with pytest.raises(InputError, match="replay_steps=0"):
        DemonstrationStore(0)


@pytest.mark.parametrize("memory", [0, 6])
def test_each_environment_gets_one_of_its_own_demonstrations_whole(memory):
    run = Trainer("ppo", memory=memory)
    store = DemonstrationStore(1000)
    for number in range(3):
        one = shown(run)
        one.reward[:] = 10 * number + torch.arange(8)  # says whose it is
        one.memory = one.memory + 100 * number
        store.add(one)
    found = [store.draw(run.generator) for _ in range(20)]
    for one in found:
        number = (one.reward[0] // 10).long()
        assert torch.equal(one.reward, (10 * number + torch.arange(8)).expand(STEPS, 8).float())
        for name in ("start", "label", "terminated", "truncated"):
            wanted = torch.stack([getattr(store.shown[k], name)[:, b] for b, k in enumerate(number.tolist())], 1)
            assert torch.equal(getattr(one, name), wanted)
        seen = torch.stack([store.shown[k].observation["vector"][:, b] for b, k in enumerate(number.tolist())], 1)
        assert torch.equal(one.observation["vector"], seen)
        held = torch.stack([store.shown[k].memory[b] for b, k in enumerate(number.tolist())])
        assert torch.equal(one.memory, held)
    assert len({tuple((one.reward[0] // 10).tolist()) for one in found}) > 10


@pytest.mark.parametrize("memory", [0, 6])
def test_the_loss_is_that_of_imitation(memory):
    run = Trainer("ppo", memory=memory)
    made = shown(run)
    rows = torch.arange(8 if memory else 8 * STEPS)
    found = Replayed(run.policy, made, 0.5).loss(rows, len(rows))
    twin = copy.deepcopy(run.policy)
    wanted = imitate(
        twin, torch.optim.SGD(twin.parameters(), 0.0), made, generator=run.generator, epochs=1, minibatches=1,
        max_grad_norm=1.0,
    )  # fmt: skip
    assert float(found.detach()) == pytest.approx(wanted["clone_loss"], rel=1e-5)


def test_replay_keeps_the_teachers_ways_where_nothing_is_paid():
    """Without reward PPO's entropy bonus alone moves the policy; what was shown is forgotten unless it is replayed."""
    losses = {}
    for weight in (0.0, 1.0):
        run = Trainer("ppo", replay=Replay(weight, 1000, 100))
        run.env.step_paid = run.env.step
        run.env.step = lambda action, env=run.env: unpaid(env.step_paid(action))
        for _ in range(10):
            run.clone()
        kept = copy.deepcopy(run.generator.get_state())
        for _ in range(20):
            run.learn()
        run.generator.set_state(kept)
        rows = torch.arange(8 * STEPS)
        losses[weight] = float(Replayed(run.policy, shown(run), 1.0).loss(rows, len(rows)).detach())
    assert losses[1.0] < 0.8 * losses[0.0]


def unpaid(step):
    step.reward = torch.zeros_like(step.reward)
    return step


def test_the_weight_falls_to_nothing_and_then_nothing_is_drawn():
    run = Trainer("vsc", replay=Replay(0.5, 1000, 4))
    run.clone()
    assert [run.learner._weight(1 + k) for k in range(6)] == [0.5, 0.375, 0.25, 0.125, 0.0, 0.0]
    assert run.learn(index=1)["replay_loss"] > 0
    assert "replay_loss" not in run.learn(index=5)
    assert "replay_loss" not in Trainer("vsc").learn()

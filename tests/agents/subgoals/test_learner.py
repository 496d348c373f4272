"""Learning with subgoals on a corridor whose answers are known: fetch the key, then go to the door."""

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents import ppo
from agents.networks import make_policy
from agents.rollout import collect
from agents.subgoals.learner import Replay, SubgoalLearner
from agents.subgoals.objective import OBJECTIVES
from agents.subgoals.reference import ReferencePolicy
from core.errors import InputError
from tests.agents.subgoals.key_corridor import SETTINGS, SEVERAL, KeyCorridor, Trainer, two_phases

ROOT = Path(__file__).parents[3]


def successes(run, steps=56):
    run.log.flush()
    collect(run.learner.env, run.policy, run.progress, steps, run.generator, run.log)
    run.learner.env.take()
    return run.log.flush()["success"]


def test_a_policy_that_is_told_its_subgoal_learns_what_one_without_memory_cannot_see():
    told, untold = Trainer("vsc"), Trainer("ppo")
    for run in (told, untold):
        run.clone(20)
        for _ in range(5):
            stats = run.learn(20)
        assert all(value == value for value in stats.values())
    assert successes(told) > 0.9 and successes(untold) < 0.5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_from_a_cloned_start_and_reports_what_it_did(name):
    run = Trainer(name)
    cloned = run.clone()
    stats = run.learn()
    assert cloned["clone_loss"] > 0 and ("reference_loss" in cloned) == (OBJECTIVES[name].divergence != "none")
    assert stats["segments"] > 0 and 0 <= stats["reached"] <= 1
    assert (stats["divergence"] > 0) == (OBJECTIVES[name].divergence != "none")
    assert ("critic_loss" in stats) == (OBJECTIVES[name].worth == "binary")
    assert ("explained_variance" in stats) == (OBJECTIVES[name].worth != "binary")


def test_ppo_as_an_objective_makes_the_update_of_ppo():
    settings = replace(SETTINGS, minibatches=1)
    ours, theirs = Trainer("ppo", settings=settings), Trainer("ppo")
    ours.learn()
    rollout = collect(theirs.learner.env, theirs.policy, theirs.progress, 10, theirs.generator, theirs.log)
    ppo.update(theirs.policy, theirs.optimizer, rollout, generator=theirs.generator, **vars(settings))
    theirs.policy.update_norms(rollout.observation)
    one, two = ours.policy.state_dict(), theirs.policy.state_dict()
    assert all(torch.allclose(one[key], two[key], atol=1e-6) for key in one)


@pytest.mark.parametrize(("name", "memory", "weight"), [("vsc", 6, 0.0), ("vsc", 6, 0.5), ("vsc-released", 0, 0.5)])
def test_a_run_resumed_from_its_parts_makes_the_same_weights(name, memory, weight):
    kinds = {"memory": memory, "replay": Replay(weight, 160, 9)}
    whole, broken = Trainer(name, **kinds), Trainer(name, seed=3, **kinds)
    whole.clone(), whole.clone(), whole.learn()
    broken.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert whole.learn() == broken.learn()
    one, two = whole.policy.state_dict(), broken.policy.state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
def test_two_processes_make_the_update_of_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29641"]
    command += ["-m", "tests.agents.subgoals.key_corridor", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    for name, *rest in SEVERAL:
        alone = two_phases(name, *rest)
        for rank in range(2):
            together = torch.load(tmp_path / f"{name}-{rank}.pt")
            assert alone.keys() == together.keys()
            for key, value in alone.items():
                assert torch.allclose(value.double(), together[key].double(), atol=2e-5), (name, rank, key)


def test_what_does_not_go_together_is_refused():
    run = Trainer("vsc")
    rest = {"teacher": run.env.teacher, "cloned": 1, "clones_reference": True, "settings": SETTINGS, "lr": 1e-2}
    with pytest.raises(InputError, match="tells the policy its subgoal"):
        SubgoalLearner(run.env, Trainer("ppo").policy, OBJECTIVES["vsc"], run.learner.reference, seed=0, **rest)
    with pytest.raises(InputError, match="needs a reference"):
        SubgoalLearner(run.env, run.policy, OBJECTIVES["vsc"], None, seed=0, **rest)
    with pytest.raises(InputError, match="told the goal alone"):
        ReferencePolicy(run.policy, 8, 0.1)
    spec = {"vector": KeyCorridor.observation_spec["vector"]}
    with pytest.raises(InputError, match="discrete"):
        ReferencePolicy(make_policy("feedforward", spec, action_size=2), 8, 0.1)


def test_a_reference_of_other_observations_is_refused_by_name(tmp_path):
    policy = Trainer("ppo").policy
    policy.save_pretrained(tmp_path)
    shown = dict(KeyCorridor.observation_spec)
    found = ReferencePolicy.from_pretrained(tmp_path, shown, 2, 8, 0.1)
    assert torch.equal(found.policy.action_head.weight, policy.action_head.weight)
    with pytest.raises(InputError, match="does not fit"):
        ReferencePolicy.from_pretrained(tmp_path, shown, 3, 8, 0.1)

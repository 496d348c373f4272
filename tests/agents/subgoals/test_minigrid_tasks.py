"""MiniGrid's tasks with subgoals: what is done when, what the oracle does, and the job on them."""

import numpy as np
import pytest
import torch

from agents.subgoals.subgoal_env import SubgoalEnv
from core.errors import InputError

minigrid = pytest.importorskip("minigrid")

from agents.subgoals.minigrid_tasks import (  # noqa: E402
    DOOR,
    GOAL,
    KEY,
    PICK_UP,
    TOGGLE,
    make_minigrid,
    oracle,
)


def grids(env):
    return env.envs.envs


def follow(env, limit=60):
    """The oracle's first episode of environment 0: actions, words under way before each, reached after each."""
    rows = []
    for _ in range(limit):
        action = oracle(env)
        words = grids(env)[0].steps[grids(env)[0].index][0]
        step = env.step(action)
        rows.append((int(action[0]), words, bool(step.final_observation["reached"][0])))
        if bool(step.terminated[0]):
            return rows, step
    raise AssertionError("the oracle did not arrive")


def test_the_oracle_fetches_the_key_opens_the_door_and_arrives_with_each_subgoal_done_once():
    env = make_minigrid("doorkey-5x5", 1, seed=3)
    env.reset()
    rows, step = follow(env)
    assert [(action, words) for action, words, reached in rows if reached] == [(PICK_UP, KEY), (TOGGLE, DOOR)]
    assert rows[-1][1] == GOAL and float(step.reward[0]) > 0.9


def test_the_doors_of_several_rooms_are_opened_in_order():
    env = make_minigrid("multiroom-n4-s5", 1, seed=1)
    env.reset()
    rows, step = follow(env)
    done = [words for _, words, reached in rows if reached]
    assert done == ["open the first door", "open the second door", "open the third door"]
    assert bool(step.terminated[0])


def test_in_another_order_a_subgoal_waits_and_several_are_done_at_once():
    env = make_minigrid("doorkey-5x5", 1, seed=3, shuffled=True)
    env.reset()
    rows, _ = follow(env)
    assert [words for _, words, reached in rows if reached] == [DOOR]  # the key is held by then
    assert rows[-1][1] == GOAL


def test_what_is_seen_is_one_category_of_each_kind_per_cell():
    env = make_minigrid("doorkey-6x6", 3)
    seen = env.reset()
    assert seen["vector"].sum(1).tolist() == [49 * 3 + 1] * 3
    assert seen["subgoal"].shape == (3, env.observation_spec["subgoal"].shape[0])
    assert set(SubgoalEnv(env).observation_spec) == {"vector", "subgoal"}
    assert np.isclose(float(seen["subgoal"][0, -1]), 0.0)


def test_a_saved_environment_goes_on_at_its_subgoals():
    one, two = make_minigrid("doorkey-5x5", 2, seed=3), make_minigrid("doorkey-5x5", 2, seed=3)
    one.reset(), two.reset()
    for _ in range(6):
        one.step(oracle(one))
    two.load_state_dict(one.state_dict())
    assert [grid.index for grid in grids(one)] == [grid.index for grid in grids(two)] != [0, 0]
    action = oracle(one)
    ours, theirs = one.step(action).observation, two.step(action).observation
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_unknown_task_is_refused_by_name():
    with pytest.raises(InputError, match="did you mean"):
        make_minigrid("doorkey", 1)

"""Judges: truth, truth with errors that are a function of their seed, a reward model, a model that is asked."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.subgoals.completion import Completion
from agents.subgoals.judges import ModelJudge, NoisyJudge, RewardJudge, TruthJudge
from agents.subgoals.types import Subgoal, Test
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import PointGoal
from scene.render import Frame
from tests.envs.homes import lively_home

LEFT, RIGHT = Subgoal("enter the left room", Test("enter", room=0)), Subgoal("enter it", Test("enter", room=1))


@pytest.fixture(scope="module")
def sim():
    return Simulator(HomePool([lively_home()]), PointGoal(points=8), num_envs=6, seed=1, sensors=None)


def frame_of(values):
    """Pictures of 2 x 2 pixels, each of one grey value."""
    rgb = torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3).clone()
    return Frame(rgb, torch.zeros(len(values), 2, 2), torch.zeros(len(values), 2, 2, dtype=torch.int32))


def always(current, state, frame=None):
    return torch.ones(len(current), dtype=torch.bool)


def never(current, state, frame=None):
    return torch.zeros(len(current), dtype=torch.bool)


def test_truth_follows_subgoals_that_change_and_environments_that_start_anew(sim):
    judge, state = TruthJudge(sim), sim.reset()
    here = state.position[:, 0] > 3.5
    for step, wanted in ((LEFT, ~here), (RIGHT, here), (None, torch.zeros(6, dtype=torch.bool)), (RIGHT, here)):
        assert judge([step] * 6, state).tolist() == wanted.tolist()
    mixed = [LEFT, RIGHT, None, LEFT, RIGHT, None]
    expected = [bool(here[b]) if step is RIGHT else step is LEFT and not here[b] for b, step in enumerate(mixed)]
    assert judge(mixed, state).tolist() == expected
    goals = [Subgoal(sim.texts[k]) for k in state.text]
    assert not judge(goals, state).any()
    arrived = replace(state, distance=torch.zeros(6, dtype=torch.float64))
    assert judge(goals, arrived).all()
    later = sim.reset(state)
    assert judge([Subgoal(sim.texts[k]) for k in later.text], later).tolist() == [False] * 6
    with pytest.raises(InputError, match="words alone"):
        judge([Subgoal("dance")] * 6, state)
    with pytest.raises(InputError, match="2 subgoals for 6"):
        judge([LEFT] * 2, state)


def test_errors_come_at_their_rate_and_are_a_function_of_environment_episode_and_step(sim):
    judge = NoisyJudge(always, miss=0.3, false=0.0, seed=5)
    alarms = NoisyJudge(never, miss=0.0, false=0.1, seed=5)
    state = sim.reset()
    many = replace(state.rows(torch.zeros(4000, dtype=torch.int64)), step=torch.arange(4000))
    steps = [LEFT] * 4000
    assert abs(float(judge(steps, many).double().mean()) - 0.7) < 0.03  # 4 standard errors
    assert abs(float(alarms(steps, many).double().mean()) - 0.1) < 0.02
    alone = judge([LEFT], many.rows(torch.tensor([17])))
    assert alone.item() == judge(steps, many)[17].item()
    backward = torch.arange(3999, -1, -1)
    assert torch.equal(judge(steps, many.rows(backward)), judge(steps, many)[backward])
    other = replace(many, episode=many.episode + 1)
    assert not torch.equal(judge(steps, other), judge(steps, many))
    assert not torch.equal(NoisyJudge(always, miss=0.3, false=0.0, seed=6)(steps, many), judge(steps, many))


def test_chances_of_0_and_1_keep_and_turn_round_every_answer_but_none_where_nothing_is_asked(sim):
    state = sim.reset()
    steps = [LEFT, RIGHT, None, LEFT, RIGHT, None]
    truth = TruthJudge(sim)(steps, state)
    assert torch.equal(NoisyJudge(TruthJudge(sim), miss=0, false=0, seed=0)(steps, state), truth)
    asked = torch.tensor([step is not None for step in steps])
    assert torch.equal(NoisyJudge(TruthJudge(sim), miss=1, false=1, seed=0)(steps, state), ~truth & asked)
    for wrong in ({"miss": 1.2, "false": 0.1, "seed": 0}, {"miss": 0.1, "false": float("nan"), "seed": 0}):
        with pytest.raises(InputError, match="chances"):
            NoisyJudge(always, **wrong)
    with pytest.raises(InputError, match="seed=-1"):
        NoisyJudge(always, miss=0.1, false=0.1, seed=-1)


def test_a_reward_model_is_asked_about_environments_with_a_subgoal_alone(sim):
    asked = []

    def score(frame, texts):
        asked.append((frame.rgb[:, 0, 0, 0].tolist(), texts))
        return frame.rgb[:, 0, 0, 0].double() / 10

    judge = RewardJudge(score, threshold=3.0)
    done = judge([LEFT, None, RIGHT, None], sim.reset(), frame_of([30, 90, 29, 80]))
    assert done.tolist() == [True, False, False, False]  # at the threshold is done
    assert asked == [([30, 29], [LEFT.text, RIGHT.text])]
    assert judge([None] * 2, sim.reset(), frame_of([90, 90])).tolist() == [False, False] and len(asked) == 1
    with pytest.raises(InputError, match="no|none"):
        judge([LEFT] * 6, sim.reset(), None)
    for bad in (lambda frame, texts: torch.tensor([float("nan")]), lambda frame, texts: torch.zeros(3)):
        with pytest.raises(InputError, match="expected one number each"):
            RewardJudge(bad, 0.0)([LEFT], sim.reset(), frame_of([1]))


def test_a_model_is_asked_once_about_a_picture_and_again_where_it_gave_no_answer(sim):
    calls = []

    def ask(step, picture):
        calls.append((step.text, int(picture[0, 0, 0])))
        return None if picture[0, 0, 0] == 7 else bool(picture[0, 0, 0] > 50)

    judge, state = ModelJudge(ask), sim.reset()
    steps, frame = [LEFT, LEFT, RIGHT, None], frame_of([60, 60, 7, 60])
    assert judge(steps, state, frame).tolist() == [True, True, False, False]
    assert judge(steps, state, frame).tolist() == [True, True, False, False]
    assert calls == [(LEFT.text, 60), (RIGHT.text, 7), (RIGHT.text, 7)]
    assert (judge.asked, judge.unanswered) == (3, 2)
    assert judge([RIGHT], state, frame_of([60])).tolist() == [True]  # other words, same picture
    with pytest.raises(InputError, match="there are none"):
        judge(steps, state, None)


def test_truth_judges_like_the_tables_it_is_made_of(sim):
    truth, state = Completion(sim), sim.reset()
    rows = np.array([truth.row(0, step) for step in (LEFT, RIGHT) * 3])
    assert torch.equal(truth.done(rows, state), TruthJudge(sim)([LEFT, RIGHT] * 3, state))

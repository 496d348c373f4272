"""Subgoals carried by senses: who is told what, when the next one is taken up, what a resume needs."""

from dataclasses import replace

import pytest
import torch

from agents.subgoals.judges import NoisyJudge
from agents.subgoals.subgoal_env import SubgoalEnv
from agents.subgoals.subgoal_senses import INDEX, SubgoalSenses
from agents.subgoals.types import MOST, Plan, Subgoal
from agents.task_env import TaskEnv
from core.errors import InputError
from envs.goals import Goal
from envs.state import FORWARD, STOP
from tests.agents.test_task_env import FakeSenses, FakeSimulator

STEPS = [Subgoal(f"step {word}") for word in ("one", "two", "three")]


class Home:
    scene = None


class Fields:
    goals = ((Goal("find the bed", ()),),)

    def goal(self, home, goal):
        return self.goals[home][goal]


class World(FakeSimulator):
    """Two environments after one goal; what is done is a function of the step of the episode."""

    fields, homes, texts = Fields(), (Home(),), ("find the bed",)

    def reset(self, state=None, mask=None):
        state = super().reset(state, mask)
        return replace(state, env=torch.arange(len(state)))


def when(**steps):
    """A judge: subgoals by their last word are done from a step of the episode on."""

    def judge(current, state, frame=None):
        words = [None if one is None else one.text.split()[-1] for one in current]
        return torch.tensor([steps.get(word, 10**6) <= int(step) for word, step in zip(words, state.step)])

    return judge


def make_env(judge, subgoals=STEPS, num_envs=2):
    def decompose(goal, scene, view=None):
        return Plan(goal.text, tuple(subgoals), "symbolic")

    return SubgoalEnv(TaskEnv(World(num_envs), SubgoalSenses(FakeSenses(), decompose, lambda sim: judge)))


def go(env, *actions):
    """The indices after each step, and the marks."""
    index = []
    for action in actions:
        env.step(torch.tensor([action] * env.num_envs))
        index.append(env.env.note[INDEX].tolist())
    return index, env.take()


def words_of(env, observation):
    """The vocabulary's words in what is shown, and the share done."""
    vocabulary = env.env.senses.vocabulary
    row = observation["subgoal"][0]
    return [word for word, amount in zip(vocabulary, row) if amount > 0], float(row[-1])


def test_the_next_subgoal_is_shown_with_the_step_that_did_the_last():
    env = make_env(when(one=2, two=3, three=5))
    first = env.reset()
    assert words_of(env, first) == (["one", "step"], 0.0)
    env.step(torch.full((2,), FORWARD))
    step = env.step(torch.full((2,), FORWARD))
    assert words_of(env, step.observation) == (["step", "two"], pytest.approx(1 / 3))
    assert words_of(env, step.final_observation) == (["step", "two"], pytest.approx(1 / 3))
    marks = env.take()
    assert marks.subgoal.tolist() == [[False, False], [True, True]] and not marks.goal.any()


def test_what_a_last_step_led_to_carries_the_next_subgoal_and_the_new_episode_the_first():
    env = make_env(when(one=1, two=10))
    env.reset()
    step = env.step(torch.tensor([STOP, FORWARD]))
    assert words_of(env, step.final_observation)[0] == ["step", "two"]
    assert words_of(env, step.observation)[0] == ["one", "step"]
    marks = env.take()
    assert marks.subgoal.tolist() == [[True, True]]
    assert marks.goal.tolist() == marks.ended.tolist() == [[True, False]]


def test_several_are_done_in_one_step_and_those_done_at_the_start_pay_nothing():
    env = make_env(when(one=0, two=2, three=2))
    env.reset()
    assert env.env.note[INDEX].tolist() == [1, 1]
    index, marks = go(env, FORWARD, FORWARD)
    assert index == [[1, 1], [3, 3]]
    assert marks.subgoal.tolist() == [[False, False], [True, True]]


def test_behind_the_last_subgoal_stands_the_goal():
    env = make_env(when(one=1, two=1, three=1))
    env.reset()
    step = env.step(torch.full((2,), FORWARD))
    assert words_of(env, step.observation) == (["bed", "find", "the"], 1.0)
    index, marks = go(env, FORWARD)
    assert index == [[3, 3]] and marks.subgoal.tolist() == [[True, True], [False, False]]


def always(current, state, frame=None):
    return torch.ones(len(current), dtype=torch.bool)


@pytest.mark.parametrize("count", [0, 1, MOST])
def test_a_judge_that_always_or_never_says_done_passes_all_or_stays_at_the_first(count):
    plan = [Subgoal(f"number {k}") for k in range(count)]
    yes, no = make_env(always, plan), make_env(when(), plan)
    yes.reset(), no.reset()
    assert yes.env.note[INDEX].tolist() == [max(count, 1)] * 2
    assert go(no, FORWARD, FORWARD)[0] == [[0, 0], [0, 0]]
    assert not go(yes, FORWARD)[1].subgoal.any()


def test_a_false_alarm_does_not_bring_the_next_subgoals_down_with_it():
    noisy = NoisyJudge(when(), miss=0.0, false=0.3, seed=5)
    env = make_env(noisy, [Subgoal(f"number {k}") for k in range(MOST)], num_envs=64)
    env.reset()
    assert 0.3 < float(env.env.note[INDEX].float().mean()) < 0.6  # 0.3 / 0.7 = 0.43 alarms in a row


def test_a_saved_environment_goes_on_at_its_subgoals():
    one, two = make_env(when(one=1, two=2)), make_env(when(one=1, two=2))
    one.reset(), two.reset()
    go(one, FORWARD)
    two.env.load_state_dict(one.env.state_dict())
    assert go(one, FORWARD)[0] == go(two, FORWARD)[0] == [[2, 2]]


def test_a_judge_of_another_shape_and_an_environment_without_subgoals_are_refused():
    with pytest.raises(InputError, match="the judge answered"):
        make_env(lambda current, state, frame: torch.ones(7, dtype=torch.bool)).reset()
    bare = SubgoalEnv(TaskEnv(FakeSimulator(2), FakeSenses()))
    bare.reset()
    with pytest.raises(InputError, match="lack 'reached'"):
        bare.step(torch.zeros(2, dtype=torch.int64))

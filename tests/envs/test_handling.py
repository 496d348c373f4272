"""Hands: stages done and undone, things that lie elsewhere, and the memory of distance fields."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.episodes import make_episodes, place
from envs.expert import Expert, RandomPolicy
from envs.goals import HAND_M, Goal, GoalFields, Stage
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import PICK, PLACE
from envs.tasks import PointGoal
from envs.tasks.common import near_objects, progress_reward
from tests.envs.homes import lively_home, three_homes

MUG, DESK, SHELF, RED, BLUE = range(5)


@dataclass(frozen=True)
class Errand:
    """The mug onto the shelf, then to the red armchair."""

    start_range_m: tuple[float, float] = (0.0, 30.0)
    interactive = True
    vocabulary = ()

    def goals(self, home):
        stages = (Stage("hold", (MUG,)), Stage("rest", (MUG,), on=(SHELF,)), Stage("reach", (RED,)))
        return [Goal("put the mug on the shelf, then go to the red armchair", stages)]

    def region(self, home, stage):
        return near_objects(home, stage.objects, 1.0)

    def reward(self, previous_m, distance_m, success, stopped):
        return progress_reward(previous_m, distance_m, success, 2.5, 0.01)


@pytest.fixture(scope="module")
def pool():
    return HomePool([lively_home()], interactive=True)


@pytest.fixture
def sim(pool):
    return Simulator(pool, Errand(), num_envs=1, seed=0, sensors=None, max_steps=300)


def play(sim, state, until):
    """The oracle's steps until `until(state)`."""
    expert = Expert(sim)
    for _ in range(200):
        if until(state):
            return state
        state, _ = sim.step(state, expert(state))
    raise AssertionError("the oracle never got there")


def number(sim, code):
    return torch.tensor([sim.action_codes.tolist().index(code)])


def test_each_picking_up_and_putting_down_to_come_counts_as_a_little_way(sim):
    state = play(sim, sim.reset(), lambda now: int(now.stage) == 1)
    held = float(state.distance)
    after = play(sim, state, lambda now: int(now.stage) == 2)
    cell = sim.homes.grids.cell(after.home.numpy(), after.position.numpy())
    zero = np.zeros(1, np.int64)
    assert float(after.distance) == pytest.approx(sim.fields.distance(zero, zero, zero + 2, cell)[0])
    with_hand = sim.fields.distance(zero, zero, zero + 1, cell)[0]
    assert with_hand == pytest.approx(float(after.distance) + HAND_M)
    assert held > with_hand


def test_taking_the_thing_off_again_undoes_all_that_came_after(sim):
    done = play(sim, sim.reset(), lambda now: int(now.stage) == 2 and float(now.distance) == 0)
    assert int(done.world.support[0, 0]) == SHELF
    stolen = replace(done.world, held=torch.zeros(1, dtype=torch.long), support=torch.full_like(done.world.support, -1))
    after, step = sim.step(replace(done, world=stolen), torch.tensor([0]))
    assert int(after.stage) == 1
    assert float(step.metrics["success"]) == 0
    kept, step = sim.step(done, torch.tensor([0]))
    assert float(step.metrics["success"]) == 1 and int(kept.stage) == 2


def test_what_is_put_back_elsewhere_is_fetched_from_there(sim):
    state = play(sim, sim.reset(), lambda now: int(now.stage) == 1)
    facing = replace(state, yaw=torch.atan2(0.6 - state.position[:, 1], 0.6 - state.position[:, 0]))
    state, _ = sim.step(facing, number(sim, PLACE))  # back onto the desk it was taken from
    assert int(state.world.support[0, 0]) == DESK and int(state.stage) == 0
    assert torch.isfinite(state.distance).all()
    play(sim, state, lambda now: bool(now.terminated) and int(now.stage) == 2)


def test_an_ended_environment_keeps_its_distance_and_metrics(sim):
    state = play(sim, sim.reset(), lambda now: int(now.stage) == 1)
    state, _ = sim.step(state, number(sim, PLACE))
    ended, step = sim.step(state, torch.tensor([0]))
    later, again = sim.step(ended, number(sim, PICK))
    assert float(later.distance) == float(ended.distance)
    assert all(torch.equal(step.metrics[name], again.metrics[name]) for name in step.metrics)
    assert float(again.reward) == 0


def test_reaching_for_nothing_counts_as_a_collision(sim):
    state = sim.reset()
    after, _ = sim.step(state, number(sim, PLACE))
    assert int(after.collisions) == 1
    assert float(after.path_length) == pytest.approx(HAND_M)


def test_a_home_with_nothing_to_carry_can_be_walked(pool):
    homes = HomePool([three_homes()[0]], interactive=True)
    sim = Simulator(homes, "point_goal", num_envs=4, seed=0, sensors=None)
    state, _ = sim.step(sim.reset(), torch.ones(4, dtype=torch.long))
    assert (state.world.held == -1).all()


def test_few_fields_in_memory_lead_to_the_same_episodes():
    homes = HomePool.procedural(3, seed=5, interactive=True)
    some = "rearrange"
    plain = Simulator(homes, some, num_envs=6, seed=2, sensors=None)
    bytes_each = plain.fields.units[0].nbytes + plain.fields.inside[0].nbytes
    tight = GoalFields(homes, plain.task, max_bytes=7 * bytes_each)
    assert tight.capacity == 7 < sum(len(goals) for goals in tight.goals)
    narrow = Simulator(homes, plain.task, num_envs=6, seed=2, sensors=None, fields=tight)
    policy = RandomPolicy(0, sim=plain)
    left, right = plain.reset(), narrow.reset()
    for _ in range(40):
        action = policy(left)
        left, step = plain.step(left, action)
        right, other = narrow.step(right, action)
        assert torch.equal(left.distance, right.distance)
        left, right = plain.reset(left, step.done), narrow.reset(right, other.done)
    assert len(tight.units) <= 7


def test_episode_sets_are_made_with_few_fields_in_memory():
    homes = HomePool(three_homes())
    task = PointGoal()
    tight = GoalFields(homes, task, max_bytes=2 * 20 * max(home.grid.free.size for home in homes.homes))
    assert tight.capacity == 20
    few, many = make_episodes(homes, task, 60, 1, tight), make_episodes(homes, task, 60, 1)
    assert np.array_equal(few.start, many.start) and np.array_equal(few.shortest_m, many.shortest_m)


def test_episodes_of_a_home_that_has_changed_are_refused():
    homes = HomePool(three_homes())
    sim = Simulator(homes, "find_object", num_envs=1, seed=0, sensors=None)
    episodes = make_episodes(homes, sim.task, 12, 3, sim.fields)
    place(sim, episodes, range(12))
    moved = three_homes()
    for item in moved[1].objects:
        item.box = item.box + np.array([0.3, -0.2, 0, 0, 0, 0, 0]) * np.sign(2.5 - item.box[0])
    other = Simulator(HomePool(moved), sim.task, num_envs=1, seed=0, sensors=None)
    with pytest.raises(InputError, match="home-b"):
        place(other, episodes, range(12))


def test_a_start_that_looks_nowhere_is_refused():
    sim = Simulator(HomePool(three_homes()), "find_object", num_envs=1, seed=0, sensors=None)
    episodes = make_episodes(sim.homes, sim.task, 2, 3, sim.fields)
    episodes.yaw[1] = np.nan
    with pytest.raises(InputError, match="yaw"):
        place(sim, episodes, range(2))

"""Truth of subgoals: each kind against the simulator and against a slow second look."""

import numpy as np
import pytest
import torch

from agents.subgoals.completion import GOAL, NOTHING, Completion
from agents.subgoals.symbolic import SymbolicDecomposer
from agents.subgoals.types import Plan, Subgoal, Test
from core.errors import InputError
from envs.expert import Expert
from envs.goals import Goal, Stage
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import Rearrange
from envs.tasks.common import near_objects
from tests.envs.homes import lively_home

MUG, DESK, SHELF, RED, BLUE = range(5)
HOLD = Test("hold", (MUG,))
REST = Test("rest", (MUG,), on=(SHELF,))


@pytest.fixture(scope="module")
def pool():
    return HomePool([lively_home()], interactive=True)


@pytest.fixture(scope="module")
def sim(pool):
    return Simulator(pool, Rearrange(), num_envs=3, seed=0, sensors=None, max_steps=300, shut_doors=1.0)


def test_entering_and_reaching_are_where_a_slow_look_at_every_cell_has_them(sim, pool):
    home = pool[0]
    truth = Completion(sim)
    region = near_objects(home, (BLUE,), 1.0)
    rows = [
        truth.row(0, Subgoal("", Test("reach", (BLUE,)))),
        truth.row(0, Subgoal("", Test("enter", room=1))),
        truth.row(0, Subgoal("", Test("reach", place=(5.0, 2.0)))),
    ]
    one = sim.reset().rows(torch.tensor([0]))
    cells = home.free_cells[::7]
    middles = home.grid.centers(np.stack(np.unravel_index(cells, home.grid.free.shape), axis=1))
    many = one.rows(torch.zeros(len(cells), dtype=torch.int64))
    many = type(many)(**{**vars(many), "position": torch.from_numpy(middles)})
    expected = [
        region.ravel()[cells],
        middles[:, 0] > 3.5,
        np.hypot(middles[:, 0] - 5.0, middles[:, 1] - 2.0) <= 0.2,
    ]
    for row, wanted in zip(rows, expected):
        assert wanted.any() and not wanted.all()
        assert (truth.done(np.full(len(cells), row), many).numpy() == wanted).all()


def test_hands_and_doors_are_followed_through_an_errand_as_the_simulator_counts_them(sim):
    truth, expert, state = Completion(sim), Expert(sim), sim.reset()
    plan = SymbolicDecomposer("stages")(sim.goal(state, 0), sim.homes[0].scene)
    hold, rest = truth.rows(0, plan)
    door = truth.row(0, Subgoal("", Test("open", (0,))))
    one = np.ones(3, np.int64)
    seen = []
    for _ in range(120):
        at = [truth.done(row * one, state) for row in (hold, rest, door, GOAL)]
        done = state.stage.numpy() > 0
        assert (at[0].numpy() == done).all()  # held, or put where it goes
        assert (at[1].numpy() == (state.stage.numpy() > 1)).all()
        assert (at[2].numpy() == (state.world.doors.numpy() & 1 == 1)).all()
        assert (at[3].numpy() == (state.distance.numpy() <= 0)).all()
        seen.append(torch.stack(at))
        if state.done.all():
            break
        state, _ = sim.step(state, expert(state))
    assert state.stage.tolist() == [2, 2, 2]
    for k in range(4):  # every answer was given both ways
        values = torch.stack(seen)[:, k]
        assert values.any() and not values.all()


def test_what_the_scene_has_in_its_place_already_counts_as_lying_there(sim):
    truth, state = Completion(sim), sim.reset()
    rows = [
        truth.row(0, Subgoal("", Test("rest", (MUG,), on=(DESK,)))),
        truth.row(0, Subgoal("", REST)),
        truth.row(0, Subgoal("", Test("hold", (MUG,), on=(DESK,)))),
    ]
    assert truth.done(np.array(rows), state).tolist() == [True, False, True]


def test_nothing_to_judge_is_never_done_and_words_alone_cannot_be_read_off(sim):
    truth, state = Completion(sim), sim.reset()
    assert truth.done(np.full(3, NOTHING), state).tolist() == [False] * 3
    assert truth.row(0, Subgoal("put the mug on the shelf"), "put the mug on the shelf") == GOAL
    with pytest.raises(InputError, match="words alone"):
        truth.row(0, Subgoal("be happy"), "put the mug on the shelf")
    with pytest.raises(InputError, match="2 subgoals for a state of 3"):
        truth.done(np.zeros(2, np.int64), state)


def test_a_subgoal_about_what_the_home_does_not_have_is_an_error(sim):
    truth = Completion(sim)
    for test, missing in (
        (Test("reach", (99,)), r"objects \[99\]"),
        (Test("rest", (MUG,), on=(7,)), r"objects \[7\]"),
        (Test("enter", room=5), "room 5"),
        (Test("open", (1,)), r"doors \[1\]"),
    ):
        with pytest.raises(InputError, match=missing):
            truth.row(0, Subgoal("do it", test))


def test_what_can_never_be_true_is_named_and_can_be_left_out_of_a_plan(sim):
    truth = Completion(sim)
    steps = (
        Subgoal("lift the desk", Test("hold", (DESK,))),
        Subgoal("take the mug", HOLD),
        Subgoal("walk into the wall", Test("reach", place=(0.0, 0.0))),
        Subgoal("enter", Test("enter", room=0)),
    )
    plan = Plan("tidy up", steps, "symbolic")
    rows = truth.rows(0, plan)
    assert truth.possible(rows).tolist() == [False, True, False, True]
    assert truth.possible(np.array([NOTHING, GOAL])).tolist() == [False, True]
    assert truth.kept(0, plan).subgoals == (steps[1], steps[3])
    assert truth.done(rows[[0, 2, 0]], sim.reset()).tolist() == [False] * 3
    nothing_left = truth.kept(0, Plan("tidy up", steps[:1], "symbolic"))
    assert nothing_left.subgoals == (Subgoal("tidy up"),)


def test_doors_and_hands_of_a_home_where_nothing_moves():
    home = lively_home()
    still = HomePool([home])
    truth = Completion(Simulator(still, Errand(), num_envs=1, sensors=None))
    state = truth.sim.reset()
    answers = [
        truth.done(np.array([truth.row(0, Subgoal("", test))]), state).item()
        for test in (Test("open", (0,)), HOLD, Test("rest", (MUG,), on=(DESK,)), REST)
    ]
    assert answers == [True, False, True, False]


class Errand:
    """Two places to go to."""

    start_range_m, interactive, vocabulary = (0.0, 30.0), False, ()

    def goals(self, home):
        return [Goal("go to the shelf", (Stage("reach", (SHELF,)),))]

    def region(self, home, stage):
        return near_objects(home, stage.objects, 2.5)

    def reward(self, previous_m, distance_m, success, stopped):
        return previous_m - distance_m


def test_a_stage_of_the_goal_counts_as_the_task_counts_it_and_other_things_from_one_metre():
    truth = Completion(Simulator(HomePool([lively_home()]), Errand(), num_envs=1, sensors=None))
    home = truth.sim.homes[0]
    sizes = []
    for thing in (SHELF, BLUE):
        row = truth.row(0, Subgoal("", Test("reach", (thing,))))
        middles = home.grid.centers(np.stack(np.unravel_index(home.free_cells, home.grid.free.shape), axis=1))
        many = truth.sim.reset().rows(torch.zeros(len(middles), dtype=torch.int64))
        many = type(many)(**{**vars(many), "position": torch.from_numpy(middles)})
        sizes.append(int(truth.done(np.full(len(middles), row), many).sum()))
    assert sizes == [near_objects(home, (SHELF,), 2.5).sum(), near_objects(home, (BLUE,), 1.0).sum()]


def test_forty_subgoals_share_the_rows_of_equal_tests(sim):
    truth = Completion(sim)
    steps = tuple(Subgoal(f"step {k}", (HOLD, REST)[k % 2]) for k in range(40))
    rows = truth.rows(0, Plan("again and again", steps, "human"))
    assert len(rows) == 40 and len(set(rows.tolist())) == 2


def test_rows_keep_their_meaning_when_the_tables_grow(sim):
    truth, state = Completion(sim), sim.reset()
    first = truth.row(0, Subgoal("", Test("enter", room=0)))
    before = truth.done(np.full(3, first), state)
    points = [Subgoal("", Test("reach", place=(0.5 + 0.05 * k, 2.0))) for k in range(120)]
    rows = [truth.row(0, point) for point in points]
    pair = truth.row(0, Subgoal("", Test("rest", (MUG,), on=(DESK, SHELF, RED))))
    assert torch.equal(truth.done(np.full(3, first), state), before) and before.any()
    here = state.rows(torch.zeros(120, dtype=torch.int64))
    here = type(here)(**{**vars(here), "position": torch.tensor([[0.5 + 0.05 * k, 2.0] for k in range(120)]).double()})
    wanted = sim.homes.grids.is_free(here.home.numpy(), here.position.numpy())
    assert wanted.any() and (truth.done(np.array(rows), here).numpy() == wanted).all()
    assert truth.done(np.full(3, pair), state).all()


def test_what_is_on_the_way_to_something_is_passed_when_that_is_done_without_it(sim):
    truth, state = Completion(sim), sim.reset()
    here = int(state.position[0, 0] > 3.5)
    elsewhere = Test("enter", room=1 - here)
    lying, missing = Test("rest", (MUG,), on=(DESK,)), REST
    rows = [truth.row(0, Subgoal("", elsewhere, leads)) for leads in (None, lying, missing)]
    one = state.rows(torch.zeros(3, dtype=torch.int64))
    assert truth.done(np.array(rows), one).tolist() == [False, True, False]
    assert truth.row(0, Subgoal("other words", elsewhere, lying)) == rows[1]

"""The batch: determinism, partial resets, pictures, bad input."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from core.conventions import camera_pose
from core.errors import InputError
from envs.expert import Expert, RandomPolicy
from envs.motion import MAX_PITCH_RAD
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, TURN_LEFT, Noise, Sensors, SimState, choose_frame
from scene.types import Scene
from tests.envs.homes import lively_home, make_home, three_homes

SMALL = Sensors(16, 16)


@pytest.fixture(scope="module")
def pool():
    return HomePool(three_homes())


def raw(state: SimState, row: int) -> list[bytes]:
    columns = (getattr(state, field.name) for field in fields(state))
    return [column[row].numpy().tobytes() for column in columns if isinstance(column, torch.Tensor)]


def play(sim, steps, policy):
    """States, rewards and pictures of a few steps with resets in between."""
    state = sim.reset()
    record = []
    for _ in range(steps):
        state, step = sim.step(state, policy(state))
        record.append((state, step))
        state = sim.reset(state, step.done)
    return record


def test_environment_i_of_a_batch_equals_that_environment_alone_to_the_byte(pool):
    policy = RandomPolicy(5, stop=0.1)
    batch = play(Simulator(pool, num_envs=5, seed=9, sensors=SMALL, max_steps=12), 40, policy)
    for env in (0, 3):
        sim = Simulator(pool, num_envs=1, seed=9, sensors=SMALL, max_steps=12, env_ids=[env])
        for (many, step), (single, alone) in zip(batch, play(sim, 40, policy), strict=True):
            assert raw(many, env) == raw(single, 0)
            assert step.reward[env].numpy().tobytes() == alone.reward[0].numpy().tobytes()
            assert torch.equal(step.frame.rgb[env], alone.frame.rgb[0])
            assert torch.equal(step.frame.instance[env], alone.frame.instance[0])
    assert max(state.episode.max().item() for state, _ in batch) > 2


def test_another_seed_gives_other_episodes_and_the_same_seed_the_same(pool):
    sims = [Simulator(pool, num_envs=8, seed=seed, sensors=None) for seed in (1, 1, 2)]
    one, again, other = (sim.reset() for sim in sims)
    assert raw(one, 3) == raw(again, 3) and raw(one, 3) != raw(other, 3)
    assert raw(sims[0].seeded(2).reset(), 3) == raw(other, 3)


def test_a_state_can_be_stepped_twice_with_the_same_outcome(pool):
    sim = Simulator(pool, num_envs=4, sensors=None)
    start = sim.reset()
    before = [raw(start, row) for row in range(4)]
    action = torch.tensor([FORWARD, TURN_LEFT, FORWARD, 0])
    first, _ = sim.step(start, action)
    second, _ = sim.step(start, action)
    assert [raw(first, row) for row in range(4)] == [raw(second, row) for row in range(4)]
    assert [raw(start, row) for row in range(4)] == before


def test_a_partial_reset_touches_only_the_rows_of_the_mask(pool):
    sim = Simulator(pool, num_envs=3, sensors=None)
    state = sim.reset()
    mask = torch.tensor([False, True, False])
    after = sim.reset(state, mask)
    assert raw(after, 0) == raw(state, 0) and raw(after, 2) == raw(state, 2)
    assert after.episode.tolist() == [0, 1, 0] and raw(after, 1) != raw(state, 1)


def test_an_ended_environment_waits_unchanged_with_no_reward(pool):
    sim = Simulator(pool, num_envs=2, sensors=SMALL)
    state, _ = sim.step(sim.reset(), torch.tensor([0, TURN_LEFT]))
    after, step = sim.step(state, torch.tensor([FORWARD, FORWARD]))
    assert raw(after, 0) == raw(state, 0) and step.reward[0] == 0 and step.terminated.tolist() == [True, False]
    assert step.frame.rgb[0].max() == 0 and step.frame.rgb[1].max() > 0


def test_the_frame_of_a_step_shows_the_place_the_action_led_to(pool):
    sim = Simulator(pool, num_envs=3, sensors=SMALL, max_steps=1)
    start = sim.reset()
    after, step = sim.step(start, torch.full((3,), TURN_LEFT))
    assert step.truncated.all()
    assert torch.equal(step.frame.rgb, sim.observe(after).rgb)
    assert not torch.equal(step.frame.rgb, sim.observe(start).rgb)
    fresh = sim.reset(after, step.done)
    mixed = choose_frame(torch.tensor([True, False, True]), sim.observe(fresh), step.frame)
    assert torch.equal(mixed.rgb[1], step.frame.rgb[1]) and torch.equal(mixed.rgb[0], sim.observe(fresh).rgb[0])


def test_cameras_follow_the_convention_of_core(pool):
    sim = Simulator(pool, num_envs=4, sensors=Sensors(8, 8, pitch_deg=-20))
    state = sim.reset()
    for pose, (x, y), yaw in zip(sim.poses(state), state.position.tolist(), state.yaw.tolist()):
        np.testing.assert_allclose(pose, camera_pose(np.array([x, y, 1.2]), yaw, np.deg2rad(-20)), atol=1e-12)


def test_goal_visibility_counts_the_pixels_of_matching_objects_and_measures_to_the_nearest():
    pool = HomePool([make_home("one", 6, 3, [("sofa", "blue", 5.5, 1.5, 0.8, 0.8, 0.8)])])
    sim = Simulator(pool, num_envs=2, sensors=Sensors(32, 32))
    two = np.zeros(2, np.int64)
    state = sim.placed(two, two, two, two, two, np.array([[2.6, 1.5], [2.6, 1.5]]), np.array([0.0, np.pi]))
    frame = sim.observe(state)
    pixels, distance = sim.goal_visibility(frame.instance, state)
    assert pixels[0] == (frame.instance[0] == 0).sum() > 0 and pixels[1] == 0
    assert distance[0].item() == pytest.approx(2.5) and distance[1].item() == float("inf")


def test_agents_stay_on_free_floor_over_a_long_random_walk(pool):
    sim = Simulator(pool, num_envs=64, seed=2, sensors=None)
    policy = RandomPolicy(0)
    for state, step in play(sim, 150, policy):
        assert pool.grids.is_free(state.home.numpy(), state.position.numpy()).all()
        assert torch.isfinite(step.reward).all()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (torch.tensor([0]), r"shape \(1,\), expected \(2,\)"),
        (torch.tensor([0, 4]), "0 stop, 1 forward"),
        (torch.tensor([-1, 0]), "0 stop"),
        (torch.tensor([0.0, 1.0]), "whole numbers"),
    ],
)
def test_wrong_actions_are_refused(pool, action, message):
    sim = Simulator(pool, num_envs=2, sensors=None)
    with pytest.raises(InputError, match=message):
        sim.step(sim.reset(), action)


def test_wrong_masks_sizes_and_seeds_are_refused(pool):
    sim = Simulator(pool, num_envs=2, sensors=None)
    with pytest.raises(InputError, match="mask"):
        sim.reset(sim.reset(), torch.tensor([1, 0]))
    with pytest.raises(InputError, match="no sensors"):
        sim.observe(sim.reset())
    for wrong in ({"num_envs": 0}, {"max_steps": 0}, {"seed": -1}, {"env_ids": [1, 2]}):
        with pytest.raises(InputError):
            Simulator(pool, sensors=None, **wrong)
    with pytest.raises(InputError, match="fov_deg"):
        Sensors(fov_deg=180)


def test_starts_in_walls_are_refused_with_the_home_named(pool):
    sim = Simulator(pool, num_envs=1, sensors=None)
    zero = np.zeros(1, np.int64)
    with pytest.raises(InputError, match=r"home-a.*not on free floor"):
        sim.placed(zero, zero, zero, zero, zero + 1, np.array([[3.0, 1.0]]), np.zeros(1))


def test_a_pool_refuses_nothing_and_twice_the_same_and_counts_what_it_leaves_out():
    with pytest.raises(InputError, match="at least one scene"):
        HomePool([])
    with pytest.raises(InputError, match="home-a"):
        HomePool([three_homes()[0], three_homes()[0]])
    roomless = Scene("void", "procedural", [])
    with pytest.raises(InputError, match="void"):
        HomePool([roomless])
    with pytest.warns(UserWarning, match="1 of 2 homes are left out.*void"):
        assert HomePool([roomless, three_homes()[0]]).ids == ["home-a"]


@pytest.fixture(scope="module")
def lively():
    """One home with a door and a mug; an environment walks through the door to put the mug on the shelf."""
    return HomePool([lively_home()], interactive=True)


def test_heads_tilt_by_30_degrees_and_no_further_than_60(pool):
    sim = Simulator(pool, num_envs=1, sensors=SMALL, tilt=True)
    up, down = sim.action_names.index("look up"), sim.action_names.index("look down")
    state, seen = sim.reset(), []
    for action in (up, up, up, down):
        state, _ = sim.step(state, torch.tensor([action]))
        seen.append(state.pitch.item())
    assert seen == pytest.approx([np.pi / 6, MAX_PITCH_RAD, MAX_PITCH_RAD, np.pi / 6])
    eye = np.array([*state.position[0].tolist(), 1.2])
    np.testing.assert_allclose(sim.poses(state)[0], camera_pose(eye, state.yaw.item(), np.pi / 6), atol=1e-12)
    assert state.path_length.item() == 0 and sim.reset(state).pitch.item() == 0


def test_speeds_walk_turn_and_stop_below_a_tenth(pool):
    sim = Simulator(pool, num_envs=4, sensors=None, control="continuous", tilt=True, slide=False)
    start = sim.reset()
    speeds = torch.tensor([[0.4, 0.0, 0.0], [0.09, 0.5, -1.0], [-9.0, 0.0, 0.0], [0.09, -0.09, 0.05]])
    tilted, _ = sim.step(start, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3))
    assert not tilted.done.any() and tilted.pitch.tolist() == pytest.approx([np.pi / 6] * 4)
    after, step = sim.step(start, speeds)
    assert step.terminated.tolist() == [False, False, False, True]
    assert (after.yaw - start.yaw)[1].item() % (2 * np.pi) == pytest.approx(np.pi / 12)
    assert after.pitch.tolist() == pytest.approx([0, -np.pi / 6, 0, 0])  # a stop does nothing else
    ahead = torch.stack([start.yaw.cos(), start.yaw.sin()], dim=1)
    walked = ((after.position - start.position) * ahead).sum(dim=1)
    free = after.collisions == 0
    assert free.sum() >= 3
    assert walked[free].tolist() == pytest.approx(torch.tensor([0.1, 0.0225, -0.25, 0.0])[free].tolist(), abs=1e-6)


def test_wrong_speeds_are_refused(pool):
    sim = Simulator(pool, num_envs=2, sensors=None, control="continuous")
    for wrong, message in (
        (torch.zeros(2), r"shape \(2, 2\)"),
        (torch.zeros(2, 2, dtype=torch.int64), "floats"),
        (torch.full((2, 2), torch.nan), "NaN"),
    ):
        with pytest.raises(InputError, match=message):
            sim.step(sim.reset(), wrong)
    with pytest.raises(InputError, match="discrete"):
        Simulator(pool, control="both")


def test_noise_strays_what_moves_by_its_spread_and_leaves_the_rest(pool):
    noise = Noise(forward_m=0.01, drift_rad=0.0, turn_rad=0.05, depth=0.0)
    sim = Simulator(pool, "find_object", 3000, sensors=None, noise=noise)
    start = sim.reset()
    ahead, _ = sim.step(start, torch.full((3000,), FORWARD))
    walked = ahead.path_length[ahead.collisions == 0]
    assert walked.mean() == pytest.approx(0.25, abs=2e-3) and walked.std() == pytest.approx(0.01, rel=0.1)
    turned, _ = sim.step(start, torch.full((3000,), TURN_LEFT))
    angle = (turned.yaw - start.yaw) % (2 * np.pi)
    assert angle.mean() == pytest.approx(np.pi / 6, abs=4e-3) and angle.std() == pytest.approx(0.05, rel=0.1)
    assert torch.equal(ahead.yaw, start.yaw) and torch.equal(turned.position, start.position)


def test_depth_noise_grows_with_distance_and_keeps_nothing_at_nothing():
    home = make_home("hall", 12.0, 4.0, [("sofa", "blue", 11.0, 2.0, 0.8, 0.8, 0.8)])
    clear, noisy = (
        Simulator(HomePool([home]), num_envs=8, sensors=Sensors(32, 32), noise=noise) for noise in (None, Noise())
    )
    state = clear.reset()
    true, seen = clear.observe(state).depth, noisy.observe(state).depth
    assert ((true == 0) == (seen == 0)).all() and torch.equal(seen, noisy.observe(state).depth)
    for low, high in ((1.0, 1.5), (3.0, 3.5)):
        chosen = (true > low) & (true < high)
        spread = (seen - true)[chosen] / (0.0012 + 0.0019 * (true[chosen] - 0.4) ** 2)
        assert chosen.sum() > 100 and spread.std() == pytest.approx(1.0, rel=0.2)
    with pytest.raises(InputError, match="turn_rad"):
        Noise(turn_rad=-1)


def test_a_staged_goal_counts_its_stages_and_its_way_through_all_of_them(lively):
    sim = Simulator(lively, "rearrange", 1, sensors=None, max_steps=200)
    expert, state = Expert(sim), sim.reset()
    assert [stage.kind for stage in sim.goal(state, 0).stages] == ["hold", "rest"]
    seen = [(0, state.distance.item())]
    while not bool(state.done):
        state, step = sim.step(state, expert(state))
        seen.append((int(state.stage[0]), state.distance.item()))
        if int(state.stage[0]) == 1:
            assert int(state.world.held[0]) == 0 and step.metrics["subgoals"].item() == 0.5
    stages, left = zip(*seen)
    assert sorted(set(stages)) == [0, 1, 2] and list(stages) == sorted(stages) and left[-1] == 0
    assert all(a >= b - 0.13 for a, b in zip(left, left[1:]))  # no jump when a stage is done: the way is through all
    assert step.metrics["success"].item() == 1 and state.world.support[0, 0].item() == 2  # on the shelf


def test_a_shut_door_is_in_the_way_until_it_is_opened(lively):
    sim = Simulator(lively, "point_goal", 1, sensors=None, shut_doors=1.0)
    zero = np.zeros(1, np.int64)
    east = next(k for k, goal in enumerate(sim.fields.goals[0]) if goal.stages[0].place[0] > 5)
    start = sim.placed(zero, zero, zero, zero, zero + east, np.array([[2.6, 2.0]]), np.zeros(1))
    assert start.world.doors.tolist() == [0]
    walk, open_ = torch.tensor([FORWARD]), torch.tensor([sim.action_names.index("open")])

    def after(state, actions):
        for action in actions:
            state, _ = sim.step(state, action)
        return state

    held, through = after(start, [walk] * 6), after(start, [open_] + [walk] * 6)
    assert held.position[0, 0] < 3.5 and held.collisions > 0 and held.world.doors.tolist() == [0]
    assert through.position[0, 0] == pytest.approx(4.1) and through.world.doors.tolist() == [1]
    assert after(through, [torch.tensor([TURN_LEFT])] * 6 + [open_]).world.doors.tolist() == [0]
    with pytest.raises(InputError, match="interactive=True"):
        Simulator(HomePool([lively_home()]), "point_goal", shut_doors=0.5)


def test_a_move_to_another_pool_keeps_the_episodes_of_homes_that_stay(pool):
    sim = Simulator(pool, "find_object", 30, seed=2, sensors=None)
    state = sim.reset()
    staying = HomePool.of([pool[2], pool[0]])
    moved, after, gone = sim.moved_to(staying, state)
    assert torch.equal(gone, state.home == 1) and 0 < gone.sum() < 30
    kept = ~gone
    assert torch.equal(after.home[kept], torch.tensor([1, -1, 0])[state.home[kept]])
    before, later = state.rows(kept), after.rows(kept)
    assert [sim.goal(before, k) for k in range(len(before))] == [moved.goal(later, k) for k in range(len(later))]
    assert [sim.texts[k] for k in before.text] == [moved.texts[k] for k in later.text]
    state = moved.reset(after, gone)
    turns = torch.full((30,), TURN_LEFT)
    (one, _), (two, _) = sim.step(before, turns[kept]), moved.step(state, turns)
    assert torch.equal(one.distance, two.distance[kept]) and torch.equal(one.position, two.position[kept])
    assert (state.episode[gone] == 1).all() and set(state.home.tolist()) == {0, 1}

"""The batch: determinism, partial resets, pictures, bad input."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from core.conventions import camera_pose
from core.errors import InputError
from envs.expert import RandomPolicy
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import FORWARD, TURN_LEFT, Sensors, SimState, choose_frame
from scene.types import Scene
from tests.envs.homes import make_home, three_homes

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

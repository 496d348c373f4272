"""What must hold whatever the home, the seed and the batch: same bytes, nobody in a wall, odd homes told or played."""

import gc
import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from envs.expert import RandomPolicy
from envs.handling import Hands
from envs.motion import FORWARD_M, TURN_RAD, move
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Noise, Sensors, SimState, tensors_of
from scene.types import Door, Room, SceneMesh
from tests.envs.homes import make_home, three_homes, wall

ROOT = Path(__file__).parents[2]
SMALL = Sensors(8, 6)


def bytes_of(table: dict) -> bytes:
    return b"".join(
        bytes_of(column) if isinstance(column, dict) else column.contiguous().numpy().tobytes()
        for name, column in sorted(table.items())
        if column is not None and name != "env"
    )


def rollout(pool, task, seed, steps, num_envs=16, env_ids=None, pictures=False, each=True, **options) -> list[str]:
    """Hash of each environment's whole history under random actions; one hash of them all unless `each`."""
    sensors = SMALL if pictures else None
    sim = Simulator(pool, task, num_envs, seed, sensors, max_steps=60, env_ids=env_ids, **options)
    policy, state = RandomPolicy(seed, stop=0.01, sim=sim), sim.reset()
    digests = [hashlib.sha256() for _ in range(num_envs if each else 1)]
    for _ in range(steps):
        state, step = sim.step(state, policy(state))
        table = {**tensors_of(state), "reward": step.reward, **step.metrics}
        if step.frame is not None:
            table |= {"rgb": step.frame.rgb, "depth": step.frame.depth, "ids": step.frame.instance}
        for row, digest in enumerate(digests):
            digest.update(bytes_of(_row(table, row) if each else table))
        state = sim.reset(state, step.done)
    return [digest.hexdigest() for digest in digests]


def _row(table: dict, row: int) -> dict:
    return {
        name: _row(column, row) if isinstance(column, dict) else None if column is None else column[row]
        for name, column in table.items()
    }


@pytest.fixture(scope="module")
def homes():
    return HomePool.procedural(3, seed=5)


@pytest.fixture(scope="module")
def lively():
    """Homes in which things are carried and doors opened."""
    return HomePool.procedural(3, seed=5, interactive=True)


CASES = {
    "walking": ("point_goal", {}),
    "noise, tilt and pictures": ("find_object", {"noise": Noise(), "tilt": True, "pictures": True}),
    "speeds": ("point_goal", {"control": "continuous", "noise": Noise()}),
}


@pytest.mark.parametrize("case", CASES)
def test_environment_i_of_16_is_that_environment_alone_to_the_byte(homes, case):
    task, options = CASES[case]
    together = rollout(homes, task, 3, 60, **options)
    assert len(set(together)) == 16
    for env in (0, 7, 15):
        assert rollout(homes, task, 3, 60, num_envs=1, env_ids=[env], **options) == [together[env]], env


def test_the_same_with_hands_and_doors(lively):
    together = rollout(lively, "rearrange", 3, 80, shut_doors=0.5, pictures=True)
    for env in (2, 11):
        alone = rollout(lively, "rearrange", 3, 80, num_envs=1, env_ids=[env], shut_doors=0.5, pictures=True)
        assert alone == [together[env]], env


RESTART = """
from tests.envs.test_trust import HomePool, rollout
pool = HomePool.procedural(3, seed=5)
print("".join("".join(rollout(pool, "point_goal", seed, {steps}, each=False)) for seed in range({seeds})))
"""


def in_new_process(seeds: int, steps: int) -> str:
    code = RESTART.format(seeds=seeds, steps=steps)
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return run.stdout.strip().splitlines()[-1]


@pytest.mark.slow
def test_20_seeds_of_1000_steps_are_equal_to_the_byte_after_a_restart(homes):
    here = ["".join(rollout(homes, "point_goal", seed, 1000, each=False)) for seed in range(20)]
    assert len(set(here)) == 20
    assert here[0] == "".join(rollout(homes, "point_goal", 0, 1000, each=False))
    assert "".join(here) == in_new_process(20, 1000)


def test_a_restarted_process_plays_the_same_bytes(homes):
    assert in_new_process(1, 20) == "".join(rollout(homes, "point_goal", 0, 20, each=False))


def check_sane(sim: Simulator, state: SimState, step) -> None:
    """Everybody on the free floor of an own home, and no number that is none."""
    doors = None if state.world is None else state.world.doors.numpy()
    assert sim.homes.grids.is_free(state.home.numpy(), state.position.numpy(), doors).all()
    for name in ("position", "yaw", "distance", "path_length"):
        assert torch.isfinite(getattr(state, name)).all(), name
    assert torch.isfinite(step.reward).all()
    assert all(torch.isfinite(values).all() for values in step.metrics.values())


def resident_kib() -> int:
    """Memory of this process that lies in RAM now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="the resident size is read from Linux's /proc")
@pytest.mark.parametrize(
    "count, batch, steps, early, sensors, most_kib",
    [
        pytest.param(200, 2000, 500, 100, None, 20_000, id="a million steps"),
        pytest.param(4, 64, 400, 100, SMALL, 20_000, id="with pictures"),
    ],
)
def test_random_steps_leave_nobody_in_a_wall_and_leak_nothing(count, batch, steps, early, sensors, most_kib):
    pool = HomePool.procedural(count, seed=100)
    sim = Simulator(pool, "point_goal", num_envs=batch, seed=1, sensors=sensors, noise=Noise())
    policy, state = RandomPolicy(1, stop=0.01, sim=sim), sim.reset()
    visited = torch.zeros(len(pool), dtype=torch.bool)
    before = 0
    for index in range(steps):
        state, step = sim.step(state, policy(state))
        check_sane(sim, state, step)
        visited[state.home] = True
        state = sim.reset(state, step.done)
        if sensors and step.done.any():
            sim.observe(state, step.done)
        if index == early:
            before = resident_kib()
    assert visited.all()
    grown_kib = resident_kib() - before
    assert grown_kib < most_kib, f"the process grew by {grown_kib} KiB over the last {(steps - early) * batch:,} steps"


def test_hands_and_doors_never_put_anybody_in_a_wall(lively):
    sim = Simulator(lively, "rearrange", num_envs=32, seed=1, sensors=None, shut_doors=0.7)
    policy, state = RandomPolicy(1, stop=0.01, sim=sim), sim.reset()
    for _ in range(60):
        state, step = sim.step(state, policy(state))
        check_sane(sim, state, step)
        state = sim.reset(state, step.done)


@pytest.mark.parametrize("task", ["find_object", "point_goal"])
def test_no_episode_is_impossible(homes, task):
    sim = Simulator(homes, task, num_envs=256, seed=0, sensors=None)
    state = sim.reset()
    for _ in range(4):
        assert torch.isfinite(state.distance).all()
        assert (state.distance > 0).all()
        state = sim.reset(state)


poses = {"seed": st.integers(0, 2**31), "yaw": st.floats(-3.14, 3.14)}


def standing(pool: HomePool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    home = rng.integers(len(pool), size=1)
    grid = pool[int(home[0])].grid
    cells = np.argwhere(grid.free)
    return home, grid.centers(cells[rng.integers(len(cells))])[None]


@settings(max_examples=50, deadline=None)
@given(**poses)
def test_turning_full_circle_comes_back(homes, seed, yaw):
    home, position = standing(homes, seed)
    now = np.array([yaw])
    for _ in range(12):
        there, now, moved, touched = move(homes.grids, home, position, now, np.zeros(1), np.full(1, TURN_RAD))
        assert (there == position).all()
        assert not touched.any()
        assert moved[0] == 0
    assert abs((now[0] - yaw + np.pi) % (2 * np.pi) - np.pi) < 1e-9


@settings(max_examples=50, deadline=None)
@given(**poses)
def test_there_and_back_again_where_nothing_was_touched(homes, seed, yaw):
    home, position = standing(homes, seed)
    still = np.zeros(1)
    there, _, _, hit = move(homes.grids, home, position, np.array([yaw]), np.full(1, FORWARD_M), still)
    back, _, _, hit_back = move(homes.grids, home, there, np.array([yaw]), np.full(1, -FORWARD_M), still)
    if not hit[0] and not hit_back[0]:
        assert np.allclose(back, position, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(**poses, speed=st.floats(-0.29, 0.29))
def test_sliding_never_gains_speed_and_ends_on_free_floor(homes, seed, yaw, speed):
    home, position = standing(homes, seed)
    there, _, moved, _ = move(homes.grids, home, position, np.array([yaw]), np.full(1, speed), np.zeros(1))
    assert moved[0] <= abs(speed) + 1e-12
    assert homes.grids.is_free(home, there).all()


def test_a_home_without_floor_is_told():
    home = three_homes()[0]
    scene = replace(home, rooms=[], objects=[replace(item, room=-1) for item in home.objects])
    with pytest.raises(InputError, match="no rooms"):
        HomePool([scene])


def test_a_home_without_a_free_cell_is_told():
    full = make_home("full", 2.0, 2.0, [("table", "red", 1.0, 1.0, 1.9, 1.9, 0.8)])
    with pytest.raises(InputError, match="no free floor"):
        HomePool([full])


def test_a_broken_home_among_good_ones_is_left_out_with_its_name():
    broken = replace(make_home("broken", 4.0, 4.0), rooms=[])
    with pytest.warns(UserWarning, match="broken"):
        assert HomePool([*three_homes(), broken]).ids == ["home-a", "home-b", "home-c"]


def test_a_mesh_with_holes_shows_the_sky_and_is_walked_as_ever():
    whole = three_homes()[0]
    mesh = whole.mesh
    keep = np.arange(len(mesh.faces)) % 5 > 0
    torn = SceneMesh(mesh.vertices, mesh.faces[keep], mesh.face_colors[keep], mesh.face_instance[keep])
    sim = Simulator(HomePool([replace(whole, mesh=torn)]), num_envs=4, seed=0, sensors=SMALL)
    state = sim.reset()
    assert (sim.observe(state).depth == 0).any()
    check_sane(sim, *sim.step(state, torch.ones(4, dtype=torch.long)))


def test_a_door_to_nowhere_stays_shut():
    scene = three_homes()[0]
    door = Door(0, np.array([6.0, 2.0, 1.0, 0.1, 0.9, 2.0, 0.0]), (0, -1), open=False)
    pool = HomePool([replace(scene, doors=[door])], interactive=True)
    assert Hands(pool).most_doors == 0
    assert not pool[0].grid.is_free(np.array([[5.98, 2.0], [6.1, 2.0]])).any()


def test_storeys_are_homes_of_their_own():
    scene = three_homes()[1]
    upstairs = Room(1, "attic", scene.rooms[0].polygon.copy(), floor_z=3.0)
    tower = replace(scene, rooms=[*scene.rooms, upstairs])
    pool = HomePool([tower], goal_labels=["armchair"])
    assert pool.ids == ["home-b", "home-b#1"]
    assert pool.floor_z.tolist() == [0.0, 3.0]
    assert pool[1].prepared is pool[0].prepared
    assert not pool[0].grid.free.all()
    sim = Simulator(pool, "point_goal", num_envs=8, seed=0, sensors=SMALL)
    state = sim.reset()
    assert set(state.home.tolist()) == {0, 1}
    height = sim.poses(state)[:, 2, 3]
    assert np.allclose(height, 1.2 + 3.0 * state.home.numpy())


@pytest.mark.slow
def test_a_million_triangles_are_walked_and_seen():
    scene = three_homes()[1]
    mesh = scene.mesh
    while len(mesh.faces) < 1_000_000:
        corners = mesh.vertices[mesh.faces]
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        quarters = [middles, *(np.stack([corners[:, k], middles[:, k], middles[:, k - 1]], axis=1) for k in range(3))]
        triangles = np.concatenate(quarters)
        count = len(triangles)
        mesh = SceneMesh(
            triangles.reshape(-1, 3).astype(np.float32),
            np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
            np.tile(mesh.face_colors, (4, 1)),
            np.tile(mesh.face_instance, 4),
        )
    coarse, fine = (
        Simulator(HomePool([home], goal_labels=["armchair"]), num_envs=4, seed=0, sensors=SMALL)
        for home in (scene, replace(scene, mesh=mesh))
    )
    assert (coarse.homes[0].grid.free == fine.homes[0].grid.free).all()
    seen = [sim.observe(sim.reset()) for sim in (coarse, fine)]
    assert torch.allclose(seen[0].depth, seen[1].depth, atol=1e-4)


def test_walls_of_one_cell_hold_whatever_the_speed():
    pool = HomePool([make_home("split", 4.0, 4.0, walls=[wall(2.0, 0.0, 2.0, 4.0, thick=0.05)])])
    sim = Simulator(pool, "point_goal", num_envs=64, seed=0, sensors=None, control="continuous", noise=Noise(0.05, 0.1))
    state, policy = sim.reset(), RandomPolicy(0, sim=sim)
    side = state.position[:, 0] > 2.0
    for _ in range(100):
        state, _ = sim.step(state, policy(state))
    assert ((state.position[:, 0] > 2.0) == side).all()

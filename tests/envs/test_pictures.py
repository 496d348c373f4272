"""Pictures of a pool's homes: the same on both backends, ready when needed, freed with the pool."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.pictures import Pictures
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from scene.datasets.procedural import generate_home
from scene.render import Frame, Moving
from tests.envs.homes import three_homes

CAMERA = Sensors(width=20, height=16)


def alike(a: Frame, b: Frame) -> bool:
    agree = a.instance == b.instance
    close = (a.depth - b.depth).abs()[agree] <= 1e-4
    return bool(agree.float().mean() >= 0.995) and bool(close.float().mean() >= 0.999)


def test_both_backends_show_what_the_simulator_sees():
    sim = Simulator(HomePool(three_homes()), num_envs=12, seed=3, sensors=CAMERA)
    state = sim.reset()
    home, poses, seen = state.home.numpy(), sim.poses(state), sim.observe(state)
    embree = Pictures(sim.homes).draw(home, poses, CAMERA)
    assert all(torch.equal(getattr(embree, part), getattr(seen, part)) for part in ("rgb", "depth", "instance"))
    warp = Pictures(sim.homes, backend="warp")
    assert alike(warp.draw(home, poses, CAMERA), seen)
    larger = Sensors(width=33, height=24, fov_deg=60)
    assert alike(warp.draw(home, poses, larger), Pictures(sim.homes).draw(home, poses, larger))
    few = warp.draw(home[:3], poses[:3], CAMERA)
    more = warp.draw(np.tile(home, 2), np.tile(poses, (2, 1, 1)), CAMERA)  # more than the renderer had room for
    assert torch.equal(few.rgb, more.rgb[:3]) and torch.equal(more.rgb[:12], more.rgb[12:])


def test_things_and_doors_are_where_they_are_said_to_be_on_both():
    pool = HomePool([generate_home(3), generate_home(5)], interactive=True)
    sim = Simulator(pool, num_envs=6, seed=0, sensors=CAMERA)
    state = sim.reset()
    home, poses = state.home.numpy(), sim.poses(state)
    things = max(len(one.things) for one in pool.homes)
    pose = np.zeros((6, things, 4))
    pose[:, :, :3] = (poses[:, :3, 3] + 0.8 * poses[:, :3, 2])[:, None]  # all of them in front of the eye
    moving = Moving(torch.from_numpy(pose), torch.ones(6, things, dtype=torch.bool), torch.full((6,), 255))
    frames = [Pictures(pool, backend).draw(home, poses, CAMERA, moving) for backend in ("embree", "warp")]
    bare = Pictures(pool, "warp").draw(home, poses, CAMERA)
    assert alike(*frames) and (frames[1].depth != bare.depth).float().mean() > 0.01


def test_homes_are_made_ready_once_and_freed_with_their_pool():
    scenes = three_homes()
    first = HomePool(scenes)
    pictures = Pictures(first, "warp")
    pose = np.eye(4)[None]
    pose[0, :3, 3] = 2.0, 2.0, 1.2
    frames = [pictures.draw(np.array([k]), pose, CAMERA) for k in (2, 0, 2)]
    table = pictures._table
    assert table is not None and len(table) == 2 and torch.equal(frames[0].rgb, frames[2].rgb)
    second = HomePool.of(first.homes[1:])
    after = pictures.of_pool(second)
    assert len(table) == 1  # home 2 stays, now number 1 of its pool
    assert torch.equal(after.draw(np.array([1]), pose, CAMERA).rgb, frames[0].rgb) and len(table) == 1
    after.draw(np.array([0]), pose, CAMERA)
    assert len(table) == 2
    assert torch.equal(pictures.draw(np.array([0]), pose, CAMERA).rgb, frames[1].rgb)  # the old ones still serve


def test_what_cannot_be_drawn_says_why():
    pool = HomePool(three_homes())
    pose = np.eye(4)[None]
    moving = Moving(torch.zeros(1, 1, 4), torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(InputError, match="interactive=True"):
        Pictures(pool).draw(np.zeros(1, np.int64), pose, CAMERA, moving)
    with pytest.raises(InputError, match="did you mean 'embree'"):
        Pictures(pool, "embre")
    for backend in ("embree", "warp"):
        with pytest.raises(InputError, match="NaN"):
            Pictures(pool, backend).draw(np.zeros(1, np.int64), pose * np.nan, CAMERA)

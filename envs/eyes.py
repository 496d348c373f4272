"""What agents see: their cameras' poses, and pictures of the still home with what moves drawn over it."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from core.conventions import intrinsics_from_fov
from envs.handling import Hands
from envs.pool import HomePool
from envs.state import Sensors, SimState
from scene.moving import composite
from scene.render import Frame, Moving, render

if TYPE_CHECKING:
    from envs.warp_engine import WarpEngine


def eye_poses(homes: HomePool, state: SimState, camera: Sensors) -> Float64[ndarray, "B 4 4"]:
    """Camera-to-world matrices of the agents' eyes (core/conventions.camera_pose, batched)."""
    yaw, pitch = state.yaw.cpu().numpy(), np.deg2rad(camera.pitch_deg) + state.pitch.cpu().numpy()
    cos, sin, up, level = np.cos(yaw), np.sin(yaw), np.sin(pitch), np.cos(pitch)
    pose = np.zeros((len(yaw), 4, 4))
    pose[:, 0, 0], pose[:, 1, 0] = sin, -cos  # right
    pose[:, 0, 1], pose[:, 1, 1], pose[:, 2, 1] = cos * up, sin * up, -level  # down
    pose[:, 0, 2], pose[:, 1, 2], pose[:, 2, 2] = cos * level, sin * level, up
    pose[:, :2, 3] = state.position.cpu().numpy()
    pose[:, 2, 3] = homes.floor_z[state.home.cpu().numpy()] + camera.eye_height_m
    pose[:, 3, 3] = 1.0
    return pose


def draw(homes: HomePool, hands: Hands | None, engine: "WarpEngine | None", state: SimState, camera: Sensors) -> Frame:
    """What the agents of a state see through a camera, on the engine's device or, without one, on the CPU."""
    home = state.home.cpu().numpy()
    moving = None
    if engine is None or hands is not None:
        poses = eye_poses(homes, state, camera)
    if hands is not None and state.world is not None:
        moving = hands.drawn(state.world, home, poses)
    if engine is not None:
        to = engine.device
        return engine.render(state, camera, moving and Moving(*(torch.from_numpy(part).to(to) for part in moving)))
    used, index = np.unique(home, return_inverse=True)
    seen = [homes[int(k)] for k in used]
    lens = intrinsics_from_fov(camera.width, camera.height, np.deg2rad(camera.fov_deg))
    frame = render([place.prepared for place in seen], poses, lens, camera.width, camera.height, index)
    if moving is not None:
        parts = [place.moving for place in seen]
        composite(frame, parts, index, *moving, poses, lens, camera.width, camera.height)
    return frame

"""The one page of conventions. Every other file cites it; nothing guesses a layout.

| quantity      | convention                                                                        |
|---------------|-----------------------------------------------------------------------------------|
| world         | right-handed, z up, metres, radians; yaw about +z, 0 along +x, counter-clockwise   |
| camera        | OpenCV: x right, y down, z forward; `extrinsics` = camera-to-world (4, 4);         |
|               | pixel centres at +0.5                                                             |
| box           | 7 numbers: centre xyz, size xyz (full extents), yaw; axis-aligned = yaw 0          |
| quaternion    | wxyz, unit                                                                        |
| images        | uint8 (H, W, 3) at every boundary; float (3, H, W) only inside a model             |
| depth         | float32 metres along the camera z axis, 0 = nothing hit                           |
| instance ids  | int32, 0..N-1 index `scene.objects`, -1 = none                                    |
| letters       | B items or environments, T steps, N objects, P points, L tokens, D features,      |
|               | H W pixels, V vertices, F faces                                                   |
| randomness    | an explicit torch.Generator, numpy.random.Generator or seed argument              |
"""

import numpy as np
from jaxtyping import Float, Float64
from numpy import ndarray

NO_INSTANCE = -1


def camera_pose(position: Float[ndarray, "3"], yaw_rad: float, pitch_rad: float = 0.0) -> Float64[ndarray, "4 4"]:
    """Camera-to-world matrix of a camera that looks along `yaw_rad`; positive pitch looks up."""
    cy, sy, cp, sp = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(pitch_rad), np.sin(pitch_rad)
    forward = np.array([cy * cp, sy * cp, sp])
    right = np.array([sy, -cy, 0.0])
    down = np.cross(forward, right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, down, forward, position
    return pose


def intrinsics_from_fov(width: int, height: int, fov_rad: float) -> Float64[ndarray, "3 3"]:
    """Pinhole intrinsics with square pixels from the horizontal field of view; the axis hits the image's middle."""
    focal = 0.5 * width / np.tan(0.5 * fov_rad)
    return np.array([[focal, 0.0, 0.5 * width], [0.0, focal, 0.5 * height], [0.0, 0.0, 1.0]])


def wrap_angle(angle_rad: Float[ndarray, "*s"]) -> Float[ndarray, "*s"]:
    """The same angle in [-pi, pi)."""
    return (angle_rad + np.pi) % (2 * np.pi) - np.pi

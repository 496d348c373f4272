"""Noise of a depth camera, the same for a given episode, step and pixel whatever the batch."""

import numpy as np
from jaxtyping import Float32, Int64
from numba import njit
from numpy import ndarray

from envs.counter_random import scrambled

LEAST_M = 1e-3  # noise never makes a hit look like a miss


@njit(cache=True, nogil=True)
def _add(depth, key, step, scale):
    for b in range(depth.shape[0]):
        start = scrambled(scrambled(np.uint64(key[b])) ^ np.uint64(step[b]))
        for p in range(depth.shape[1]):
            z = depth[b, p]
            if z == 0.0:
                continue
            bits = scrambled(start ^ np.uint64(p))
            # two uniform halves of 26 bits each make one normal draw
            u = ((bits >> np.uint64(38)) + 0.5) * 2.0**-26
            v = ((bits >> np.uint64(12)) & np.uint64(0x3FFFFFF)) * 2.0**-26
            draw = np.sqrt(-2.0 * np.log(u)) * np.cos(2 * np.pi * v)
            sigma = 0.0012 + 0.0019 * (z - 0.4) ** 2
            depth[b, p] = max(np.float32(z + scale * sigma * draw), np.float32(LEAST_M))


def add_depth_noise(
    depth: Float32[ndarray, "B H W"], key: Int64[ndarray, " B"], step: Int64[ndarray, " B"], scale: float
) -> None:
    """Adds axial noise to depth pictures in place; pixels that hit nothing (0) stay.

    Args:
        depth: metres along the camera's axis, contiguous.
        key: of each episode. step: actions taken so far.
        scale: times 1.2 mm + 1.9 mm (z - 0.4)^2, the spread measured for a Kinect (Nguyen et al., 3DIMPVT 2012, eq. 4,
            z in metres).
    """
    _add(depth.reshape(len(depth), -1), key, step, scale)

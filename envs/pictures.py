"""What agents in a pool of homes see, on either backend of scene/render.py.

    pictures = Pictures(homes, backend="warp", device="cuda")
    frame = pictures.draw(home, poses, Sensors(), moving)

Homes get ready when an agent first stands in them. With Embree their search trees stay with them (Home.prepared) and
serve all simulators; with Warp they lie on the device until a pool comes that lacks them.
"""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float64, Int64
from numpy import ndarray

from core.conventions import intrinsics_from_fov
from core.errors import InputError, check_choice
from envs.pool import Home, HomePool
from envs.state import Sensors
from scene.moving import composite
from scene.render import BACKENDS, Frame, Moving, render

if TYPE_CHECKING:
    from scene.render_warp import WarpHomes, WarpRenderer


class Pictures:
    """Draws cameras in the homes of a pool.

    Args:
        backend: a name of scene.render.BACKENDS: "embree" draws on the CPU, "warp" on CUDA (never run there) or,
            slower than Embree, on the CPU.
        device: where frames are handed out; Embree's are copied there.

    Raises:
        InputError: an unknown backend, or a device that is not there.
        MissingLibraryError: the backend's library does not load.
    """

    def __init__(self, homes: HomePool, backend: str = "embree", device: str | torch.device = "cpu") -> None:
        check_choice("backend", backend, BACKENDS)
        self.homes, self.backend, self.device = homes, backend, torch.device(device)
        self._table = _table(device) if backend == "warp" else None
        self._numbers: dict[Home, int] = {}  # of the homes in the table
        self._renderers: dict[Sensors, WarpRenderer] = {}

    def of_pool(self, homes: HomePool) -> "Pictures":
        """The same for another pool: homes in both stay ready, the others are freed."""
        twin = copy.copy(self)
        twin.homes = homes
        if self._table is not None:
            staying = {_ground(home) for home in homes.homes}
            for home in [home for home in self._numbers if home not in staying]:
                self._table.drop(self._numbers.pop(home))
        return twin

    def draw(
        self,
        home: Int64[ndarray, " B"],
        poses: Float64[ndarray, "B 4 4"],
        camera: Sensors,
        moving: Moving | None = None,
    ) -> Frame:
        """Frames of B cameras; fresh tensors.

        Args:
            home: per camera its index in the pool.
            poses: camera to world.
            moving: where the moving things of an interactive pool are; left out, none is drawn.

        Raises:
            InputError: moving things in a pool where nothing moves; see also scene.render.render.
        """
        if moving is not None and not self.homes.interactive:
            raise InputError("nothing moves in these homes; make the pool with interactive=True")
        used, index = np.unique(home, return_inverse=True)
        lens = intrinsics_from_fov(camera.width, camera.height, np.deg2rad(camera.fov_deg))
        if self._table is not None:
            return self._draw_with_warp(used, index, poses, camera, lens, moving)
        homes = [self.homes[int(k)] for k in used]
        frame = render([one.prepared for one in homes], poses, lens, camera.width, camera.height, index)
        if moving is not None:
            composite(
                frame, [one.moving for one in homes], index, moving.pose, moving.visible, moving.doors_shut,
                poses, lens, camera.width, camera.height,
            )  # fmt: skip
        if self.device.type == "cpu":
            return frame
        return Frame(frame.rgb.to(self.device), frame.depth.to(self.device), frame.instance.to(self.device))

    def _draw_with_warp(
        self,
        used: Int64[ndarray, " U"],
        index: Int64[ndarray, " B"],
        poses: Float64[ndarray, "B 4 4"],
        camera: Sensors,
        lens: Float64[ndarray, "3 3"],
        moving: Moving | None,
    ) -> Frame:
        from scene.render_warp import WarpRenderer

        assert self._table is not None
        numbers = np.array([self._ready(self.homes[int(k)]) for k in used], dtype=np.int32)
        renderer = self._renderers.get(camera)
        if renderer is None or renderer.batch < len(poses):
            # homes are ready and poses come from states, so nothing is left to check
            renderer = WarpRenderer(self._table, camera.width, camera.height, lens, max(1, len(poses)), check=False)
            self._renderers[camera] = renderer
        if not np.isfinite(poses).all():
            raise InputError("camera poses hold NaN or infinity; check where the agents are")
        return renderer.render(
            torch.from_numpy(numbers[index]), torch.from_numpy(poses[:, :3].astype(np.float32)), moving
        )

    def _ready(self, home: Home) -> int:
        """The number of a home in the table; storeys of one scene share it."""
        assert self._table is not None
        ground = _ground(home)
        if ground not in self._numbers:
            taken = set(self._numbers.values())
            number = next(k for k in range(len(taken) + 1) if k not in taken)
            self._table.put(number, ground.scene, moving=ground.interactive)
            self._numbers[ground] = number
        return self._numbers[ground]


def _table(device: str | torch.device) -> "WarpHomes":
    """An empty table of homes; imports warp."""
    from scene.render_warp import WarpHomes

    return WarpHomes(device)


def _ground(home: Home) -> Home:
    """The storey that keeps what a scene's storeys share."""
    return home.ground or home

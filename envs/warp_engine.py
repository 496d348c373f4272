"""Walking, distances and pictures of a simulator on one device, as Warp kernels on torch tensors.

`Simulator(..., backend="warp", device="cuda")` uses it; tests run it in Warp's CPU mode beside numba and Embree, and on
CUDA beside that. Hands, doors and random draws stay on the host, and so do actions on their way in: a few numbers an
agent cross over at each step, beside a picture that does not.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from core.conventions import intrinsics_from_fov
from core.errors import InputError
from envs.goals import GoalFields
from envs.pool import Home, HomePool
from envs.state import Sensors, SimState
from envs.warp_motion import DeviceGrids, device_units, distance, move
from scene.render import Frame, Moving
from scene.render_warp import WarpHomes, WarpRenderer


class WarpEngine:
    """What a simulator's homes and goals are on one device.

    Args:
        batch: the most environments of one call.
        homes_drawn: of an earlier engine on the same device, whose homes are kept where they are the same. The earlier
            engine draws no more.

    Raises:
        InputError: the device is not there, or the distance fields do not fit in memory all at once.
    """

    def __init__(
        self,
        homes: HomePool,
        fields: GoalFields,
        device: torch.device,
        batch: int,
        previous: "WarpEngine | None" = None,
    ) -> None:
        self.homes, self.fields, self.device, self.batch = homes, fields, device, batch
        self.grids = DeviceGrids.of(homes.grids, device)
        if not fields.complete:
            raise InputError(
                "the distance fields of all goals do not fit in memory at once, as this backend needs; use fewer homes "
                "in the pool, or GoalFields with a larger max_bytes"
            )
        self.units = device_units(fields.units, device)
        self.inside = torch.from_numpy(fields.inside).to(device)
        self.slot, self.last = (
            torch.from_numpy(table).to(device) for table in (fields.slot_table, fields.last_stage_table)
        )
        self.floor_z = torch.from_numpy(homes.floor_z).to(device)
        self._drawn: WarpHomes = WarpHomes(device) if previous is None else previous._drawn
        self._renderers: dict[Sensors, WarpRenderer] = {} if previous is None else previous._renderers
        self._shown: list[Home] = [] if previous is None else previous._shown  # the homes put, by number

    def move(
        self,
        state: SimState,
        forward: Float64[np.ndarray, " B"],
        turn: Float64[np.ndarray, " B"],
        drift: Float64[np.ndarray, " B"] | None,
        slide: bool,
    ) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, " B"], Float64[Tensor, " B"], Bool[Tensor, " B"]]:
        """envs.motion.move from a state."""
        doors = None if state.world is None else state.world.doors
        return move(
            self.grids, state.home, state.position, state.yaw, self._to(forward), self._to(turn),
            drift=None if drift is None else self._to(drift), doors=doors, slide=slide,
        )  # fmt: skip

    def walk(
        self, state: SimState, position: Float64[Tensor, "B 2"]
    ) -> tuple[Int64[Tensor, " B"], Float64[Tensor, " B"]]:
        """Stages passed by being at `position`, and the distance through what is left."""
        slot, last = self.slot[state.home, state.goal], self.last[state.home, state.goal]
        stage = state.stage
        if self.fields.stages > 1:
            index = torch.floor((position - self.grids.origin[state.home]) / self.grids.cell_m).long()
            cell = index[:, 1] * self.grids.shape[state.home, 1] + index[:, 0]
            for _ in range(self.fields.stages - 1):
                stage = stage + (self.inside[slot, stage, cell] & (stage < last)).long()
        return stage, distance(self.grids, self.units, self.fields.unit_m, state.home, slot, stage, position)

    def render(self, state: SimState, camera: Sensors, moving: Moving | None) -> Frame:
        """What the agents see; fresh tensors on the device."""
        homes, shown = self.homes.homes, self._shown
        for number, home in enumerate(homes):
            if number >= len(shown) or shown[number] is not home:
                self._drawn.put(number, home.scene, moving=home.interactive)
        for number in range(len(homes), len(shown)):
            self._drawn.drop(number)
        shown[:] = homes
        if camera not in self._renderers:
            lens = intrinsics_from_fov(camera.width, camera.height, np.deg2rad(camera.fov_deg))
            self._renderers[camera] = WarpRenderer(
                self._drawn, camera.width, camera.height, lens, self.batch, check=self.device.type == "cpu"
            )
        return self._renderers[camera].render(state.home, self.poses(state, camera), moving)

    def poses(self, state: SimState, camera: Sensors) -> Float64[Tensor, "B 4 4"]:
        """Camera-to-world matrices, as Simulator.poses."""
        yaw, pitch = state.yaw, state.pitch + np.deg2rad(camera.pitch_deg)
        cos, sin, up, level = yaw.cos(), yaw.sin(), pitch.sin(), pitch.cos()
        none, one = torch.zeros_like(yaw), torch.ones_like(yaw)
        height = self.floor_z[state.home] + camera.eye_height_m
        rows = [
            torch.stack([sin, cos * up, cos * level, state.position[:, 0]], 1),
            torch.stack([-cos, sin * up, sin * level, state.position[:, 1]], 1),
            torch.stack([none, -level, up, height], 1),
            torch.stack([none, none, none, one], 1),
        ]
        return torch.stack(rows, 1)

    def _to(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

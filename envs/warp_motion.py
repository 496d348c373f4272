# mypy: disable-error-code="arg-type, attr-defined, index, operator, assignment, return-value"
"""Walking and walking distances on the device that draws the pictures: envs/motion.py and the look-up of
envs/goals.py as Warp kernels on torch tensors, one thread an agent.

Same rules and same float64 arithmetic as envs/motion.py: in Warp's CPU mode (tests) agents end up on the same numbers.
On CUDA sine and cosine may differ in the last bit, which rarely puts an agent into the next cell (test marked gpu).
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from envs.geodesic import UNREACHABLE
from envs.motion import ALL_OPEN, PIECES, GridStack
from scene.warp_kernels import wp

_PIECES = wp.constant(wp.float64(PIECES))
_COUNT = wp.constant(PIECES)
_PI, _FULL_TURN = wp.constant(wp.float64(np.pi)), wp.constant(wp.float64(2 * np.pi))
_NOTHING = wp.constant(wp.float64(0.0))
_NO_WAY = wp.constant(int(UNREACHABLE))
_INFINITE = wp.constant(wp.float64(math.inf))


@wp.func
def _free(free: wp.array[wp.uint8], shut: wp.array[wp.int64], doors: wp.int64, cell: wp.int64) -> wp.bool:
    """Whether a cell may be stood on with the given doors open."""
    if free[cell] == wp.uint8(0):
        return False
    if shut.shape[0] == 1:
        return True
    return (shut[cell] & ~doors) == wp.int64(0)


@wp.func
def _allowed(
    free: wp.array[wp.uint8],
    shut: wp.array[wp.int64],
    doors: wp.int64,
    offset: wp.int64,
    rows: wp.int64,
    columns: wp.int64,
    row: wp.int64,
    column: wp.int64,
    next_row: wp.int64,
    next_column: wp.int64,
) -> wp.bool:
    """Whether the step between two neighbouring (or equal) cells ends free and does not squeeze between corners."""
    if next_row == row and next_column == column:
        return True
    if next_row < wp.int64(0) or next_column < wp.int64(0) or next_row >= rows or next_column >= columns:
        return False
    if not _free(free, shut, doors, offset + next_row * columns + next_column):
        return False
    if next_row != row and next_column != column:
        if _free(free, shut, doors, offset + next_row * columns + column):
            return True
        return _free(free, shut, doors, offset + row * columns + next_column)
    return True


@wp.kernel(enable_backward=False)
def _move(
    free: wp.array[wp.uint8],
    shut: wp.array[wp.int64],
    offset: wp.array[wp.int64],
    shape: wp.array2d[wp.int64],
    origin: wp.array2d[wp.float64],
    cell_m: wp.float64,
    slide: wp.int32,
    home: wp.array[wp.int64],
    position: wp.array2d[wp.float64],
    yaw: wp.array[wp.float64],
    forward: wp.array[wp.float64],
    turn: wp.array[wp.float64],
    drift: wp.array[wp.float64],  # (B,) or (1,)
    doors: wp.array[wp.int64],  # (B,) or (1,)
    new_position: wp.array2d[wp.float64],
    new_yaw: wp.array[wp.float64],
    moved: wp.array[wp.float64],
    touched: wp.array[wp.bool],
):
    b = wp.tid()
    x = position[b, 0]
    y = position[b, 1]
    angle = yaw[b]
    hit = wp.bool(False)
    if forward[b] != _NOTHING:
        h = home[b]
        heading = angle + drift[b % drift.shape[0]]
        open_doors = doors[b % doors.shape[0]]
        dx = wp.cos(heading) * forward[b] / _PIECES
        dy = wp.sin(heading) * forward[b] / _PIECES
        row = wp.int64(wp.floor((y - origin[h, 1]) / cell_m))
        column = wp.int64(wp.floor((x - origin[h, 0]) / cell_m))
        attempts = wp.int32(1)
        if slide != 0:
            attempts = wp.int32(3)
        for _piece in range(_COUNT):
            done = wp.bool(False)
            for attempt in range(attempts):
                if not done:
                    to_x = x + dx
                    to_y = y + dy
                    if attempt > 0:
                        if (attempt == 1) == (wp.abs(dx) >= wp.abs(dy)):
                            to_y = y
                        else:
                            to_x = x
                    to_row = wp.int64(wp.floor((to_y - origin[h, 1]) / cell_m))
                    to_column = wp.int64(wp.floor((to_x - origin[h, 0]) / cell_m))
                    if _allowed(
                        free, shut, open_doors, offset[h], shape[h, 0], shape[h, 1], row, column, to_row, to_column
                    ):
                        x = to_x
                        y = to_y
                        row = to_row
                        column = to_column
                        done = wp.bool(True)
                    else:
                        hit = wp.bool(True)
        away_x = x - position[b, 0]
        away_y = y - position[b, 1]
        moved[b] = wp.sqrt(away_x * away_x + away_y * away_y)
    else:
        moved[b] = _NOTHING
    new_position[b, 0] = x
    new_position[b, 1] = y
    touched[b] = hit
    if turn[b] != _NOTHING:
        around = wp.mod(angle + turn[b] + _PI, _FULL_TURN)
        if around < _NOTHING:  # the remainder has the sign of what is divided
            around += _FULL_TURN
        angle = around - _PI
    new_yaw[b] = angle


@wp.kernel(enable_backward=False)
def _look_up(
    shape: wp.array2d[wp.int64],
    origin: wp.array2d[wp.float64],
    cell_m: wp.float64,
    unit_m: wp.float64,
    units: wp.array3d[wp.uint16],
    home: wp.array[wp.int64],
    slot: wp.array[wp.int64],
    stage: wp.array[wp.int64],
    position: wp.array2d[wp.float64],
    distance: wp.array[wp.float64],
):
    b = wp.tid()
    h = home[b]
    column = wp.int64(wp.floor((position[b, 0] - origin[h, 0]) / cell_m))
    row = wp.int64(wp.floor((position[b, 1] - origin[h, 1]) / cell_m))
    way = wp.int32(units[slot[b], stage[b], row * shape[h, 1] + column])
    if way == _NO_WAY:
        distance[b] = _INFINITE
    else:
        distance[b] = wp.float64(way) * unit_m


@dataclass(eq=False)
class DeviceGrids:
    """A GridStack's arrays as tensors on one device; fields as there."""

    free: UInt8[Tensor, " C"]
    shut: Int64[Tensor, " C"]  # one zero where no door moves
    offset: Int64[Tensor, " M"]
    shape: Int64[Tensor, "M 2"]
    origin: Float64[Tensor, "M 2"]
    cell_m: float
    arrays: list[Any] = field(repr=False, default_factory=list)  # descriptors of the five for Warp

    @classmethod
    def of(cls, grids: GridStack, device: str | torch.device) -> "DeviceGrids":
        """Copies the grids once; they do not change afterwards."""
        tensors = [
            torch.from_numpy(np.ascontiguousarray(part)).to(device)
            for part in (
                grids.free.astype(np.uint8), grids.shut.astype(np.int64), grids.offset, grids.shape, grids.origin
            )
        ]  # fmt: skip
        free, shut, offset, shape, origin = tensors
        return cls(free, shut, offset, shape, origin, grids.cell_m, [_descriptor(tensor) for tensor in tensors])

    @property
    def device(self) -> torch.device:
        return self.free.device


def move(
    grids: DeviceGrids,
    home: Int64[Tensor, " B"],
    position: Float64[Tensor, "B 2"],
    yaw: Float64[Tensor, " B"],
    forward: Float64[Tensor, " B"],
    turn: Float64[Tensor, " B"],
    *,
    drift: Float64[Tensor, " B"] | None = None,
    doors: Int64[Tensor, " B"] | None = None,
    slide: bool = True,
) -> tuple[Float64[Tensor, "B 2"], Float64[Tensor, " B"], Float64[Tensor, " B"], Bool[Tensor, " B"]]:
    """envs.motion.move on tensors of the grids' device; arguments and returns as there.

    Raises:
        InputError: a tensor on another device, or of another type or shape.
    """
    batch = len(home)
    drift = torch.zeros(1, dtype=torch.float64, device=grids.device) if drift is None else drift
    doors = torch.full((1,), ALL_OPEN, device=grids.device) if doors is None else doors
    given = {
        "home": (home, torch.int64, (batch,)),
        "position": (position, torch.float64, (batch, 2)),
        "yaw": (yaw, torch.float64, (batch,)),
        "forward": (forward, torch.float64, (batch,)),
        "turn": (turn, torch.float64, (batch,)),
        "drift": (drift, torch.float64, (len(drift),)),
        "doors": (doors, torch.int64, (len(doors),)),
    }
    inputs = _arrays(given, grids.device)
    if not {len(drift), len(doors)} <= {1, batch}:
        raise InputError(f"move() has {batch} agents, but {len(drift)} drifts and {len(doors)} door masks")
    out = (
        torch.empty_like(position),
        torch.empty_like(yaw),
        torch.empty_like(yaw),
        torch.empty_like(yaw, dtype=torch.bool),
    )
    _launch(
        _move, grids, [*grids.arrays, grids.cell_m, int(slide), *inputs, *(_descriptor(part) for part in out)], batch
    )
    return out


def distance(
    grids: DeviceGrids,
    units: UInt16[Tensor, "R S C"],
    unit_m: float,
    home: Int64[Tensor, " B"],
    slot: Int64[Tensor, " B"],
    stage: Int64[Tensor, " B"],
    position: Float64[Tensor, "B 2"],
) -> Float64[Tensor, " B"]:
    """Walking distance in metres from world positions (on the grid); infinite where there is no way.

    Args:
        units: GoalFields.units on the grids' device (`device_units`). unit_m: metres of one unit.
        slot: per agent its row of `units` (GoalFields.slots). stage: its column.

    Raises:
        InputError: a tensor on another device, or of another type or shape.
    """
    batch = len(home)
    given = {
        "home": (home, torch.int64, (batch,)),
        "slot": (slot, torch.int64, (batch,)),
        "stage": (stage, torch.int64, (batch,)),
        "position": (position, torch.float64, (batch, 2)),
    }
    inputs = _arrays(given, grids.device)
    out = torch.empty(batch, dtype=torch.float64, device=grids.device)
    table = wp.from_torch(units.view(torch.int16), dtype=wp.uint16, return_ctype=True)
    _launch(_look_up, grids, [*grids.arrays[3:], grids.cell_m, unit_m, table, *inputs, _descriptor(out)], batch)
    return out


def device_units(units: UInt16[ndarray, "R S C"], device: str | torch.device) -> UInt16[Tensor, "R S C"]:
    """Distance fields on a device."""
    return torch.from_numpy(np.ascontiguousarray(units).view(np.int16)).to(device).view(torch.uint16)


def _arrays(given: dict[str, tuple[Tensor, torch.dtype, tuple[int, ...]]], device: torch.device) -> list[Any]:
    """Tensors as Warp sees them, checked."""
    for name, (tensor, dtype, shape) in given.items():
        if (tensor.device, tensor.dtype, tuple(tensor.shape)) != (device, dtype, shape):
            raise InputError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}, "
                f"expected {dtype} of shape {shape} on {device}"
            )
    return [_descriptor(tensor) for tensor, _, _ in given.values()]


def _descriptor(tensor: Tensor) -> Any:
    """What a kernel is told of a tensor, strides included; the tensor has to live until the launch."""
    return wp.from_torch(tensor, return_ctype=True)


def _launch(kernel: Any, grids: DeviceGrids, inputs: list[Any], batch: int) -> None:
    """On torch's current stream."""
    stream = wp.stream_from_torch(torch.cuda.current_stream(grids.device)) if grids.device.type == "cuda" else None
    if batch:
        wp.launch(kernel, dim=batch, inputs=inputs, device=wp.device_from_torch(grids.device), stream=stream)

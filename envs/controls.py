"""Actions to motions: what numbers or speeds mean, and how noise makes them stray."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, check_choice
from envs import counter_random
from envs.motion import FORWARD_M, LONGEST_M, TILT_RAD, TURN_RAD
from envs.state import (
    ACTION_NAMES,
    FORWARD,
    LOOK_DOWN,
    LOOK_UP,
    OPEN,
    PICK,
    PLACE,
    STOP,
    TURN_LEFT,
    TURN_RIGHT,
    Noise,
)

CONTROLS = ("discrete", "continuous")
STILL = 0.1  # continuous control: below this share of full speed, in all it does, the agent stops
_FORWARD_DRAW, _DRIFT_DRAW, _TURN_DRAW = range(16, 19)  # numbers of the draws of an action's noise


@dataclass(frozen=True, eq=False)
class Motion:
    """What B agents do in one step; nothing at all where an episode has ended."""

    forward: Float64[ndarray, " B"]  # metres along the heading
    turn: Float64[ndarray, " B"]  # radians, positive to the left
    stopping: Bool[ndarray, " B"]
    reaching: Int64[ndarray, " B"]  # PICK, PLACE or OPEN; 0 = hands rest
    tilt: Float64[ndarray, " B"] | None = None  # radians, positive up; None where heads do not tilt
    drift: Float64[ndarray, " B"] | None = None  # radians by which a walk strays from the heading


class Controls:
    """The actions a simulator offers.

    Args:
        kind: "discrete" (numbers of `names`) or "continuous" (speeds in [-1, 1]).
        tilt, hands, doors: actions beyond Habitat's four.

    Attributes:
        names: what the actions 0, 1, ... are called; the first four are always stop, forward, turn left, turn right.
        codes: their codes in envs/state.py.

    Raises:
        InputError: an unknown kind, or hands or doors with speeds, which have no way to ask for them.
    """

    def __init__(self, kind: str = "discrete", *, tilt: bool = False, hands: bool = False, doors: bool = False) -> None:
        check_choice("control", kind, CONTROLS)
        if kind == "continuous" and (hands or doors):
            raise InputError("hands and doors need control='discrete': speeds have no way to say pick, place or open")
        codes = [STOP, FORWARD, TURN_LEFT, TURN_RIGHT]
        codes += [LOOK_UP, LOOK_DOWN] * tilt + [PICK, PLACE] * hands + [OPEN] * doors
        self.kind, self.tilt = kind, tilt
        self.codes: Int64[ndarray, " A"] = np.array(codes, dtype=np.int64)
        self.names = tuple(ACTION_NAMES[code] for code in codes)

    @property
    def size(self) -> int:
        """Numbers of a continuous action: speed, turn, and tilt where there is one."""
        return 3 if self.tilt else 2

    def decode(self, action: Tensor, active: Bool[ndarray, " B"]) -> Motion:
        """The motions of B agents; Simulator.step says what actions are.

        Args:
            active: agents whose episode goes on.

        Raises:
            InputError: actions of a wrong shape, type or value.
        """
        values = torch.as_tensor(action).detach().cpu().numpy()
        if self.kind == "continuous":
            return self._speeds(values, active)
        code = np.where(active, self.codes[self._numbers(values, len(active))], -1)
        return Motion(
            _FORWARD_OF[code],
            _TURN_OF[code],
            code == STOP,
            np.where(code >= PICK, code, 0),
            _TILT_OF[code] if self.tilt else None,
        )

    def _numbers(self, values: ndarray, batch: int) -> Int64[ndarray, " B"]:
        count = len(self.names)
        if values.shape != (batch,):
            raise InputError(f"actions have shape {values.shape}, expected ({batch},): one per environment")
        if values.dtype.kind not in "iu":
            raise InputError(f"actions are whole numbers 0..{count - 1}, got type {values.dtype}")
        if batch and (values.min() < 0 or values.max() >= count):
            known = ", ".join(f"{number} {name}" for number, name in enumerate(self.names))
            raise InputError(f"actions hold {values.min()}..{values.max()}; there are: {known}")
        return values.astype(np.int64, copy=False)

    def _speeds(self, values: ndarray, active: Bool[ndarray, " B"]) -> Motion:
        batch = len(active)
        if values.shape != (batch, self.size) or values.dtype.kind != "f":
            raise InputError(
                f"continuous actions are floats of shape ({batch}, {self.size}), got {values.shape} of {values.dtype}"
            )
        if not np.isfinite(values).all():
            raise InputError("continuous actions hold NaN or infinity; look at what the policy puts out")
        speed = np.clip(values.astype(np.float64), -1.0, 1.0) * active[:, None]
        stopping = (np.abs(speed) < STILL).all(axis=1) & active
        speed = np.where(stopping[:, None], 0.0, speed)
        return Motion(
            FORWARD_M * speed[:, 0],
            TURN_RAD * speed[:, 1],
            stopping,
            np.zeros(batch, np.int64),
            TILT_RAD * speed[:, 2] if self.tilt else None,
        )


def stray(motion: Motion, noise: Noise, key: Int64[ndarray, " B"], step: Int64[ndarray, " B"]) -> Motion:
    """The motions with noise; a walk or a turn that was not asked for never happens.

    Args:
        key: of each episode. step: actions taken so far.
    """
    length, drift, turn = (counter_random.normal(key, step, n) for n in (_FORWARD_DRAW, _DRIFT_DRAW, _TURN_DRAW))
    walked = np.clip(motion.forward + noise.forward_m * length, -LONGEST_M, LONGEST_M)
    return replace(
        motion,
        forward=np.where(motion.forward != 0, walked, 0.0),
        turn=motion.turn + (motion.turn != 0) * noise.turn_rad * turn,
        drift=noise.drift_rad * drift,
    )


def _table(entries: dict[int, float]) -> Float64[ndarray, " A"]:
    """What each action code amounts to; index -1 is no action at all."""
    return np.array([entries.get(code, 0.0) for code in range(len(ACTION_NAMES))] + [0.0])


_FORWARD_OF = _table({FORWARD: FORWARD_M})
_TURN_OF = _table({TURN_LEFT: TURN_RAD, TURN_RIGHT: -TURN_RAD})
_TILT_OF = _table({LOOK_UP: TILT_RAD, LOOK_DOWN: -TILT_RAD})

"""How far the humanoid is in a pose, measured by hand-made rules on where its parts are.

The paper's figures rest on people who watched videos. These rules stand in for them, so that agents and reward models
can be measured without people: each pose is a few conditions, each met by a share in [0, 1] that grows linearly between
two values of a height, distance or angle; progress is the mean share, and the pose is struck where every share is at
least 0.8. The thresholds are ours, from the model's measures (standing, its head is 1.6 m and its pelvis 0.98 m high).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

STRUCK = 0.8  # share that every condition of a struck pose reaches at least


@dataclass(frozen=True)
class Parts:
    """Where the humanoid's parts are; metres in the world, sides in the order left, right.

    Attributes:
        head, pelvis: (3,) centres.
        hands, feet, knees, hips: (2, 3).
        hands_of_torso: (2, 3) hands seen from the torso: x forward, y left, z up.
        upright: height of the torso's up direction, 1 = vertical, -1 = on its head.
        knee_bend_rad: (2,) 0 = straight.
    """

    head: Float64[ndarray, "3"]
    pelvis: Float64[ndarray, "3"]
    hands: Float64[ndarray, "2 3"]
    feet: Float64[ndarray, "2 3"]
    knees: Float64[ndarray, "2 3"]
    hips: Float64[ndarray, "2 3"]
    hands_of_torso: Float64[ndarray, "2 3"]
    upright: float
    knee_bend_rad: Float64[ndarray, "2"]


def share(value: float, none: float, full: float) -> float:
    """0 at `none`, 1 at `full`, linear between, constant beyond; `none` may be the larger."""
    return float(np.clip((value - none) / (full - none), 0, 1))


def _standing(p: Parts) -> list[float]:
    return [share(p.head[2], 0.5, 1.45), share(p.upright, 0.2, 0.9), share(float(p.feet[:, 2].min()), 0.5, 0.2)]


def _legs_straight(p: Parts) -> float:
    return share(float(p.knee_bend_rad.max()), 1.5, 0.6)


def _kneeling(p: Parts) -> list[float]:
    low = share(float(p.knees[:, 2].max()), 0.5, 0.15)
    bent = share(float(p.knee_bend_rad.min()), 0.3, 1.2)
    return [low, bent, share(p.upright, 0.2, 0.9), share(p.pelvis[2], 0.9, 0.65), share(p.pelvis[2], 0.2, 0.3)]


def _lotus(p: Parts) -> list[float]:
    seated, bent = share(p.pelvis[2], 0.9, 0.25), share(float(p.knee_bend_rad.min()), 0.3, 1.5)
    reach = float(np.linalg.norm(p.feet[:, :2] - p.pelvis[:2], axis=1).max())
    apart = float(np.linalg.norm(p.knees[0] - p.knees[1]))
    return [seated, bent, share(p.upright, 0.2, 0.9), share(reach, 0.8, 0.45), share(apart, 0.2, 0.5)]


def _arms_raised(p: Parts) -> list[float]:
    return [*_standing(p), *(share(z - p.head[2], -0.6, 0.1) for z in p.hands[:, 2])]


def _splits(p: Parts) -> list[float]:
    apart = float(np.linalg.norm(p.feet[0] - p.feet[1]))
    return [share(p.pelvis[2], 0.9, 0.3), share(apart, 0.3, 1.2), _legs_straight(p), share(p.upright, 0.2, 0.9)]


def _hands_on_hips(p: Parts) -> list[float]:
    return [*_standing(p), *(share(d, 0.6, 0.2) for d in np.linalg.norm(p.hands - p.hips, axis=1))]


def _arms_crossed(p: Parts) -> list[float]:
    left, right = p.hands_of_torso
    crossed = [share(left[1], 0.3, -0.05), share(right[1], -0.3, 0.05)]
    at_chest = [share(abs(float(hand[2]) + 0.05), 0.5, 0.2) for hand in (left, right)]
    return [*_standing(p), *crossed, *at_chest, share(float(min(left[0], right[0])), -0.1, 0.05)]


def _one_leg(p: Parts) -> list[float]:
    return [*_standing(p), share(float(np.ptp(p.feet[:, 2])), 0.03, 0.2)]


POSES: dict[str, Callable[[Parts], list[float]]] = {
    "kneeling": _kneeling,
    "lotus": _lotus,
    "standing": lambda p: [*_standing(p), _legs_straight(p)],
    "arms-raised": _arms_raised,
    "splits": _splits,
    "hands-on-hips": _hands_on_hips,
    "arms-crossed": _arms_crossed,
    "one-leg": _one_leg,
}
"""Poses by name, each with the shares of its conditions."""


def truth(parts: Parts, pose: str) -> float:
    """Progress of a state towards a pose, in [0, 1]."""
    return float(np.mean(POSES[pose](parts)))


def struck(parts: Parts, pose: str) -> bool:
    """Whether the pose is struck in a state."""
    return min(POSES[pose](parts)) >= STRUCK

"""What the tables of arms share: figures over seeds, and where and how the runs ran."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy import ndarray

from core.intervals import t_interval


class Ran(Protocol):
    """Runs of one arm."""

    versions: list[dict[str, Any]]  # version.json of each


def spread(values: Sequence[float] | ndarray, scale: float = 100, digits: int = 1) -> str:
    """Mean over seeds with its interval."""
    scaled = [scale * float(value) for value in values]
    low, high = t_interval(scaled)
    around = "" if math.isnan(low) else f" ({low:.{digits}f} to {high:.{digits}f})"
    return f"{np.mean(scaled):.{digits}f}{around}"


def facts(arms: Iterable[Ran]) -> str:
    """Machine, threads and code of every run; several values where they differ."""
    versions = [version for arm in arms for version in arm.versions]

    def seen(key: str) -> str:
        return " and ".join(sorted({str(version[key]) for version in versions}))

    return (
        f"{seen('platform')}, {seen('threads')} thread(s) a run, torch {seen('torch')}, python {seen('python')}, "
        f"code {seen('code')}."
    )

"""Targets of the measurements, the machine, and exit codes: 0 all reached, 1 one is short, 2 nothing can be said."""

import os
import platform
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

SHORT, FAILED = 1, 2


@dataclass(frozen=True)
class Target:
    """A figure and what it should be."""

    name: str
    value: float
    limit: float
    least: bool = True  # the value is to be at least the limit, else at most

    @property
    def fine(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def __str__(self) -> str:
        sign = ">=" if self.least else "<="
        return f"{self.name} {self.value:.4g} (target {sign} {self.limit:g}) {'ok' if self.fine else 'SHORT'}"


@dataclass(frozen=True)
class Part:
    """What was measured of one thing."""

    lines: list[str]  # Markdown
    targets: list[Target]


def machine() -> str:
    """Processor, cores, Python and numpy."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            row.split(":", 1)[1].strip() for row in cpuinfo.read_text().splitlines() if row.startswith("model name")
        ]
        name = names[0] if names else name
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def judged(main: Callable[[], None]) -> NoReturn:
    """Runs a script whose main ends in sys.exit(SHORT) where a target is short. Errors would end in 1 too."""
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            sys.exit(FAILED)
        raise
    except Exception:
        traceback.print_exc()
        sys.exit(FAILED)
    sys.exit(0)

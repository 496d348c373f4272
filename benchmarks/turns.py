"""Things that are compared take turns."""

import time
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

Turn = Callable[[], object]
Seconds = dict[str, Float[ndarray, "R 2"]]  # name -> per round, on the clock and of the processor


def in_turns(turns: dict[str, Turn], rounds: int, wait: Callable[[], None] = lambda: None) -> Seconds:
    """All in turn, round after round, every other round backwards: a busy neighbour or a drift hits all of them."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in list(turns)[:: -1 if number % 2 else 1]:
            wall, processor = time.perf_counter(), time.process_time()
            turns[name]()
            wait()
            found[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return {name: np.array(rows) for name, rows in found.items()}

"""A few questions about made-up pictures, without files."""

import numpy as np

from agents.reasoning.task_files import SampleSet
from agents.reasoning.types import PICTURE, Sample


class Held:
    """Pictures in memory, where `SampleSet` expects a folder's."""

    def read(self, name: str) -> np.ndarray:
        return np.random.default_rng(list(name.encode())).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def some_questions() -> SampleSet:
    """Four about a picture, of two kinds and two homes; two that words decide."""
    samples = [
        Sample(f"q{k}", f"{PICTURE} how many lamps ?", (f"{k}.png",), str(1 + k % 2), kind=("count", "lamps")[k // 2],
               group=f"home {k % 2}")
        for k in range(4)
    ]  # fmt: skip
    samples += [Sample(f"w{k}", "yes or no", (), "yes", kind="words", needs_picture=False, group="w") for k in range(2)]
    return SampleSet(samples, Held())

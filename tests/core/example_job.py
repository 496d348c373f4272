"""A job for the tests of job start-up.

It waits, then says how long.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from core.job import JobConfig, job_main
from core.run import RunFolder


@dataclass
class LayerConfig:
    width: int = 8  # units per layer
    path: str = ""  # weights to begin with


@dataclass
class DeepConfig(LayerConfig):
    depth: int = 3  # layers


@dataclass
class ExampleConfig(JobConfig):
    CUDA = True

    # learning rate at the peak,
    lr: float = 1e-3  # per update
    goal: str = "red chair"  # what to look for
    sizes: list[int] = field(default_factory=lambda: [1, 2])  # of the layers, units
    layer: LayerConfig = field(default_factory=LayerConfig)
    extra: dict[str, float] = field(default_factory=dict)  # free-form weights by name
    limit: int | None = None  # rows; null = all
    verbose: bool = False
    wait_s: float = 0.0  # seconds
    fail: str = ""  # input, disk, or bug

    def __post_init__(self) -> None:
        if self.lr > 1 and not self.verbose:
            raise ValueError(f"lr={self.lr} is above 1; lower it, or add verbose=true")


CONFIG = ExampleConfig


def run(cfg: ExampleConfig) -> dict[str, Any]:
    if cfg.fail == "disk":
        raise OSError(28, "No space left on device", "/data/x.npz")
    if cfg.fail == "bug":
        raise RuntimeError("a bug")
    with RunFolder.open(cfg, "example-job") as folder:
        print("running", flush=True)
        time.sleep(cfg.wait_s)
        folder.log(1, waited_s=cfg.wait_s)
        return folder.finish({"waited_s": cfg.wait_s})


if __name__ == "__main__":
    job_main("example-job")

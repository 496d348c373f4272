"""Job render-views: captioned pictures of every home, for training and testing vision-language models.

Writes one folder per split (layout: scene/views.py) into the run folder: train/, val/, test/.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from core.errors import InputError
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.store import SceneStore
from scene.views import write_views


@dataclass
class RenderViewsConfig(JobConfig):
    """Captioned views: sightline render-views scenes=runs/scenes out=runs/views."""

    scenes: str = MISSING  # folder made by build-scenes
    train_views: int = 60  # views per home of the train split; 0 leaves a split out
    val_views: int = 20  # views per home of the val split
    test_views: int = 30  # views per home of the test split
    width: int = 64  # pixels
    height: int = 64  # pixels
    fov_deg: float = 90.0  # horizontal field of view, degrees

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = (self.train_views, self.val_views, self.test_views)
        if min(counts) < 0 or max(counts) == 0:
            raise InputError(f"views per home are {counts}: give numbers from 0 on, at least one above 0")
        if self.width < 8 or self.height < 8 or not 0 < self.fov_deg < 180:
            raise InputError(
                f"pictures of {self.width} x {self.height} pixels and {self.fov_deg} degrees: give at least 8 x 8 "
                "pixels and an angle between 0 and 180"
            )


CONFIG = RenderViewsConfig


def run(cfg: RenderViewsConfig) -> dict:
    """Renders the splits one after the other; a continued run keeps those that are complete."""
    store = SceneStore(cfg.scenes)
    per_home = {"train": cfg.train_views, "val": cfg.val_views, "test": cfg.test_views}
    folder = RunFolder.open(cfg, "render-views")
    start = time.perf_counter()
    result: dict = {"splits": {}}
    for step, (split, count) in enumerate((item for item in per_home.items() if item[1]), start=1):
        done = write_views(
            store, folder.path, {split: count}, cfg.seed, cfg.width, cfg.height, cfg.fov_deg, keep_complete=True
        )[split]
        result["splits"][split] = done
        folder.log(step, **{f"{split}_{name}": number for name, number in done.items()})
        print(f"{split}: {done['views']} views of {done['homes']} homes, {done['captions']} captions")
    result["seconds"] = time.perf_counter() - start
    folder.finish(result)
    print(f"views are in {Path(folder.path)}")
    return result


if __name__ == "__main__":
    job_main("render-views")

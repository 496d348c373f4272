"""What a corpus costs: homes built with texts, and how long SceneVerse's numbers of both would take."""

import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.run import read_metrics
from scene.build import BuildScenesConfig, run

SCENES, TEXTS = 68_406, 2_500_000  # SceneVerse's corpus (arXiv:2401.09340, section 3)
HOMES, QUICK_HOMES = 2_000, 64
WORKERS: Final = 2


def measure(homes: int, shard_homes: int) -> dict[str, Any]:
    """Builds a corpus of generated homes in a temporary folder.

    Returns:
        homes, objects, texts, seconds (on the clock, all in all), work_seconds (on the clocks of the workers together),
        cpu_seconds (of the workers), peak_memory_gb (all processes together), bytes; growth: processor time per home of
        the last quarter of shards over that of the first.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "corpus"
        cfg = BuildScenesConfig(
            out=str(out),
            train_homes=homes,
            val_homes=0,
            test_homes=0,
            train_referrals=24,
            workers=WORKERS,
            shard_homes=shard_homes,
        )
        result = run(cfg)
        rows = sorted(read_metrics(cfg.run_folder), key=lambda row: row["shard"])
        per_home = np.array([row["cpu_seconds"] / row["homes"] for row in rows])
        quarter = max(1, len(rows) // 4)
        return {
            "homes": result["train"]["homes"],
            "objects": result["train"]["objects"],
            "texts": sum(result["train"]["texts"].values()),
            "seconds": result["seconds"],
            "work_seconds": sum(row["seconds"] for row in rows),
            "cpu_seconds": result["cpu_seconds"],
            "peak_memory_gb": result["peak_memory_gb"],
            "bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
            "growth": float(per_home[-quarter:].mean() / per_home[:quarter].mean()),
        }


def lines(found: dict[str, Any]) -> list[str]:
    """The measurement in words."""
    homes = found["homes"]
    return [
        f"{homes:,} generated homes of {found['objects'] / homes:.0f} objects with {found['texts']:,} texts "
        f"({found['texts'] / homes:.1f} a home) in {found['seconds']:.0f} s by {WORKERS} workers. A home takes "
        f"{1000 * found['work_seconds'] / homes:.0f} ms of a worker, {1000 * found['cpu_seconds'] / homes:.0f} ms of a "
        f"processor and {found['bytes'] / homes / 1000:.0f} kB on disk; start and end take {overhead(found):.0f} s. "
        f"Memory: {found['peak_memory_gb']:.2f} GB at most in all processes together.",
        "",
        f"At this rate {SCENES:,} homes take {hours(found):.2f} hours and have {texts(found) / 1e6:.2f} M texts; the "
        f"last quarter of the homes cost {found['growth']:.2f} times the processor time of the first.",
    ]


def overhead(found: dict[str, Any]) -> float:
    """Seconds that do not grow with the number of homes: workers that start, the manifest, the page."""
    return max(0.0, found["seconds"] - found["work_seconds"] / WORKERS)


def hours(found: dict[str, Any]) -> float:
    """For SCENES homes, at the measured rate of the workers."""
    return (SCENES * found["work_seconds"] / WORKERS / found["homes"] + overhead(found)) / 3600


def texts(found: dict[str, Any]) -> float:
    """Of SCENES homes, at the measured number a home."""
    return SCENES * found["texts"] / found["homes"]

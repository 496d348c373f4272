"""The homes that sim.py and gpu.py measure in; the file of ProcTHOR houses that scenes.py measures with."""

import itertools
import os
import sys
from pathlib import Path

from scene.datasets.procedural import HomeConfig, generate_home
from scene.types import Scene

HOMES = HomeConfig(rooms_min=2, rooms_max=3, clutter=1.0)
TRIANGLES = 5_000  # of a home at least


def triangles(scene: Scene) -> int:
    """Faces of a home's mesh."""
    assert scene.mesh is not None
    return len(scene.mesh.faces)


def furnished(count: int, config: HomeConfig = HOMES, at_least: int = TRIANGLES) -> list[Scene]:
    """The first `count` generated homes, by seed, that have so many triangles."""
    scenes = (generate_home(seed, config) for seed in itertools.count())
    return list(itertools.islice((scene for scene in scenes if triangles(scene) >= at_least), count))


def procthor_houses() -> Path:
    """The file of ProcTHOR houses in the folder that SIGHTLINE_DATA names. Ends the program (exit 2) without it."""
    folder = os.environ.get("SIGHTLINE_DATA")
    path = Path(folder or "") / "procthor_houses" / "houses.jsonl.gz"
    if not folder or not path.is_file():
        sys.exit(
            f"this needs ProcTHOR houses: set SIGHTLINE_DATA to a folder with procthor_houses/houses.jsonl.gz and "
            f"procthor_db/asset-database.json.gz in it (it is {folder!r})"
        )
    return path

"""The homes that sim.py and gpu.py measure in."""

import itertools

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

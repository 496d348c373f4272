"""Sources of scenes. Each is a module whose `load(...)` yields scenes in our frame."""

from collections.abc import Callable, Iterator

from scene.datasets import procedural, procthor
from scene.types import Scene

SOURCES: dict[str, Callable[..., Iterator[Scene]]] = {
    "procedural": procedural.load,
    "procthor": procthor.load,
}
"""Name of a source -> its loader."""

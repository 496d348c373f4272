"""Which homes an agent learns in and is tried on: of a folder or generated; all at once, or a stream of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from core.errors import InputError
from envs.home_stream import FolderSource, HomeStream, ProceduralSource
from envs.pool import HomePool
from scene.datasets.procedural import HomeConfig, generate_home
from scene.store import SceneStore

PROCEDURAL = "procedural"
GENERATED = 10_000  # homes of a procedural stream, where no number is given
GENERATED_VAL = 20  # generated homes of the val split


@dataclass(frozen=True)
class Homes:
    """Homes of the train and the val split.

    Raises:
        InputError: generated homes without a number, where they are to be in memory at once; see `stream`.
    """

    scenes: str  # folder made by build-scenes, or "procedural" = generated on the fly, number k from seed k
    limit: int = 0  # train homes, 0 = all of the folder

    @property
    def generated(self) -> bool:
        """Whether there is no folder."""
        return self.scenes == PROCEDURAL

    @cached_property
    def store(self) -> SceneStore:
        """The folder."""
        return SceneStore(self.scenes)

    @property
    def manifest(self) -> dict[str, Any]:
        """What tasks take their vocabulary from."""
        return ProceduralSource().manifest if self.generated else self.store.manifest

    def pool(self, interactive: bool) -> HomePool:
        """The train homes, all of them."""
        if self.generated:
            if not self.limit:
                raise InputError(
                    f"scenes={PROCEDURAL} has no end: give homes=NUMBER, or stream=NUMBER for a few at once"
                )
            return self._generated("train", self.limit, interactive)
        ids = self.store.split("train")
        return HomePool.from_store(self.store, ids[: self.limit] if self.limit else ids, interactive=interactive)

    def stream(self, size: int, every: int, replace: int, workers: int, seed: int, interactive: bool) -> HomeStream:
        """Pools of `size` train homes; options as of HomeStream, replace=0 for an eighth.

        Raises:
            InputError: a folder and a limit, or fewer homes than `size`.
        """
        if self.limit and not self.generated:
            raise InputError("stream= goes through the whole train split of a folder; leave out homes=")
        source = ProceduralSource(count=self.limit or GENERATED) if self.generated else FolderSource(self.scenes)
        return HomeStream(source, size, every, replace or None, seed, workers, interactive=interactive)

    def val(self, interactive: bool) -> HomePool:
        """The val homes."""
        if self.generated:
            return self._generated("val", GENERATED_VAL, interactive)
        return HomePool.from_store(self.store, self.store.split("val"), interactive=interactive)

    def _generated(self, split: str, count: int, interactive: bool) -> HomePool:
        config = HomeConfig(split=split)
        labels = self.manifest["goal_labels"]
        scenes = (generate_home(seed, config) for seed in range(count))
        return HomePool(scenes, goal_labels=labels, manifest=self.manifest, interactive=interactive)


def homes_met(stream: HomeStream, steps: int) -> int:
    """Distinct homes a stream served in so many environment steps."""
    return len({index for number in range(stream.number(steps - 1) + 1) for index in stream.indices(number)})

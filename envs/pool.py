"""The homes a simulator plays in: floor grids ready for walking, search trees ready for pictures."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from core.errors import InputError
from envs.motion import GridStack
from scene.occupancy import Occupancy, occupancy
from scene.render import PreparedScene, prepare
from scene.types import Scene

if TYPE_CHECKING:
    from scene.io import SceneStore

CELL_M = 0.05
AGENT_RADIUS_M = 0.2
AGENT_HEIGHT_M = 1.5
STRUCTURE_LABELS = ("door", "doorway", "window")  # parts of the home, nothing to be sent to unless a manifest says so
GOAL_SIZE_M = 0.4  # smaller things are hard to see at 64 pixels


@dataclass(eq=False)
class Home:
    """One scene an agent can walk in."""

    scene: Scene
    grid: Occupancy
    floor_z: float  # metres; the agent's camera is above this

    @cached_property
    def prepared(self) -> PreparedScene:
        """The search tree for pictures, built on first use."""
        return prepare(self.scene)

    @cached_property
    def free_cells(self) -> Int64[ndarray, " K"]:
        """Flat indices (row by row) of the cells the agent may stand on."""
        return np.flatnonzero(self.grid.free)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "prepared"}  # search trees do not travel


class HomePool:
    """Homes with their grids, in a fixed order.

    A home in which no agent fits is left out; a warning counts and names those. Read-only: one pool can serve any
    number of simulators.

    Args:
        scenes: the homes; ids are unique.
        goal_labels: what agents may be sent to. Left out: every label with an object of at least 40 cm that is
            no door or window.

    Raises:
        InputError: no scene at all, none that an agent fits in, or two with one id.
    """

    def __init__(
        self,
        scenes: Iterable[Scene],
        *,
        cell_m: float = CELL_M,
        agent_radius_m: float = AGENT_RADIUS_M,
        agent_height_m: float = AGENT_HEIGHT_M,
        goal_labels: Sequence[str] | None = None,
        manifest: dict | None = None,
    ) -> None:
        self.homes: list[Home] = []
        self.manifest = manifest or {}
        left_out: list[str] = []
        for scene in scenes:
            try:
                grid = occupancy(scene, cell_m, agent_radius_m, agent_height_m)
            except InputError as error:
                left_out.append(str(error))
                continue
            if not grid.free.any():
                left_out.append(f"scene {scene.id}: no free cell")
                continue
            self.homes.append(Home(scene, grid, min((room.floor_z for room in scene.rooms), default=0.0)))
        if not self.homes:
            reasons = "; ".join(left_out[:3])
            raise InputError(
                f"none of {len(left_out)} homes has floor to walk on: {reasons}"
                if left_out
                else "a pool of homes needs at least one scene, got none; check the folder's split or the limit"
            )
        if left_out:
            warnings.warn(
                f"{len(left_out)} of {len(left_out) + len(self.homes)} homes are left out: {'; '.join(left_out[:3])}",
                stacklevel=2,
            )
        self.ids = [home.scene.id for home in self.homes]
        self.index = {scene_id: index for index, scene_id in enumerate(self.ids)}
        if len(self.index) < len(self.ids):
            twice = sorted({scene_id for scene_id in self.ids if self.ids.count(scene_id) > 1})
            raise InputError(f"scene ids of a pool are unique, but these come twice: {twice[:5]}")
        self.grids = GridStack.of([home.grid for home in self.homes])
        self.goal_labels = sorted(set(goal_labels)) if goal_labels is not None else self._large_labels()

    @classmethod
    def from_store(cls, store: "SceneStore", ids: Sequence[str], **options: object) -> "HomePool":
        """The named scenes of a SCENES folder, with the goal labels of its manifest."""
        options.setdefault("goal_labels", store.manifest.get("goal_labels"))
        return cls((store.load(scene_id) for scene_id in ids), manifest=store.manifest, **options)  # type: ignore[arg-type]

    @classmethod
    def from_folder(cls, path: str | Path, split: str, limit: int | None = None, **options: object) -> "HomePool":
        """A split of a SCENES folder made by build-scenes.

        Args:
            split: "train", "val" or "test".
            limit: at most this many homes, the first of the split; None or 0 for all.

        Raises:
            InputError: the folder, the split or its scenes are missing or broken; see also the class.
        """
        from scene.io import SceneStore

        store = SceneStore(path)
        ids = store.split(split)
        return cls.from_store(store, ids[:limit] if limit else ids, **options)

    @classmethod
    def procedural(cls, count: int, seed: int, **options: object) -> "HomePool":
        """`count` homes generated on the spot, always the same for one seed."""
        from scene.datasets.procedural import HomeConfig, generate_home

        if count < 1:
            raise InputError(f"a pool of homes needs at least one, got count={count}")
        config = HomeConfig()
        return cls((generate_home(seed + index, config) for index in range(count)), **options)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self.homes)

    def __deepcopy__(self, memo: dict) -> "HomePool":
        return self  # read-only; Gymnasium copies the arguments of every environment it makes

    def __getitem__(self, index: int) -> Home:
        return self.homes[index]

    @property
    def floor_z(self) -> Float64[ndarray, " M"]:
        """Floor height of every home, metres."""
        return np.array([home.floor_z for home in self.homes])

    def _large_labels(self) -> list[str]:
        labels = {
            item.label
            for home in self.homes
            for item in home.scene.objects
            if item.box[3:6].max() >= GOAL_SIZE_M and item.label not in STRUCTURE_LABELS
        }
        return sorted(labels)

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
from scene.moving import MovingParts, movable_objects, static_part
from scene.occupancy import Occupancy, occupancy, storeys
from scene.render import PreparedScene, prepare
from scene.types import Scene

if TYPE_CHECKING:
    from scene.store import SceneStore

CELL_M = 0.05
AGENT_RADIUS_M = 0.2
AGENT_HEIGHT_M = 1.5
STRUCTURE_LABELS = ("door", "doorway", "window")  # parts of the home, nothing to be sent to unless a manifest says so
GOAL_SIZE_M = 0.4  # smaller things are hard to see at 64 pixels


@dataclass(eq=False)
class Home:
    """One storey of a scene, ready for an agent to walk in."""

    scene: Scene
    grid: Occupancy
    floor_z: float  # metres; the agent's camera is above this
    name: str  # the scene's id, with #1, #2, ... for upper storeys
    interactive: bool = False  # things can be moved and doors opened: they are drawn apart from the rest
    ground: "Home | None" = None  # the lowest storey of the same scene, which keeps what all share

    @cached_property
    def prepared(self) -> PreparedScene:
        """The search tree for pictures of what does not move, built on first use."""
        if self.ground is not None:
            return self.ground.prepared
        return prepare(static_part(self.scene) if self.interactive else self.scene)

    @cached_property
    def moving(self) -> MovingParts:
        """What is drawn apart: movable things, then door leaves."""
        return self.ground.moving if self.ground is not None else MovingParts.of(self.scene)

    @cached_property
    def things(self) -> list[int]:
        """Ids of the objects that can be carried, by slot."""
        return movable_objects(self.scene)

    @cached_property
    def free_cells(self) -> Int64[ndarray, " K"]:
        """Flat indices (row by row) of the cells the agent may stand on."""
        return np.flatnonzero(self.grid.free)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("prepared", "moving")}


def make_homes(
    scene: Scene,
    *,
    cell_m: float = CELL_M,
    agent_radius_m: float = AGENT_RADIUS_M,
    agent_height_m: float = AGENT_HEIGHT_M,
    interactive: bool = False,
) -> list[Home]:
    """The storeys of a scene an agent fits in, the lowest first.

    Raises:
        InputError: it fits in none, or the scene has no rooms.
    """
    homes: list[Home] = []
    faults: list[InputError] = []
    for level, floor_z in enumerate(storeys(scene)):
        try:
            grid = occupancy(scene, cell_m, agent_radius_m, agent_height_m, floor_z=floor_z, interactive=interactive)
        except InputError as error:
            faults.append(error)
            continue
        name = scene.id if level == 0 else f"{scene.id}#{level}"
        homes.append(Home(scene, grid, floor_z, name, interactive, ground=homes[0] if homes else None))
    if not homes:
        raise faults[0]
    return homes


class HomePool:
    """Homes with their grids, in a fixed order.

    A scene in which no agent fits is left out; a warning counts and names those. Read-only: one pool can serve any
    number of simulators.

    Args:
        scenes: the homes; ids are unique.
        goal_labels: what agents may be sent to. Left out: every label with an object of at least 40 cm that is
            no door or window.
        interactive: things marked "pickup" can be moved and inner doors opened; needed by some tasks, slower to draw.

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
        interactive: bool = False,
    ) -> None:
        homes: list[Home] = []
        left_out: list[str] = []
        for scene in scenes:
            try:
                homes += make_homes(
                    scene,
                    cell_m=cell_m,
                    agent_radius_m=agent_radius_m,
                    agent_height_m=agent_height_m,
                    interactive=interactive,
                )
            except InputError as error:
                left_out.append(str(error))
        if not homes:
            reasons = "; ".join(left_out[:3])
            raise InputError(
                f"none of {len(left_out)} homes has floor to walk on: {reasons}"
                if left_out
                else "a pool of homes needs at least one scene, got none; check the folder's split or the limit"
            )
        if left_out:
            warnings.warn(
                f"{len(left_out)} of {len(left_out) + len(homes)} homes are left out: {'; '.join(left_out[:3])}",
                stacklevel=2,
            )
        self._take(homes, goal_labels, manifest)

    @classmethod
    def of(
        cls, homes: Sequence[Home], *, goal_labels: Sequence[str] | None = None, manifest: dict | None = None
    ) -> "HomePool":
        """A pool of homes prepared already; they may be in other pools too.

        Raises:
            InputError: none, two with one name, grids of different cells, or homes with and without moving things.
        """
        if not homes:
            raise InputError("a pool of homes needs at least one, got none")
        kinds = {(home.grid.cell_m, home.interactive) for home in homes}
        if len(kinds) > 1:
            raise InputError(f"homes of one pool share the cell size and whether things move, but these have {kinds}")
        pool = cls.__new__(cls)
        pool._take(list(homes), goal_labels, manifest)
        return pool

    def _take(self, homes: list[Home], goal_labels: Sequence[str] | None, manifest: dict | None) -> None:
        self.homes, self.manifest, self.interactive = homes, manifest or {}, homes[0].interactive
        self.ids = [home.name for home in homes]
        self.index = {name: index for index, name in enumerate(self.ids)}
        self.at = {id(home): index for index, home in enumerate(homes)}
        if len(self.index) < len(self.ids):
            twice = sorted({name for name in self.ids if self.ids.count(name) > 1})
            raise InputError(f"scene ids of a pool are unique, but these come twice: {twice[:5]}")
        self.grids = GridStack.of([home.grid for home in homes])
        self.floor_z: Float64[ndarray, " M"] = np.array([home.floor_z for home in homes])  # metres
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
        from scene.store import SceneStore

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

    def _large_labels(self) -> list[str]:
        labels = {
            item.label
            for home in self.homes
            for item in home.scene.objects
            if item.box[3:6].max() >= GOAL_SIZE_M and item.label not in STRUCTURE_LABELS
        }
        return sorted(labels)

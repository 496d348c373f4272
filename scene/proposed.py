"""What a model chooses from in an evaluation: the annotated objects, predicted masks, or what geometry tells apart."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from core.errors import InputError, MissingFileError, check_choice
from scene.datasets.scan_notes import read_masks
from scene.geometry import boxes_from_points
from scene.graph import spoken_room_by_room
from scene.proposals import propose
from scene.store import SceneStore
from scene.types import Scene, SceneObject

PROPOSALS: Final = ("ground-truth", "masks", "geometric")
NO_NAME: Final = "object"  # of proposals without a label


def proposed(scene: Scene, how: str, masks: Path | None = None, seed: int = 0) -> Scene:
    """The scene with the objects a model may choose from.

    Args:
        how: one of PROPOSALS. masks: what a segmenter predicted, a file per scene; geometric: scene/proposals.py.
        masks: folder of `<scene id>.mask.npz`, instances x points of the scene (scene/datasets/scan_notes.py).
        seed: of the geometric proposals.

    Raises:
        MissingFileError, InputError: no mask file, one of another scan, a scene without points, or nothing found in it.
    """
    check_choice("proposals", how, PROPOSALS)
    if how == "ground-truth":
        return scene
    if scene.points is None or not len(scene.points):
        raise InputError(f"scene {scene.id} has no points; proposals={how} needs them (build-scenes points=...)")
    if how == "geometric":
        found = propose(scene.points, seed)
        return _cut(scene, found.instance, {})
    if masks is None:
        raise InputError("proposals=masks needs masks=FOLDER with a file <scene id>.mask.npz for every scene")
    file = masks / f"{scene.id}.mask.npz"
    if not file.exists():
        raise MissingFileError(f"no predicted masks of scene {scene.id}: {file}")
    ids, labels = read_masks(file, len(scene.points))
    return _cut(scene, ids, labels)


def _cut(scene: Scene, ids: Int[ndarray, " P"], labels: Mapping[int, str]) -> Scene:
    """The scene with an object for each id that some point has; -1 = none."""
    assert scene.points is not None
    present, instance = np.unique(ids[ids >= 0], return_inverse=True)
    if not len(present):
        raise InputError(f"scene {scene.id}: no proposal holds any of its {len(scene.points)} points")
    of_point = np.full(len(ids), -1, np.int32)
    of_point[ids >= 0] = instance.ravel()
    boxes = boxes_from_points(scene.points, of_point, len(present))
    objects = [
        SceneObject(k, labels.get(int(name), NO_NAME), box, source_id=str(name))
        for k, (name, box) in enumerate(zip(present.tolist(), boxes))
    ]
    # proposals are often so many that a home would be taken for a large one, but its sentences name no room
    rooms = scene.rooms if spoken_room_by_room(scene) else []
    return replace(scene, objects=objects, instance=of_point, mesh=None, doors=[], rooms=rooms)


class StoreObjects(Mapping[str, Sequence[SceneObject]]):
    """Objects of the scenes of a folder by scene id, read when they are asked for; points are not kept.

    Args:
        split: scenes of this split alone; None = of all.
    """

    def __init__(self, store: SceneStore, split: str | None = None) -> None:
        self.store = store
        splits = store.splits.values() if split is None else [store.split(split)]
        self._ids = {scene_id for ids in splits for scene_id in ids}
        self._known: dict[str, Sequence[SceneObject]] = {}

    def __getitem__(self, scene_id: str) -> Sequence[SceneObject]:
        if scene_id not in self._ids:
            raise KeyError(scene_id)
        if scene_id not in self._known:
            self._known[scene_id] = self.store.load(scene_id).objects
        return self._known[scene_id]

    def __contains__(self, scene_id: object) -> bool:
        return scene_id in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._ids))

    def __len__(self) -> int:
        return len(self._ids)

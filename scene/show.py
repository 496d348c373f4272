"""Job show-scene: a home from above, some views of it, and its surfaces as a GLB file other programs open.

Writes map.png, view_1.png ..., and <scene id>.glb into the run folder. Without `scenes` the home is made from `home`,
the number of a procedural home.
"""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from core.conventions import intrinsics_from_fov
from core.errors import InputError
from core.files import atomic_file
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.datasets.procedural import generate_home
from scene.draw import draw_map, draw_view_boxes
from scene.graph import build_graph
from scene.occupancy import occupancy
from scene.render import prepare, render
from scene.store import SceneStore
from scene.types import Scene
from scene.views import render_home_views

DPI = 150


@dataclass
class ShowSceneConfig(JobConfig):
    """Pictures of one home: sightline show-scene scenes=runs/scenes scene=procedural-test-00003 out=runs/picture"""

    scenes: str = ""  # folder made by build-scenes; empty = a procedural home
    scene: str = ""  # id of the home in that folder; empty = the first of its test split, or of any
    home: int = 0  # number of the procedural home, where scenes is empty
    views: int = 4  # pictures from inside, at drawn places
    width: int = 320  # pixels of a view
    height: int = 240  # pixels of a view
    fov_deg: float = 90.0  # horizontal field of view, degrees
    graph: bool = False  # draw on the map what rests on what, and neighbours
    free_floor: bool = False  # shade on the map where an agent may stand

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scene and not self.scenes:
            raise InputError(
                f"scene={self.scene} needs scenes=FOLDER to look it up in; a procedural home is home=NUMBER"
            )
        if self.views < 0 or self.home < 0:
            raise InputError(f"views={self.views} home={self.home}: give numbers from 0 on")
        if min(self.width, self.height) < 16 or not 0 < self.fov_deg < 180:
            raise InputError(
                f"views of {self.width} x {self.height} pixels and {self.fov_deg} degrees: give at least 16 x 16 "
                "pixels and an angle between 0 and 180"
            )


CONFIG = ShowSceneConfig


def run(cfg: ShowSceneConfig) -> dict:
    """Finds the home, draws it, renders it, exports it; prints every path it wrote."""
    scene = _find(cfg)
    folder = RunFolder.open(cfg, "show-scene")
    files = [_save_map(scene, cfg, folder.file("map.png"))]
    files += _save_views(scene, cfg, folder) if cfg.views else []
    if scene.mesh is not None:
        files.append(export_glb(scene, folder.file(f"{scene.id}.glb")))
    kinds = [room.kind for room in scene.rooms]
    result = {
        "scene": scene.id,
        "rooms": kinds,
        "objects": len(scene.objects),
        "faces": 0 if scene.mesh is None else len(scene.mesh.faces),
        "files": [path.name for path in files],
    }
    folder.finish(result)
    print(f"{scene.id}: {', '.join(kinds)}; {result['objects']} objects, {result['faces']} faces")
    for path in files:
        print(path)
    return result


def _find(cfg: ShowSceneConfig) -> Scene:
    if not cfg.scenes:
        return generate_home(cfg.home)
    store = SceneStore(cfg.scenes)
    names = ["test", *store.splits]
    first = next((ids[0] for name in names if (ids := store.splits.get(name))), "")
    if not (cfg.scene or first):
        raise InputError(f"{cfg.scenes} holds no homes")
    return store.load(cfg.scene or first)


def _save_map(scene: Scene, cfg: ShowSceneConfig, path: Path) -> Path:
    from matplotlib.figure import Figure

    corners = np.concatenate([room.polygon for room in scene.rooms]) if scene.rooms else scene.boxes[:, :2]
    wide, deep = np.maximum(np.ptp(corners, axis=0), 1.0)
    scale = 9.0 / max(wide, deep)  # inches per metre
    figure = Figure(figsize=(max(wide * scale, 4.0) + 1.2, max(deep * scale, 3.0) + 1.6), layout="constrained")
    axes = figure.add_subplot()
    graph = build_graph(scene) if cfg.graph else None
    draw_map(axes, scene, graph=graph, occupancy=occupancy(scene) if cfg.free_floor else None)
    axes.set_title(f"{scene.id}: {len(scene.objects)} objects", fontsize=11, loc="left")
    return _save(figure, path)


def _save_views(scene: Scene, cfg: ShowSceneConfig, folder: RunFolder) -> list[Path]:
    """Views with outlines and names, their captions below."""
    from matplotlib.figure import Figure

    views = render_home_views(scene, cfg.views, cfg.seed, cfg.width, cfg.height, cfg.fov_deg)
    lens = intrinsics_from_fov(cfg.width, cfg.height, np.deg2rad(cfg.fov_deg))
    instance = render(prepare(scene), views.extrinsics, lens, cfg.width, cfg.height).instance.numpy()
    paths = []
    for k in range(len(views)):
        figure = Figure(figsize=(6.4, 6.4 * cfg.height / cfg.width + 0.6), layout="constrained")
        axes = figure.add_subplot()
        draw_view_boxes(axes, views.images[k], instance[k], scene)
        axes.set_xlabel(textwrap.fill(views.full[k], 84), fontsize=9)
        paths.append(_save(figure, folder.file(f"view_{k + 1}.png")))
    return paths


def _save(figure: Any, path: Path) -> Path:
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=DPI)
    return path


def export_glb(scene: Scene, path: str | Path) -> Path:
    """Writes the scene's surfaces as binary glTF: one named node per object and one for the structure, y up.

    Raises:
        InputError: the scene has no mesh.
    """
    import trimesh

    mesh = scene.mesh
    if mesh is None or len(mesh.faces) == 0:
        raise InputError(f"scene {scene.id} has no mesh to export")
    upright = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])  # z up -> y up, as glTF wants
    target = trimesh.Scene()
    for k in np.unique(mesh.face_instance):
        chosen = mesh.face_instance == k
        corners: ndarray = mesh.vertices[mesh.faces[chosen]].reshape(-1, 3)  # own corners per face keep colours sharp
        opaque = np.full((len(corners), 1), 255, np.uint8)
        colors = np.hstack([np.repeat(mesh.face_colors[chosen], 3, axis=0), opaque])
        triangles = np.arange(len(corners)).reshape(-1, 3)
        part = trimesh.Trimesh(corners, triangles, vertex_colors=colors, process=False)
        name = "structure" if k < 0 else f"{k:03d} {scene.objects[k].label}"
        target.add_geometry(part, node_name=name, geom_name=name, transform=upright)
    with atomic_file(path) as file:
        file.write(target.export(file_type="glb"))
    return Path(path)


if __name__ == "__main__":
    job_main("show-scene")

"""Job show-scene: a home from above, views of it, what is said about it, and its surfaces as a GLB file.

Writes into the run folder: map.png, the plan with names and chosen relations; view_1.png ..., views with their
captions; home.png, all of these with some sentences on one sheet; home.html, the same as a page in which a sentence
marks its objects on the plan; and <scene id>.glb, which other programs open. Scenes without surfaces have a plan and
sentences only, and the result says so. Without `scenes` the home is a procedural one.
"""

import io
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from core.errors import InputError
from core.files import atomic_file, atomic_write
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.arrows import Arrow, choose_arrows, relations_named
from scene.datasets.procedural import HomeConfig, generate_home
from scene.draw import draw_map, draw_view_boxes, map_limits, window_around
from scene.graph import SceneGraph, build_graph
from scene.home_page import home_page
from scene.occupancy import occupancy
from scene.said import Said, generated, spread, written
from scene.sheet import sheet
from scene.store import SceneStore
from scene.types import Scene
from scene.views import captioned_views, outside_cameras, render_home_views

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
INCHES_PER_METRE = 0.8  # of the plan, where its longer side then stays within SIDE_INCHES
SIDE_INCHES = (7.0, 14.0)
ON_SHEET = 14  # sentences of home.png


@dataclass
class ShowSceneConfig(JobConfig):
    """Pictures of one home: sightline show-scene home=3 relations=on,next_to out=runs/picture"""

    scenes: str = ""  # folder made by build-scenes; empty = a procedural home
    scene: str = ""  # id of the home in that folder; empty = the first of its test split, or of any
    home: int = -1  # number of the procedural home, where scenes is empty; -1 = the number given as seed
    rooms: int = 0  # rooms of the procedural home, 1 to 6; 0 = one or two, as the number draws
    # relations drawn as arrows on the plan, separated by commas: names (left_of, on, next_to), groups (contact, near,
    # direction, vertical, multi-object) or all; of each thing the one to the nearest other
    relations: str = ""
    # map.png shows this object and what it stands in relation to, with words; relations= narrows it; the ids of
    # objects stand in home.html
    object: int = -1
    graph: bool = False  # draw on the plan what rests on what, and neighbours
    free_floor: bool = False  # shade on the plan where an agent may stand
    views: int = 4  # pictures from inside, at places drawn by seed; from outside where there are no rooms
    width: int = 320  # pixels of a view
    height: int = 240  # pixels of a view
    fov_deg: float = 90.0  # horizontal field of view, degrees
    page: bool = True  # write home.html

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scene and not self.scenes:
            raise InputError(
                f"scene={self.scene} needs scenes=FOLDER to look it up in; a procedural home is home=NUMBER"
            )
        if self.scenes and (self.home >= 0 or self.rooms):
            raise InputError("home and rooms make a procedural home; of scenes=FOLDER a home is chosen by scene=ID")
        if self.views < 0 or self.home < -1 or self.object < -1:
            raise InputError(f"views={self.views} home={self.home} object={self.object}: give numbers from 0 on")
        if not 0 <= self.rooms <= 6:
            raise InputError(f"rooms={self.rooms}: give 1 to 6, or 0 for one or two")
        relations_named(self.relations)
        if min(self.width, self.height) < 16 or not 0 < self.fov_deg < 180:
            raise InputError(
                f"views of {self.width} x {self.height} pixels and {self.fov_deg} degrees: give at least 16 x 16 "
                "pixels and an angle between 0 and 180"
            )


CONFIG = ShowSceneConfig


def run(cfg: ShowSceneConfig) -> dict:
    """Finds the home, draws it, renders it, exports it; prints every path it wrote."""
    scene = _find(cfg)
    graph = build_graph(scene) if scene.objects else None
    arrows = _arrows(cfg, scene, graph)
    texts = _texts(cfg, scene, graph)
    notes: list[str] = []
    folder = RunFolder.open(cfg, "show-scene")
    free = occupancy(scene) if cfg.free_floor else None
    drawn: dict[str, Any] = {"graph": graph if cfg.graph else None, "occupancy": free, "arrows": arrows}
    if cfg.object >= 0:
        drawn |= {"highlight": [cfg.object], "window": window_around(scene, {cfg.object, *(a.other for a in arrows)})}
    plan = plan_figure(scene, **drawn)
    pictures = {"map.png": _png(plan)}
    captioned: list[tuple[bytes, str]] = []
    if scene.mesh is None or not len(scene.mesh.faces):
        of_points = " The plan shows its points from above." if scene.points is not None and not scene.rooms else ""
        notes.append(f"This scene has no surfaces: there are no views and no GLB file.{of_points}")
    elif cfg.views:
        captioned = _views(scene, cfg)
        if not scene.rooms:
            notes.append("This scene has no rooms to stand in: the views look at it from outside.")
    pictures |= {f"view_{k}.png": png for k, (png, _) in enumerate(captioned, start=1)}
    pictures["home.png"] = sheet(pictures["map.png"], [png for png, _ in captioned], spread(texts, ON_SHEET), scene)
    files = [atomic_write(folder.file(name), png) for name, png in pictures.items()]
    if cfg.page:
        files.append(atomic_write(folder.file("home.html"), home_page(scene, graph, plan, captioned, texts, notes)))
    if scene.mesh is not None and len(scene.mesh.faces):
        files.append(export_glb(scene, folder.file(f"{scene.id}.glb")))
    rooms = [room.kind for room in scene.rooms]
    result = {
        "scene": scene.id,
        "rooms": rooms,
        "objects": len(scene.objects),
        "faces": 0 if scene.mesh is None else len(scene.mesh.faces),
        "arrows": len(arrows),
        "texts": len(texts),
        "notes": notes,
        "files": [path.name for path in files],
    }
    folder.finish(result)
    print(f"{scene.id}: {', '.join(rooms) or 'no rooms'}; {result['objects']} objects, {result['faces']} faces")
    for line in (*notes, *files):
        print(line)
    return result


def _find(cfg: ShowSceneConfig) -> Scene:
    if not cfg.scenes:
        shape = HomeConfig(rooms_min=cfg.rooms, rooms_max=cfg.rooms) if cfg.rooms else HomeConfig()
        return generate_home(cfg.home if cfg.home >= 0 else cfg.seed, shape)
    store = SceneStore(cfg.scenes)
    names = ["test", *store.splits]
    first = next((ids[0] for name in names if (ids := store.splits.get(name))), "")
    if not (cfg.scene or first):
        raise InputError(f"{cfg.scenes} holds no homes")
    return store.load(cfg.scene or first)


def _arrows(cfg: ShowSceneConfig, scene: Scene, graph: SceneGraph | None) -> list[Arrow]:
    if graph is None or not (cfg.relations or cfg.object >= 0):
        return []
    return choose_arrows(scene, graph, relations_named(cfg.relations), cfg.object if cfg.object >= 0 else None)


def _texts(cfg: ShowSceneConfig, scene: Scene, graph: SceneGraph | None) -> list[Said]:
    """What the corpus says of the home, else what the generator does."""
    if graph is None:
        return []
    return (written(SceneStore(cfg.scenes), scene.id) if cfg.scenes else []) or generated(scene, graph, cfg.seed)


def plan_figure(scene: Scene, **drawn: Any) -> "Figure":
    """A figure that holds the plan, or a part of it, with title and axes; `drawn` goes to `draw_map`.

    Raises:
        InputError: nothing to draw.
    """
    from matplotlib.figure import Figure

    low, high = drawn.get("window") or map_limits(scene)
    wide, deep = high - low
    side = np.clip(INCHES_PER_METRE * max(wide, deep), *SIDE_INCHES)
    scale = float(side / max(wide, deep))
    left, right, above, below = 0.65, 0.3, 0.45, 1.0  # inches for axis labels, title, and the viewer's arrow
    width, height = max(scale * wide, 3.0) + left + right, scale * deep + above + below
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, below / height, 1 - (left + right) / width, scale * deep / height))
    draw_map(axes, scene, **drawn)
    title = f"{scene.id}: {len(scene.objects)} objects"
    figure.text(left / width, 1 - 0.28 / height, title, fontsize=11, ha="left", va="center", color="#22252b")
    return figure


def _views(scene: Scene, cfg: ShowSceneConfig) -> list[tuple[bytes, str]]:
    """Views with outlines and names, their captions below: PNG and caption of each."""
    from matplotlib.figure import Figure

    if scene.rooms:
        poses = render_home_views(scene, cfg.views, cfg.seed, 16, 16, cfg.fov_deg).extrinsics
    else:
        poses = outside_cameras(scene, cfg.views, cfg.fov_deg)
    views, instance = captioned_views(scene, poses, cfg.width, cfg.height, cfg.fov_deg)
    pictures = []
    for k in range(len(views)):
        lines = textwrap.wrap(views.full[k], 88)
        picture, below = 6.4 * cfg.height / cfg.width, 0.12 + 0.19 * len(lines)
        figure = Figure(figsize=(6.4, picture + below))
        axes = figure.add_axes((0, below / (picture + below), 1, picture / (picture + below)))
        draw_view_boxes(axes, views.images[k], instance[k], scene)
        figure.text(0.5, 0.5 * below / (picture + below), "\n".join(lines), fontsize=9, ha="center", va="center")
        pictures.append((_png(figure), views.full[k]))
    return pictures


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return file.getvalue()


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

"""Finds the object a sentence means: sightline ground scene=SCENES/ID text="the chair next to the window" model=MODEL

Prints the ranking, and writes it as ranking.json beside a map of the scene with the best candidates marked.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from core.errors import InputError
from core.files import atomic_write
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.datasets.custom import load_scan
from scene.datasets.posed_objects import POSES, load_objects
from scene.datasets.scan_files import SUFFIXES
from scene.evaluate import model_folder
from scene.grounder import Grounder, Ranking
from scene.io import MANIFEST, load_scene
from scene.store import SceneStore
from scene.types import Scene


@dataclass
class GroundConfig(JobConfig):
    """Ranks the objects of one scene by how well a sentence fits them."""

    scene: str = MISSING  # a saved scene (FOLDER/ID, or its .json or .npz), or a scan (.ply, .pcd, .obj, .glb, .gltf)
    text: str = MISSING  # the sentence
    model: str = MISSING  # folder written by pretrain-grounding (the run or its model/)
    room: int = -1  # the room the sentence is about; large homes need it
    show: int = 10  # rows of the ranking to print

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show < 1:
            raise InputError(f"show={self.show}: expected at least 1")


CONFIG = GroundConfig


def run(cfg: GroundConfig) -> dict[str, Any]:
    """Ranks, prints, draws and returns the result that also lands in result.json."""
    scene = read_scene(cfg.scene)
    grounder = Grounder.from_pretrained(model_folder(cfg.model))
    ranking = grounder.locate(scene, cfg.text, room=cfg.room, seed=cfg.seed)
    folder = RunFolder.open(cfg, "ground")
    show(ranking, cfg.show)
    draw(scene, ranking, folder.file("ranking.png"))
    rows = [
        {"id": item.id, "label": item.label, "box": [round(float(x), 4) for x in item.box], "score": item.score}
        for item in ranking.objects
    ]
    result = {"scene": scene.id, "text": cfg.text, "unknown_words": list(ranking.unknown_words), "objects": rows}
    atomic_write(folder.file("ranking.json"), json.dumps(result, indent=1) + "\n")
    print(f"ranking and map: {folder.path}")
    return folder.finish(result)


def read_scene(path: str) -> Scene:
    """The saved scene that FOLDER/ID, FOLDER/ID.json or FOLDER/ID.npz names; or a scan, or a folder with poses.json.

    Raises:
        InputError: no folder is given, there is no such scene in it, or the scan is damaged (scene/datasets/custom.py).
    """
    place = Path(path).expanduser()
    if place.suffix.lower() in SUFFIXES:
        return load_scan(place)
    if (place / POSES).is_file():
        return load_objects(place)
    if place.is_dir():
        raise InputError(f"scene={path} is a folder; add the scene's id: {path}/ID")
    name = place.stem if place.suffix in (".json", ".npz") else place.name
    if (place.parent / MANIFEST).exists():
        return SceneStore(place.parent).load(name)
    return load_scene(place.parent, name)


def show(ranking: Ranking, rows: int) -> None:
    """Prints the best candidates."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=ranking.sentence)
    for name in ("rank", "object", "id", "score", "centre x y z (m)"):
        table.add_column(name, justify="left" if name == "object" else "right")
    for rank, item in enumerate(ranking.objects[:rows], start=1):
        centre = " ".join(f"{value:.2f}" for value in item.box[:3])
        table.add_row(str(rank), item.label, str(item.id), f"{item.score:.3f}", centre)
    Console().print(table)
    if ranking.unknown_words:
        print(f"words never seen in training: {', '.join(ranking.unknown_words)}")


def draw(scene: Scene, ranking: Ranking, path: Path, marked: int = 3) -> None:
    """Writes a map of the scene as PNG: the best object outlined, the next ones with their scores."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from scene.draw import draw_map

    figure = Figure(figsize=(8, 8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    draw_map(ax, scene, highlight=[ranking.best.id])
    for item in ranking.objects[:marked]:
        x, y = item.box[:2]
        ax.annotate(
            f"{item.score:.2f}", (x, y), xytext=(0, -11), textcoords="offset points", ha="center", va="top", fontsize=8,
            zorder=11, bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "#888888", "alpha": 0.9},
        )  # fmt: skip
    ax.set_title(ranking.sentence, fontsize=12, wrap=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())


if __name__ == "__main__":
    job_main("ground")

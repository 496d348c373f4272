"""Finds the object a sentence means: sightline ground SCENE "the chair next to the window"

Prints the ranking, and writes it as ranking.json beside a picture: a map with the best candidates numbered, and their
scores. A model that was calibrated (scene/conformal.py) also says which objects may be meant, or that nothing is.
"""

import json
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omegaconf import MISSING

from core.errors import InputError
from core.files import atomic_write
from core.job import JobConfig, job_main
from core.run import RunFolder
from scene.conformal import Conformal
from scene.datasets.custom import load_scan
from scene.datasets.posed_objects import POSES, load_objects
from scene.datasets.scan_files import SUFFIXES
from scene.graph import spoken_room_by_room
from scene.grounder import Grounder, Ranking
from scene.io import MANIFEST, load_scene
from scene.model_folder import model_folder, newest_model
from scene.ranking_picture import ranking_picture
from scene.store import SceneStore
from scene.types import Scene

TITLE: Final = 160  # letters of the sentence that stand above the printed table


@dataclass
class GroundConfig(JobConfig):
    """Ranks the objects of one scene by how well a sentence fits them."""

    POSITIONAL = ("scene", "text")

    scene: str = MISSING  # a saved scene (FOLDER/ID, or its .json or .npz), or a scan (.ply, .pcd, .obj, .glb, .gltf)
    text: str = MISSING  # the sentence
    model: str = ""  # folder of a grounder, or of the run that trained it; empty = the newest finished run below runs/
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
    if cfg.room >= 0 and not spoken_room_by_room(scene):
        raise InputError(f"room={cfg.room}: scene {scene.id} is spoken of as a whole; leave room out")
    place = model_folder(cfg.model) if cfg.model else newest_model()
    if not cfg.model:
        trained = time.strftime("%Y-%m-%d %H:%M", time.localtime(place.stat().st_mtime))
        print(f"model: {place}, of the newest finished run ({trained})")
    grounder = Grounder.from_pretrained(place)
    ranking = grounder.locate(scene, cfg.text, room=cfg.room, seed=cfg.seed)
    folder = RunFolder.open(cfg, "ground")
    conformal = grounder.conformal if grounder.conformal and grounder.conformal.threshold > 0 else None
    show(ranking, cfg.show, conformal)
    if grounder.conformal and not conformal:
        print(
            f"what may be meant is not told: the {grounder.conformal.homes} homes of val that the model was calibrated "
            f"on are too few for sets that hold {grounder.conformal.level:.0%} of the targets"
        )
    if unread := grounder.unread(cfg.text):
        most = grounder.model.config.max_tokens
        print(f"too long: the model reads {most} tokens; it did not read {textwrap.shorten(unread, 80)!r}")
    level = grounder.conformal.level if grounder.conformal else 0.0
    picture = ranking_picture(scene, cfg.text, ranking.objects, ranking.present if conformal else None, level)
    atomic_write(folder.file("ranking.png"), picture)
    result = {
        "scene": scene.id,
        "text": cfg.text,
        "model": str(place),
        "unknown_words": list(ranking.unknown_words),
        "present": None if ranking.present is None else sorted(ranking.present),
        "not_there": ranking.not_there,
        "level": level or None,
        "objects": [
            {"id": item.id, "label": item.label, "box": [round(float(x), 4) for x in item.box], "score": item.score}
            for item in ranking.objects
        ],
    }
    atomic_write(folder.file("ranking.json"), json.dumps(result, indent=1) + "\n")
    print(f"ranking and picture: {folder.path / 'ranking.json'}, {folder.path / 'ranking.png'}")
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


def show(ranking: Ranking, rows: int, conformal: Conformal | None) -> None:
    """Prints the best candidates, and what of them may be meant."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(textwrap.shorten(ranking.sentence, TITLE, placeholder=" …")))
    for name in ("rank", "object", "id", "score", "centre x y z (m)", *(["may be meant"] if conformal else [])):
        table.add_column(name, justify="left" if name in ("object", "may be meant") else "right")
    for rank, item in enumerate(ranking.objects[:rows], start=1):
        centre = " ".join(f"{value:.2f}" for value in item.box[:3])
        meant = "yes" if item.id in (ranking.present or ()) else ""
        cells = [str(rank), escape(item.label), str(item.id), f"{item.score:.3f}", centre, meant]
        table.add_row(*cells[: len(table.columns)])
    Console().print(table)
    if len(ranking.objects) > rows:
        print(f"and {len(ranking.objects) - rows} more objects")
    if conformal and ranking.present is not None:
        sets = f"sets that hold {conformal.level:.0%} of the targets, calibrated on {conformal.homes} homes"
        if ranking.not_there:
            print(f"not there: no object of the scene fits the sentence well enough ({sets})")
        else:
            print(f"may be meant: {len(ranking.present)} of {len(ranking.objects)} objects ({sets})")
    if ranking.unknown_words:
        print(f"words never seen in training: {', '.join(ranking.unknown_words)}")


if __name__ == "__main__":
    job_main("ground")

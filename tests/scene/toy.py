"""Small hand-made homes and sentences for the grounding tests: coloured boxes on a floor."""

from pathlib import Path

import numpy as np

from scene.geometry import boxes_mesh
from scene.language import Referral
from scene.relations import left_of, pairs_of
from scene.store import write_corpus
from scene.types import Room, Scene, SceneMesh, SceneObject

COLORS = {"red": (200, 30, 30), "blue": (30, 60, 200), "green": (30, 160, 60)}
SIZES = {"cube": (0.5, 0.5, 0.5), "pole": (0.2, 0.2, 1.5), "plate": (1.0, 1.0, 0.1)}


def toy_scene(seed: int, count: int = 6) -> Scene:
    """`count` boxes of random colour and kind in a room of 6 x 6 metres."""
    rng = np.random.default_rng(seed)
    objects = []
    for index in range(count):
        label, color = str(rng.choice(list(SIZES))), str(rng.choice(list(COLORS)))
        size = np.array(SIZES[label])
        xyz = np.array([*rng.uniform(0.5, 5.5, 2), size[2] / 2])
        box = np.concatenate([xyz, size, [0.0]])
        objects.append(SceneObject(index, label, box, attributes={"color": color}, room=0))
    vertices, faces = boxes_mesh(np.stack([item.box for item in objects]))
    colors = np.repeat(np.array([COLORS[item.attributes["color"]] for item in objects], np.uint8), 12, axis=0)
    instance = np.repeat(np.arange(count, dtype=np.int32), 12)
    room = Room(0, "hall", np.array([[0.0, 0], [6, 0], [6, 6], [0, 6]]))
    return Scene(f"toy-{seed}", "toy", objects, [room], mesh=SceneMesh(vertices, faces, colors, instance))


def toy_referrals(scene: Scene) -> list[Referral]:
    """Every colour and label that names one object, and every such object's left-hand neighbours of one kind."""
    names = [f"{item.attributes['color']} {item.label}" for item in scene.objects]
    single = [i for i, name in enumerate(names) if names.count(name) == 1]
    referrals = [Referral(scene.id, f"the {names[i]}", (i,), (), "attribute", "toy", room=0) for i in single]
    left = left_of(pairs_of(scene.boxes)) > 0
    for anchor in single:
        for label in SIZES:
            found = [i for i, item in enumerate(scene.objects) if item.label == label and left[i, anchor]]
            if len(found) == 1:
                text = f"the {label} to the left of the {names[anchor]}"
                referrals.append(Referral(scene.id, text, (found[0],), (anchor,), "relation", "toy", room=0))
    return referrals


def toy_folder(folder: Path, train: int = 6, val: int = 2, test: int = 2) -> Path:
    """A folder as build-scenes makes it."""
    homes, seed = {}, 0
    for name, count in (("train", train), ("val", val), ("test", test)):
        scenes = [toy_scene(seed + k) for k in range(count)]
        seed += count
        homes[name] = [(scene, toy_referrals(scene)) for scene in scenes]
    write_corpus(folder, homes, "toy")
    return folder

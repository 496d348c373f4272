"""Small hand-made homes for the tests of envs."""

import numpy as np

from scene.types import Door, Room, Scene, SceneMesh, SceneObject

USES = {"mug": ("pickup",), "desk": ("surface",), "shelf": ("surface",)}
_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
_FACES = np.concatenate([_QUADS[:, [0, 2, 1]], _QUADS[:, [0, 3, 2]]])  # counter-clockwise from outside


def box_mesh(box):
    """Vertices (8, 3) and faces (12, 3) of an upright box."""
    signs = np.array([[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)])
    local = signs * np.asarray(box[3:6]) / 2
    cos, sin = np.cos(box[6]), np.sin(box[6])
    turned = np.stack([cos * local[:, 0] - sin * local[:, 1], sin * local[:, 0] + cos * local[:, 1], local[:, 2]], 1)
    return turned + box[:3], _FACES


def wall(x0, y0, x1, y1, thick=0.1, height=2.6):
    """Box of a wall between two points."""
    length = np.hypot(x1 - x0, y1 - y0)
    return [(x0 + x1) / 2, (y0 + y1) / 2, height / 2, length, thick, height, np.arctan2(y1 - y0, x1 - x0)]


def make_home(scene_id, width, depth, things=(), walls=()):
    """A room of width x depth metres with its corner at (0, 0).

    things: (label, colour, x, y, size x, size y, height) and, where it is not the floor, the height of its foot; walls:
    extra wall boxes.
    """
    shell = [wall(0, 0, width, 0), wall(width, 0, width, depth), wall(width, depth, 0, depth), wall(0, depth, 0, 0)]
    floor = [width / 2, depth / 2, -0.05, width, depth, 0.1, 0.0]
    objects, boxes = [], [(floor, -1, (150, 130, 110))]
    boxes += [(box, -1, (220, 215, 205)) for box in [*shell, *walls]]
    tints = {"red": (205, 32, 38), "blue": (30, 86, 205), "green": (38, 148, 62)}
    for label, color, x, y, size_x, size_y, height, *foot in things:
        box = np.array([x, y, sum(foot) + height / 2, size_x, size_y, height, 0.0])
        color_of, uses = {"color": color}, USES.get(label, ())
        objects.append(SceneObject(len(objects), label, box, attributes=color_of, room=0, affordances=uses))
        boxes.append((box, len(objects) - 1, tints.get(color, (128, 128, 128))))
    vertices, faces, colors, instance = [], [], [], []
    for box, owner, tint in boxes:
        corners, triangles = box_mesh(box)
        faces.append(triangles + 8 * len(vertices))
        vertices.append(corners)
        colors.append(np.tile(tint, (12, 1)))
        instance.append(np.full(12, owner))
    mesh = SceneMesh(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colors).astype(np.uint8),
        np.concatenate(instance).astype(np.int32),
    )
    outline = np.array([[0, 0], [width, 0], [width, depth], [0, depth]], float)
    return Scene(scene_id, "procedural", objects, rooms=[Room(0, "living room", outline)], mesh=mesh)


def three_homes():
    """Rooms with a few coloured things each; together four goals."""
    first = [("armchair", "red", 5.4, 3.4, 0.8, 0.8, 0.9), ("sofa", "blue", 0.7, 2.0, 0.9, 1.8, 0.8)]
    second = [("armchair", "green", 0.7, 0.7, 0.8, 0.8, 0.9), ("armchair", "red", 4.3, 4.3, 0.8, 0.8, 0.9)]
    third = [("sofa", "blue", 3.5, 0.6, 1.8, 0.9, 0.8), ("table", "green", 1.5, 2.5, 1.0, 1.0, 0.7)]
    return [
        make_home("home-a", 6.0, 4.0, first, walls=[wall(3.0, 0.0, 3.0, 2.4)]),
        make_home("home-b", 5.0, 5.0, second),
        make_home("home-c", 4.5, 5.5, third),
    ]


def lively_home():
    """Two rooms of 3.5 x 4 m side by side with a door between them, which opens; one mug to carry, things to go to.

    The door stands at x = 3.5, y from 1.5 to 2.5. The mug is object 0, on the desk; the shelf has room for it.
    """
    things = [
        ("mug", "red", 0.8, 0.6, 0.1, 0.1, 0.1, 0.7),
        ("desk", "green", 0.6, 0.6, 1.0, 0.8, 0.7),
        ("shelf", "blue", 6.7, 3.4, 0.4, 0.8, 1.0),
        ("armchair", "red", 0.6, 3.4, 0.8, 0.8, 0.9),
        ("armchair", "blue", 6.4, 0.6, 0.8, 0.8, 0.9),
    ]
    scene = make_home("lively", 7.0, 4.0, things, walls=[wall(3.5, 0, 3.5, 1.5), wall(3.5, 2.5, 3.5, 4.0)])
    outlines = [[[x, 0], [x + 3.5, 0], [x + 3.5, 4], [x, 4]] for x in (0.0, 3.5)]
    scene.rooms = [Room(k, "study", np.array(outline, float)) for k, outline in enumerate(outlines)]
    for item in scene.objects:
        item.room = int(item.box[0] > 3.5)
    scene.doors = [Door(0, np.array([3.5, 2.0, 1.0, 1.0, 0.1, 2.0, np.pi / 2]), (0, 1))]
    return scene

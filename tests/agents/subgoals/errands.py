"""A small flat for the tests of plans: kitchen, hall and study in a row, with a tray that carries two mugs."""

import numpy as np

from scene.types import Door, Room, Scene, SceneObject

TABLE, TRAY, RED_MUG, BLUE_MUG, SHELF, WINDOW, CHAIR, OTHER_CHAIR, BOOK, CABINET, SPOON = range(11)


def flat():
    """Rooms of 4 x 4 m: kitchen (x 0..4), hall, study, joined by doors 0 and 1; door 2 leads outside."""
    things = [
        ("table", "white", 1.0, 1.0, 0.0, 1.2, 1.2, 0.7, ("surface",)),
        ("tray", "gray", 1.0, 1.0, 0.7, 0.4, 0.4, 0.03, ("pickup",)),
        ("mug", "red", 0.9, 0.9, 0.73, 0.1, 0.1, 0.1, ("pickup",)),
        ("mug", "blue", 1.1, 1.1, 0.73, 0.1, 0.1, 0.1, ("pickup",)),
        ("shelf", "brown", 11.5, 3.0, 0.0, 0.4, 1.0, 0.9, ("surface",)),
        ("window", "white", 10.0, 0.05, 1.0, 1.2, 0.1, 1.0, ()),
        ("chair", "green", 10.0, 0.6, 0.0, 0.5, 0.5, 0.9, ()),
        ("chair", "green", 8.6, 3.5, 0.0, 0.5, 0.5, 0.9, ()),
        ("book", "red", 6.0, 2.0, 0.0, 0.2, 0.3, 0.05, ("pickup",)),
        ("cabinet", "black", 3.5, 3.5, 0.0, 0.8, 0.6, 1.2, ("open",)),
        ("spoon", "gray", 3.5, 3.5, 0.5, 0.1, 0.05, 0.02, ("pickup",)),
    ]
    objects = [
        SceneObject(
            k, label, np.array([x, y, foot + high / 2, wide, deep, high, 0.0]),
            attributes={"color": color}, room=int(x // 4), affordances=uses,
        )
        for k, (label, color, x, y, foot, wide, deep, high, uses) in enumerate(things)
    ]  # fmt: skip
    rooms = [
        Room(k, kind, np.array([[4 * k, 0], [4 * k + 4, 0], [4 * k + 4, 4], [4 * k, 4]], float))
        for k, kind in enumerate(("kitchen", "hall", "study"))
    ]
    ways = [(4.0, (0, 1)), (8.0, (1, 2)), (0.0, (0, -1))]
    doors = [Door(k, np.array([x, 2.0, 1.0, 1.0, 0.1, 2.0, np.pi / 2]), joins) for k, (x, joins) in enumerate(ways)]
    return Scene("flat", "procedural", objects, rooms=rooms, doors=doors)


def texts(plan):
    """What a plan says."""
    return [step.text for step in plan.subgoals]

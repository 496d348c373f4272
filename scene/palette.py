"""The named colours of things, and the neutral colours of rooms.

A colour name is an attribute that sentences use; the rgb it stands for is only the middle of what a surface shows:
furniture varies it by part and by instance. Rooms keep to pale or woody tones that none of the names stands for.
"""

from typing import Final

RGB = tuple[int, int, int]

PALETTE: Final[dict[str, RGB]] = {
    "red": (205, 32, 38),
    "orange": (243, 126, 22),
    "yellow": (245, 212, 32),
    "green": (38, 148, 62),
    "blue": (30, 86, 205),
    "purple": (126, 48, 168),
    "pink": (244, 138, 188),
    "white": (240, 240, 238),
    "gray": (128, 130, 134),
    "black": (34, 34, 38),
    "brown": (112, 68, 38),
}

GOAL_COLORS: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")
"""Colours of the things an agent is sent to; the rest of the palette is for other things."""

GOAL_LABELS: Final = ("armchair", "chair", "sofa", "bed", "table", "bookshelf", "floor lamp", "wardrobe")
"""Classes of at least 0.4 m, told apart by shape, that an agent is sent to."""

HELD_OUT_PAIRS: Final[tuple[tuple[str, str], ...]] = (
    ("red", "armchair"),
    ("blue", "chair"),
    ("green", "sofa"),
    ("pink", "bed"),
    ("yellow", "table"),
    ("purple", "bookshelf"),
    ("orange", "floor lamp"),
)
"""Colour x class pairs that no train or val home shows; each colour and each class occurs there in other pairs."""

WALLS: Final[tuple[RGB, ...]] = (
    (222, 214, 200),  # cream
    (208, 214, 204),  # pale sage
    (206, 212, 220),  # mist
    (224, 210, 196),  # sand
    (212, 206, 214),  # pale lilac grey
    (216, 218, 210),  # chalk
)
WOOD_FLOORS: Final[tuple[RGB, ...]] = ((178, 146, 112), (196, 168, 134), (156, 126, 98), (186, 160, 136))
TILE_FLOORS: Final[tuple[RGB, ...]] = ((198, 200, 198), (206, 200, 190), (184, 190, 194))
CEILING: Final[RGB] = (236, 234, 228)
TRIM: Final[RGB] = (228, 224, 214)  # baseboards, door and window frames
SKY: Final[RGB] = (176, 212, 238)
WOOD: Final[RGB] = (134, 98, 66)  # legs and frames of two-tone furniture
DARK_WOOD: Final[RGB] = (84, 60, 44)
METAL: Final[RGB] = (150, 152, 156)

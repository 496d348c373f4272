"""Furniture from parts: `build("armchair", size, rgb, rng)` makes a mesh that fills its box exactly.

Classes differ in shape, not only in size, so that a small picture or a few hundred points tell them apart.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, nearest
from scene.furniture import appliances, seating, small, storage, wall
from scene.furniture.parts import Color, PartMesh, Parts

Builder = Callable[[Parts, tuple[float, float, float], Color], None]

BUILDERS: dict[str, Builder] = {
    "armchair": seating.armchair,
    "sofa": seating.sofa,
    "chair": seating.chair,
    "stool": seating.stool,
    "bench": seating.bench,
    "bed": seating.bed,
    "pillow": seating.pillow,
    "table": storage.table,
    "desk": storage.desk,
    "coffee table": storage.coffee_table,
    "countertop": storage.countertop,
    "bookshelf": storage.bookshelf,
    "wardrobe": storage.wardrobe,
    "cabinet": storage.cabinet,
    "dresser": storage.dresser,
    "nightstand": storage.nightstand,
    "tv stand": storage.tv_stand,
    "fridge": storage.fridge,
    "floor lamp": appliances.floor_lamp,
    "table lamp": appliances.table_lamp,
    "ceiling lamp": appliances.ceiling_lamp,
    "plant": appliances.plant,
    "tv": appliances.tv,
    "laptop": appliances.laptop,
    "bathtub": appliances.bathtub,
    "toilet": appliances.toilet,
    "sink": appliances.sink,
    "stove": appliances.stove,
    "mug": small.mug,
    "book": small.book,
    "bowl": small.bowl,
    "bottle": small.bottle,
    "can": small.can,
    "vase": small.vase,
    "box": small.box,
    "ball": small.ball,
    "apple": small.apple,
    "clock": small.clock,
    "basket": small.basket,
    "tray": small.tray,
    "plain": small.plain,
    "picture": wall.picture,
    "mirror": wall.mirror,
    "wall clock": wall.wall_clock,
    "shelf": wall.shelf,
    "curtain": wall.curtain,
    "curtain rod": wall.curtain_rod,
    "window": wall.window,
    "open door": wall.open_door,
    "door": wall.closed_door,
}
"""Name of a shape -> its builder. "plain" is a block for things without a shape of their own."""


def build(shape: str, size: Float[ndarray, "3"], rgb: Color, rng: np.random.Generator) -> PartMesh:
    """The mesh of one piece in its own frame: x forward, y left, z up, standing on z = 0, bounds exactly `size`.

    Args:
        shape: a key of BUILDERS.
        size: depth (x), width (y), height (z) in metres.
        rgb: the colour that dominates, 0..255.
        rng: varies shades and details.

    Raises:
        InputError: an unknown shape, or a size that is not positive.
    """
    if shape not in BUILDERS:
        raise InputError(f"no furniture shape {shape!r}; {nearest(shape, BUILDERS)}")
    size = np.asarray(size, dtype=np.float64)
    if size.shape != (3,) or not (size > 0).all():
        raise InputError(
            f"{shape}: size {size.tolist()} should be three positive numbers (depth, width, height in metres)"
        )
    parts = Parts(rng)
    BUILDERS[shape](parts, (float(size[0]), float(size[1]), float(size[2])), rgb)
    return parts.mesh(size)

"""Writes small views folders in the layout of vl/data.py: one coloured rectangle on grey per image."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from tests.vl.conftest import COLORS, SIDES


def write_views(folder: Path, sizes: dict[str, int], size: int = 32, heldout: str = "") -> Path:
    """Views of `sizes[split]` images; view i lies in home i // 4. Train has no box of colour `heldout` (but a lamp)."""
    for number, (split, count) in enumerate(sizes.items()):
        rng = np.random.default_rng(number)
        images = np.full((count, size, size, 3), 120, dtype=np.uint8)
        rows: dict[str, list] = {"view": [], "caption": [], "kind": [], "scene_id": []}
        for i in range(count):
            color, side = list(COLORS)[rng.integers(len(COLORS))], int(rng.integers(3))
            top = int(rng.integers(4, size - 14))
            images[i, top : top + 10, side * size // 3 : (side + 1) * size // 3] = COLORS[color]
            thing = "lamp" if split == "train" and color == heldout else "box"
            named = f"a {color} {thing} on the {SIDES[side]}"
            for kind, text in (("full", f"{named} , row {top}"), ("object", named), ("object", f"a {color} {thing}")):
                rows["view"].append(i)
                rows["caption"].append(text)
                rows["kind"].append(kind)
                rows["scene_id"].append(f"{split}-{i // 4}")
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "images.npy", images)
        parquet.write_table(pa.table(rows), folder / split / "captions.parquet")
    return folder

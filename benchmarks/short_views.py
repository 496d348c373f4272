"""Views that few words describe: python -m benchmarks.short_views VIEWS OUT [--words 20]

Copies a folder of rendered views with the views whose every full caption has at most so many words: where training time
is short, long captions cost most of it. Splits stay as they are, views are numbered anew.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from core.errors import InputError
from core.files import atomic_folder
from vl.data import CaptionedViews


def keep_short(source: Path, target: Path, split: str, words: int) -> tuple[int, int]:
    """Writes one split; how many views it keeps, and of how many."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    views = CaptionedViews.open(source, split)
    length = np.array([len(text.split()) for text in views.texts])
    kept = [v for v, rows in enumerate(views.full) if length[rows].max() <= words]
    if not kept:
        raise InputError(f"no view of split {split} in {source} is described by {words} words; give more")
    table: dict[str, list] = {"view": [], "caption": [], "kind": [], "scene_id": []}
    for number, v in enumerate(kept):
        for kind, rows in (("full", views.full[v]), ("object", views.objects[v])):
            for row in rows:
                for name, value in zip(table, (number, views.texts[row], kind, views.scene_id[v])):
                    table[name].append(value)
    target.mkdir(parents=True)
    np.save(target / "images.npy", views.images[kept])
    parquet.write_table(pa.table(table), target / "captions.parquet")
    return len(kept), len(views)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("views", type=Path, help="folder that `sightline render-views` filled")
    parser.add_argument("out", type=Path, help="folder to make")
    parser.add_argument("--words", type=int, default=20, help="most words of a full caption")
    args = parser.parse_args()
    try:
        with atomic_folder(args.out) as folder:
            for split in ("train", "val", "test"):
                kept, of = keep_short(args.views, folder / split, split, args.words)
                print(f"{split}: {kept} of {of} views")
    except InputError as error:
        sys.exit(f"benchmarks.short_views: {error}")


if __name__ == "__main__":
    main()

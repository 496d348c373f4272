"""Writes small folders of NLVR1's official form: pictures of one colour, and a sentence that names red."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.vl.conftest import COLORS


def write_nlvr1(folder: Path, sizes: dict[str, int], text: str = "there is a red box", size: int = 32) -> Path:
    """`sizes[split]` sentences with six pictures each; every second is blue, and the sentence false."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, count in sizes.items():
        lines = []
        with zipfile.ZipFile(folder / f"{split}_images.zip", "w") as archive:
            for n in range(count):
                seen = "red" if n % 2 == 0 else "blue"
                sentence = {"identifier": f"{n}-0", "sentence": text, "directory": "0"}
                lines.append(json.dumps({**sentence, "label": "true" if seen == "red" else "false"}))
                for order in range(6):
                    pixels = np.array(COLORS[seen]) + rng.integers(-15, 15, (size, size, 3))
                    file = io.BytesIO()
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
                    archive.writestr(f"{split}-{n}-0-{order}.png", file.getvalue())
        (folder / f"{split}.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder

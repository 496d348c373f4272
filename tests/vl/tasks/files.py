"""Tiny releases of the official forms, written by the tests."""

import gzip
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image


def png(shade: int = 128) -> bytes:
    """A grey picture of 4 x 3 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (shade, shade, shade)).save(buffer, "PNG")
    return buffer.getvalue()


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """JSON lines, packed where the name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_pictures(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png())


def zip_pictures(path: Path, names: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, png())

"""Files of pictures, good and hostile, for tests: their bytes."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(picture, kind="PNG", **options) -> bytes:
    """The file of a PIL picture or of an array."""
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it has width x height pixels."""
    parts = []
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for tag, data in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(100_000))), (b"IEND", b"")):
        parts.append(struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)

"""Pictures in a folder or a zip archive, and the one decoder that every picture from outside goes through.

A picture comes out as uint8 (H, W, 3), upright RGB, whatever it was: palettes and grey become RGB, CMYK by the plain
formula without colour profiles, transparent parts are laid over white, 16 bits become the upper 8, of several frames
the first is taken. What cannot be read, or would take more than the limits, is a PictureError with the cause in one
word or two, so that callers can count by cause.
"""

import io
import os
import posixpath
import threading
import warnings
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageOps, UnidentifiedImageError

from core.errors import InputError, MissingFileError

FORMATS: Final = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_MODES: Final = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B", "I"})

# Sizes are checked here before anything is unpacked. Said once, not around each call: warnings.catch_warnings changes
# the filters of all threads, and threads that leave it in another order than they came leave them changed.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class PictureLimits:
    """What one picture may take."""

    seconds: float = 20.0  # for fetching, from connecting to the last byte
    bytes: int = 32 << 20  # as a file
    pixels: int = 40_000_000  # unpacked
    aspect: float = 32.0  # longer side over shorter side


LIMITS: Final = PictureLimits()


class PictureError(InputError):
    """A picture that cannot be read.

    `cause` is one of: missing, outside (its name leads out of the folder), unreadable (the system does not give it),
    too many bytes, too many pixels, too thin, not a picture, pixel kind, truncated, damaged.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Decoded:
    """A picture and what was done to make it 8-bit RGB."""

    pixels: UInt8[ndarray, "H W 3"]
    notes: tuple[str, ...]  # of: first frame, 16 bits, CMYK, transparent


def decode_picture(
    content: bytes, what: str, limits: PictureLimits = LIMITS, least: tuple[int, int] | None = None
) -> Decoded:
    """The picture in the bytes of a file.

    Args:
        what: how errors name it.
        least: (height, width) that is enough: a JPEG at least twice as large is unpacked at 1/2, 1/4 or 1/8 by its own
            transform, which takes a fraction of the time, and is still at least this large.

    Raises:
        PictureError: see there.
    """
    try:
        picture: Any = Image.open(io.BytesIO(content), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise PictureError(
            "too many pixels", f"{what} has more pixels than the {limits.pixels} that are read"
        ) from error
    except UnidentifiedImageError as error:
        raise PictureError("not a picture", _no_picture(what, error)) from error
    except Exception as error:  # Pillow's readers raise many kinds on damaged files
        raise PictureError("damaged", _no_picture(what, error)) from error
    width, height = picture.size  # of the file's head; nothing is unpacked yet
    if width * height > limits.pixels:
        raise PictureError("too many pixels", f"{what} has {width} x {height} pixels, read are up to {limits.pixels}")
    if max(width, height) > limits.aspect * min(width, height):
        raise PictureError(
            "too thin",
            f"{what} has {width} x {height} pixels; one side may be up to {limits.aspect:g} times the other",
        )
    if picture.mode not in _MODES:
        raise PictureError(
            "pixel kind", f"{what} has pixels of kind {picture.mode!r}, expected 8 or 16 bits per channel"
        )
    try:
        if least is not None:
            picture.draft(None, (max(least), max(least)))  # both sides, as it may lie on one
        picture.load()
        notes = ["first frame"] if getattr(picture, "is_animated", False) else []
        ImageOps.exif_transpose(picture, in_place=True)  # in place: no copy of pictures that stand upright already
        rgb, found = _rgb(picture)
        return Decoded(np.array(rgb), (*notes, *found))
    except Exception as error:
        cause = "truncated" if "truncated" in str(error) else "damaged"
        raise PictureError(cause, _no_picture(what, error)) from error


def _no_picture(what: str, error: Exception) -> str:
    return f"{what} is no whole picture ({', '.join(FORMATS)} are read): {type(error).__name__}"


def _rgb(picture: Image.Image) -> tuple[Image.Image, list[str]]:
    """The picture as 8-bit RGB, and notes on what that took."""
    if picture.mode.startswith("I"):  # 16-bit grey; "I" is what older Pillows make of it
        levels = np.clip(np.asarray(picture).astype(np.int64), 0, 65535) >> 8
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB"), ["16 bits"]
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A")
        if alpha.getextrema() != (255, 255):
            white = Image.new("RGB", picture.size, (255, 255, 255))
            white.paste(picture.convert("RGB"), mask=alpha)
            return white, ["transparent"]
    if picture.mode == "RGB":
        return picture, []
    return picture.convert("RGB"), ["CMYK"] if picture.mode == "CMYK" else []


def resize(picture: UInt8[ndarray, "H W 3"], height: int, width: int) -> UInt8[ndarray, "h w 3"]:
    """The whole picture at another size, by a bicubic kernel as wide as the step between pixels (antialiased).

    Both sides are stretched on their own and nothing is cut off, so that what a sentence speaks of stays in the
    picture.
    """
    if picture.shape[:2] == (height, width):
        return picture
    return np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


class Pictures:
    """The pictures of a folder or a .zip archive by name; many threads may read at once.

    Names are paths below the folder (or within the archive) with forward slashes. Nothing of an archive is extracted.
    """

    def __init__(self, root: str | Path, limits: PictureLimits = LIMITS) -> None:
        """
        Raises:
            MissingFileError: nothing is there. InputError: it is a file, but no zip archive.
        """
        self.root = Path(root).expanduser()
        self.limits = limits
        self._lock = threading.Lock()  # of the counters, and of the archive's one file position
        self._notes: Counter[str] = Counter()
        self.bytes_read = 0
        self._archive: zipfile.ZipFile | None = None
        if not self.root.exists():
            raise MissingFileError(f"pictures not found: {self.root} (working folder: {Path.cwd()})")
        if self.root.is_dir():
            self._base = os.path.abspath(self.root)
            return
        try:
            self._archive = zipfile.ZipFile(self.root)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(
                f"{self.root} is neither a folder nor a whole zip archive ({error}); give the pictures' folder"
            ) from error

    def names(self) -> list[str]:
        """Names of all files that end like a picture, sorted; those that lead out of an archive are left out."""
        if self._archive is not None:
            found = (name for name in self._archive.namelist() if not _climbs(name))
        else:
            places = os.walk(self._base)
            found = (
                Path(folder, file).relative_to(self._base).as_posix() for folder, _, files in places for file in files
            )
        return sorted(name for name in found if name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX/"))

    @property
    def converted(self) -> Counter[str]:
        """How many pictures read so far had several frames, 16 bits, CMYK or transparent parts."""
        with self._lock:
            return self._notes.copy()

    def read(self, name: str, least: tuple[int, int] | None = None) -> UInt8[ndarray, "H W 3"]:
        """The picture of that name; `least` as in `decode_picture`.

        Raises:
            PictureError: it is not there, does not read, or its name leads elsewhere. A link inside the folder is
                followed: whoever owns the folder put it there, but names come with data that others wrote.
        """
        content = self._content(name)
        return self.decode(content, f"picture {name!r} of {self.root}", least)

    def decode(self, content: bytes, what: str, least: tuple[int, int] | None = None) -> UInt8[ndarray, "H W 3"]:
        """A picture that came as bytes, under the same limits and counted alike."""
        with self._lock:
            self.bytes_read += len(content)
        if len(content) > self.limits.bytes:
            raise self._too_large(what, len(content))
        decoded = decode_picture(content, what, self.limits, least)
        if decoded.notes:
            with self._lock:
                self._notes.update(decoded.notes)
        return decoded.pixels

    def _too_large(self, what: str, size: int) -> PictureError:
        return PictureError("too many bytes", f"{what} has {size} bytes, pictures are read up to {self.limits.bytes}")

    def _content(self, name: str) -> bytes:
        what = f"picture {name!r} of {self.root}"
        outside = PictureError("outside", f"{what} would lie outside of it; names are paths below the folder")
        missing = PictureError("missing", f"{what} is not there")
        if self._archive is not None:
            if _climbs(name):
                raise outside
            try:
                entry = self._archive.getinfo(name)
            except KeyError:
                raise missing from None
            if entry.file_size > self.limits.bytes:
                raise self._too_large(what, entry.file_size)
            try:
                with self._lock:
                    return self._archive.read(entry)  # no more than file_size, whatever the packed data says
            except Exception as error:  # a wrong sum, a password, an unknown packing, a cut archive
                raise PictureError("damaged", f"{what} does not unpack: {error}") from error
        path = os.path.normpath(os.path.join(self._base, name))
        if os.path.commonpath([self._base, path]) != self._base:
            raise outside
        try:
            if not os.path.isfile(path):
                raise missing
            size = os.path.getsize(path)
            if size > self.limits.bytes:
                raise self._too_large(what, size)
            return Path(path).read_bytes()
        except PictureError:
            raise
        except (OSError, ValueError) as error:
            raise PictureError("unreadable", f"{what} does not open: {error}") from error


def _climbs(name: str) -> bool:
    """Whether a name of an archive leads out of it."""
    path = posixpath.normpath(name.replace("\\", "/"))
    return path == ".." or path.startswith(("/", "../"))

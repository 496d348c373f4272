"""Pictures of a task at a model's resolution: decoded once and kept where they fit in memory, else read each time."""

from collections import Counter
from collections.abc import Iterable
from math import ceil, floor

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from core.errors import InputError
from vl.pictures import PictureError, Pictures, resize

GREY = 128
"""Value of every pixel of the picture that a blind model sees."""

Crop = tuple[str, tuple[float, float, float, float] | None]
"""A picture's name and the box (x1, y1, x2, y2 in pixels) to look at; None = the whole picture."""


class PictureCache:
    """Pictures and crops of them, resized to (height, width), aspect squashed.

    What is kept is never thrown out: the first pictures asked for stay, later ones are read again each time. Unreadable
    pictures are remembered by cause and given as None.
    """

    def __init__(self, pictures: Pictures, height: int, width: int, *, gigabytes: float = 1.0) -> None:
        self.pictures, self.height, self.width = pictures, height, width
        self.room = int(gigabytes * 1e9)  # bytes still free
        self.unreadable: dict[str, str] = {}  # name: cause
        self._kept: dict[Crop, UInt8[ndarray, "H W 3"]] = {}

    def get(self, crop: Crop) -> UInt8[ndarray, "H W 3"] | None:
        """The picture, or None where it is unreadable.

        Raises:
            InputError: the box lies outside the picture.
        """
        found = self._kept.get(crop)
        if found is not None:
            return found
        if crop[0] in self.unreadable:
            return None
        try:
            least = (self.height, self.width) if crop[1] is None else None
            picture = self.pictures.read(crop[0], least)
        except PictureError as error:
            self.unreadable[crop[0]] = error.cause
            return None
        small = resize(self._cut(picture, crop), self.height, self.width)
        if small.nbytes <= self.room:
            self.room -= small.nbytes
            self._kept[crop] = small
        return small

    def readable(self, crops: Iterable[Crop]) -> bool:
        """Whether all of these can be had."""
        return all(self.get(crop) is not None for crop in crops)

    def stack(self, crops: Iterable[Crop]) -> UInt8[ndarray, "U H W 3"]:
        """The pictures as one array, a grey one in the place of each that is unreadable."""
        grey = np.full((self.height, self.width, 3), GREY, dtype=np.uint8)
        found = [self.get(crop) for crop in crops]
        return np.stack([grey if picture is None else picture for picture in found])

    def causes(self) -> dict[str, int]:
        """How many pictures were unreadable for which cause."""
        return dict(Counter(self.unreadable.values()))

    def _cut(self, picture: UInt8[ndarray, "h w 3"], crop: Crop) -> UInt8[ndarray, "h w 3"]:
        if crop[1] is None:
            return picture
        height, width = picture.shape[:2]
        x1, y1, x2, y2 = crop[1]
        left, top, right, bottom = max(floor(x1), 0), max(floor(y1), 0), min(ceil(x2), width), min(ceil(y2), height)
        if right <= left or bottom <= top:
            raise InputError(
                f"box {crop[1]} lies outside {crop[0]} ({width} x {height} pixels); boxes are x1, y1, x2, y2 in pixels"
            )
        return picture[top:bottom, left:right]

"""What one picture of a home surely shows, and what it surely does not: the facts that questions are made from.

A thing is *sure* when it is large and whole enough to be told at 64 x 64 pixels; a few pixels of it make it *faint*:
nobody could say whether it is there, so no question depends on it. Kinds that people call by one name (a chair, an
armchair and a stool) count as *alike*: a picture with one of them is not asked about another. A colour is told only
where the pixels show it.
"""

import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int32, UInt8
from numpy import ndarray
from PIL import Image

from core.conventions import intrinsics_from_fov
from scene.english import is_countable
from scene.geometry import distance_to_footprint
from scene.occupancy import occupancy
from scene.palette import PALETTE
from scene.render import prepare, render
from scene.types import Scene
from scene.views import sample_camera
from scene.visibility import score_points, visible_shares

SURE_PIXELS: Final = 60  # of a 64 x 64 picture; the same share of others
SURE_SHARE: Final = 0.4  # of the thing's points, by the occlusion score
CLEAR_SHARE: Final = 0.6  # of its pixels show the colour it is named by
SHADES: Final = (0.6, 1.0)  # a surface shows its colour times something between these
SIDES: Final = ("left", "middle", "right")
TURN_RAD: Final = np.pi / 6
ALIKE: Final[tuple[tuple[str, ...], ...]] = (
    ("chair", "armchair", "stool", "ottoman"),
    ("sofa", "couch", "bench", "loveseat"),
    ("table", "desk", "countertop", "counter", "island"),
    ("cabinet", "wardrobe", "dresser", "nightstand", "stand", "drawers", "chest", "fridge"),
    ("shelf", "bookshelf", "bookcase", "rack"),
    ("picture", "painting", "poster", "mirror", "photo"),
    ("vase", "bottle", "plant", "bowl", "cup", "mug"),
    ("door", "doorway", "doorframe"),
    ("curtain", "blinds", "rod"),
    ("tv", "television", "monitor", "laptop"),
    ("box", "basket", "bin"),
)
"""Head nouns of things that a small picture does not tell apart."""
NEVER_ASKED: Final = frozenset({"door", "doorway", "doorframe"})
"""Head nouns of what stands open or shut: of an open door a picture shows no more than the frame."""
_FAMILY: Final = {head: row[0] for row in ALIKE for head in row}


def family(label: str) -> str:
    """What a label's things could be taken for: labels of one family are alike."""
    head = label.split()[-1] if label else label
    return _FAMILY.get(head, head)


def can_be_asked(label: str) -> bool:
    """Whether questions name things of this label."""
    return is_countable(label) and NEVER_ASKED.isdisjoint(label.split()[-1:])


@dataclass(frozen=True)
class Thing:
    """One object in one picture."""

    id: int  # index into scene.objects
    label: str
    color: str  # as the scene names it; "" where it names none
    clear: bool  # the pixels show that colour
    sure: bool
    pixels: int
    share: float  # occlusion score, 0..1
    box: tuple[int, int, int, int]  # x1, y1, x2, y2: its visible pixels are within [x1, x2) x [y1, y2)
    column: float  # mean of its pixels' columns over the width, 0..1
    distance_m: float  # horizontal, from the camera to the footprint
    depth_m: float  # median over its pixels

    @property
    def side(self) -> str:
        """The third of the picture with its middle."""
        return SIDES[min(int(3 * self.column), 2)]


@dataclass(eq=False)
class View:
    """One picture of a home."""

    name: str  # of the picture's file
    home: str
    rgb: UInt8[ndarray, "H W 3"] = field(repr=False)
    things: list[Thing]  # every object with a pixel in it, largest first

    @property
    def width(self) -> int:
        """In pixels."""
        return self.rgb.shape[1]

    @property
    def sure(self) -> list[Thing]:
        """What may be asked about."""
        return [thing for thing in self.things if thing.sure]

    def alike(self, label: str) -> list[Thing]:
        """What is or could be taken for a thing of this label, however little of it shows."""
        return [thing for thing in self.things if family(thing.label) == family(label)]

    def noun_for(self, thing: Thing) -> str:
        """What can be said to mean this thing alone: "sofa" or "red sofa"; "" where nothing can."""
        others = [other for other in self.alike(thing.label) if other.id != thing.id]
        if not thing.sure or not can_be_asked(thing.label):
            return ""
        if not others:
            return thing.label
        told = thing.clear and all(other.clear and other.color != thing.color for other in others)
        return f"{thing.color} {thing.label}" if told else ""

    def count(self, label: str) -> int | None:
        """How many things of this label it shows; None where somebody could count otherwise."""
        alike = self.alike(label)
        return len(alike) if all(thing.sure and thing.label == label for thing in alike) else None

    def shows(self, label: str, color: str = "") -> bool | None:
        """Whether a thing of this label (and colour) is in it; None where that can be disputed."""
        alike = self.alike(label)
        if any(t.sure and t.label == label and (not color or (t.clear and t.color == color)) for t in alike):
            return True
        if not alike or (color and all(t.clear and t.color != color for t in alike)):
            return False
        return None


def look(scene: Scene, count: int, seed: int, size: int, fov_deg: float) -> tuple[list[View], list[View]]:
    """`count` pictures of a home from drawn places, and each again after a turn of the camera.

    The turns are by TURN_RAD, to the left for even pictures, to the right for odd ones. Draws are a function of the
    seed and the scene's id.

    Raises:
        InputError: the home has no rooms, no free floor or no mesh.
    """
    rng = np.random.default_rng([seed, zlib.crc32(scene.id.encode())])
    grid = occupancy(scene)
    poses = np.stack([sample_camera(scene, grid, rng) for _ in range(count)])
    turned = np.stack([turned_camera(pose, TURN_RAD if k % 2 == 0 else -TURN_RAD) for k, pose in enumerate(poses)])
    lens = intrinsics_from_fov(size, size, np.deg2rad(fov_deg))
    frame = render(prepare(scene), np.concatenate([poses, turned]), lens, size, size)
    names = [f"{scene.id}-{k:02d}{part}" for part in ("", "t") for k in range(count)]
    views = views_of(
        scene, score_points(scene), names, np.concatenate([poses, turned]), lens,
        frame.rgb.numpy(), frame.depth.numpy(), frame.instance.numpy(),
    )  # fmt: skip
    return views[:count], views[count:]


def turned_camera(pose: Float64[ndarray, "4 4"], angle_rad: float) -> Float64[ndarray, "4 4"]:
    """The camera at the same place, turned about the vertical; positive to the left."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turned = pose.copy()
    turned[:3, :3] = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]]) @ pose[:3, :3]
    return turned


def views_of(
    scene: Scene,
    points: Float32[ndarray, "N P 3"],
    names: Sequence[str],
    poses: Float[ndarray, "M 4 4"],
    lens: Float[ndarray, "3 3"],
    rgb: UInt8[ndarray, "M H W 3"],
    depth: Float[ndarray, "M H W"],
    instance: Int32[ndarray, "M H W"],
) -> list[View]:
    """What each of M rendered pictures of a home shows.

    Args:
        points: on its things (`scene.visibility.score_points`).
        lens: the camera's intrinsics, the same for all.
    """
    shares = visible_shares(points, poses, lens, instance)
    height, width = instance.shape[1:]
    least = SURE_PIXELS * height * width / 4096
    found = []
    for m, name in enumerate(names):
        things = []
        ids, counts = np.unique(instance[m][instance[m] >= 0], return_counts=True)
        for k, pixels in zip(ids.tolist(), counts.tolist()):
            own = instance[m] == k
            rows, columns = np.nonzero(own)
            item, share = scene.objects[k], float(shares[m, k])
            color = item.attributes.get("color", "")
            sure = pixels >= least and share >= SURE_SHARE
            things.append(
                Thing(
                    k,
                    item.label,
                    color,
                    clear=sure and shows_color(rgb[m][own], color),
                    sure=sure,
                    pixels=pixels,
                    share=share,
                    box=(int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1),
                    column=float(columns.mean() + 0.5) / width,
                    distance_m=float(distance_to_footprint(poses[m, :2, 3], item.box)),
                    depth_m=float(np.median(depth[m][own])),
                )  # fmt: skip
            )
        things.sort(key=lambda thing: (-thing.pixels, thing.id))
        found.append(View(name, scene.id, rgb[m], things))
    return found


def shows_color(pixels: UInt8[ndarray, "K 3"], color: str) -> bool:
    """Whether most of some pixels are nearer to this colour of the palette, in some shade, than to any other."""
    if color not in PALETTE or not len(pixels):
        return False
    names = list(PALETTE)
    middle = np.array([PALETTE[name] for name in names], np.float64)  # (C, 3)
    seen = pixels[:, None].astype(np.float64)  # (K, 1, 3)
    shade = ((seen * middle).sum(-1) / (middle**2).sum(-1)).clip(*SHADES)  # (K, C): the best one of each colour
    nearest = np.abs(seen - shade[..., None] * middle).sum(-1).argmin(axis=1)
    own: Bool[ndarray, " K"] = nearest == names.index(color)
    return bool(own.mean() >= CLEAR_SHARE)


def png_bytes(rgb: UInt8[ndarray, "H W 3"]) -> bytes:
    """A picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "PNG")
    return file.getvalue()

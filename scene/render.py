"""Pictures of homes: colour, depth and object ids for a batch of cameras, by ray casting.

Embree (through open3d's RaycastingScene) finds the first triangle along every pixel's ray; two small compiled kernels
make the rays and turn triangles into pixels. Nothing here needs OpenGL, a GPU or a display. That is the backend
"embree". The backend "warp" (scene/render_warp.py) casts the same rays on CUDA, or on the CPU where a test wants it;
`make_renderer` chooses between the two.

Shading is one table look-up per pixel: each face's colour is multiplied beforehand by an ambient term plus a fixed sun
(Lambert, both sides alike), and a gentle falloff with depth darkens what is far. Light does not follow the camera, so a
surface keeps its colour while the agent turns.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Int64, UInt8
from numba import njit
from numpy import ndarray
from torch import Tensor

from core.conventions import NO_INSTANCE
from core.errors import InputError, MissingLibraryError, check_choice
from core.threads import granted
from scene.palette import SKY  # what a ray that leaves the home shows
from scene.types import Scene, SceneMesh

if TYPE_CHECKING:
    from open3d.t.geometry import RaycastingScene


SUN = (0.38, 0.62, 0.69)  # towards the light; unequal parts, so that walls meeting in a corner differ
AMBIENT = 0.76  # the darkest face keeps this share of its colour: a white thing in shade stays lighter than a gray one
FALLOFF_PER_M = 0.03
RAYS_PER_CAST = 65_536  # about 3.6 MB of rays and hits: stays in cache


@dataclass(eq=False)
class Frame:
    """What a batch of B cameras sees; torch tensors on the device that drew them."""

    rgb: UInt8[Tensor, "B H W 3"]
    depth: Float32[Tensor, "B H W"]  # metres along the camera's z axis, 0 = nothing hit
    instance: Int32[Tensor, "B H W"]  # index into scene.objects, -1 = structure or nothing


@dataclass(eq=False)
class Surfaces:
    """The checked triangles of a home and what they look like: all that a backend needs to draw it."""

    vertices: Float32[ndarray, "V 3"] = field(repr=False)
    faces: Int32[ndarray, "F 3"] = field(repr=False)
    face_colors: UInt8[ndarray, "F 3"] = field(repr=False)  # under the fixed sun
    face_instance: Int32[ndarray, " F"] = field(repr=False)


@dataclass(eq=False)
class PreparedScene:
    """A home ready for casting: its triangles in an Embree tree, its faces' shaded colours and object ids."""

    scene_id: str
    embree: "RaycastingScene" = field(repr=False)
    face_colors: UInt8[ndarray, "F 3"] = field(repr=False)
    face_instance: Int32[ndarray, " F"] = field(repr=False)


def load_open3d() -> Any:
    """The open3d module, or an error that says how to make it load.

    Raises:
        MissingLibraryError: open3d, or the system library it links (libusb-1.0), is absent.
    """
    try:
        import open3d
    except ImportError as error:
        if "libusb" in str(error):
            raise MissingLibraryError(
                "open3d does not load: the system library libusb-1.0.so.0 is missing. "
                "Install it with: apt-get install -y --no-install-recommends libusb-1.0-0"
            ) from error
        raise MissingLibraryError(
            f"rendering needs open3d, which does not load ({error}). Install it with: pip install open3d-cpu"
        ) from error
    except OSError as error:  # the wheel loads its shared library by path on some platforms
        raise MissingLibraryError(
            f"open3d is installed but does not load ({error}). On Debian or Ubuntu: "
            "apt-get install -y --no-install-recommends libusb-1.0-0 libgl1 libgomp1"
        ) from error
    return open3d


def shade(mesh: SceneMesh) -> UInt8[ndarray, "F 3"]:
    """Face colours under the fixed sun: colour x (ambient + (1 - ambient) |normal . sun|)."""
    corners = mesh.vertices[mesh.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = normals / np.maximum(lengths, 1e-12)
    sun = np.asarray(SUN) / np.linalg.norm(SUN)
    light = AMBIENT + (1 - AMBIENT) * np.abs(normals @ sun)
    return np.clip(np.rint(mesh.face_colors * light[:, None]), 0, 255).astype(np.uint8)


def surfaces(scene: Scene) -> Surfaces:
    """The triangles of a scene, checked and shaded.

    Raises:
        InputError: the scene has no mesh, an empty one, or one whose parts do not fit together.
    """
    mesh = scene.mesh
    if mesh is None or len(mesh.faces) == 0:
        raise InputError(f"scene {scene.id} has no mesh faces to render; only scenes with surfaces can be shown")
    faces, vertices = np.asarray(mesh.faces), np.asarray(mesh.vertices)
    if mesh.face_colors.shape != (len(faces), 3) or mesh.face_instance.shape != (len(faces),):
        raise InputError(
            f"scene {scene.id}: mesh has {len(faces)} faces, but face_colors {mesh.face_colors.shape} and "
            f"face_instance {mesh.face_instance.shape}; expected ({len(faces)}, 3) and ({len(faces)},)"
        )
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(
            f"scene {scene.id}: mesh faces name vertices {faces.min()}..{faces.max()}, there are {len(vertices)}"
        )
    if not np.isfinite(vertices).all():
        raise InputError(f"scene {scene.id}: mesh vertices contain NaN or infinity; mend the source")
    return Surfaces(
        np.ascontiguousarray(vertices, dtype=np.float32),
        np.ascontiguousarray(faces, dtype=np.int32),
        shade(mesh),
        np.ascontiguousarray(mesh.face_instance, dtype=np.int32),
    )


def prepare(scene: Scene) -> PreparedScene:
    """Builds Embree's search tree of a home, once; it serves any number of `render` calls.

    Raises:
        InputError: the scene has no mesh, an empty one, or one whose parts do not fit together.
        MissingLibraryError: open3d does not load.
    """
    home = surfaces(scene)
    open3d = load_open3d()
    embree = open3d.t.geometry.RaycastingScene()
    embree.add_triangles(
        open3d.core.Tensor.from_numpy(home.vertices), open3d.core.Tensor.from_numpy(home.faces.astype(np.uint32))
    )
    embree.cast_rays(open3d.core.Tensor.from_numpy(np.array([[0, 0, 0, 0, 0, 1]], np.float32)))  # builds the tree now
    return PreparedScene(scene.id, embree, home.face_colors, home.face_instance)


def checked_lens(intrinsics: Float[ndarray, "3 3"], width: int, height: int) -> Float64[ndarray, "3 3"]:
    """The intrinsics as float64; InputError for a matrix or a picture size that no camera has."""
    intrinsics = np.asarray(intrinsics, dtype=np.float64)
    if intrinsics.shape != (3, 3) or not np.isfinite(intrinsics).all():
        raise InputError(f"intrinsics should be a finite (3, 3) matrix, got shape {intrinsics.shape}")
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0:
        raise InputError(f"focal lengths should be positive, got {intrinsics[0, 0]} and {intrinsics[1, 1]} pixels")
    if width < 1 or height < 1:
        raise InputError(f"pictures need at least one pixel, got width={width} height={height}")
    return intrinsics


def pixel_directions(intrinsics: Float[ndarray, "3 3"], width: int, height: int) -> Float32[ndarray, "P 3"]:
    """Directions through the pixel centres in the camera frame, row by row, each with z = 1.

    Because z is 1, the distance parameter of a hit is its depth along the camera's z axis. The last cameras asked for
    are remembered; do not write into the result.
    """
    (fx, _, cx), (_, fy, cy) = intrinsics[:2].tolist()
    return _directions(fx, fy, cx, cy, width, height)


@lru_cache(maxsize=16)
def _directions(fx: float, fy: float, cx: float, cy: float, width: int, height: int) -> Float32[ndarray, "P 3"]:
    x, y = np.meshgrid((np.arange(width) + 0.5 - cx) / fx, (np.arange(height) + 0.5 - cy) / fy)
    directions = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float32)
    directions.flags.writeable = False
    return directions


@njit(cache=True, nogil=True)
def _write_rays(directions, poses, rays):
    """Rotates `directions` (P, 3) by each of `poses` (B, 3, 4) into `rays` (B, P, 6): origin, direction."""
    for b in range(poses.shape[0]):
        pose = poses[b]
        for p in range(directions.shape[0]):
            x, y, z = directions[p, 0], directions[p, 1], directions[p, 2]
            for axis in range(3):
                rays[b, p, axis] = pose[axis, 3]
                rays[b, p, 3 + axis] = pose[axis, 0] * x + pose[axis, 1] * y + pose[axis, 2] * z


@njit(cache=True, nogil=True)
def _write_pixels(hit, face, order, face_colors, face_instance, sky, falloff, rgb, depth, instance):
    """Writes the pixels of frames `order` (n,) from hit depths (n, P) and face indices (n, P)."""
    for k in range(order.shape[0]):
        b = order[k]
        for p in range(hit.shape[1]):
            t = hit[k, p]
            if np.isfinite(t):
                f = face[k, p]
                dim = np.float32(1.0) / (np.float32(1.0) + falloff * t)
                depth[b, p] = t
                instance[b, p] = face_instance[f]
                for c in range(3):
                    rgb[b, p, c] = np.uint8(face_colors[f, c] * dim + np.float32(0.5))
            else:
                depth[b, p] = 0.0
                instance[b, p] = NO_INSTANCE
                for c in range(3):
                    rgb[b, p, c] = sky[c]


def _homes_and_index(
    prepared: PreparedScene | Sequence[PreparedScene], home_index: Int[ndarray, " B"] | Tensor | None, batch: int
) -> tuple[Sequence[PreparedScene], Int[ndarray, " B"]]:
    """The homes as a sequence and, per camera, the index of its home."""
    if isinstance(prepared, PreparedScene):
        prepared, home_index = [prepared], np.zeros(batch, np.int64) if home_index is None else home_index
    elif home_index is None:
        if len(prepared) != batch:
            raise InputError(
                f"{len(prepared)} homes for {batch} cameras: give home_index (B,), or one home per camera in order"
            )
        home_index = np.arange(batch)
    index = np.asarray(home_index, dtype=np.int64)
    if index.shape != (batch,):
        raise InputError(f"home_index has shape {index.shape}, expected ({batch},): one home per camera")
    if batch and (index.min() < 0 or index.max() >= len(prepared)):
        raise InputError(f"home_index holds {index.min()}..{index.max()}, there are {len(prepared)} homes")
    return prepared, index


def render(
    prepared: PreparedScene | Sequence[PreparedScene],
    extrinsics: Float[ndarray, "B 4 4"] | Float[Tensor, "B 4 4"],
    intrinsics: Float[ndarray, "3 3"],
    width: int,
    height: int,
    home_index: Int[ndarray, " B"] | Tensor | None = None,
) -> Frame:
    """Colour, depth and object ids for B cameras.

    Args:
        prepared: one home for all cameras, or a sequence of homes.
        extrinsics: camera-to-world poses, any float type.
        intrinsics: in pixels, shared by the batch.
        home_index: per camera the index of its home in `prepared`; may be left out for one home, or when there are
            as many homes as cameras.

    Returns:
        A Frame of fresh tensors. The same inputs give the same bits, whatever the batch they travel in.

    Raises:
        InputError: wrong shapes, NaN or infinite poses, a home index out of range, a size below one pixel.
    """
    poses = np.asarray(extrinsics)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise InputError(f"extrinsics have shape {poses.shape}, expected (B, 4, 4) camera-to-world matrices")
    if not np.isfinite(poses).all():
        bad = np.flatnonzero(~np.isfinite(poses).all(axis=(1, 2)))
        raise InputError(f"extrinsics of cameras {bad[:8].tolist()} hold NaN or infinity; check the poses' source")
    intrinsics = checked_lens(intrinsics, width, height)
    batch, pixels = len(poses), width * height
    homes, index = _homes_and_index(prepared, home_index, batch)

    rgb = np.empty((batch, pixels, 3), np.uint8)
    depth = np.empty((batch, pixels), np.float32)
    instance = np.empty((batch, pixels), np.int32)
    directions = pixel_directions(intrinsics, width, height)
    poses32 = np.ascontiguousarray(poses[:, :3], dtype=np.float32)
    sky, falloff = np.asarray(SKY, np.uint8), np.float32(FALLOFF_PER_M)
    tensor = load_open3d().core.Tensor.from_numpy
    threads = granted()

    frames_per_cast = max(1, RAYS_PER_CAST // pixels)
    rays = np.empty((min(frames_per_cast, max(batch, 1)), pixels, 6), np.float32)
    by_home = np.argsort(index, kind="stable")
    bounds = np.flatnonzero(np.diff(index[by_home], prepend=-1, append=len(homes)))
    for first, last in zip(bounds[:-1], bounds[1:]):
        home = homes[index[by_home[first]]]
        for start in range(first, last, frames_per_cast):
            order = by_home[start : min(start + frames_per_cast, last)]
            part = rays[: len(order)]
            _write_rays(directions, poses32[order], part)
            hits = home.embree.cast_rays(tensor(part), threads)
            _write_pixels(
                hits["t_hit"].numpy(), hits["primitive_ids"].numpy(), order, home.face_colors, home.face_instance,
                sky, falloff, rgb, depth, instance,
            )  # fmt: skip
    return Frame(
        torch.from_numpy(rgb).view(batch, height, width, 3),
        torch.from_numpy(depth).view(batch, height, width),
        torch.from_numpy(instance).view(batch, height, width),
    )


@dataclass(eq=False)
class Moving:
    """Where the moving things of B environments are; slots and bits as in scene/moving.py."""

    pose: Float[Tensor, "B K 4"]  # per slot xyz of the bottom centre and yaw, world frame
    visible: Bool[Tensor, "B K"]  # slots to draw; a thing that is carried is not
    doors_shut: Int64[Tensor, " B"]  # mask of the doors to draw shut


class Renderer(Protocol):
    """One camera model over homes that come and go by number; the same meaning on every backend."""

    device: torch.device  # where frames are made

    def put(self, number: int, scene: Scene, *, moving: bool = False) -> None:
        """Makes a home ready under a number, in place of the one that had it; other homes are not touched.

        Args:
            moving: things that can be carried and leaves of doors that open are left to `Moving` to place.
        """
        ...

    def drop(self, number: int) -> None:
        """Forgets a home and frees its memory; a number nobody has is no error."""
        ...

    def render(
        self, home_index: Int[Tensor, " B"], extrinsics: Float[Tensor, "B 4 4"], moving: Moving | None = None
    ) -> Frame:
        """Colour, depth and object ids for B cameras, each in the home of its number; fresh tensors.

        Args:
            moving: where moving things are; left out, none is drawn.

        Raises:
            InputError: wrong shapes, NaN or infinite poses, a number without a home.
        """
        ...


class EmbreeRenderer:
    """`prepare`, `render` and `scene.moving.composite` as a Renderer, on the CPU."""

    def __init__(self, width: int, height: int, intrinsics: Float[ndarray, "3 3"]) -> None:
        self.device, self.width, self.height = torch.device("cpu"), width, height
        self.intrinsics = checked_lens(intrinsics, width, height)
        self._homes: dict[int, PreparedScene] = {}
        self._parts: dict[int, Any] = {}  # MovingParts, of the homes that have them

    def put(self, number: int, scene: Scene, *, moving: bool = False) -> None:
        from scene.moving import MovingParts, static_part  # draws into the frames made here

        home = prepare(static_part(scene) if moving else scene)
        self.drop(number)
        self._homes[number] = home
        if moving:
            self._parts[number] = MovingParts.of(scene)

    def drop(self, number: int) -> None:
        self._homes.pop(number, None)
        self._parts.pop(number, None)

    def render(
        self, home_index: Int[Tensor, " B"], extrinsics: Float[Tensor, "B 4 4"], moving: Moving | None = None
    ) -> Frame:
        from scene.moving import composite

        numbers = np.asarray(home_index)
        used, index = np.unique(numbers, return_inverse=True)
        missing = [int(number) for number in used if int(number) not in self._homes]
        if missing:
            raise InputError(f"no home has the numbers {missing[:8]}; put() them before rendering")
        homes = [self._homes[int(number)] for number in used]
        frame = render(homes, extrinsics, self.intrinsics, self.width, self.height, index)
        if moving is not None:
            still = [int(number) for number in used if int(number) not in self._parts]
            if still:
                raise InputError(f"homes {still[:8]} were put without moving=True, so nothing in them moves")
            composite(
                frame, [self._parts[int(number)] for number in used], index, moving.pose, moving.visible,
                moving.doors_shut, extrinsics, self.intrinsics, self.width, self.height,
            )  # fmt: skip
        return frame


def _embree(
    width: int, height: int, intrinsics: Float[ndarray, "3 3"], batch: int, device: str | torch.device
) -> Renderer:
    if torch.device(device).type != "cpu":
        raise InputError(f"backend='embree' draws on the CPU only, got device={str(device)!r}; use backend='warp'")
    return EmbreeRenderer(width, height, intrinsics)


def _warp(
    width: int, height: int, intrinsics: Float[ndarray, "3 3"], batch: int, device: str | torch.device
) -> Renderer:
    from scene.render_warp import WarpHomes, WarpRenderer

    return WarpRenderer(WarpHomes(device), width, height, intrinsics, batch)


BACKENDS: dict[str, Callable[..., Renderer]] = {"embree": _embree, "warp": _warp}


def make_renderer(
    backend: str,
    width: int,
    height: int,
    intrinsics: Float[ndarray, "3 3"],
    *,
    batch: int,
    device: str | torch.device = "cpu",
) -> Renderer:
    """A renderer without homes yet.

    Args:
        backend: a name of BACKENDS: "embree" (CPU), "warp" (CUDA; its CPU mode is slower than Embree).
        intrinsics: in pixels, shared by all cameras.
        batch: the most cameras of one `render` call.

    Raises:
        InputError: an unknown backend, a device it does not draw on, an impossible camera.
        MissingLibraryError: the backend's library does not load.
    """
    check_choice("backend", backend, BACKENDS)
    return BACKENDS[backend](width, height, intrinsics, batch, device)

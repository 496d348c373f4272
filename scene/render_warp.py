"""Pictures of homes by ray casting in NVIDIA Warp: CUDA, zero-copy into torch, recorded as a graph.

The meaning is that of scene/render.py. Tests run the same kernel in Warp's CPU mode against Embree, and on CUDA against
that mode (marked gpu). A Warp launch on the CPU uses one thread, so the batch is split over Python threads there.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from core.errors import InputError
from core.threads import granted
from scene import warp_kernels as kernels
from scene.moving import MovingParts, static_part
from scene.render import Frame, Moving, checked_lens, surfaces
from scene.types import Scene
from scene.warp_kernels import part5, pose34, wp


@dataclass(eq=False)
class _Home:
    """What keeps a home's memory alive on the device."""

    mesh: Any  # wp.Mesh with its own points and indices
    faces: Int[Tensor, "F 2"]  # packed colour 0xBBGGRR, instance id
    triangles: int
    moving: "_Moving | None"


@dataclass(eq=False)
class _Moving:
    """The moving parts of a home on the device: one grouped mesh, a group for each part in its own frame."""

    mesh: Any
    columns: list[Tensor]  # ROOT, COLOR, SPHERE, REST, OWNER of scene/warp_kernels.py
    things: int
    parts: int

    @classmethod
    def of(cls, parts: MovingParts, device: torch.device) -> "_Moving | None":
        """None where no part has a triangle."""
        if len(parts.corners) == 0:
            return None
        warp_device = wp.device_from_torch(device)
        slots = np.repeat(np.arange(len(parts.object_id)), np.diff(parts.start)).astype(np.int32)
        mesh = wp.Mesh(
            points=wp.array(parts.corners.reshape(-1, 3).astype(np.float32), dtype=wp.vec3, device=warp_device),
            indices=wp.array(np.arange(3 * len(parts.corners), dtype=np.int32), dtype=wp.int32, device=warp_device),
            groups=wp.array(slots, dtype=wp.int32, device=warp_device),
        )
        roots = torch.zeros(len(parts.object_id), dtype=torch.int32, device=device)
        wp.launch(kernels.group_roots, dim=len(roots), inputs=[mesh.id, wp.from_torch(roots)], device=warp_device)
        tables = (parts.colors, parts.sphere, parts.rest)
        floats = [torch.from_numpy(table.astype(np.float32)).to(device) for table in tables]
        owners = torch.from_numpy(parts.object_id.astype(np.int32)).to(device)
        return cls(mesh, [roots, *floats, owners], parts.things, len(parts.object_id))

    @property
    def row(self) -> list[int]:
        """This home's row of WarpHomes.parts."""
        return [int(self.mesh.id), *(column.data_ptr() for column in self.columns), self.things, self.parts]


def _stream(device: torch.device) -> Any:
    """Torch's current stream for Warp; None on the CPU."""
    return wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None


class WarpHomes:
    """Homes on one device, each under a number; putting or dropping one leaves the others as they are.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        bvh: how Warp builds search trees: "sah" (on the host), "lbvh", "median", "cubql"; None for its default, which
            on CUDA is "lbvh". On an H200 "cubql" with 2 triangles a leaf drew 1.26 times as fast as "sah" with Warp's
            own number (benchmarks/results/gpu.md).
        leaf_size: triangles in a leaf of the tree; None for Warp's default.

    Raises:
        InputError: the device is not there.
    """

    def __init__(
        self, device: str | torch.device = "cpu", *, bvh: str | None = "sah", leaf_size: int | None = None
    ) -> None:
        self.device = torch.device(device)
        if self.device.type == "cuda":
            if not torch.cuda.is_available():
                raise InputError(f"device={str(device)!r} needs CUDA, which torch does not find here; use device='cpu'")
            self.device = torch.device("cuda", self.device.index or 0)
        elif self.device.type != "cpu":
            raise InputError(f"Warp draws on 'cpu' and 'cuda', got device={str(device)!r}")
        self.warp_device = wp.device_from_torch(self.device)
        self._tree: dict[str, Any] = {"bvh_constructor": bvh, "bvh_leaf_size": leaf_size}
        self._homes: dict[int, _Home] = {}
        self.most_things, self.most_parts = 1, 1  # that any home has had; renderers reserve room for so many
        self.mesh = torch.zeros(64, dtype=torch.int64, device=self.device)  # Warp's handles, by number
        self.face = torch.zeros(64, dtype=torch.int64, device=self.device)  # addresses of the face tables
        self.parts = torch.zeros(64, 8, dtype=torch.int64, device=self.device)  # columns: scene/warp_kernels.py

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, number: int) -> bool:
        return number in self._homes

    @property
    def triangles(self) -> int:
        """Triangles of all homes together, moving parts left out."""
        return sum(home.triangles for home in self._homes.values())

    @property
    def layout(self) -> tuple[int, ...]:
        """Changes when recorded launches must be recorded anew."""
        return (self.mesh.data_ptr(), self.face.data_ptr(), self.parts.data_ptr(), self.most_things, self.most_parts)

    def put(self, number: int, scene: Scene, *, moving: bool = False) -> None:
        """Builds the search tree of a home under a number, in place of the one that had it.

        Args:
            moving: things that can be carried and leaves of doors that open are left to `Moving` to place.

        Raises:
            InputError: a negative number, or a mesh that cannot be drawn (scene.render.surfaces).
        """
        if number < 0:
            raise InputError(f"homes have numbers from 0, got {number}")
        look = surfaces(static_part(scene) if moving else scene)
        colors = look.face_colors.astype(np.int32)
        packed = colors[:, 0] | colors[:, 1] << 8 | colors[:, 2] << 16
        faces = torch.from_numpy(np.stack([packed, look.face_instance], axis=1)).to(self.device)
        with wp.ScopedStream(_stream(self.device)):
            mesh = wp.Mesh(
                points=wp.array(look.vertices, dtype=wp.vec3, device=self.warp_device),
                indices=wp.array(look.faces.ravel(), dtype=wp.int32, device=self.warp_device),
                **self._tree,
            )
            parts = _Moving.of(MovingParts.of(scene), self.device) if moving else None
        self.drop(number)
        missing = number + 1 - len(self.mesh)
        if missing > 0:
            more = torch.zeros(max(missing, len(self.mesh)), 8, dtype=torch.int64, device=self.device)
            self.mesh, self.face = torch.cat([self.mesh, more[:, 0]]), torch.cat([self.face, more[:, 0]])
            self.parts = torch.cat([self.parts, more])
        self._homes[number] = _Home(mesh, faces, len(faces), parts)
        self.mesh[number], self.face[number] = int(mesh.id), faces.data_ptr()
        if parts is not None:
            self.most_things, self.most_parts = max(self.most_things, parts.things), max(self.most_parts, parts.parts)
            self.parts[number] = torch.tensor(parts.row)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # pictures may be drawn on another stream

    def drop(self, number: int) -> None:
        """Frees a home's memory; a number nobody has is no error."""
        if number in self._homes:
            self.mesh[number], self.parts[number] = 0, 0
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # a picture of it may still be in the making
            del self._homes[number]


class WarpRenderer:
    """Draws up to `batch` cameras at once in the homes of a WarpHomes.

    Memory is reserved once: 11 bytes a pixel. On CUDA the launches are recorded as a graph and replayed on torch's
    current stream; on the CPU they are split over `core.threads.granted()` threads.

    Args:
        intrinsics: in pixels, shared by all cameras.
        batch: the most cameras of one `render` call.
        graph: False launches kernels anew each time; for measurements.
        block: CUDA threads in a block.
        check: look for NaN poses and missing homes at each call, which on CUDA waits for the device. Without it such
            cameras show the sky, or nothing that means anything.

    Raises:
        InputError: an impossible camera or batch.
    """

    def __init__(
        self,
        homes: WarpHomes,
        width: int,
        height: int,
        intrinsics: Float[ndarray, "3 3"],
        batch: int,
        *,
        graph: bool = True,
        block: int = 64,
        check: bool = True,
    ) -> None:
        lens = checked_lens(intrinsics, width, height)
        if batch < 1:
            raise InputError(f"a renderer draws at least one camera, got batch={batch}")
        if batch * (width + 7) * (height + 7) >= 2**31:
            raise InputError(f"batch={batch} pictures of {width} x {height} are too many for one launch; draw in parts")
        self.homes, self.width, self.height, self.batch = homes, width, height, batch
        self.device, self.check, self._use_graph, self._block = homes.device, check, graph, block
        across = (np.arange(width) + 0.5 - lens[0, 2]) / lens[0, 0]  # as scene.render.pixel_directions
        down = (np.arange(height) + 0.5 - lens[1, 2]) / lens[1, 1]
        self._across = torch.from_numpy(across.astype(np.float32)).to(self.device)
        self._down = torch.from_numpy(down.astype(np.float32)).to(self.device)
        self._edges = wp.vec4(
            -lens[0, 2] / lens[0, 0], (width - lens[0, 2]) / lens[0, 0],
            -lens[1, 2] / lens[1, 1], (height - lens[1, 2]) / lens[1, 1],
        )  # fmt: skip
        self._count = self._zeros(1, dtype=torch.int32)
        self._home = self._zeros(batch, dtype=torch.int32)
        self._pose = self._zeros(batch, 3, 4)
        self.frame = Frame(
            self._zeros(batch, height, width, 3, dtype=torch.uint8),
            self._zeros(batch, height, width),
            self._zeros(batch, height, width, dtype=torch.int32),
        )
        self._shut = self._zeros(batch, dtype=torch.int64)
        self._placed = self._shown = self._shut  # of moving things; made when there are some
        self._layout: tuple[int, ...] = ()
        self._still: list[list[Any]] = []  # per CPU thread (one on CUDA) the recorded launches
        self._moving: list[list[Any]] = []
        self._arrays: list[Any] = []  # what the launches read, kept alive
        self._graphs: dict[bool, Any] = {}
        self._threads: ThreadPoolExecutor | None = None

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=self.device)

    def put(self, number: int, scene: Scene, *, moving: bool = False) -> None:
        """`WarpHomes.put` of this renderer's homes."""
        self.homes.put(number, scene, moving=moving)

    def drop(self, number: int) -> None:
        """`WarpHomes.drop` of this renderer's homes."""
        self.homes.drop(number)

    def render(
        self,
        home_index: Int[Tensor, " B"],
        extrinsics: Float[Tensor, "B 4 4"],
        moving: Moving | None = None,
        *,
        reuse: bool = False,
    ) -> Frame:
        """Colour, depth and object ids for B cameras.

        Args:
            home_index: per camera the number of its home.
            extrinsics: camera-to-world poses, any float type; their first three rows will do.
            moving: where moving things are; left out, none is drawn.
            reuse: hand out the renderer's own memory, which the next call overwrites, instead of a copy.

        Raises:
            InputError: wrong shapes, more cameras than `batch`; and where `check` holds, NaN or infinite poses and
                numbers without a home.
        """
        poses, index = torch.as_tensor(extrinsics), torch.as_tensor(home_index)
        if poses.ndim != 3 or poses.shape[1:] not in ((4, 4), (3, 4)):
            raise InputError(f"extrinsics have shape {tuple(poses.shape)}, expected (B, 4, 4) camera-to-world matrices")
        n = len(poses)
        if index.shape != (n,):
            raise InputError(f"home_index has shape {tuple(index.shape)}, expected ({n},): one home per camera")
        if n > self.batch:
            raise InputError(f"{n} cameras for a renderer of batch={self.batch}; make it larger")
        if n:
            if self.check:
                self._check(index.to(self.device), poses)
            self._record()
            self._pose[:n].copy_(poses[:, :3])
            self._home[:n].copy_(index)
            self._count.fill_(n)
            if moving is not None:
                self._take(moving, index)
            self._run(self._still if moving is None else self._moving, moving is not None)
        part = Frame(self.frame.rgb[:n], self.frame.depth[:n], self.frame.instance[:n])
        return part if reuse else Frame(part.rgb.clone(), part.depth.clone(), part.instance.clone())

    def _check(self, index: Int[Tensor, " B"], poses: Float[Tensor, "B 4 4"]) -> None:
        finite = torch.isfinite(poses).flatten(1).all(1)
        known = (index >= 0) & (index < len(self.homes.mesh))
        known &= self.homes.mesh[torch.where(known, index, 0).long()] != 0
        if bool((finite.to(self.device) & known).all()):
            return
        if not bool(finite.all()):
            bad = torch.nonzero(~finite).flatten()[:8].tolist()
            raise InputError(f"extrinsics of cameras {bad} hold NaN or infinity; check the poses' source")
        missing = torch.unique(index[~known])[:8].tolist()
        raise InputError(f"no home has the numbers {missing}; put() them before rendering")

    def _take(self, moving: Moving, index: Int[Tensor, " B"]) -> None:
        """Copies where things are into the memory that the launches read."""
        n, slots = len(index), moving.pose.shape[1] if moving.pose.ndim == 3 else -1
        found = [tuple(part.shape) for part in (moving.pose, moving.visible, moving.doors_shut)]
        if found != [(n, slots, 4), (n, slots), (n,)]:
            raise InputError(
                f"moving pose, visible and doors_shut have shapes {found}, expected (B, K, 4), (B, K), (B,), B={n}"
            )
        if self.check:
            rows = self.homes.parts[index.to(self.device).long()]
            things = rows[:, kernels.THINGS]
            if int(things.max()) > slots:
                raise InputError(f"{slots} slots given, but a home has {int(things.max())} movable things")
            shown = moving.visible.to(self.device) & (torch.arange(slots, device=self.device) < things[:, None])
            lost = shown & ~torch.isfinite(moving.pose.to(self.device)).all(2)
            if bool(lost.any()):
                bad = torch.nonzero(lost.any(1)).flatten()[:8].tolist()
                raise InputError(f"poses of visible things of environments {bad} hold NaN or infinity")
        width = min(slots, self._placed.shape[1])  # what follows belongs to no home's things
        self._placed[:n, :width].copy_(moving.pose[:, :width])
        self._shown[:n].zero_()
        self._shown[:n, :width].copy_(moving.visible[:, :width])
        self._shut[:n].copy_(moving.doors_shut)

    def _record(self) -> None:
        """Prepares launches that can be replayed; again when the tables of homes have moved or grown."""
        homes = self.homes
        if homes.layout == self._layout:
            return
        self._placed = self._zeros(self.batch, homes.most_things, 4)
        self._shown = self._zeros(self.batch, homes.most_things, dtype=torch.uint8)
        near_count = wp.from_torch(self._zeros(self.batch, dtype=torch.int32))
        near_slot = wp.from_torch(self._zeros(self.batch, homes.most_parts, dtype=torch.int32))
        near = wp.from_torch(self._zeros(self.batch, homes.most_parts, 5), dtype=part5)
        count, home, pose = wp.from_torch(self._count), wp.from_torch(self._home), wp.from_torch(self._pose, pose34)
        parts = wp.from_torch(homes.parts, wp.uint64)
        rays = [self.width, self.height, wp.from_torch(self._across), wp.from_torch(self._down), home, pose]
        pictures = [
            wp.from_torch(self.frame.rgb, wp.vec3ub), wp.from_torch(self.frame.depth),
            wp.from_torch(self.frame.instance),
        ]  # fmt: skip
        tables = [wp.from_torch(homes.mesh, wp.uint64), wp.from_torch(homes.face, wp.uint64)]
        listed = [near_count, near_slot, near]
        placed = [
            wp.from_torch(self._placed, wp.vec4), wp.from_torch(self._shown), wp.from_torch(self._shut), *listed
        ]  # fmt: skip
        side = int(kernels.TILE)
        per_camera = -(-self.width // side) * -(-self.height // side) * side * side
        threads = 1 if self.device.type == "cuda" else min(granted(), self.batch)
        bounds = np.linspace(0, self.batch, threads + 1).astype(int).tolist()
        self._still, self._moving, self._graphs = [], [], {}
        self._arrays = [count, parts, *rays, *tables, *placed, *pictures]
        for first, last in zip(bounds[:-1], bounds[1:]):
            cameras = last - first
            still = self._recorded(kernels.draw, cameras * per_camera, [first, count, *rays, *tables, *pictures])
            place = self._recorded(kernels.place, cameras, [first, count, self._edges, home, pose, parts, *placed])
            added = self._recorded(
                kernels.draw_parts, cameras * per_camera, [first, count, *rays, parts, *listed, *pictures]
            )
            self._still.append([still])
            self._moving.append([still, place, added])
        self._layout = homes.layout

    def _recorded(self, kernel: Any, dim: int, inputs: list[Any]) -> Any:
        return wp.launch(
            kernel, dim=dim, inputs=inputs, device=self.homes.warp_device, block_dim=self._block, record_cmd=True
        )

    def _run(self, launches: list[list[Any]], moving: bool) -> None:
        if self.device.type == "cuda":
            self._run_cuda(launches[0], moving)
        elif len(launches) == 1:
            _launch(launches[0])
        else:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(len(launches))
            list(self._threads.map(_launch, launches))

    def _run_cuda(self, launches: list[Any], moving: bool) -> None:
        """Replays the graph on torch's current stream."""
        stream = _stream(self.device)
        if moving in self._graphs and not torch.cuda.is_current_stream_capturing():
            wp.capture_launch(self._graphs[moving], stream=stream)
            return
        _launch(launches, stream)
        if self._use_graph and not torch.cuda.is_current_stream_capturing():
            # the launch above has loaded what it needs, which a capture may not; and torch's default stream cannot be
            # captured, so the graph is recorded on another one and replayed on torch's
            torch.cuda.synchronize(self.device)
            self._graphs[moving] = _captured(launches, self.homes.warp_device, wp.Stream(self.homes.warp_device))


def _launch(launches: list[Any], stream: Any = None) -> None:
    for one in launches:
        one.launch(stream=stream)


def _captured(launches: list[Any], device: Any, stream: Any = None) -> Any:
    """The launches as one graph."""
    with wp.ScopedCapture(device=device, stream=stream) as capture:
        _launch(launches, stream)
    return capture.graph

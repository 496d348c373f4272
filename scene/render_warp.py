"""Pictures of homes by ray casting in NVIDIA Warp: CUDA, zero-copy into torch, recorded as a graph.

The meaning is that of scene/render.py. Tests run the same kernel in Warp's CPU mode against Embree; streams and graph
have never run on CUDA. A Warp launch on the CPU uses one thread, so the batch is split over Python threads there.
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
from scene.render import Frame, checked_lens, surfaces
from scene.types import Scene
from scene.warp_kernels import TILE, draw, pose34, wp


@dataclass(eq=False)
class _Home:
    """What keeps a home's memory alive on the device."""

    scene_id: str
    mesh: Any  # wp.Mesh with its own points and indices
    faces: Int[Tensor, "F 2"]  # packed colour 0xBBGGRR, instance id
    triangles: int


class WarpHomes:
    """Homes on one device, each under a number; putting or dropping one leaves the others as they are.

    Args:
        device: "cpu", "cuda" or "cuda:1".
        bvh: how Warp builds search trees: "sah", "lbvh", "median", "cubql"; None for its default on the device.
        leaf_size: triangles in a leaf of the tree; None for Warp's default.

    Raises:
        InputError: the device is not there.
    """

    def __init__(self, device: str | torch.device = "cpu", *, bvh: str | None = None, leaf_size: int | None = None):
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
        self.mesh = torch.zeros(64, dtype=torch.int64, device=self.device)  # Warp's handles, by number
        self.face = torch.zeros(64, dtype=torch.int64, device=self.device)  # addresses of the face tables

    def __len__(self) -> int:
        return len(self._homes)

    def __contains__(self, number: int) -> bool:
        return number in self._homes

    @property
    def triangles(self) -> int:
        """Triangles of all homes together."""
        return sum(home.triangles for home in self._homes.values())

    def put(self, number: int, scene: Scene) -> None:
        """Builds the search tree of a home under a number, in place of the one that had it.

        Raises:
            InputError: a negative number, or a mesh that cannot be drawn (scene.render.surfaces).
        """
        if number < 0:
            raise InputError(f"homes have numbers from 0, got {number}")
        look = surfaces(scene)
        colors = look.face_colors.astype(np.int32)
        packed = colors[:, 0] | colors[:, 1] << 8 | colors[:, 2] << 16
        faces = torch.from_numpy(np.stack([packed, look.face_instance], axis=1)).to(self.device)
        mesh = wp.Mesh(
            points=wp.array(look.vertices, dtype=wp.vec3, device=self.warp_device),
            indices=wp.array(look.faces.ravel(), dtype=wp.int32, device=self.warp_device),
            **self._tree,
        )
        self.drop(number)
        if number >= len(self.mesh):
            more = torch.zeros(max(number + 1, 2 * len(self.mesh)) - len(self.mesh), dtype=torch.int64)
            self.mesh = torch.cat([self.mesh, more.to(self.device)])
            self.face = torch.cat([self.face, more.to(self.device)])
        self._homes[number] = _Home(scene.id, mesh, faces, len(faces))
        self.mesh[number], self.face[number] = int(mesh.id), faces.data_ptr()

    def drop(self, number: int) -> None:
        """Frees a home's memory; a number nobody has is no error."""
        if number in self._homes:
            self.mesh[number] = 0
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # a picture of it may still be in the making
            del self._homes[number]


class WarpRenderer:
    """Draws up to `batch` cameras at once in the homes of a WarpHomes.

    Memory is reserved once: 11 bytes a pixel. On CUDA the launch is recorded as a graph and replayed on torch's current
    stream (never run on CUDA); on the CPU it is split over `core.threads.granted()` threads.

    Args:
        intrinsics: in pixels, shared by all cameras.
        batch: the most cameras of one `render` call.
        graph: False launches the kernel anew each time; for measurements.
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
        self.homes, self.width, self.height, self.batch = homes, width, height, batch
        self.device, self.check, self._use_graph, self._block = homes.device, check, graph, block
        across = (np.arange(width) + 0.5 - lens[0, 2]) / lens[0, 0]  # as scene.render.pixel_directions
        down = (np.arange(height) + 0.5 - lens[1, 2]) / lens[1, 1]
        self._across = torch.from_numpy(across.astype(np.float32)).to(self.device)
        self._down = torch.from_numpy(down.astype(np.float32)).to(self.device)
        self._count = torch.zeros(1, dtype=torch.int32, device=self.device)
        self._home = torch.zeros(batch, dtype=torch.int32, device=self.device)
        self._pose = torch.zeros(batch, 3, 4, dtype=torch.float32, device=self.device)
        self.frame = Frame(
            torch.zeros(batch, height, width, 3, dtype=torch.uint8, device=self.device),
            torch.zeros(batch, height, width, dtype=torch.float32, device=self.device),
            torch.zeros(batch, height, width, dtype=torch.int32, device=self.device),
        )
        self._tables: tuple[int, int] | None = None  # addresses the recorded launches read
        self._launches: list[Any] = []
        self._graph: Any = None
        self._threads: ThreadPoolExecutor | None = None

    def put(self, number: int, scene: Scene) -> None:
        """`WarpHomes.put` of this renderer's homes."""
        self.homes.put(number, scene)

    def drop(self, number: int) -> None:
        """`WarpHomes.drop` of this renderer's homes."""
        self.homes.drop(number)

    def render(
        self, home_index: Int[Tensor, " B"], extrinsics: Float[Tensor, "B 4 4"], *, reuse: bool = False
    ) -> Frame:
        """Colour, depth and object ids for B cameras.

        Args:
            home_index: per camera the number of its home.
            extrinsics: camera-to-world poses, any float type.
            reuse: hand out the renderer's own memory, which the next call overwrites, instead of a copy.

        Raises:
            InputError: wrong shapes, more cameras than `batch`; and where `check` holds, NaN or infinite poses and
                numbers without a home.
        """
        poses, index = torch.as_tensor(extrinsics), torch.as_tensor(home_index)
        if poses.ndim != 3 or poses.shape[1:] != (4, 4):
            raise InputError(f"extrinsics have shape {tuple(poses.shape)}, expected (B, 4, 4) camera-to-world matrices")
        n = len(poses)
        if index.shape != (n,):
            raise InputError(f"home_index has shape {tuple(index.shape)}, expected ({n},): one home per camera")
        if n > self.batch:
            raise InputError(f"{n} cameras for a renderer of batch={self.batch}; make it larger")
        if self.check and n:
            self._check(index.to(self.device), poses)
        self._pose[:n].copy_(poses[:, :3])
        self._home[:n].copy_(index)
        if n:
            self._count.fill_(n)
            self._record()
            if self.device.type == "cuda":
                self._run_cuda()
            else:
                self._run_cpu(n)
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

    def _record(self) -> None:
        """Prepares launches that can be replayed; again when the table of homes has moved."""
        tables = (self.homes.mesh.data_ptr(), self.homes.face.data_ptr())
        if tables == self._tables:
            return
        side = int(TILE)
        per_camera = -(-self.width // side) * -(-self.height // side) * side * side
        parts = 1 if self.device.type == "cuda" else min(granted(), self.batch)
        bounds = np.linspace(0, self.batch, parts + 1).astype(int)
        self._launches = []
        for first, last in zip(bounds[:-1], bounds[1:]):
            arguments = [
                int(first), wp.from_torch(self._count), self.width, self.height,
                wp.from_torch(self._across), wp.from_torch(self._down),
                wp.from_torch(self._home), wp.from_torch(self._pose, dtype=pose34),
                wp.from_torch(self.homes.mesh, dtype=wp.uint64), wp.from_torch(self.homes.face, dtype=wp.uint64),
                wp.from_torch(self.frame.rgb, dtype=wp.vec3ub), wp.from_torch(self.frame.depth),
                wp.from_torch(self.frame.instance),
            ]  # fmt: skip
            self._launches.append(
                wp.launch(
                    draw,
                    dim=int(last - first) * per_camera,
                    inputs=arguments,
                    device=self.homes.warp_device,
                    block_dim=self._block,
                    record_cmd=True,
                )  # fmt: skip
            )
        self._tables, self._graph = tables, None

    def _run_cuda(self) -> None:
        """Replays the graph on torch's current stream. Never run on CUDA."""
        stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        if not self._use_graph or torch.cuda.is_current_stream_capturing():
            self._launches[0].launch(stream=stream)
            return
        if self._graph is None:
            # a capture needs a stream of its own: torch's default one cannot be captured
            torch.cuda.synchronize(self.device)
            with wp.ScopedCapture(stream=wp.Stream(self.homes.warp_device)) as capture:
                self._launches[0].launch(stream=capture.stream)
            self._graph = capture.graph
        wp.capture_launch(self._graph, stream=stream)

    def _run_cpu(self, n: int) -> None:
        """One launch a thread, each over its share of the cameras."""
        if len(self._launches) == 1:
            self._launches[0].launch()
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(len(self._launches))
        list(self._threads.map(lambda launch: launch.launch(), self._launches))

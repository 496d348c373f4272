"""A stream of frames embedded by all processes that torchrun started, and what share of the time that takes.

torchrun --nproc_per_node 4 my_script.py, where every process runs

    with core.distributed.processes("cuda") as device:
        reward = VLMReward(load_embedder("my-clip", str(device)), goals, baseline)
        for embeddings in encode_frames(reward.embedder, frames, batch_size=256):
            scores = reward.score(StepBatch(embedding=embeddings), rows)

Every process reads the whole stream, encodes every W-th batch of it, and gets all embeddings in order. Batches are the
same for any number of processes, and so are the results. A plain process is a world of one.
"""

import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from core import distributed
from core.errors import InputError
from vl.embedder import Embedder
from vl.pixels import checked_images

Frames = Tensor | ndarray


class Stopwatch:
    """Seconds spent inside `with stopwatch:`, beside all seconds since it was made.

    CUDA works while the host goes on: what counts is the time the host waits, as it does for scores it reads.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._made = time.perf_counter()
        self._entered = 0.0

    def __enter__(self) -> "Stopwatch":
        self._entered = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._entered

    @property
    def total(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._made

    @property
    def share(self) -> float:
        """Part of the total, in [0, 1]."""
        return self.seconds / max(self.total, 1e-9)


def encode_frames(
    embedder: Embedder,
    frames: UInt8[Frames, "M H W 3"] | Iterable[UInt8[Frames, "..."]],
    batch_size: int = 64,
    stopwatch: Stopwatch | None = None,
) -> Iterator[Float[Tensor, "K D"]]:
    """Unit embeddings of all frames in order, a few batches at a time; the same in every process.

    Memory is that of one batch per process and their embeddings, however long the stream.

    Args:
        embedder: a copy of the same model in every process, on that process's device.
        frames: an array (a memory map is read only where it is this process's turn), or an iterable of pictures
            (H, W, 3) or blocks of them (K, H, W, 3). Where the size of pictures changes, a new batch begins.
        batch_size: frames encoded at once by one process.
        stopwatch: counts encoding and gathering, not the reading of the stream.

    Raises:
        InputError: frames are not uint8 pictures, or processes were given streams of different length.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} should be positive")
    stopwatch = stopwatch or Stopwatch()
    world, own = distributed.world_size(), distributed.rank()
    batches = _batches(frames, batch_size)
    while True:
        mine: Frames | None = None
        sizes = [0] * world
        for turn in range(world):  # a round: one batch for each process
            batch = next(batches, None)
            if batch is None:
                break
            sizes[turn] = len(batch)
            if turn == own:
                mine = batch
        with stopwatch:
            found = _encode_round(embedder, mine, sizes, batch_size)
        if not sizes[0]:
            return
        yield found


def _encode_round(embedder: Embedder, mine: Frames | None, sizes: list[int], batch_size: int) -> Float[Tensor, "K D"]:
    """The embeddings of one batch per process, in their order."""
    if mine is None:
        rows = torch.zeros(0, embedder.dim)
    else:
        rows = embedder.encode_images(checked_images(mine))
    if len(sizes) == 1:
        return rows
    device = rows.device if mine is not None else getattr(embedder, "device", rows.device)
    told = distributed.gather_rows(torch.tensor([sizes], device=device))
    if bool((told != told[:1]).any()):
        raise InputError(
            f"processes read streams of different length: the batches of this round hold {told.tolist()} frames; give "
            "every process the same frames"
        )
    padded = torch.zeros(batch_size, embedder.dim, device=device)
    padded[: len(rows)] = rows
    everybody = distributed.gather_rows(padded)
    return torch.cat([part[:size] for part, size in zip(everybody.split(batch_size), sizes)])


def _batches(frames: Frames | Iterable[Frames], size: int) -> Iterator[Frames]:
    """Batches of `size` pictures, fewer at the end and before a picture of another size."""
    if isinstance(frames, Tensor | ndarray):
        for start in range(0, len(frames), size):
            yield frames[start : start + size]
        return
    waiting: list[Frames] = []  # blocks that together are less than a batch
    count = 0
    for item in frames:
        block = item if item.ndim == 4 else item[None]
        if waiting and (block.shape[1:] != waiting[0].shape[1:] or type(block) is not type(waiting[0])):
            yield _join(waiting)
            waiting, count = [], 0
        while count + len(block) >= size:
            left = size - count
            yield _join([*waiting, block[:left]])
            block = block[left:]
            waiting, count = [], 0
        if len(block):
            waiting.append(block)
            count += len(block)
    if waiting:
        yield _join(waiting)


def _join(blocks: list[Frames]) -> Frames:
    if len(blocks) == 1:
        return blocks[0]
    return torch.cat(blocks) if isinstance(blocks[0], Tensor) else np.concatenate(blocks)  # type: ignore[arg-type]

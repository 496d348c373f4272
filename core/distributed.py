"""Several processes that train one model: who am I, and sums over all of us.

torchrun --nproc_per_node 4 -m agents.train ...

Everything here also works in a plain process, where the world is of size one and nothing is sent. accelerate joins
what torchrun started; each process takes an equal share of the rows (`share`). Losses are divided by the number of rows
of all processes and gradients are summed, so W processes make the same update as one process with all the rows would.
A loss that compares rows with each other sees those of all processes (`gather_rows`).
"""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from core.errors import InputError, MissingLibraryError


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if _started() else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if _started() else 1


def is_main() -> bool:
    """Whether this process is the one that logs, saves and prints."""
    return rank() == 0


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


@contextlib.contextmanager
def processes(device: str = "cpu") -> Iterator[torch.device]:
    """Joins the processes that torchrun started, if it did, and gives the device of this one; leaves at the end.

    gloo on the CPU, nccl on CUDA, where process i of a machine takes its GPU i (nccl: never run on CUDA).

    Raises:
        InputError: torchrun's variables are incomplete, or a machine has more processes than GPUs.
        MissingLibraryError: there are several processes, but accelerate is not installed.
    """
    if "WORLD_SIZE" not in os.environ or _started():
        yield torch.device(device)
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is set, but {', '.join(missing)} is not; start with torchrun, or unset WORLD_SIZE"
        )
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingLibraryError("training in several processes needs accelerate: pip install accelerate") from error
    place = torch.device(device)
    if place.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InputError(
                f"process {local} of this machine has no GPU of its own, there are {torch.cuda.device_count()}; "
                "start torchrun with --nproc_per_node at most that"
            )
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    state = PartialState(cpu=place.type == "cpu")
    try:
        yield place
        dist.barrier()  # nobody leaves while another still talks; after a fault the others are not waited for
    finally:
        state.destroy_process_group()
        PartialState._reset_state()  # it is a singleton: a later block of this process joins anew


def leave(code: int = 0) -> NoReturn:
    """Ends a process that was one of several, its work done, without taking the interpreter down in order.

    Threads of the communication library may still hold Python objects; one that asks for the interpreter while that is
    shutting down aborts the process ("terminate called without an active exception"), after everything was saved.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def share(total: int, what: str = "num_envs") -> range:
    """The numbers out of `range(total)` that fall to this process: equal, neighbouring parts.

    Raises:
        InputError: `total` does not divide by the number of processes.
    """
    world = world_size()
    if total % world:
        raise InputError(f"{what}={total} does not split over {world} processes; give a multiple of {world}")
    size = total // world
    return range(rank() * size, (rank() + 1) * size)


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes; the argument itself stays as it is."""
    if world_size() == 1:
        return tensor
    total = tensor.detach().clone()
    if dist.get_backend() == "nccl":
        total = total.cuda()  # which alone nccl sums
    dist.all_reduce(total)
    return total.to(tensor.device)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its sum over all processes, in one message; one that is None counts as zeros."""
    if world_size() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    gradients = [p.grad for p in trained if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
        gradient.copy_(part.view_as(gradient))


class _Gather(torch.autograd.Function):
    """Rows of all processes one below the other; backwards, each process gets what all of them derived for its rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes in their order, (W * M, ...) of (M, ...); every process gives as many.

    Gradients flow back to the process a row came from, summed over all processes. A loss that each of the W processes
    computes of the gathered rows is therefore to be divided by W before `sum_gradients`.
    """
    return rows if world_size() == 1 else _Gather.apply(rows)


def from_main(value: int) -> int:
    """A whole number that the main process knows, told to all."""
    if world_size() == 1:
        return value
    told = torch.tensor(value)
    if dist.get_backend() == "nccl":
        told = told.cuda()
    dist.broadcast(told, 0)
    return int(told)


def barrier() -> None:
    """Waits until every process is here."""
    if world_size() > 1:
        dist.barrier()

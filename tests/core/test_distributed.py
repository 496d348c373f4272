import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from core import distributed
from core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import json, sys, torch
from torch import nn
from core import distributed as d
torch.set_num_threads(1)
with d.processes() as device:
    r = d.rank()
    net = nn.Linear(2, 1)
    nn.init.constant_(net.weight, float(r + 1))
    net.weight.grad = torch.full((1, 2), float(r + 1))  # the bias has none
    d.sum_gradients(net.parameters())
    summed = net.weight.grad.tolist()
    d.barrier()
    rows = torch.full((1, 2), float(r + 1), requires_grad=True)
    gathered = d.gather_rows(rows)
    # every process computes the same loss of all rows, and so a share of the gradient of its own
    ((gathered * torch.tensor([[1.0, 2.0], [3.0, 4.0]])).sum() / d.world_size()).backward()
    print(json.dumps([r, d.world_size(), d.is_main(), str(device), list(d.share(6)), summed,
                      net.bias.grad.tolist(),
                      d.sum_over_ranks(torch.tensor([1.0, r])).tolist(),
                      gathered.tolist(), rows.grad.tolist(), d.from_main(r + 7)]))
print(json.dumps(d.world_size()))
d.leave()
"""


def launch(command: list[str], world: int) -> list[str]:
    """What each of `world` processes printed, started as torchrun would."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(world)}
    started = [
        subprocess.Popen(
            [sys.executable, *command],
            env={**common, "RANK": str(r), "LOCAL_RANK": str(r), "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for r in range(world)
    ]
    outputs = [process.communicate(timeout=240) for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(error for _, error in outputs)
    return [out for out, _ in outputs]


def test_two_processes_share_sum_and_gather():
    for number, out in enumerate(launch(["-c", WORKER], 2)):
        inside, after = (json.loads(line) for line in out.splitlines())
        rank, world, main, device, share, summed, bias, total, gathered, gradient, told = inside
        assert (rank, world, main, device) == (number, 2, number == 0, "cpu")
        assert share == [[0, 1, 2], [3, 4, 5]][number]
        assert (summed, bias) == ([[3.0, 3.0]], [0.0])
        assert total == [2.0, 1.0]
        assert gathered == [[1.0, 1.0], [2.0, 2.0]] and gradient == [[[1.0, 2.0]], [[3.0, 4.0]]][number]
        assert told == 7
        assert after == 1


def test_one_process_alone_is_the_whole_world():
    with distributed.processes() as device:
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
        assert device == torch.device("cpu")
        assert list(distributed.share(3)) == [0, 1, 2]
        parameter = nn.Parameter(torch.ones(2))
        distributed.sum_gradients([parameter])
        assert parameter.grad is None
        tensor = torch.ones(2)
        assert distributed.sum_over_ranks(tensor) is tensor
        assert distributed.gather_rows(tensor) is tensor and distributed.from_main(3) == 3


def test_shares_that_do_not_come_out_even_are_refused(monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    with pytest.raises(InputError, match="num_envs=6 does not split over 4"):
        distributed.share(6)


def test_half_of_torchruns_variables_is_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(InputError, match="MASTER_PORT.*torchrun"), distributed.processes():
        pass

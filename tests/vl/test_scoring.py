"""Facts about vl/scoring.py."""

import json
import time

import numpy as np
import pytest
import torch

from core.errors import InputError
from tests.core.test_distributed import launch
from vl.scoring import Stopwatch, encode_frames

WORKER = """
import json, sys, torch
from core import distributed
from core.errors import InputError
from vl.rewards import StepBatch, VLMReward
from vl.scoring import encode_frames
from vl.model import VLModel
torch.set_num_threads(1)
with distributed.processes():
    model = VLModel.from_pretrained(sys.argv[1])
    frames = torch.randint(0, 256, (37, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    encoded = []
    inner = model.encode_images
    model.encode_images = lambda images: (encoded.append(len(images)), inner(images))[1]
    parts = list(encode_frames(model, frames.numpy(), batch_size=8))
    torch.save(torch.cat(parts), f"{sys.argv[2]}/{distributed.rank()}.pt")
    unequal = frames[: 16 + 8 * distributed.rank()]
    try:
        list(encode_frames(model, unequal, batch_size=8))
    except InputError as error:
        print(json.dumps([encoded[:3], [len(part) for part in parts], str(error)]))
distributed.leave()
"""


@pytest.mark.slow
def test_two_processes_give_the_embeddings_of_one_in_order(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    told = [json.loads(out) for out in launch(["-c", WORKER, str(tmp_path / "model"), str(tmp_path)], 2)]
    frames = torch.randint(0, 256, (37, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    alone = torch.cat(list(encode_frames(tiny_model, frames, batch_size=8)))
    for rank, (encoded, rounds, error) in enumerate(told):
        assert encoded == [[8, 8, 5], [8, 8, 8]][rank] and rounds == [16, 16, 5]  # 37 = 8 8 | 8 8 | 5
        assert "streams of different length" in error and "[[0, 0], [8, 0]]" in error
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, atol=1e-6, rtol=0)


class Means:
    """The embedding of a frame is its first byte."""

    dim = 1

    def __init__(self) -> None:
        self.batches: list[int] = []

    def encode_images(self, images):
        self.batches.append(len(images))
        return images[:, 0, 0, :1].float()

    def encode_texts(self, texts):
        raise AssertionError


def picture(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, dtype=np.uint8)


@pytest.mark.parametrize("blocks", [[1] * 11, [11], [3, 5, 1, 2], [2, 9]])
def test_a_stream_of_pictures_or_blocks_is_cut_into_equal_batches(blocks):
    embedder, numbers = Means(), iter(range(11))
    stream = ([next(numbers) for _ in range(count)] for count in blocks)
    items = (picture(part[0]) if len(part) == 1 else np.stack([picture(v) for v in part]) for part in stream)
    found = torch.cat(list(encode_frames(embedder, items, batch_size=4)))
    assert found[:, 0].tolist() == list(range(11)) and embedder.batches == [4, 4, 3]


def test_a_new_batch_begins_where_the_size_of_pictures_changes():
    embedder = Means()
    items = [picture(0), picture(1), picture(2, size=6), picture(3, size=6), picture(4)]
    assert torch.cat(list(encode_frames(embedder, items, batch_size=4)))[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert embedder.batches == [2, 2, 1]


def test_an_endless_stream_is_read_only_as_far_as_it_is_asked_for():
    read = []
    stream = ((read.append(n), picture(n % 256))[1] for n in range(10**9))
    parts = encode_frames(Means(), stream, batch_size=5)
    assert [len(next(parts)) for _ in range(3)] == [5, 5, 5] and len(read) == 15


def test_no_frames_give_nothing_and_wrong_ones_an_error():
    assert list(encode_frames(Means(), [])) == []
    with pytest.raises(InputError, match="float64 of shape"):
        list(encode_frames(Means(), np.zeros((2, 4, 4, 3))))
    with pytest.raises(InputError, match="batch_size=0"):
        list(encode_frames(Means(), [], batch_size=0))


def test_the_share_of_time_counts_the_encoder_and_not_the_stream():
    class Slow(Means):
        def encode_images(self, images):
            time.sleep(0.02)
            return super().encode_images(images)

    def slow_stream():
        for value in range(3):
            time.sleep(0.04)
            yield picture(value)

    stopwatch = Stopwatch()
    list(encode_frames(Slow(), slow_stream(), batch_size=1, stopwatch=stopwatch))
    assert 0.06 <= stopwatch.seconds < stopwatch.total - 0.1
    assert stopwatch.share == pytest.approx(stopwatch.seconds / stopwatch.total, rel=0.05)

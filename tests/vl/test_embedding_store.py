"""Facts about vl/embedding_store.py."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from core.errors import InputError, MissingFileError
from vl import embedding_store
from vl.embedding_store import EmbeddingStore


def unit(rows: int, dim: int = 4, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(embedding_store, "BLOCK", 3)


def test_rows_come_back_by_number_in_half_precision_with_their_columns():
    store, vectors = EmbeddingStore(4), unit(8)
    numbers = torch.cat(
        [store.append(vectors[a:b], goal=range(a, b), progress=[a / 10] * (b - a)) for a, b in ((0, 5), (5, 8))]
    )
    assert numbers.tolist() == list(range(8)) and len(store) == 8 and store.column_names == ("goal", "progress")
    wanted = torch.tensor([7, 0, 4, 4])
    assert store.rows(wanted).dtype == torch.float16
    assert torch.equal(store.rows(wanted), vectors[wanted].half())
    assert store.column("goal", wanted).tolist() == [7, 0, 4, 4]
    assert store.column("progress").tolist() == [0.0] * 5 + [0.5] * 3


@pytest.mark.parametrize("sizes", [(1,) * 11, (4, 4, 3), (2, 9), (11,)])
def test_a_store_with_a_capacity_keeps_the_newest_rows_under_their_numbers(sizes):
    store, vectors = EmbeddingStore(4, capacity=5), unit(11)
    for part, number in zip(vectors.split(sizes), torch.arange(11).split(sizes)):
        assert store.append(part, number=number).tolist() == number.tolist()
    assert (store.first, store.end, len(store)) == (6, 11, 5)
    assert store.column("number").tolist() == [6, 7, 8, 9, 10]
    assert torch.equal(store.rows(torch.tensor([10, 6])), vectors[[10, 6]].half())
    with pytest.raises(InputError, match=r"rows 5\.\.6 were asked for, the store holds 6\.\.10 .*overwritten"):
        store.rows(torch.tensor([6, 5]))
    with pytest.raises(InputError, match=r"the store holds 6\.\.10"):
        store.rows(torch.tensor([11]))


def test_memory_is_bounded_by_the_capacity():
    store = EmbeddingStore(4, capacity=7)
    for _ in range(20):
        store.append(unit(5), step=[0] * 5)
    held = sum(values.nbytes for block in store._blocks for values in block.values())
    assert held == 7 * (2 * 4 + 8)


def test_blocks_are_all_rows_in_order_and_the_store_s_own_memory():
    store = EmbeddingStore(4, capacity=7)
    store.append(unit(9), number=range(9))
    parts = [(embedding, columns["number"].tolist()) for embedding, columns in store.blocks()]
    assert [numbers for _, numbers in parts] == [[2], [3, 4, 5], [6], [7, 8]]  # as the ring lies in its blocks
    assert torch.equal(torch.cat([embedding for embedding, _ in parts]), unit(9)[2:].half())
    assert parts[1][0].data_ptr() == store._blocks[1]["embedding"].data_ptr()


@pytest.mark.parametrize("capacity", [None, 5])
def test_a_saved_store_is_the_same_after_loading_and_opens_in_numpy(capacity, tmp_path):
    store = EmbeddingStore(4, capacity)
    store.append(unit(8), goal=range(8), good=[True, False] * 4, progress=np.linspace(0, 1, 8))
    found = EmbeddingStore.load(store.save(tmp_path / "a" / "rows.npz"), capacity)
    assert (found.first, found.end, found.dtype) == (store.first, 8, torch.float16)
    kept = torch.arange(store.first, 8)
    assert torch.equal(found.rows(kept), unit(8).half()[store.first :])
    for name in ("goal", "good", "progress"):
        assert torch.equal(found.column(name), store.column(name))
    with np.load(tmp_path / "a" / "rows.npz") as file:
        assert file["embedding"].shape == (len(store), 4) and file["goal"].tolist() == kept.tolist()
    assert found.append(unit(1), goal=[0], good=[True], progress=[0.0]).tolist() == [8]


def test_an_empty_store_is_saved_and_loaded_too(tmp_path):
    found = EmbeddingStore.load(EmbeddingStore(6, dtype=torch.float32).save(tmp_path / "none.npz"))
    assert (len(found), found.dim, found.dtype) == (0, 6, torch.float32)


def test_files_that_are_no_store_are_named(tmp_path):
    path = EmbeddingStore(4).save(tmp_path / "rows.npz")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="rows.npz is cut short or not an embedding store"):
        EmbeddingStore.load(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match="not an embedding store"):
        EmbeddingStore.load(path)
    with pytest.raises(MissingFileError):
        EmbeddingStore.load(tmp_path / "nothing.npz")


def test_rows_that_no_reward_could_score_are_refused_and_nothing_is_added():
    store = EmbeddingStore(4)
    bad = unit(4)
    bad[2, 1] = float("nan")
    with pytest.raises(InputError, match=r"NaN or infinite numbers \(row 2\)"):
        store.append(bad)
    with pytest.raises(InputError, match=r"not of unit length \(rows 0, 1\)"):
        store.append(2 * unit(2))
    with pytest.raises(InputError, match=r"shape \(2, 5\), expected \(B, 4\)"):
        store.append(unit(2, 5))
    with pytest.raises(InputError, match=r"2 embeddings came with columns of shape \{'goal': \(3,\)\}"):
        store.append(unit(2), goal=[1, 2, 3])
    with pytest.raises(InputError, match="cannot be named 'first'"):
        store.append(unit(2), first=[1, 2])
    assert len(store) == 0
    store.append(unit(2), goal=[1, 2])
    with pytest.raises(InputError, match="those of earlier rows were"):
        store.append(unit(2), goal=[0.5, 1.0])
    with pytest.raises(InputError, match="those of earlier rows were"):
        store.append(unit(2))
    with pytest.raises(InputError, match="no column 'gaol' in this store; it has goal"):
        store.column("gaol")
    assert len(store) == 2


def test_impossible_stores_are_refused():
    with pytest.raises(InputError, match="capacity=0"):
        EmbeddingStore(4, capacity=0)
    with pytest.raises(InputError, match="float16 or float32, not torch.int8"):
        EmbeddingStore(4, dtype=torch.int8)

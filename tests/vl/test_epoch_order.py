"""Facts about vl/epoch_order.py."""

import numpy as np
import pytest

from core.errors import InputError
from vl import epoch_order
from vl.epoch_order import EpochOrder, Replacements
from vl.pair_files import Block


def test_pools_shuffle_neighbouring_blocks_and_cover_all_rows(monkeypatch):
    monkeypatch.setattr(epoch_order, "POOL_ROWS", 30)
    blocks = [Block(10, 0)] * 9 + [Block(7, 0), Block(40, 0)]
    order = EpochOrder(blocks, seed=1)
    for epoch in (0, 3):
        rows = order.rows(epoch, 0, 137)
        assert sorted(rows.tolist()) == list(range(137))
        assert np.array_equal(np.concatenate([order.rows(epoch, 0, 50), order.rows(epoch, 50, 137)]), rows)
        for position in (0, 60, 136):
            pool = order.pool(epoch, position)
            assert rows[position] in pool and len(pool) <= 40
            assert len({int(row) // 10 for row in pool if row < 90}) <= 3  # few places of the files at a time
    assert not np.array_equal(order.rows(0, 0, 137), order.rows(1, 0, 137))


def test_blocks_that_take_memory_make_smaller_pools():
    order = EpochOrder([Block(10, epoch_order.POOL_BYTES // 2)] * 6, seed=0)
    assert {len(order.pool(0, position)) for position in range(60)} == {20}
    order = EpochOrder([Block(10, 2 * epoch_order.POOL_BYTES)] * 6, seed=0)  # none fits: each alone
    assert {len(order.pool(0, position)) for position in range(60)} == {10}


def test_any_blocks_and_any_start_cover_every_row_once(monkeypatch):
    rng = np.random.default_rng(0)
    for _ in range(20):
        monkeypatch.setattr(epoch_order, "POOL_ROWS", int(rng.integers(1, 50)))
        blocks = [Block(int(count), 0) for count in rng.integers(1, 30, size=rng.integers(1, 12))]
        total, order = sum(block.rows for block in blocks), EpochOrder(blocks, seed=3)
        epoch = int(rng.integers(5))
        whole = order.rows(epoch, 0, total)
        assert sorted(whole.tolist()) == list(range(total))
        first, end = sorted(rng.integers(0, total, size=2).tolist())
        assert np.array_equal(EpochOrder(blocks, seed=3).rows(epoch, first, end + 1), whole[first : end + 1])


def test_replacements_are_new_to_the_batch_while_there_are_such():
    pool = np.arange(100, 110)
    one, two = (Replacements(pool, 104, [1, 2]) for _ in range(2))
    used = set(range(100, 107))
    first = one.draw(used)
    assert first == two.draw(used) and first in {107, 108, 109}
    everything = set(pool.tolist())
    drawn = [one.draw(everything) for _ in range(8)]
    assert sorted([*drawn, first, 104]) == pool.tolist()
    with pytest.raises(InputError, match="none of 10 rows that were tried"):
        one.draw(everything)

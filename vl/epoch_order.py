"""In which order an epoch shows rows that are too many to shuffle in memory.

Blocks of neighbouring rows are shuffled, as many of them as fit make a pool, and the rows of a pool are shuffled: rows
that lie together in a file are read at about the same time. All of it is a function of (seed, epoch).
"""

import threading
from collections import OrderedDict
from typing import Any, Final

import numpy as np
from jaxtyping import Int64
from numpy import ndarray

from core.errors import InputError
from vl.data import PERMUTATION
from vl.pair_files import Block

POOL: Final = 2  # stream of random numbers beside those of vl/data.py
POOL_ROWS: Final = 16_384
POOL_BYTES: Final = 256 << 20  # less than what is kept of Parquet files
TRIES: Final = 20  # replacements of one place of a batch


class EpochOrder:
    """Which row comes at which position of an epoch; memory grows with the number of blocks, not of rows."""

    def __init__(self, blocks: list[Block], seed: int) -> None:
        self.seed = seed
        self._rows = np.array([block.rows for block in blocks], dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._rows)[:-1]])
        self._bytes = np.array([block.bytes for block in blocks], dtype=np.int64)
        self._lock = threading.Lock()
        self._epochs: OrderedDict[int, tuple[ndarray, list[ndarray]]] = OrderedDict()
        self._pools: OrderedDict[tuple[int, int], ndarray] = OrderedDict()

    def _epoch(self, epoch: int) -> tuple[Int64[ndarray, " P"], list[Int64[ndarray, " k"]]]:
        """Where each pool of an epoch starts, and its blocks."""
        if epoch not in self._epochs:
            order = np.random.default_rng([self.seed, PERMUTATION, epoch]).permutation(len(self._rows))
            pools: list[list[int]] = [[]]
            rows = size = 0
            for block in order.tolist():
                rows, size = rows + int(self._rows[block]), size + int(self._bytes[block])
                if pools[-1] and (rows > POOL_ROWS or size > POOL_BYTES):
                    pools.append([])
                    rows, size = int(self._rows[block]), int(self._bytes[block])
                pools[-1].append(block)
            found = [np.array(pool, dtype=np.int64) for pool in pools]
            starts = np.cumsum([0] + [int(self._rows[pool].sum()) for pool in found])[:-1]
            _keep(self._epochs, epoch, (starts, found), 2)
        return self._epochs[epoch]

    def _pool(self, epoch: int, number: int) -> Int64[ndarray, " n"]:
        key = (epoch, number)
        if key not in self._pools:
            blocks = self._epoch(epoch)[1][number]
            rows = np.concatenate([self._starts[b] + np.arange(self._rows[b]) for b in blocks.tolist()])
            np.random.default_rng([self.seed, POOL, epoch, number]).shuffle(rows)
            _keep(self._pools, key, rows, 4)
        return self._pools[key]

    def pool(self, epoch: int, position: int) -> Int64[ndarray, " n"]:
        """The rows among which those at `position` were shuffled."""
        with self._lock:
            number = int(np.searchsorted(self._epoch(epoch)[0], position, side="right")) - 1
            return self._pool(epoch, number)

    def rows(self, epoch: int, first: int, end: int) -> Int64[ndarray, " n"]:
        """The rows at positions first..end - 1 of an epoch."""
        found = []
        with self._lock:
            starts, _ = self._epoch(epoch)
            while first < end:
                number = int(np.searchsorted(starts, first, side="right")) - 1
                pool = self._pool(epoch, number)
                inside = first - int(starts[number])
                found.append(pool[inside : inside + end - first])
                first += len(found[-1])
        return np.concatenate(found)


def _keep(kept: OrderedDict[Any, Any], key: Any, value: Any, most: int) -> None:
    kept[key] = value
    while len(kept) > most:
        kept.popitem(last=False)


class Replacements:
    """Replacements for one place of a batch: rows of its pool, drawn with random numbers of its own."""

    def __init__(self, pool: Int64[ndarray, " n"], row: int, seed: list[int]) -> None:
        self._pool, self._rng = pool, np.random.default_rng(seed)
        self._tried = {row}

    def draw(self, used: set[int]) -> int:
        """A row that was not tried here; one that the batch has already only where hardly another is left."""
        draws = self._pool[self._rng.integers(len(self._pool), size=2 * TRIES)].tolist()
        fresh = [row for row in draws if row not in self._tried]
        if len(self._tried) > TRIES or not fresh:
            raise InputError(
                f"a batch is not filled: none of {len(self._tried)} rows that were tried for one of its places reads; "
                "lower max_unreadable to see the causes"
            )
        row = next((row for row in fresh if row not in used), fresh[0])
        self._tried.add(row)
        return row

"""Facts about vl/feature_cache.py: what a tower made of its inputs comes back from the disk, whole or not at all."""

import errno
import shutil

import pytest
import torch

from core.errors import InputError, MissingFileError
from vl import feature_cache
from vl.encoded import Encoded
from vl.feature_cache import FeatureCache, FeatureSpec

N, L, C = 10, 4, 3
STATES = torch.randn(2, N, L, C, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([4, 1, 2, 4, 3, 1, 2, 3, 4, 2])
POOLED = STATES[0, :, 0]


def pictures(rows: range) -> Encoded:
    at = torch.tensor(rows)
    return Encoded([STATES[0, at], STATES[1, at]])


def texts(rows: range) -> Encoded:
    """As a tower gives them: padded to the longest of the block."""
    at = torch.tensor(rows)
    longest = int(LENGTHS[at].max())
    return Encoded([STATES[0, at, :longest]], torch.arange(longest)[None] < LENGTHS[at, None], POOLED[at])


def spec(**changes) -> FeatureSpec:
    return FeatureSpec(**({"tower": "t", "data": "d", "items": N} | changes))


def test_states_of_any_rows_come_back_within_half_precision(tmp_path):
    cache = FeatureCache.build(tmp_path, spec(), pictures, block=3)
    got = cache.encoded([7, 0, 7])
    assert got.mask is None and got.pooled is None and got.states.dtype == torch.float32
    for layer, exact in zip(got.layers, STATES):
        torch.testing.assert_close(layer, exact[[7, 0, 7]], rtol=2**-11, atol=3e-8)
    assert 0 < cache.error <= 2**-11
    assert cache.bytes == 2 * N * L * C * 2 + 4 * N
    with pytest.raises(InputError, match="has rows 0..9, asked for 3..10"):
        cache.encoded([3, 10])


def test_texts_are_stored_without_padding_and_padded_to_the_longest_asked_for(tmp_path):
    cache = FeatureCache.build(tmp_path, spec(), texts, block=4)
    got = cache.encoded([1, 4])
    assert got.mask.tolist() == [[True, False, False], [True, True, True]]
    torch.testing.assert_close(got.states[1], STATES[0, 4, :3].half().float())
    torch.testing.assert_close(got.states[0, :1], STATES[0, 1, :1].half().float())
    torch.testing.assert_close(got.pooled, POOLED[[1, 4]].half().float())
    assert (cache.folder / "layer-0.bin").stat().st_size == int(LENGTHS.sum()) * C * 2


def test_where_the_pooled_vector_is_enough_nothing_else_is_stored(tmp_path):
    cache = FeatureCache.build(tmp_path, spec(keep="embedding"), lambda rows: Encoded([], None, texts(rows).pooled))
    got = cache.encoded([9, 2])
    assert got.layers == [] and got.mask is None
    torch.testing.assert_close(got.pooled, POOLED[[9, 2]].half().float())
    assert sorted(path.name for path in cache.folder.iterdir()) == ["index.json", "lengths.bin", "pooled.bin"]


def test_another_tower_other_data_or_another_precision_has_another_folder():
    changes = [{}, {"tower": "u"}, {"data": "e"}, {"items": 3}, {"keep": "embedding"}, {"bfloat16": True}]
    assert len({spec(**change).digest() for change in changes}) == len(changes)


def test_an_interrupted_build_goes_on_behind_its_last_finished_part_and_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_cache, "PART_BYTES", 100)  # every second block
    asked: list[range] = []

    def cut_off(rows: range) -> Encoded:
        asked.append(rows)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return texts(rows)

    with pytest.raises(KeyboardInterrupt):
        FeatureCache.build(tmp_path / "a", spec(), cut_off, block=2)
    assert not (tmp_path / "a" / spec().digest()).exists()
    (partial,) = [path for path in (tmp_path / "a").iterdir() if path.is_dir()]
    with open(partial / "layer-0.bin", "ab") as file:
        file.write(b"torn")  # what a kill in the middle of a write leaves
    again = FeatureCache.build(tmp_path / "a", spec(), cut_off, block=2)
    assert asked[4] == range(4, 6) and asked[-1].stop == N
    whole = FeatureCache.build(tmp_path / "b", spec(), texts, block=2)
    for name in ("layer-0.bin", "pooled.bin", "lengths.bin", "index.json"):
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    asked.clear()
    FeatureCache.build(tmp_path / "a", spec(), cut_off)
    assert asked == []  # complete: only opened


def test_a_full_disk_is_said_before_the_work_or_when_it_happens_and_leaves_no_cache(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 60, 40))
        with pytest.raises(InputError, match="of 10 items take about 0.00 GB more"):
            FeatureCache.build(tmp_path, spec(), pictures)

    def full(self, files):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(feature_cache._Build, "_finish_part", full)
    with pytest.raises(InputError, match="disk is full.*goes on behind the last finished part"):
        FeatureCache.build(tmp_path, spec(), pictures)
    assert not (tmp_path / spec().digest()).exists()


def test_features_beyond_half_precision_and_damaged_caches_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"reach 1e\+05, more than float16 holds"):
        FeatureCache.build(tmp_path, spec(), lambda rows: Encoded([torch.full((len(rows), 1, 2), 1e5)]))
    folder = FeatureCache.build(tmp_path, spec(), pictures).folder
    with open(folder / "layer-1.bin", "ab") as file:
        file.truncate(10)
    with pytest.raises(InputError, match="has 10 bytes, its index says 240; remove the folder"):
        FeatureCache(folder)
    (folder / "layer-1.bin").unlink()
    with pytest.raises(MissingFileError, match="is missing"):
        FeatureCache(folder)

"""Features on disk: what is stored, what it depends on, and what happens when something goes wrong."""

import errno
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import InputError, MissingFileError
from scene import feature_cache
from scene.feature_cache import FeatureCache, FeatureSpec, weights_digest
from scene.objects import ObjectEncoder, object_encoder

COUNTS = {"a": 3, "b": 1, "c": 0, "d": 5, "e": 2}


def encoder(seed: int = 0) -> ObjectEncoder:
    torch.manual_seed(seed)
    return object_encoder("small", 16)


def spec_of(net: ObjectEncoder, **changes: object) -> FeatureSpec:
    return replace(FeatureSpec(weights_digest(net), "corpus-1", points=8, seed=3), **changes)


def room_points(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(ord(name))
    return torch.rand(COUNTS[name], 12, 6, generator=generator) * 255


class Rooms:
    """A source of rooms that counts what it hands out and can fail before one."""

    def __init__(self, fail_before: str = "") -> None:
        self.fail_before, self.given, self.asked = fail_before, [], []

    def __call__(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        self.asked.append(list(names))
        for name in names:
            if name == self.fail_before:
                raise RuntimeError("killed")
            self.given.append(name)
            yield name, room_points(name)


def build(root: Path, net: ObjectEncoder, load: Rooms | None = None, **changes: object) -> FeatureCache:
    return FeatureCache.build(root, spec_of(net, **changes), net, list(COUNTS), load or Rooms())


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every room its own shard."""
    monkeypatch.setattr(feature_cache, "SHARD_BYTES", 1)
    monkeypatch.setattr(feature_cache, "CLOUDS", 1)


def test_the_features_are_the_encoders_of_each_rooms_points_and_rooms_stay_in_order(tmp_path):
    net = encoder()
    # all points of an object at one place: whichever are drawn, in whichever order, the object is the same
    still = {name: room_points(name)[:, :1].expand(-1, 12, -1) for name in COUNTS}
    load = lambda names: ((name, still[name]) for name in names)  # noqa: E731
    cache = FeatureCache.build(tmp_path, spec_of(net, dtype="float32"), net, list(COUNTS), load)
    assert cache.rooms == list(COUNTS) and len(cache) == 5 and "a" in cache and "z" not in cache
    for name, count in COUNTS.items():
        features = cache.features(name, count)
        assert features.shape == (1, count, 16) and features.dtype == torch.float32
        torch.testing.assert_close(features[0], net.encode(still[name]))
    assert cache.error == 0


def test_draws_differ_are_turned_and_depend_on_seed_and_room_alone(tmp_path, small_shards):
    net = encoder()
    cache = build(tmp_path / "one", net, draws=3)
    features = cache.features("d")
    assert features.shape == (3, 5, 16)
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert torch.equal(cache.draw("d", 2), features[2])
    alone = FeatureCache.build(tmp_path / "two", cache.spec, net, ["d"], Rooms())  # another order, another place
    torch.testing.assert_close(alone.features("d"), features)
    other = build(tmp_path / "three", net, draws=3, seed=4)
    assert (other.features("d") - features).abs().max() > 1e-3


def test_half_precision_is_measured(tmp_path):
    net = encoder()
    half, full = build(tmp_path, net), build(tmp_path, net, dtype="float32")
    gap = max(float((half.features(n) - full.features(n)).abs().max()) for n in COUNTS if COUNTS[n])
    largest = max(float(full.features(n).abs().max()) for n in COUNTS if COUNTS[n])
    assert 0 < half.error == pytest.approx(gap / largest, rel=1e-5)
    assert half.error < 2**-11  # half a unit in the last place of float16


def test_a_complete_cache_is_opened_without_reading_a_room(tmp_path):
    net = encoder()
    first, again = build(tmp_path, net), Rooms()
    second = build(tmp_path, net, again)
    assert again.asked == [] and torch.equal(first.features("a"), second.features("a"))
    assert [p.name for p in tmp_path.iterdir()] == [first.folder.name]


def test_whatever_the_numbers_depend_on_gives_another_folder(tmp_path):
    net, other = encoder(), encoder(1)
    specs = [spec_of(net), spec_of(other), spec_of(net, seed=9), spec_of(net, points=9), spec_of(net, draws=2)]
    specs += [spec_of(net, source="corpus-2"), spec_of(net, dtype="float32"), spec_of(net, bfloat16=True)]
    names = {spec.digest(["a", "b"]) for spec in specs} | {specs[0].digest(["b", "a"]), specs[0].digest(["a"])}
    assert len(names) == len(specs) + 2
    with torch.no_grad():
        net.out.bias[3] += 1e-6
    assert weights_digest(net) != specs[0].encoder


def test_an_interrupted_build_is_not_read_and_goes_on_behind_its_last_shard(tmp_path, small_shards):
    net = encoder()
    with pytest.raises(RuntimeError, match="killed"):
        build(tmp_path, net, Rooms(fail_before="d"))
    spec = spec_of(net)
    with pytest.raises(MissingFileError, match="feature cache"):
        FeatureCache(tmp_path / spec.digest(list(COUNTS)))
    (partial,) = tmp_path.iterdir()
    (partial / ".shard-00001.npy.tmp-77").write_bytes(b"half")  # as a process leaves it that is killed while it writes
    rest = Rooms()
    resumed = build(tmp_path, net, rest)
    assert rest.given == ["c", "d", "e"]  # a and b have shards; c, without objects, waited for d
    assert sorted(p.name for p in resumed.folder.iterdir()) == [
        "index.json",
        *(f"shard-0000{k}.npy" for k in range(4)),
    ]
    whole = build(tmp_path / "whole", net)
    for name in COUNTS:
        assert torch.equal(resumed.features(name), whole.features(name))


def test_few_rooms_are_held_at_once(tmp_path, small_shards, monkeypatch):
    monkeypatch.setattr(feature_cache, "CLOUDS", 4)
    lead = []
    rooms = Rooms()
    write = feature_cache._Build._write

    def noted(self, held):
        write(self, held)
        lead.append((len(rooms.given), sum(len(shard["rooms"]) for shard in self.shards)))

    monkeypatch.setattr(feature_cache._Build, "_write", noted)
    build(tmp_path, encoder(), rooms)
    assert lead == [(2, 2), (4, 4), (5, 5)]  # 3 + 1 objects, 0 + 5, 2: what was read is written before more is read


def test_a_full_disk_leaves_nothing_half_written_and_says_what_to_do(tmp_path, small_shards, monkeypatch):
    net, save = encoder(), np.save
    written = []

    def full(file, array, **options):
        if len(written) == 2:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        save(file, array, **options)

    monkeypatch.setattr(feature_cache.np, "save", full)
    with pytest.raises(InputError, match="disk is full.*goes on behind the last finished part"):
        build(tmp_path, net)
    monkeypatch.undo()
    left = sorted(p.name for p in tmp_path.rglob("*") if p.is_file())
    assert left == [f"shard-0000{k}.npy{end}" for k in (0, 1) for end in ("", ".json")]


def test_a_room_of_another_size_an_unknown_room_and_an_unknown_draw_are_errors(tmp_path):
    cache = build(tmp_path, encoder())
    with pytest.raises(InputError, match="room 'a' has 4 objects, in the feature cache .* 3"):
        cache.features("a", 4)
    with pytest.raises(InputError, match="no room 'aa'"):
        cache.features("aa")
    with pytest.raises(InputError, match=r"draws 0\.\.0"):
        cache.draw("a", 1)


def test_a_damaged_cache_is_refused(tmp_path):
    cache = build(tmp_path, encoder())
    shard = cache.folder / "shard-00000.npy"
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(InputError, match="truncated or damaged"):
        FeatureCache(cache.folder)
    shard.unlink()
    with pytest.raises(MissingFileError, match="shard of a feature cache"):
        FeatureCache(cache.folder)
    shard.write_bytes(content)
    index = json.loads((cache.folder / "index.json").read_text())
    index["shards"][0][0][1] = 2
    (cache.folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="its index says"):
        FeatureCache(cache.folder)
    (cache.folder / "index.json").write_text("{}")
    with pytest.raises(InputError, match="no feature cache of format"):
        FeatureCache(cache.folder)


def test_what_does_not_fit_is_refused_by_name(tmp_path):
    net, spec = encoder(), spec_of(encoder())

    def broken(name: str, points: torch.Tensor):
        return lambda names: ((n, points if n == name else room_points(n)) for n in names)

    nan = room_points("b")
    nan[0, 3, 1] = torch.nan
    for points, message in ((nan, "room 'b': points of object 0 .of 1. hold NaN"), (nan[:, :7], "Q of at least 8")):
        with pytest.raises(InputError, match=message):
            FeatureCache.build(tmp_path, spec, net, ["a", "b"], broken("b", points))
    with pytest.raises(InputError, match="expected room 'b' next and was given 'c'"):
        FeatureCache.build(tmp_path, spec, net, ["a", "b"], lambda names: ((n, room_points(n)) for n in "ac"))
    with pytest.raises(InputError, match="given no more"):
        FeatureCache.build(tmp_path, spec, net, ["a", "b"], lambda names: [("a", room_points("a"))])
    with pytest.raises(InputError, match="room 'd' beyond the last"):
        FeatureCache.build(tmp_path, spec, net, ["a"], lambda names: ((n, room_points(n)) for n in "ad"))
    with pytest.raises(InputError, match="different name"):
        FeatureCache.build(tmp_path, spec, net, ["a", "a"], Rooms())
    with pytest.raises(InputError, match="spec is of encoder"):
        FeatureCache.build(tmp_path, spec, encoder(1), ["a"], Rooms())
    with pytest.raises(InputError, match="dtype"):
        spec_of(net, dtype="float8")
    with torch.no_grad():
        net.out.weight *= 1e6
    with pytest.raises(InputError, match="take dtype=float32"):
        build(tmp_path, net)


def test_of_two_builds_at_once_one_waits_and_both_read_the_same(tmp_path):
    net, found, load = encoder(), [], Rooms()
    threads = [threading.Thread(target=lambda: found.append(build(tmp_path, net, load))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(load.asked) == 1 and found[0].folder == found[1].folder


def test_a_cache_of_no_rooms_or_of_empty_rooms_opens(tmp_path):
    net = encoder()
    assert len(FeatureCache.build(tmp_path, spec_of(net), net, [], Rooms())) == 0
    assert FeatureCache.build(tmp_path, spec_of(net), net, ["c"], Rooms()).features("c").shape == (1, 0, 16)

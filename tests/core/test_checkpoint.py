"""Checkpoints survive faults at every point, and random states come back exactly."""

import errno
import itertools
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import core.checkpoint
import core.files
from core.checkpoint import Checkpoints, find_fault, generator_state, load_checkpoint, load_weights, restore
from core.errors import InputError


def state(number: int) -> dict:
    return {"weights": torch.full((3, 2), float(number)), "step": number, "history": [number, (1, None)]}


def numbers(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_everything_a_state_may_hold_comes_back_equal(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    given = {
        "float16": torch.ones(2, dtype=torch.float16),
        "empty": torch.zeros(0, 3, dtype=torch.int64),
        "array": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "flags": np.array([True, False]),
        "nested": {0: [1, 2.5, "x", None, True, b"raw"], "pair": (1, (2,))},
        "big": 2**100,
        "scalar": np.float64(0.1),
    }
    checkpoints.save(7, given)
    step, found = checkpoints.latest()
    assert step == 7 and found.keys() == given.keys()
    assert torch.equal(found["float16"], given["float16"]) and found["float16"].dtype == torch.float16
    assert found["empty"].shape == (0, 3)
    assert np.array_equal(found["array"], given["array"]) and found["array"].dtype == np.int16
    assert np.array_equal(found["flags"], given["flags"])
    assert (found["nested"], found["big"], found["scalar"]) == (given["nested"], 2**100, 0.1)


def test_a_view_does_not_drag_its_storage_into_the_file(tmp_path: Path):
    path = Checkpoints(tmp_path).save(1, {"row": torch.zeros(1000, 1000)[0]})
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("bad", [{"a": {"b": [object()]}}, {"a": np.array(["text"])}, {"a": {(1, 2): 3}}])
def test_what_a_checkpoint_cannot_hold_is_named_by_its_place(tmp_path: Path, bad: dict):
    with pytest.raises(TypeError, match=r"state\['a'\]"):
        Checkpoints(tmp_path / "new").save(1, bad)
    assert not (tmp_path / "new").exists()


def test_only_the_newest_stay(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 5, 9, 12):
        checkpoints.save(step, state(step))
    assert checkpoints.steps() == [9, 12] and checkpoints.latest()[1]["step"] == 12


def test_a_future_that_was_given_up_goes_when_the_run_saves_again(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20):
        checkpoints.save(step, state(step))
    checkpoints.save(15, state(15))
    assert checkpoints.steps() == [10, 15]


def test_no_folder_and_an_empty_folder_have_no_checkpoint(tmp_path: Path):
    assert Checkpoints(tmp_path / "absent").latest() is None
    assert Checkpoints(tmp_path).latest() is None


class Faults:
    """Makes the n-th of all writes, fsyncs and renames fail, and counts them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int | None, error: BaseException) -> None:
        self.count, self.fail_at, self.error, self.kinds = 0, fail_at, error, []
        fsync, replace = os.fsync, os.replace
        faults = self

        class File:
            def __init__(self, *args):
                self.file = open(*args)  # noqa: SIM115  # closed in __exit__

            def __enter__(self):
                return self

            def __exit__(self, *exc):
                self.file.close()

            def write(self, block):
                half = bytes(block)[: len(block) // 2]
                if faults.due("write"):
                    self.file.write(half)  # a full disk takes a part
                    raise faults.error
                return self.file.write(block)

            def flush(self):
                if faults.due("flush"):
                    raise faults.error
                self.file.flush()

            def fileno(self):
                return self.file.fileno()

        def failing(name, real):
            def call(*args):
                if faults.due(name):
                    raise faults.error
                return real(*args)

            return call

        monkeypatch.setattr(core.files, "open", File, raising=False)
        monkeypatch.setattr(os, "fsync", failing("fsync", fsync))
        monkeypatch.setattr(os, "replace", failing("rename", replace))

    def due(self, kind: str) -> bool:
        self.count += 1
        self.kinds.append(kind)
        return self.count == self.fail_at


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_at_any_write_flush_or_rename_leaves_a_loadable_checkpoint(tmp_path: Path, error: BaseException):
    with pytest.MonkeyPatch.context() as patch:
        counting = Faults(patch, None, error)
        Checkpoints(tmp_path / "count").save(2, state(2))
    assert {"write", "flush", "fsync", "rename"} <= set(counting.kinds) and counting.count >= 6

    for fail_at in range(1, counting.count + 1):
        folder = tmp_path / str(fail_at)
        checkpoints = Checkpoints(folder)
        checkpoints.save(1, state(1))
        with pytest.MonkeyPatch.context() as patch:
            Faults(patch, fail_at, error)
            with pytest.raises(type(error)):
                checkpoints.save(2, state(2))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            step, found = checkpoints.latest()
        renamed = "rename" in counting.kinds[: fail_at - 1]
        assert step == found["step"] == (2 if renamed else 1)
        assert not [name for name in numbers(folder) if "tmp" in name]
        checkpoints.save(3, state(3))
        assert checkpoints.latest()[0] == 3


def test_every_truncation_is_noticed(tmp_path: Path):
    path = Checkpoints(tmp_path).save(1, {"w": torch.zeros(4)})
    whole = path.read_bytes()
    torn = tmp_path / "torn"
    for length in itertools.chain(range(60), range(60, len(whole), 37), range(len(whole) - 60, len(whole))):
        torn.write_bytes(whole[:length])
        assert find_fault(torn), length
    for place in range(0, len(whole), 41):
        torn.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert find_fault(torn), place
    torn.write_bytes(whole)
    assert find_fault(torn) is None


def test_a_torn_newest_is_passed_over_with_a_message(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state(1))
    path = checkpoints.save(2, state(2))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"skipping checkpoint .*step-0000000002.ckpt: torn"):
        step, found = checkpoints.latest()
    assert (step, found["step"]) == (1, 1)
    with pytest.raises(InputError, match="cannot be used: torn"):
        load_checkpoint(path)


def test_leftovers_of_a_killed_process_are_cleared_by_the_next_save(tmp_path: Path):
    (tmp_path / ".step-0000000001.ckpt.tmp-99999").write_bytes(b"half")
    Checkpoints(tmp_path).save(1, state(1))
    assert numbers(tmp_path) == ["step-0000000001.ckpt"]


@pytest.mark.parametrize("make", [np.random.default_rng, lambda s: np.random.Generator(np.random.MT19937(s))])
def test_a_numpy_generator_goes_on_where_it_was(tmp_path: Path, make):
    generator = make(3)
    generator.random(5)
    Checkpoints(tmp_path).save(1, {"rng": generator_state(generator)})
    expected = generator.random(4)
    other = make(4)
    restore(other, Checkpoints(tmp_path).latest()[1]["rng"])
    assert np.array_equal(other.random(4), expected)


def test_torch_generators_go_on_where_they_were_and_dropout_with_them(tmp_path: Path):
    generator = torch.Generator().manual_seed(3)
    torch.rand(5, generator=generator)
    saved = {"own": generator_state(generator), "global": generator_state(torch.default_generator)}
    Checkpoints(tmp_path).save(1, saved)
    dropout = torch.nn.Dropout(0.5)
    expected = torch.rand(4, generator=generator), dropout(torch.ones(64))
    found = Checkpoints(tmp_path).latest()[1]
    fresh = torch.Generator()
    restore(fresh, found["own"])
    restore(torch.default_generator, found["global"])
    assert torch.equal(torch.rand(4, generator=fresh), expected[0])
    assert torch.equal(dropout(torch.ones(64)), expected[1])


def test_a_random_state_of_another_kind_is_refused():
    with pytest.raises(InputError, match="numpy-PCG64"):
        restore(torch.Generator(), generator_state(np.random.default_rng(0)))


def test_weights_of_another_shape_are_named_in_one_line():
    small, large = torch.nn.Linear(2, 3), torch.nn.Linear(2, 4)
    with pytest.raises(InputError, match=r"weight is \(3, 2\), expected \(4, 2\)") as caught:
        load_weights(large, small.state_dict(), "model.ckpt")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"0.weight is missing.*weight is unknown"):
        load_weights(torch.nn.Sequential(small), small.state_dict(), "model.ckpt")


def test_fitting_weights_are_loaded():
    source, target = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    load_weights(target, source.state_dict(), "model.ckpt")
    assert torch.equal(source.weight, target.weight)


def test_an_interruption_while_torch_writes_stays_one(tmp_path, monkeypatch):
    """Ctrl-C may fall between any two lines under torch's writer, which then raises RuntimeError in its place."""

    def interrupted(block):
        raise KeyboardInterrupt

    real = core.checkpoint._HashedFile

    def made(file):
        hashed = real(file)
        hashed.write = interrupted
        return hashed

    monkeypatch.setattr(core.checkpoint, "_HashedFile", made)
    with pytest.raises(KeyboardInterrupt):
        Checkpoints(tmp_path).save(1, {"weight": torch.zeros(1000)})
    assert os.listdir(tmp_path) == []


def test_a_checkpoint_goes_to_a_device_whole_and_keeps_its_form():
    saved = {"a": torch.zeros(2), "b": [torch.ones(1), 3], "c": ({"d": torch.ones(1)}, "text"), "e": None}
    moved = core.checkpoint.on_device(saved, torch.device("meta"))
    assert moved["a"].device.type == moved["b"][0].device.type == moved["c"][0]["d"].device.type == "meta"
    assert moved["b"][1] == 3 and moved["c"][1] == "text" and moved["e"] is None and isinstance(moved["c"], tuple)

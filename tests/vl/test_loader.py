"""Facts about vl/loader.py."""

import re
import threading
import time

import pytest

from core.errors import InputError
from vl import loader
from vl.loader import LoaderProfile, Prefetch


class Numbers:
    """Batches that are their own step numbers; some of them late, or broken."""

    steps_per_epoch = 10

    def __init__(self, late=(), broken=None):
        self.late, self.broken, self.asked, self.threads = late, broken, [], set()

    def batch(self, step, *, pictures=True):
        self.asked.append(step)
        self.threads.add(threading.current_thread().name)
        if step in self.late:
            time.sleep(0.02)
        if step == self.broken:
            raise InputError("batch 5 is broken")
        return step


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_come_in_order_from_any_start(workers):
    numbers = Numbers(late={3, 6})
    with Prefetch(numbers, 3, 9, workers=workers, ahead=4) as ahead:
        assert list(ahead) == [3, 4, 5, 6, 7, 8]
        assert list(ahead) == []
    assert sorted(numbers.asked) == [3, 4, 5, 6, 7, 8]
    assert threading.current_thread().name not in numbers.threads


def test_no_more_is_read_ahead_than_was_asked():
    numbers = Numbers()
    with Prefetch(numbers, 0, ahead=2) as ahead:
        assert [next(ahead) for _ in range(3)] == [0, 1, 2]
        time.sleep(0.05)
        assert sorted(numbers.asked) == [0, 1, 2, 3, 4]


def test_reading_goes_on_while_the_model_works():
    numbers = Numbers(late=range(100))
    with Prefetch(numbers, 0, ahead=2) as ahead:
        next(ahead)
        time.sleep(0.06)  # the model's step
        began = time.perf_counter()
        assert next(ahead) == 1
        assert time.perf_counter() - began < 0.01


def test_an_error_comes_where_its_batch_would_have_come_and_ends_it():
    with Prefetch(Numbers(broken=5), 3, workers=2) as ahead:
        assert [next(ahead), next(ahead)] == [3, 4]
        with pytest.raises(InputError, match="batch 5 is broken"):
            next(ahead)
        with pytest.raises(StopIteration):
            next(ahead)


def test_closing_ends_the_threads():
    before = threading.active_count()
    ahead = Prefetch(Numbers(late=range(100)), 0, workers=2, ahead=8)
    next(ahead)
    ahead.close()
    ahead.close()
    assert threading.active_count() == before
    with pytest.raises(StopIteration):
        next(ahead)
    with pytest.raises(InputError, match="workers=0"):
        Prefetch(Numbers(), 0, workers=0)


def profile_of(steps, **options):
    profile = LoaderProfile(**options)
    for wait, model in [(9.0, 9.0), (9.0, 9.0), *steps]:  # the first two are left out
        profile.add(wait, model, pictures=32, bytes_read=1_000_000)
    return profile


def test_the_profile_gives_shares_and_rates_of_the_steps_after_the_first_two():
    profile = profile_of([(0.01 * i, 0.1) for i in range(21)])  # waits 0..200 ms, 2.1 s in all, and as much model
    assert profile.wait_share == pytest.approx(0.5)
    found = profile.summary()
    assert found["wait_ms_median"] == 100 and found["wait_ms_p95"] == 190
    assert found["model_ms_median"] == found["model_ms_p95"] == 100
    assert found["pictures_per_second"] == 160.0  # 21 * 32 / 4.2 s
    assert found["megabytes_read_per_second"] == 5.0  # 1 MB per step of 0.2 s
    assert found["wait_share"] == 0.5 and found["verdict"] == profile.verdict()
    resumed = LoaderProfile(profile.wait_s, profile.model_s)
    assert resumed.wait_share == profile.wait_share and "pictures_per_second" not in resumed.summary()


@pytest.mark.parametrize(
    ("steps", "workers", "words"),
    [
        ([(0.71, 0.29)] * 9, 1, r"loader is the bottleneck: 71 % of .*raise workers= \(now 1, there are 4 cores\)"),
        ([(0.71, 0.29)] * 9, 4, r"loader is the bottleneck: 71 % .*all 4 cores read already .*store .* smaller"),
        ([(0.0, 0.1)] * 18 + [(3.0, 0.1)] * 2, 2, r"in bursts: 75 % .*raise workers= \(now 2\)"),
        ([(0.1, 0.9)] * 9, 1, r"model is the bottleneck, but 10 % .*workers=2"),
        ([(0.01, 0.99)] * 9, 1, r"model is the bottleneck: 1 % .*more workers would not help"),
        ([], 1, "too few steps"),
    ],
)
def test_the_verdict_says_who_waits_and_what_to_do(steps, workers, words, monkeypatch):
    monkeypatch.setattr(loader, "available_cores", lambda: 4)
    with_words = profile_of(steps, workers=workers)
    assert re.search(words, with_words.verdict()), with_words.verdict()
    assert with_words.summary()["verdict"] == with_words.verdict()

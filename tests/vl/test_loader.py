"""Facts about vl/loader.py."""

import threading
import time

import pytest

from core.errors import InputError
from vl.loader import Prefetch


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

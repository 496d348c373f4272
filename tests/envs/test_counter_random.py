"""Draws depend on their place alone."""

import numpy as np
import pytest

from core.errors import InputError
from envs.counter_random import below, episode_key, uniform


def test_a_row_of_a_batch_draws_what_it_draws_alone():
    batch = uniform(episode_key(3, np.arange(50), 7), np.arange(50), 2)
    alone = [uniform(episode_key(3, i, 7), i, 2)[0] for i in range(50)]
    assert batch.tolist() == alone


def test_seed_environment_episode_step_and_draw_all_matter():
    base = uniform(episode_key(0, 0, 0), 0, 0)[0]
    changed = [(1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)]
    values = {uniform(episode_key(*place[:3]), *place[3:])[0] for place in changed}
    assert len(values | {base}) == 6


def test_draws_fill_the_interval_evenly_and_do_not_correlate():
    values = uniform(episode_key(1, np.arange(20_000), 0), 0, 0)
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert abs(counts - 2000).max() < 200
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_below_reaches_every_number_and_no_other():
    assert set(below(episode_key(5, np.arange(200), 0), 0, 0, 4).tolist()) == {0, 1, 2, 3}


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="seed=-1"):
        episode_key(-1, 0, 0)

"""Habitat's metrics on episodes worked out by hand."""

import pytest
import torch

from envs.metrics import METRICS, episode_metrics, soft_spl, spl

T = torch.tensor


def test_spl_is_shortest_over_walked_and_zero_without_success():
    got = spl(T([True, True, False]), T([2.0, 2.0, 2.0]), T([4.0, 2.0, 2.0]))
    assert got.tolist() == [0.5, 1.0, 0.0]


def test_spl_never_exceeds_one_when_the_walk_is_shorter_than_the_estimate():
    assert spl(T([True]), T([2.0]), T([1.9])).item() == 1.0


def test_soft_spl_credits_half_the_way_and_nothing_for_walking_off():
    got = soft_spl(T([4.0, 4.0, 4.0]), T([2.0, 0.0, 6.0]), T([2.0, 8.0, 3.0]))
    assert got.tolist() == [0.5, 0.5, 0.0]


def test_all_metrics_of_one_episode():
    got = episode_metrics(T([True]), T([3.0]), T([0.0]), T([4.0]), T([2]), T([0]), T([1]))
    assert tuple(got) == METRICS
    assert [v.item() for v in got.values()] == pytest.approx([1.0, 0.75, 0.75, 0.0, 4.0, 2.0, 1.0])


def test_subgoals_are_the_share_of_stages_done_and_all_of_them_with_success():
    one = torch.ones(3)
    got = episode_metrics(T([False, False, True]), one, one, one, one, T([0, 2, 2]), T([3, 4, 3]))
    assert got["subgoals"].tolist() == [0.0, 0.5, 1.0]

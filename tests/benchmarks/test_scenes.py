"""The measurement of graphs: its arithmetic, and what it says without data."""

import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.scenes import Target, contradictions, side_by_side, slope
from scene.datasets.procedural import generate_home
from scene.edges import Edge, EdgeTable
from scene.graph import SceneGraph, build_graph
from scene.relations import Relation, Viewpoint


def test_a_target_is_short_on_the_wrong_side_of_its_limit():
    assert str(Target("speed", 100.0, 100)) == "speed 100 (target >= 100) ok"
    assert str(Target("speed", 99.0, 100)) == "speed 99 (target >= 100) SHORT"
    assert str(Target("slope", 1.2, 1.15, least=False)) == "slope 1.2 (target <= 1.15) SHORT"


def test_the_slope_of_quadratic_time_is_two():
    assert slope([(n, 1e-6 * n**2, 0) for n in (100, 200, 400)]) == pytest.approx(2.0)


def test_homes_side_by_side_have_the_graphs_of_the_homes_one_after_the_other():
    homes = [generate_home(seed) for seed in (0, 1)]
    row = side_by_side(homes, sum(len(home.objects) for home in homes), rooms=True)
    graph, count = build_graph(row), len(homes[0].objects)
    for home, first in zip(homes, (0, count)):
        own = build_graph(home)
        parent = graph.support_parent[first : first + len(home.objects)]
        assert np.where(parent >= 0, parent - first, parent).tolist() == own.support_parent.tolist()
    assert len(graph.table) == sum(len(build_graph(home).table) for home in homes)
    assert [item.room for item in side_by_side(homes, 1, rooms=False).objects] == [-1] * count


def test_contradictions_are_counted():
    none = np.full(2, -1)

    def graph(*edges):
        return SceneGraph("s", ["a", "b"], none, none, none + 1, EdgeTable.of(edges), Viewpoint())

    left, right = Edge(0, (1,), Relation.LEFT_OF, 0.1, "near"), Edge(1, (0,), Relation.RIGHT_OF, 0.1, "near")
    also_left = Edge(1, (0,), Relation.LEFT_OF, 0.1, "near")
    assert contradictions(graph(left, right)) == 0
    assert contradictions(graph(left)) == 1  # unanswered
    assert contradictions(graph(left, also_left)) == 1 + 2


def test_without_data_it_says_so_and_ends_with_2():
    env = {key: value for key, value in os.environ.items() if key != "SIGHTLINE_DATA"}
    run = subprocess.run([sys.executable, "-m", "benchmarks.scenes"], capture_output=True, text=True, env=env)
    assert run.returncode == 2
    assert "set SIGHTLINE_DATA to a folder with procthor_houses/houses.jsonl.gz" in run.stderr

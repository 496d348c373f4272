"""The columns say what a list of edges says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scene.edges import RELATIONS, Edge, EdgeTable
from scene.relations import Relation

R = Relation
EDGES = [
    Edge(2, (0,), R.LEFT_OF, 0.5, "near"),
    Edge(0, (1, 2, 4), R.ALIGNED, 0.01),
    Edge(0, (1, 2, 3), R.ALIGNED, 0.02),  # differs in its third object from the one before
    Edge(0, (1, 2), R.BETWEEN, 0.3),
    Edge(0, (-1,), R.SUPPORTED_BY, 0.05),
    Edge(2, (1,), R.LEFT_OF, 0.25, "far"),
]


def by_hand(edges):
    order = list(Relation)
    return sorted(edges, key=lambda e: (e.subject, order.index(e.relation), e.objects))


def test_edges_come_back_sorted_by_subject_relation_and_objects():
    table = EdgeTable.of(EDGES)
    assert list(table) == by_hand(EDGES) and len(table) == 6
    assert list(table.rows(1, 3)) == by_hand(EDGES)[1:3]
    assert table.start.tolist() == [0, 1, 3, 6, 9, 10, 11]
    assert list(table.rows(2, 2)) == []


def test_an_empty_table_has_no_edges():
    table = EdgeTable.of([])
    assert list(table) == [] and len(table) == 0 and table.subjects() == {} and table == EdgeTable.of([])


def test_subjects_are_who_stands_in_the_relation():
    table = EdgeTable.of([*EDGES, Edge(3, (0,), R.LEFT_OF, 0.1, "far")])
    assert table.subjects()[R.LEFT_OF, (0,)] == {2, 3}
    assert table.subjects()[R.BETWEEN, (1, 2)] == {0}
    assert (R.LEFT_OF, (3,)) not in table.subjects()


def test_tables_are_equal_when_every_column_is():
    other = EdgeTable.of([*EDGES[:-1], Edge(2, (1,), R.LEFT_OF, 0.25, "near")])
    assert EdgeTable.of(EDGES) == EdgeTable.of(EDGES[::-1]) != other
    assert EdgeTable.of(EDGES) != list(EdgeTable.of(EDGES))


def test_a_reach_that_is_none_is_refused():
    with pytest.raises(ValueError, match="middling"):
        EdgeTable.of([Edge(0, (1,), R.LEFT_OF, 0.1, "middling")])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_edges_are_sorted_as_python_sorts_them(data):
    ends = st.lists(st.integers(0, 4), min_size=1, max_size=4, unique=True).map(lambda ids: tuple(sorted(ids)))
    keys = st.tuples(st.integers(0, 3), ends, st.sampled_from(RELATIONS[-3:]))
    rows = data.draw(st.lists(keys, unique=True, max_size=15))
    edges = [Edge(subject, objects, relation, 0.1 * k) for k, (subject, objects, relation) in enumerate(rows)]
    assert list(EdgeTable.of(edges)) == by_hand(edges)
    assert np.diff(EdgeTable.of(edges).start).tolist() == [len(edge.objects) for edge in by_hand(edges)]

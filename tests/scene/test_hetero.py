"""Graphs through torch-geometric and back."""

import numpy as np
import pytest

from core.errors import InputError
from scene.datasets.procedural import HomeConfig, generate_home
from scene.graph import SceneGraph, build_graph
from scene.relations import Relation, Viewpoint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def graphs():
    return [build_graph(generate_home(seed, HomeConfig(rooms_max=2)), Viewpoint(0.1 + seed)) for seed in range(4)]


def test_a_graph_comes_back_as_it_was():
    seen = set()
    for graph in graphs():
        back = SceneGraph.from_hetero_data(graph.to_hetero_data())
        assert back == graph and back.to_json() == graph.to_json()
        seen |= {edge.relation for edge in graph.edges}
    assert {Relation.BETWEEN, Relation.HANGING_ON, Relation.LEFT_OF, Relation.SUPPORTED_BY} <= seen


def test_graphs_come_back_out_of_a_batch_and_a_loader():
    from torch_geometric.data import Batch
    from torch_geometric.loader import DataLoader

    originals = graphs()
    batch = Batch.from_data_list([graph.to_hetero_data() for graph in originals])
    assert batch["object"].num_nodes == sum(len(graph.labels) for graph in originals)
    assert [SceneGraph.from_hetero_data(batch.get_example(k)) for k in range(4)] == originals
    loader = DataLoader([graph.to_hetero_data() for graph in originals], batch_size=3)
    parts = [SceneGraph.from_hetero_data(data) for batch in loader for data in batch.to_data_list()]
    assert parts == originals


def test_edges_of_one_statement_share_a_number():
    graph = graphs()[0]
    data = graph.to_hetero_data()
    store = data["object", "between", "object"]
    statements = {}
    for group, (subject, end) in zip(store.group.tolist(), store.edge_index.T.tolist()):
        statements.setdefault((group, subject), []).append(end)
    assert {(subject, tuple(ends)) for (_, subject), ends in statements.items()} == {
        (edge.subject, edge.objects) for edge in graph.edges if edge.relation == Relation.BETWEEN
    }
    assert data.validate()


def test_every_graph_has_the_same_types_so_that_batches_keep_them_all():
    first, *others = [graph.to_hetero_data().metadata() for graph in graphs()]
    assert all(other == first for other in others)
    assert len(first[1]) == 21 + 7  # relations to objects, and those of contact to floor, wall and ceiling


def test_data_of_something_else_is_refused():
    from torch_geometric.data import HeteroData

    data = graphs()[0].to_hetero_data()
    del data["object"].support_parent
    for other in (HeteroData(), data):
        with pytest.raises(InputError, match="no scene graph in this HeteroData"):
            SceneGraph.from_hetero_data(other)


def test_another_graph_is_not_equal():
    first, second = graphs()[:2]
    assert first != second and first != "a graph"
    assert not np.array_equal(first.table.subject, second.table.subject)

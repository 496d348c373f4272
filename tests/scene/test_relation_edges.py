"""From a scene graph to pairs of slots."""

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.relation_edges import MIRRORED, ONE_WAY, batch_edges, edges_of_room, mirrored_edges
from scene.relations import CONVERSES, Relation
from scene.types import Room, Scene, SceneObject

NUMBER = {relation: k for k, relation in enumerate(Relation)}


def row_of_three() -> Scene:
    """A chair, a table and a lamp on the table, another chair: the chairs left and right of the table."""
    corners = np.array([[0.0, 0.0], [6.0, 0.0], [6.0, 5.0], [0.0, 5.0]])
    boxes = [(1.0, 2, 0.4, 0.5, 0.5, 0.8), (2.2, 2, 0.4, 1.0, 1.0, 0.8), (2.2, 2, 1.0, 0.3, 0.3, 0.4)]
    boxes.append((3.4, 2, 0.4, 0.5, 0.5, 0.8))
    objects = [
        SceneObject(k, label, np.array([*box, 0.0]))
        for k, (label, box) in enumerate(zip(("chair", "table", "lamp", "chair"), boxes))
    ]
    return Scene("three", "test", objects, [Room(0, "bedroom", corners)])


def test_edges_are_the_graphs_pairs_in_slots_and_leave_out_the_floor_and_other_rooms():
    scene = row_of_three()
    graph = build_graph(scene)
    ids = [3, 1, 2]  # the first chair is no candidate
    rows = {tuple(row) for row in edges_of_room(scene, graph, ids).tolist()}
    expected = {
        (ids.index(edge.subject), ids.index(end), NUMBER[edge.relation])
        for edge in graph.edges
        for end in edge.objects
        if edge.subject in ids and end in ids
    }
    assert rows == expected
    assert (2, 1, NUMBER[Relation.SUPPORTED_BY]) in rows  # the lamp on the table
    assert (0, 1, NUMBER[Relation.RIGHT_OF]) in rows and (1, 0, NUMBER[Relation.LEFT_OF]) in rows


def test_between_becomes_one_pair_per_end():
    scene = row_of_three()
    rows = edges_of_room(scene, build_graph(scene), range(4)).tolist()
    assert [row[:2] for row in rows if row[2] == NUMBER[Relation.BETWEEN]] == [[1, 0], [1, 3]]


def test_a_graph_states_all_but_the_one_way_relations_from_both_ends():
    home = generate_home(0)
    rows = {tuple(row) for row in edges_of_room(home, build_graph(home), range(len(home.objects))).tolist()}
    names = list(Relation)
    for subject, other, relation in rows:
        back = (other, subject, NUMBER[CONVERSES.get(names[relation], names[relation])]) in rows
        assert back or relation in ONE_WAY
    assert {relation for *_, relation in rows} & set(ONE_WAY)


def test_a_mirror_exchanges_left_and_right_alone_and_twice_gives_back_the_same():
    scene = row_of_three()
    edges = edges_of_room(scene, build_graph(scene), range(4))
    swapped = mirrored_edges(edges)
    turned = edges[:, 2] != swapped[:, 2]
    assert set(edges[turned, 2].tolist()) == {NUMBER[Relation.LEFT_OF], NUMBER[Relation.RIGHT_OF]} == set(MIRRORED)
    assert torch.equal(mirrored_edges(swapped), edges) and torch.equal(edges[:, :2], swapped[:, :2])


def test_a_batch_lists_every_scenes_edges_behind_its_number():
    first, none, second = torch.tensor([[0, 1, 5]]), torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[2, 0, 7]])
    assert batch_edges([first, none, second]).tolist() == [[0, 0, 1, 5], [2, 2, 0, 7]]
    assert batch_edges([]).shape == batch_edges([none]).shape == (0, 4)


def test_another_scenes_graph_and_wrong_candidates_are_refused():
    scene = row_of_three()
    graph = build_graph(scene)
    with pytest.raises(InputError, match="graph is of scene three"):
        edges_of_room(Scene("other", "test", scene.objects, scene.rooms), graph, [0])
    for ids in ([0, 0], [4], [-1]):
        with pytest.raises(InputError, match=r"different ids in 0\.\.3"):
            edges_of_room(scene, graph, ids)
    assert edges_of_room(scene, graph, []).shape == (0, 3)

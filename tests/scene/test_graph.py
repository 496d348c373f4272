"""The scene graph of a hand-made room and of generated homes."""

import os
import subprocess
import sys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from scene.datasets.procedural import HomeConfig, generate_home, generate_home_with_truth
from scene.geometry import rotate_scene
from scene.graph import (
    DIRECTIONS,
    NEARNESS,
    Edge,
    SceneGraph,
    build_graph,
    candidates,
    scene_room,
    spoken_room_by_room,
)
from scene.pairs import CROWD
from scene.relations import CONVERSES, Relation, Viewpoint
from scene.support import CEILING, FLOOR, WALL
from scene.types import Room, Scene, SceneObject

R = Relation


def room_scene(*things, scene_id="room", size=(6.0, 5.0)):
    """A room from (label, x, y, z, dx, dy, dz) rows."""
    corners = np.array([[0.0, 0.0], [size[0], 0.0], [*size], [0.0, size[1]]])
    objects = [SceneObject(k, label, np.array([*numbers, 0.0])) for k, (label, *numbers) in enumerate(things)]
    return Scene(scene_id, "test", objects, [Room(0, "bedroom", corners)])


BEDROOM = (
    ("bed", 3.0, 4.0, 0.4, 1.6, 1.8, 0.8),
    ("pillow", 3.0, 4.6, 0.55, 0.6, 0.3, 0.15),  # on the mattress, below the headboard's top
    ("nightstand", 4.3, 4.7, 0.25, 0.5, 0.5, 0.5),
    ("lamp", 4.3, 4.7, 0.7, 0.2, 0.2, 0.4),
    ("picture", 3.0, 4.98, 1.6, 0.8, 0.04, 0.6),
    ("ceiling lamp", 3.0, 2.0, 2.5, 0.4, 0.4, 0.2),
    ("table", 1.0, 1.0, 0.375, 1.2, 0.8, 0.75),
    ("mug", 1.0, 1.1, 0.8, 0.1, 0.1, 0.1),
    ("box", 5.5, 0.5, 0.2, 0.5, 0.5, 0.4),
    ("ball", 5.5, 0.5, 0.15, 0.2, 0.2, 0.2),
    ("pencil", 1.3, 1.0, 0.764, 0.15, 0.01, 0.01),  # hovers 9 mm, nearly its own height
    ("chair", 1.0, 1.35, 0.45, 0.45, 0.45, 0.9),  # its middle is under the table top
)
NAMES = [row[0] for row in BEDROOM]


def relations_of(graph, subject, other):
    i, j = NAMES.index(subject), NAMES.index(other)
    return {edge.relation for edge in graph.edges_of(i) if edge.objects == (j,)}


def test_each_thing_rests_on_one_thing_wherever_boxes_alone_mislead():
    graph = build_graph(room_scene(*BEDROOM))
    surface = {FLOOR: "floor", WALL: "wall", CEILING: "ceiling"}
    found = {NAMES[i]: NAMES[p] if p >= 0 else surface[p] for i, p in enumerate(graph.support_parent.tolist())}
    assert found == {
        "bed": "floor", "pillow": "bed", "nightstand": "floor", "lamp": "nightstand", "picture": "wall",
        "ceiling lamp": "ceiling", "table": "floor", "mug": "table", "box": "floor", "ball": "box",
        "pencil": "table", "chair": "floor",
    }  # fmt: skip
    assert graph.level.tolist() == [0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0]
    assert relations_of(graph, "pillow", "bed") == {R.SUPPORTED_BY}
    assert relations_of(graph, "ball", "box") == {R.INSIDE}


def test_relations_of_siblings_are_told_and_others_are_not():
    graph = build_graph(room_scene(*BEDROOM))
    assert relations_of(graph, "nightstand", "bed") == {R.RIGHT_OF, R.BESIDES}
    assert relations_of(graph, "bed", "nightstand") == {R.LEFT_OF, R.BESIDES}
    assert relations_of(graph, "picture", "bed") == {R.ABOVE}
    assert relations_of(graph, "mug", "pencil") == {R.LEFT_OF, R.NEXT_TO}
    assert relations_of(graph, "lamp", "mug") == set()
    assert relations_of(graph, "lamp", "bed") == set()


def test_the_graph_is_the_same_bytes_in_another_process_with_another_hash_seed():
    code = (
        "from scene.datasets.procedural import generate_home; from scene.graph import build_graph;"
        "print(build_graph(generate_home(3)).to_json())"
    )
    env = os.environ | {"PYTHONHASHSEED": "7"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    graph = build_graph(generate_home(3))
    assert run.stdout.strip() == graph.to_json()
    assert SceneGraph.from_json(graph.to_json()) == graph


def test_edges_of_an_object_and_subjects_of_a_relation_agree_with_the_list_of_edges():
    graph = build_graph(generate_home(1))
    for subject in range(len(graph.labels)):
        assert graph.edges_of(subject) == [edge for edge in graph.edges if edge.subject == subject]
    for (relation, objects), subjects in graph.subjects.items():
        assert subjects == {e.subject for e in graph.edges if (e.relation, e.objects) == (relation, objects)}
    assert sum(map(len, graph.subjects.values())) == len(graph.edges) == len(graph.table)
    order = list(Relation)
    assert graph.edges == sorted(graph.edges, key=lambda e: (e.subject, order.index(e.relation), e.objects))


def test_a_text_that_is_no_graph_is_refused():
    for text in ("", "{}", '{"format": "sightline-graph/1"}', build_graph(room_scene(*BEDROOM)).to_json()[:-9]):
        with pytest.raises(InputError, match="scene graph"):
            SceneGraph.from_json(text)


def contradictions(graph: SceneGraph) -> list[tuple[Edge, Edge]]:
    """Pairs of edges that cannot both hold (A above B and B above A)."""
    known = {(e.subject, e.objects[0], e.relation): e for e in graph.edges if e.relation in CONVERSES}
    return [(a, b) for (s, o, r), a in known.items() if s < o and (b := known.get((o, s, r))) is not None] + [
        (a, b)
        for x, y in combinations(DIRECTIONS, 2)
        for (s, o, r), a in known.items()
        if r == x and (b := known.get((s, o, y))) is not None
    ]


def test_no_two_edges_contradict_each_other_in_generated_homes():
    for seed in range(6):
        graph = build_graph(generate_home(seed))
        assert contradictions(graph) == []
        for edge in graph.edges:
            assert edge.subject not in edge.objects
            if edge.relation in DIRECTIONS:
                assert edge.reach in ("near", "far")


def test_converses_and_nearness_are_stated_both_ways_round_with_one_margin():
    for seed in range(6):
        known = {
            (e.subject, e.objects, e.relation): (e.margin, e.reach) for e in build_graph(generate_home(seed)).edges
        }
        for (subject, objects, relation), stated in known.items():
            if relation in CONVERSES or relation in NEARNESS:
                assert known[objects[0], (subject,), CONVERSES.get(relation, relation)] == stated


def test_support_agrees_with_the_generator_though_it_never_sees_its_truth():
    right = nested = claimed = 0
    for seed in range(20):
        scene, truth = generate_home_with_truth(seed, HomeConfig(rooms_max=2))
        parent = build_graph(scene).support_parent
        nested += sum(p is not None for p in truth.values())
        claimed += int((parent >= 0).sum())
        right += sum(p is not None and parent[i] == p for i, p in truth.items())
    assert nested > 50
    assert right / nested >= 0.97 and right / claimed >= 0.97


def test_curtains_hang_on_their_rod_and_a_tv_stand_carries_a_tv_but_a_table_lamp_nothing():
    things = (
        ("curtain rod", 3.0, 4.93, 2.2, 1.6, 0.05, 0.05),
        ("curtain", 2.3, 4.93, 1.45, 0.3, 0.09, 1.5),
        ("curtain", 5.0, 4.93, 1.45, 0.3, 0.09, 1.5),  # 1.05 m off the rod
        ("tv stand", 1.0, 0.5, 0.25, 1.2, 0.4, 0.5),
        ("tv", 1.0, 0.5, 0.85, 1.0, 0.1, 0.7),
        ("phone", 1.4, 0.4, 0.515, 0.1, 0.1, 0.01),
        ("table lamp", 0.6, 0.5, 0.7, 0.3, 0.3, 0.4),
        ("coin", 0.6, 0.5, 0.6, 0.02, 0.02, 0.02),
    )
    graph = build_graph(room_scene(*things))
    assert graph.support_parent.tolist() == [WALL, WALL, WALL, FLOOR, 3, 3, 3, 3]
    assert [graph.edges_of(k)[0].objects for k in (1, 2)] == [(0,), (WALL,)]
    assert {graph.edges_of(k)[0].relation for k in (0, 1, 2)} == {R.HANGING_ON}


def edge_set(graph, name=lambda i: i):
    return {
        (name(e.subject), tuple(sorted(name(o) if o >= 0 else o for o in e.objects)), e.relation, e.reach)
        for e in graph.edges
        if e.margin > 1e-3
    }


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 30), st.integers(0, 10**6))
def test_permuting_objects_permutes_edges(seed, shuffle):
    scene = generate_home(seed)
    order = np.random.default_rng(shuffle).permutation(len(scene.objects))
    items = [scene.objects[k] for k in order]
    mixed = Scene(
        scene.id,
        scene.source,
        [SceneObject(n, item.label, item.box, room=item.room) for n, item in enumerate(items)],
        scene.rooms,
    )
    assert edge_set(build_graph(mixed), lambda i: int(order[i])) == edge_set(build_graph(scene))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 30), st.floats(-3, 3))
def test_turning_the_home_and_the_viewer_together_changes_nothing(seed, turn):
    scene = generate_home(seed)
    turned = build_graph(rotate_scene(scene, turn), Viewpoint(0.5 * np.pi + turn))
    assert edge_set(turned) == edge_set(build_graph(scene))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 30), st.floats(-50, 50), st.floats(-50, 50), st.floats(-5, 5))
def test_moving_the_home_changes_nothing(seed, x, y, z):
    scene = generate_home(seed)
    moved = replace(
        scene,
        objects=[replace(item, box=item.box + [x, y, z, 0, 0, 0, 0]) for item in scene.objects],
        rooms=[replace(room, polygon=room.polygon + [x, y], floor_z=room.floor_z + z) for room in scene.rooms],
        mesh=None,
    )
    assert edge_set(build_graph(moved)) == edge_set(build_graph(scene))


def chairs(rows, columns):
    """A scan without rooms: chairs 1.2 m apart, 0.5 m wide."""
    places = [(1.2 * column, 1.2 * row) for row in range(rows) for column in range(columns)]
    boxes = [np.array([x, y, 0.45, 0.5, 0.5, 0.9, 0.0]) for x, y in places]
    return Scene("hall", "test", [SceneObject(k, "chair", box) for k, box in enumerate(boxes)])


def test_of_a_crowd_of_siblings_only_neighbours_are_related():
    few, many = build_graph(chairs(10, 10)), build_graph(chairs(10, 20))
    directed = {(e.subject, e.objects[0]) for e in few.edges if e.relation in DIRECTIONS}
    assert (0, 9) in directed and len(few.labels) == CROWD  # ten chairs apart, in a group that is no crowd yet
    directed = {(e.subject, e.objects[0]) for e in many.edges if e.relation in DIRECTIONS}
    assert (0, 1) in directed and (0, 2) in directed  # footprints' circles are 0.49 m and 1.69 m apart
    assert (0, 3) not in directed
    neighbours = {(e.subject, e.objects[0]) for e in many.edges if e.relation in NEARNESS}
    assert len(neighbours) == 2 * (10 * 19 + 9 * 20 + 2 * 9 * 19)  # of all eight sides: gaps of 0.7 and 0.99 m


def test_edges_of_a_crowd_grow_with_its_number():
    small, large = (len(build_graph(chairs(20, columns)).table) for columns in (10, 40))
    assert 3.9 < large / small < 4.7


def test_a_scene_without_objects_is_refused():
    with pytest.raises(InputError, match="no objects"):
        build_graph(Scene("void", "test", []))


def test_the_graph_becomes_heterogeneous_data():
    graph = build_graph(room_scene(*BEDROOM))
    data = graph.to_hetero_data()
    assert data["object"].num_nodes == len(BEDROOM)
    above = data["object", "above", "object"].edge_index.T.tolist()
    assert [NAMES.index("picture"), NAMES.index("bed")] in above
    assert sum(data[key].edge_index.shape[1] for key in data.edge_types) == sum(len(e.objects) for e in graph.edges)
    assert data.validate()


def test_a_large_home_is_spoken_of_room_by_room():
    small, large = generate_home(0), generate_home(1, HomeConfig(rooms_min=3, rooms_max=3))
    assert not spoken_room_by_room(small) and candidates(small) == list(range(len(small.objects)))
    assert spoken_room_by_room(large)
    assert candidates(large, 1) == [item.id for item in large.objects if item.room == 1]
    with pytest.raises(InputError, match=r"room=0\.\.2"):
        candidates(large)


def test_one_room_of_a_home_is_a_scene_of_its_own():
    home = generate_home(1, HomeConfig(rooms_min=3, rooms_max=3))
    part, ids = scene_room(home, 2)
    assert [item.label for item in part.objects] == [home.objects[i].label for i in ids]
    assert part.mesh is not None and home.mesh is not None
    for k, i in enumerate(ids):
        assert (part.mesh.face_instance == k).sum() == (home.mesh.face_instance == i).sum() > 0
    assert (part.mesh.face_instance == -1).sum() == (home.mesh.face_instance == -1).sum()
    with pytest.raises(InputError, match="no room 7"):
        scene_room(home, 7)

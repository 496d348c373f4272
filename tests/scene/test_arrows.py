"""Tests of scene/arrows.py: which relations are drawn, and how."""

import numpy as np
import pytest

from core.errors import InputError
from scene.arrows import OF_ONE_MAX, choose_arrows, relations_named
from scene.datasets.procedural import generate_home
from scene.draw import draw_map
from scene.graph import build_graph
from scene.relations import Relation
from tests.scene.test_draw import axes, study

R = Relation


def test_relations_go_by_name_by_wording_and_by_group():
    assert relations_named("left_of") == {R.LEFT_OF} and relations_named("left of, on") == {R.LEFT_OF, R.SUPPORTED_BY}
    assert relations_named("in") == {R.INSIDE, R.PLACED_IN, R.EMBEDDED_INTO}
    assert relations_named("near") == {R.ADJACENT_TO, R.BESIDES, R.NEXT_TO, R.CLOSE_TO}
    assert relations_named("all") == set(R) and relations_named("") == frozenset()
    with pytest.raises(InputError, match="no relation is called 'lef_of'.*left_of"):
        relations_named("on,lef_of")


def test_the_arrows_of_a_study_by_hand():
    scene = study()  # a mug on a table, a chair behind it
    graph = build_graph(scene)
    (mug,) = choose_arrows(scene, graph, {R.SUPPORTED_BY})
    assert (mug.subject, mug.other, mug.words, mug.group) == (1, 0, "on", "contact")
    chair = choose_arrows(scene, graph, relations_named("direction"), object_id=2)
    assert [(arrow.subject, arrow.other, arrow.words) for arrow in chair] == [(2, 0, "behind")]


def test_every_arrow_is_an_edge_of_the_graph_and_of_a_relation_only_the_nearest_is_drawn():
    scene = generate_home(7)
    graph = build_graph(scene)
    edges = {(edge.subject, other, edge.relation) for edge in graph.edges for other in edge.objects}
    arrows = choose_arrows(scene, graph, {R.LEFT_OF})
    assert arrows and all((arrow.subject, arrow.other, R.LEFT_OF) in edges for arrow in arrows)
    for arrow in arrows:
        others = [o for s, o, r in edges if s == arrow.subject and r is R.LEFT_OF and
                  graph.labels[o] not in ("door", "doorway", "window", "curtain rod", "rug")]  # fmt: skip
        away = np.linalg.norm(scene.boxes[others, :3] - scene.boxes[arrow.subject, :3], axis=1)
        assert arrow.other == others[int(away.argmin())]


def test_one_object_has_a_bounded_number_of_arrows_and_an_unknown_one_none():
    scene = generate_home(7)
    graph = build_graph(scene)
    arrows = choose_arrows(scene, graph, frozenset(), object_id=0)
    assert 1 <= len(arrows) <= OF_ONE_MAX and {arrow.subject for arrow in arrows} == {0}
    with pytest.raises(InputError, match="object=999"):
        choose_arrows(scene, graph, frozenset(), object_id=999)


def test_words_stand_on_few_arrows_and_a_legend_replaces_them_on_many():
    scene, few, many = generate_home(7), axes(9.0), axes(9.0)
    graph = build_graph(scene)
    arrows = choose_arrows(scene, graph, {R.SUPPORTED_BY})
    draw_map(few, scene, arrows=arrows)
    assert [text.get_text() for text in few.texts].count("on") == len(arrows) >= 1
    draw_map(many, scene, arrows=choose_arrows(scene, graph, relations_named("direction,on")))
    legend = many.get_legend()
    assert {text.get_text() for text in legend.get_texts()} == {"contact", "direction"}
    assert "left of" not in [text.get_text() for text in many.texts]

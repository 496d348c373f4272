"""Captions of hand-made and generated homes."""

import re

import numpy as np

from scene.datasets.procedural import HomeConfig, generate_home
from scene.descriptions import MAX_WORDS, captions, describe, describe_scene
from scene.english import counted
from scene.graph import build_graph
from scene.query import PREDICATES
from scene.scope import scopes
from scene.support import SURFACE_NAMES
from tests.scene.test_language import bedroom


def test_captions_name_colour_class_and_the_closest_tie():
    scene, graph = bedroom()
    assert describe(scene.objects[1], graph) == "a red chair next to the bed"
    assert describe(scene.objects[5], graph) == "a black mug on the table"
    assert describe(scene.objects[3], graph) == "a blue chair next to the table"
    assert describe(scene.objects[0], graph).startswith("a white bed next to a")
    assert describe_scene(scene, graph) == "a bedroom with three chairs, two mugs, a bed, a picture and a table"


def test_object_captions_hold_by_the_graphs_edges():
    plain = [predicate for predicate in PREDICATES.values() if not predicate.inverse]
    words = {word: {r for p in plain if word in p.words for r in p.relations} for p in plain for word in p.words}
    for seed in range(6):
        scene = generate_home(seed, HomeConfig(rooms_max=2))
        graph = build_graph(scene)
        told = 0
        for caption in captions(scopes(scene, graph), np.random.default_rng(seed)):
            if caption.kind != "object" or len(caption.objects) < 2:
                continue
            item, other = caption.objects
            label, color = graph.labels[item], scene.objects[item].attributes.get("color", "")
            assert re.search(rf"\b{label}\b", caption.text) and color in caption.text
            true = {e.relation for e in graph.edges_of(item) if e.objects == (other,)}
            used = [w for w in words if re.search(rf"\b{w} (the|an?) {graph.labels[other]}\.$", caption.text)]
            assert any(true & words[w] for w in used), caption
            told += 1
        assert told > 5


def test_room_captions_count_right_and_stay_short():
    for seed in range(8):
        scene = generate_home(seed, HomeConfig(rooms_min=1, rooms_max=4))
        graph = build_graph(scene)
        made = captions(scopes(scene, graph), np.random.default_rng(seed))
        assert len({caption.text for caption in made}) == len(made)
        for caption in made:
            assert len(caption.text.split()) <= MAX_WORDS and caption.text.endswith(".")
            if caption.kind == "room":
                assert scene.rooms[caption.room].kind in caption.text
                here = [graph.labels[i] for i in np.flatnonzero(graph.room == caption.room)]
                head = caption.text.split(". ")[1 if caption.text.startswith("this is") else 0]
                most = max(sorted(here), key=here.count)
                assert counted(most, here.count(most)) in head, caption
        if len(scene.rooms) > 1:
            assert [caption.kind for caption in made].count("scene") == 1


def test_surfaces_have_names_that_captions_use():
    scene, graph = bedroom()
    texts = {c.text for s in range(12) for c in captions(scopes(scene, graph), np.random.default_rng(s))}
    assert set(SURFACE_NAMES.values()) == {"floor", "wall", "ceiling"}
    assert any(text == "a green picture above the bed." for text in texts)

"""Queries about generated homes, evaluated a second time by a slow reader of boxes and edges."""

import json

import numpy as np
import pytest

from scene.datasets.procedural import HomeConfig, generate_home
from scene.graph import build_graph, spoken_room_by_room
from scene.language import TextPlan, write_texts
from scene.query import PREDICATES, Query
from scene.relations import Relation
from scene.texts import Question, Referral
from scene.types import Room, Scene, SceneObject

SURFACE_IDS = {"floor": -1, "wall": -2, "ceiling": -3}


def slow_fits(raw, scene, graph, room):
    """Everything the query (as parsed JSON) means: each object is asked, each edge is read."""
    everything = range(len(scene.objects))
    here = [i for i in everything if graph.room[i] == room] if spoken_room_by_room(scene) else list(everything)

    def called(i, noun):
        label, color = noun
        item = scene.objects[i]
        return item.label == label and color in ("", item.attributes.get("color"))

    def ends(raw_anchor):
        if isinstance(raw_anchor, dict):
            return slow_fits(raw_anchor, scene, graph, room)
        label, color = raw_anchor
        things = {i for i in here if called(i, raw_anchor)}
        return things or ({SURFACE_IDS[label]} if label in SURFACE_IDS and not color else set())

    def stands(i, key, anchors):
        names = {str(relation) for relation in PREDICATES[key].relations}
        edges = [edge for edge in graph.edges if str(edge.relation) in names]
        if key == "between":
            pairs = [{a, b} for a in ends(anchors[0]) for b in ends(anchors[1])]
            return any(edge.subject == i and set(edge.objects) in pairs for edge in edges)
        (one,) = anchors
        if key == "aligned":
            return any(edge.subject == i and set(edge.objects) & ends(one) for edge in edges)
        if key in ("carrying", "containing"):
            return any(edge.subject in ends(one) and edge.objects == (i,) for edge in edges)
        return any(edge.subject == i and edge.objects[0] in ends(one) for edge in edges)

    clauses = [(raw["predicate"], raw["anchors"]), *raw.get("more", [])] if raw["predicate"] else []
    named = [i for i in here if called(i, raw["noun"])]
    if clauses and clauses[0][0] in ("closest", "farthest"):
        ((key, (one,)),) = clauses
        (centre,) = ends(one)
        away = {i: float(np.linalg.norm(scene.boxes[i, :2] - scene.boxes[centre, :2])) for i in named if i != centre}
        best = min(away.values()) if key == "closest" else max(away.values())
        return {i for i, distance in away.items() if abs(distance - best) < 0.2}
    return {i for i in named if all(stands(i, key, anchors) for key, anchors in clauses)}


@pytest.fixture(scope="module")
def homes():
    found = []
    for seed in range(30):
        config = HomeConfig(rooms_min=4, rooms_max=4) if seed == 7 else HomeConfig(rooms_max=2)
        scene = generate_home(seed, config)
        graph = build_graph(scene)
        plan = TextPlan(referrals=30, multi=4, zero=4, captions=False, questions=10, held_out=True)
        found.append((scene, graph, write_texts(scene, graph, plan, np.random.default_rng(seed))))
    return found


def test_every_referral_of_thirty_homes_means_exactly_its_targets_to_a_second_reader(homes):
    kinds = set()
    for scene, graph, texts in homes:
        for text in texts:
            if isinstance(text, Referral):
                kinds.add(text.kind)
                assert slow_fits(json.loads(text.query), scene, graph, text.room) == set(text.targets), text
                wanted = {"zero": 0, "multi": max(2, len(text.targets))}.get(text.kind, 1)
                assert len(text.targets) == wanted, text
    simple = {"unique", "attribute", "relation", "support", "between", "superlative"}
    assert kinds == simple | {"aligned", "star", "chain", "multi", "zero"}


def test_questions_about_a_query_are_answered_as_a_second_reader_counts(homes):
    kinds = set()
    for scene, graph, texts in homes:
        for text in texts:
            if not isinstance(text, Question) or not text.query:
                continue
            kinds.add(text.kind)
            fits = slow_fits(json.loads(text.query), scene, graph, text.room)
            if text.kind == "existence":
                assert text.answers == ("yes" if fits else "no",), text
            elif text.kind == "count":
                assert text.answers[1] == str(len(fits)), text
            elif text.kind == "attribute":
                (one,) = fits
                assert text.answers[0] == scene.objects[one].attributes["color"], text
            else:
                assert fits, text
    assert kinds == {"existence", "count", "attribute", "relation"}


def test_every_relation_that_a_home_has_is_spoken_when_there_is_room_for_it(homes):
    there, spoken = set(), set()
    things = [
        ("bowl", 2.0, 2.0, 0.1, 0.5, 0.5, 0.2),
        ("apple", 2.0, 2.0, 0.16, 0.1, 0.1, 0.1),
        ("bed", 5, 4, 0.3, 2, 2, 0.6),
    ]
    objects = [SceneObject(k, label, np.array([*box, 0.0]), room=0) for k, (label, *box) in enumerate(things)]
    bowl = Scene("bowl", "test", objects, [Room(0, "kitchen", np.array([[0.0, 0.0], [7, 0], [7, 6], [0, 6]]))])
    for scene, graph in [(bowl, build_graph(bowl)), *((scene, graph) for scene, graph, _ in homes[:14])]:
        there |= {edge.relation for edge in graph.edges}
        for text in write_texts(scene, graph, TextPlan(150, 0, 0, False, 0, True), np.random.default_rng(0)):
            for noun, clause in Query.from_json(text.query).claims():
                relations = PREDICATES[clause.predicate].relations
                ids = (*text.targets, *text.anchors)
                spoken |= {e.relation for i in ids for e in graph.edges_of(i) if e.relation in relations}
                assert noun.label in graph.labels
    assert there == set(Relation)
    assert spoken == there


def test_a_star_needs_each_of_its_clauses_where_its_class_has_rivals(homes):
    stars = 0
    for scene, graph, texts in homes:
        for text in texts:
            if isinstance(text, Referral) and text.kind == "star":
                raw = json.loads(text.query)
                same = slow_fits({**raw, "predicate": "", "anchors": [], "more": []}, scene, graph, text.room)
                for key, anchors in [(raw["predicate"], raw["anchors"]), *raw["more"]]:
                    alone = slow_fits(
                        {**raw, "predicate": key, "anchors": anchors, "more": []}, scene, graph, text.room
                    )
                    assert len(same) == 1 or len(alone) > 1, text
                    stars += len(same) > 1
    assert stars > 50


def test_a_zero_target_sentence_names_what_is_there(homes):
    for scene, graph, texts in homes:
        for text in texts:
            if isinstance(text, Referral) and text.kind == "zero":
                colors = {item.attributes.get("color") for item in scene.objects}
                for noun in Query.from_json(text.query).nouns():
                    assert noun.label in {*graph.labels, "floor", "wall", "ceiling"} and noun.color in {"", *colors}

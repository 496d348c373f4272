"""Questions about hand-made and generated homes."""

from collections import Counter

import numpy as np
import pytest

from scene.datasets.procedural import HomeConfig, generate_home
from scene.graph import build_graph
from scene.language import TextPlan, write_texts
from scene.query import Query
from scene.questions import ask
from scene.relations import Relation
from scene.scope import Scope
from scene.types import Room, Scene, SceneObject


def home(*things):
    objects = [
        SceneObject(k, label, np.array([*box, 0.0]), attributes={"color": color}, room=0)
        for k, (label, color, *box) in enumerate(things)
    ]
    scene = Scene("room", "test", objects, [Room(0, "bedroom", np.array([[0.0, 0.0], [8, 0], [8, 8], [0, 8]]))])
    return Scope(scene, build_graph(scene))


def asked_in_homes(count):
    """(scene, graph, question) for every question of some generated homes."""
    found = []
    for seed in range(count):
        scene = generate_home(seed, HomeConfig(rooms_max=2))
        graph = build_graph(scene)
        plan = TextPlan(0, 0, 0, False, 25, held_out=True)
        found += [(scene, graph, text) for text in write_texts(scene, graph, plan, np.random.default_rng(seed))]
    return found


@pytest.fixture(scope="module")
def asked():
    return asked_in_homes(24)


def of(asked, kind):
    return [question for _, _, question in asked if question.kind == kind]


def test_a_yes_or_no_cannot_be_guessed_from_the_class_that_is_asked_about(asked):
    answers = Counter(question.answers[0] for question in of(asked, "existence"))
    assert sum(answers.values()) > 60 and abs(answers["yes"] - answers["no"]) <= 0.15 * sum(answers.values())
    by_label: dict[str, Counter] = {}
    for question in of(asked, "existence"):
        label = Query.from_json(question.query).noun.label
        by_label.setdefault(label, Counter())[question.answers[0]] += 1
    right = sum(max(counts.values()) for counts in by_label.values())  # the best guesser that knows the class alone
    assert right / sum(answers.values()) < 0.7


@pytest.mark.parametrize(("kind", "limit"), [("count", 0.4), ("attribute", 0.3), ("situated", 0.5)])
def test_the_commonest_answer_is_seldom_right(asked, kind, limit):
    answers = Counter(question.answers[0] for question in of(asked, kind))
    assert answers.most_common(1)[0][1] / sum(answers.values()) < limit


def test_sides_and_directions_take_turns(asked):
    sides = Counter(q.answers[0] for q in of(asked, "relation") if q.pattern == "question-which-side")
    assert set(sides) == {"left", "right", "behind", "in front"} and min(sides.values()) > 0.1 * sum(sides.values())


def test_what_is_on_a_thing_is_all_that_the_graph_has_there(asked):
    told = 0
    for _, graph, question in asked:
        if question.pattern == "question-what-is" and Query.from_json(question.query).predicate == "on":
            *things, under = question.objects
            there = {e.subject for e in graph.edges if e.relation is Relation.SUPPORTED_BY and e.objects == (under,)}
            assert there == set(things) and {graph.labels[i] for i in there} == {question.answers[0]}
            told += 1
    assert told > 3


def test_the_closer_of_two_is_closer_by_a_clear_distance(asked):
    for scene, _, question in asked:
        if question.pattern == "question-closer":
            a, b, c = (scene.boxes[i, :2] for i in question.objects)
            near, far = sorted((np.linalg.norm(b - a), np.linalg.norm(c - a)))
            winner = question.objects[1] if np.linalg.norm(b - a) == near else question.objects[2]
            assert far - near >= 0.2 and question.answers[0].endswith(scene.objects[winner].label)


def test_questions_are_whole_sentences_and_none_comes_twice_in_a_home(asked):
    texts = [(scene.id, question.situation, question.question) for scene, _, question in asked]
    assert len(set(texts)) == len(texts)
    for _, situation, text in texts:
        assert text == text.lower().strip() and "  " not in text and "{" not in text
        assert text.endswith("?") or text.startswith("tell me")
        assert bool(situation) == (situation.startswith("standing at the "))


def test_a_room_with_one_thing_has_little_to_ask_and_says_so():
    scope = home(("bed", "white", 4.0, 1.0, 0.3, 1.6, 2.0, 0.6))
    assert ask(scope, 0, np.random.default_rng(0)) == []
    questions = ask(scope, 10, np.random.default_rng(0))
    assert {question.kind for question in questions} <= {"count", "attribute", "existence"}

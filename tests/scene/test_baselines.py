import numpy as np
import pytest

from core.errors import InputError
from scene.baselines import (
    BASELINES,
    PARTLY,
    Asked,
    baseline_scores,
    expected_accuracy,
    fitting,
    symbolic,
)
from scene.datasets.procedural import generate_home
from scene.graph import build_graph, candidates
from scene.language import TextPlan, write_texts
from scene.texts import Referral
from scene.types import Scene, SceneObject


def item(index: int, label: str, x: float, color: str = "") -> SceneObject:
    box = np.array([x, 0.0, 0.4, 0.6, 0.6, 0.8, 0.0])
    return SceneObject(index, label, box, attributes={"color": color} if color else {})


ROW = Scene(
    "row",
    "toy",
    [item(0, "chair", 0.0, "red"), item(1, "bed", 1.0), item(2, "chair", 2.0, "blue"), item(3, "chair", 6.0, "blue")],
)
GRAPH = build_graph(ROW)


def ask(sentence: str, *targets: int, ids: tuple[int, ...] = (0, 1, 2, 3)) -> Asked:
    return Asked(ROW, GRAPH, sentence, ids, targets)


def test_each_baseline_knows_what_it_may():
    asked = ask("the blue chair right of the bed", 3)
    expected = {
        "chance": [1, 1, 1, 1],
        "label (oracle)": [1, 0, 1, 1],
        "label + colour (oracle)": [0, 0, 1, 1],
        "label (parsed)": [1, 0, 1, 1],
        "label + colour (parsed)": [0, 0, 1, 1],
    }
    for name, scores in expected.items():
        assert baseline_scores(name, asked).tolist() == scores, name
    assert fitting(asked, symbolic(asked)) == {2, 3}


def test_only_oracles_look_at_the_truth():
    for name in BASELINES:
        told, untold = (baseline_scores(name, ask("the red chair", *targets)).tolist() for targets in ((3,), ()))
        assert (told == untold) == ("oracle" not in name), name


def test_ties_are_shared_evenly():
    right = np.array([False, False, True])
    assert expected_accuracy(np.array([1.0, 1.0, 1.0]), right) == pytest.approx(1 / 3)
    assert expected_accuracy(np.array([0.0, 1.0, 1.0]), right) == 0.5
    assert expected_accuracy(np.array([2.0, 1.0, 1.0]), right) == 0.0
    assert expected_accuracy(np.zeros(0), np.zeros(0, bool)) == 0.0
    with pytest.raises(InputError, match="3 scores for 2"):
        expected_accuracy(np.ones(3), right[:2])


def test_the_parser_finds_what_the_generator_meant():
    homes = [generate_home(seed) for seed in (1, 2)]
    for scene in homes:
        graph = build_graph(scene)
        texts = write_texts(scene, graph, TextPlan(referrals=20, held_out=True), np.random.default_rng(3))
        for text in texts:
            if isinstance(text, Referral):
                asked = Asked(scene, graph, text.utterance, tuple(candidates(scene, text.room)))
                assert fitting(asked, symbolic(asked)) == set(text.targets), text.utterance


def test_a_false_sentence_fits_nothing_and_still_prefers_its_class_and_what_holds_of_it():
    scores = symbolic(ask("the red chair right of the bed"))
    assert scores.max() < PARTLY
    assert scores[1] == 0  # a bed
    assert scores[[0, 2, 3]].min() > 0
    assert fitting(ask("the red chair right of the bed"), scores) == set()


def test_an_unknown_class_may_be_anything_that_stands_so():
    asked = ask("the gizmo left of the bed")
    assert fitting(asked, symbolic(asked)) == {0}


@pytest.mark.parametrize("sentence", ["", "ein roter Stuhl", "the gizmo", "左边的椅子"])
def test_a_sentence_it_does_not_understand_leaves_all_alike(sentence):
    scores = symbolic(ask(sentence))
    assert len(set(scores.tolist())) == 1
    assert scores.max() < PARTLY
    assert baseline_scores("label (parsed)", ask(sentence)).tolist() == [1, 1, 1, 1]


def test_a_colour_the_class_does_not_have_here_is_left_out():
    assert baseline_scores("label + colour (parsed)", ask("the teal chair")).tolist() == [1, 0, 1, 1]
    assert baseline_scores("label + colour (parsed)", ask("the green chair")).tolist() == [1, 0, 1, 1]


def test_candidates_keep_their_order_and_may_be_none():
    assert symbolic(ask("the red chair", ids=(3, 0))).tolist()[1] == 1.0
    for name in BASELINES:
        assert baseline_scores(name, ask("the red chair", 0, ids=())).shape == (0,)


def test_permuting_objects_permutes_scores():
    order = [2, 0, 3, 1]
    moved = [SceneObject(k, ROW.objects[i].label, ROW.objects[i].box, attributes=ROW.objects[i].attributes)
             for k, i in enumerate(order)]  # fmt: skip
    other = Scene("row", "toy", moved)
    graph, ids = build_graph(other), tuple(range(4))
    for sentence in ("the blue chair right of the bed", "the chair closest to the bed", "the red chair on the bed"):
        there = symbolic(Asked(other, graph, sentence, ids))
        assert there.tolist() == symbolic(Asked(ROW, GRAPH, sentence, ids))[order].tolist()


def test_wrong_names_and_ids_are_told():
    with pytest.raises(InputError, match="label"):
        baseline_scores("labels", ask("the chair"))
    with pytest.raises(InputError, match="no object 9"):
        ask("the chair", 9)

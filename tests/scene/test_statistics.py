"""Tests of scene/statistics.py: counts by hand, parts that add up, and sketches against sets."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from core.errors import InputError
from scene import statistics
from scene.corpus import Skipped
from scene.graph import build_graph
from scene.language import Referral
from scene.statistics import Distinct, Statistics, overlaps, type_and_sentence, words
from tests.scene.toy import toy_referrals, toy_scene


@dataclass
class Caption:
    text: str
    kind: str = "object"
    pattern: str = "plain"
    held_out: str = ""


@dataclass
class Question:
    question: str
    answers: tuple[str, ...]
    kind: str = "count"
    situation: str = ""


def counted(seeds: range) -> Statistics:
    numbers = Statistics()
    for seed in seeds:
        scene = toy_scene(seed)
        numbers.add(scene, build_graph(scene), toy_referrals(scene))
        numbers.skip(Skipped(f"house {seed}", f"house {seed} has no floor"))
    return numbers


def test_a_scene_with_four_texts_by_hand():
    scene = toy_scene(0, count=4)
    numbers = Statistics()
    said = [
        Referral(scene.id, "The red cube.", (0,), (), "attribute", n_same_class=3),
        Referral(scene.id, "find the cube left of the pole", (0,), (1,), "relation", view_dependent=True),
        Caption("a red cube", held_out="synonym,pattern"),
        Question("How many cubes are there?", ("two",), situation="You face the pole."),
    ]
    numbers.add(scene, build_graph(scene), said)
    found = numbers.summary()
    assert (found["homes"], found["objects"], found["objects_per_home"]) == (1, 4, {"mean": 4.0, "min": 4, "max": 4})
    assert sum(found["objects_by_class"].values()) == 4 and found["objects_by_room"] == {"hall": 4}
    assert found["referrals_by_kind"] == {"attribute": 1, "relation": 1} and found["view_dependent"] == 1
    assert (found["with_distractors"], found["mean_same_class"]) == (0.5, 2.0)
    assert found["texts"] == {"caption": 1, "question": 1, "referral": 2}
    assert found["texts_by_kind"]["question"] == {"count": 1} and found["texts_by_pattern"] == {"plain": 1}
    assert found["words_per_text"] == {"caption": 3.0, "question": 9.0, "referral": 5.0}
    # the red cube find left of pole a how many cubes are there you face two
    assert found["vocabulary"] == 16
    assert found["held_out"] == {"pattern": 1, "synonym": 1} and found["distinct_share"]["referral"] == 1.0


def test_relations_and_margins_are_those_of_the_graph():
    scene = toy_scene(3)
    graph = build_graph(scene)
    numbers = Statistics()
    numbers.add(scene, graph, [])
    assert sum(map(sum, numbers.margins.values())) == numbers.relations.total() == len(graph.edges)
    contact = [edge.margin for edge in graph.edges if edge.relation.value == "supported by"]
    assert numbers.margins["contact"][int(contact[0] / 0.05)] >= 1


def test_parts_add_up_to_the_whole_and_survive_a_file():
    whole, parts = counted(range(8)), [counted(range(3)), counted(range(3, 4)), counted(range(4, 8))]
    total = Statistics()
    for part in parts:
        total.merge(Statistics.from_json(part.to_json()))
    assert total.to_json() == whole.to_json()
    assert total.summary() == whole.summary()
    assert total.ids == [f"toy-{k}" for k in range(8)]


def test_an_empty_split_has_a_summary():
    found = Statistics().summary()
    assert found["homes"] == found["referrals"] == found["skipped"] == 0 and found["with_distractors"] == 0


def test_skipped_scenes_are_counted_by_what_is_wrong_and_few_are_named(monkeypatch):
    monkeypatch.setattr(statistics, "REASONS", 3)
    numbers = Statistics()
    for k in range(9):
        numbers.skip(Skipped(f"house {k}", f"object {k} 'mug' has no box"))
    for reason in ("cut off", "empty", "gone", "odd"):
        numbers.skip(Skipped("house", reason))
    assert numbers.summary()["skipped_by_reason"] == {
        "object ... ... has no box": 9,
        "cut off": 1,
        "empty": 1,
        "other": 2,
    }
    assert list(numbers.summary()["skipped_reasons"]) == ["house 0", "house 1", "house 2"]


def test_distinct_texts_are_exact_below_the_limit_and_close_above_it(monkeypatch):
    monkeypatch.setattr(statistics, "SKETCH", 400)
    few, many, half = Distinct(), Distinct(), Distinct()
    for k in range(300):
        few.add(f"sentence {k % 150}")
    for k in range(20_000):
        many.add(f"sentence {k % 10_000}")
        half.add(f"sentence {5_000 + k // 2}")
    assert len(few) == 150
    assert len(many) == pytest.approx(10_000, rel=4 / np.sqrt(400))
    assert few.overlap(many) == 1.0 and half.overlap(many) == pytest.approx(0.5, abs=0.12)
    assert Distinct().overlap(many) == 0.0


def test_distinct_texts_of_parts_are_those_of_the_whole(monkeypatch):
    monkeypatch.setattr(statistics, "SKETCH", 50)
    whole, parts = Distinct(), [Distinct() for _ in range(3)]
    for k in np.random.default_rng(0).integers(0, 500, 1200).tolist():
        whole.add(f"{k}")
        parts[k % 3].add(f"{k}")
    for part in parts[1:]:
        parts[0].merge(Distinct(part.hashes))
    assert parts[0].hashes == whole.hashes and len(whole.hashes) == 50


def test_the_overlap_of_test_with_training_by_hand():
    by_split = {"train": Statistics(), "test": Statistics()}
    scene = toy_scene(0)
    graph = build_graph(scene)
    by_split["train"].add(scene, graph, [Caption("a red cube"), Caption("a pole")])
    by_split["test"].add(
        scene, graph, [Caption("a pole"), Caption("a plate"), Caption("a pole"), Caption("a blue cube")]
    )
    assert overlaps(by_split) == {"test": {"caption": pytest.approx(1 / 3)}}
    assert overlaps({"test": by_split["test"]}) == {}


def test_words_keep_hyphens_and_apostrophes_and_drop_the_rest():
    assert words("The night-stand's lamp, (2nd) -- left!") == ["the", "night-stand's", "lamp", "2nd", "left"]


def test_what_is_no_text_and_what_is_no_file_say_so():
    with pytest.raises(InputError, match="int is no text"):
        type_and_sentence(3)
    good = json.loads(counted(range(1)).to_json())
    for bad in ("", "{}", "[1]", json.dumps(good | {"format": "x"}), json.dumps({**good, "labels": None}), "{" * 9):
        with pytest.raises(InputError, match="build the corpus again"):
            Statistics.from_json(bad)

"""One's own split: groups from the texts, accuracy beside F1."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError
from scene.protocols.corpus_split import load, measure
from scene.protocols.records import Prediction
from scene.store import write_corpus
from scene.texts import Referral, Text
from scene.types import Scene
from tests.scene.protocols.small import box, scan


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, dict]:
    homes = [Scene(name, "toy", scan("chair", "chair", "chair", "desk")) for name in ("a", "b")]
    for home in homes:
        home.points = np.concatenate([item.box[None, :3] for item in home.objects]).astype(np.float32)
        home.instance = np.arange(4, dtype=np.int32)
    said: list[list[Text]] = [
        [
            Referral("a", "the desk", (3,), (), "unique"),
            Referral("a", "the chair left of the desk", (0,), (3,), "relation", view_dependent=True, n_same_class=3,
                     held_out="pattern,synonym"),
            Referral("a", "all the chairs", (0, 1, 2), (), "multi", n_same_class=3),
            Referral("a", "the red lamp", (), (), "zero"),
        ],
        [Referral("b", "the second chair", (1,), (), "attribute", n_same_class=2)],
    ]  # fmt: skip
    write_corpus(tmp_path / "corpus", {"test": list(zip(homes, said))}, "toy")
    return tmp_path / "corpus", {home.id: home.objects for home in homes}


def test_ids_and_groups(corpus: tuple[Path, dict]):
    examples = load(*corpus)
    assert [example.id for example in examples] == ["a|0", "a|1", "a|2", "a|3", "b|0"]
    assert set(examples[0].groups) == {"kind unique", "unique", "view-independent", "nothing held out"}
    assert set(examples[1].groups) == {
        "kind relation", "hard", "view-dependent", "held out: pattern", "held out: synonym",
    }  # fmt: skip
    assert set(examples[2].groups) == {"kind multi", "view-independent", "nothing held out"}
    assert "easy" in examples[4].groups and examples[2].boxes == (box(0.0), box(10.0), box(20.0))


def test_accuracy_of_one_target_and_f1_of_the_others(corpus: tuple[Path, dict]):
    examples = load(*corpus)
    chosen = {"a|0": (3,), "a|1": (1, 0), "a|2": (0, 1), "a|3": (), "b|0": (1,)}
    predictions = {name: Prediction(name, objects=ids) for name, ids in chosen.items()}
    accuracy, f1 = measure(examples, predictions, corpus[1])
    assert (accuracy.name, f1.name) == ("Acc", "F1")
    assert accuracy.value() == pytest.approx(100 * 2 / 3)
    assert f1.value() == pytest.approx(100 * (2 * 2 / 5 + 1) / 2)
    several = np.array(["kind multi" in example.groups for example in examples])
    assert np.isnan(accuracy.value(several)) and f1.value(several) == pytest.approx(80.0)
    assert np.isnan(accuracy.interval(np.array([e.scene_id for e in examples]), several)).all()


def test_boxes_are_measured_by_iou(corpus: tuple[Path, dict]):
    examples = load(*corpus)
    predictions = {e.id: Prediction(e.id, boxes=e.boxes) for e in examples}
    assert [(m.name, m.value()) for m in measure(examples, predictions, corpus[1])] == [
        ("Acc@0.25", 100.0), ("Acc@0.5", 100.0), ("F1@0.25", 100.0), ("F1@0.5", 100.0),
    ]  # fmt: skip


def test_another_split_or_another_scene_is_an_error(corpus: tuple[Path, dict]):
    path, scenes = corpus
    with pytest.raises(InputError, match="no split 'val'"):
        load(path, scenes, split="val")
    with pytest.raises(InputError, match="scene 'b' is not among the 1 loaded scenes"):
        load(path, {"a": scenes["a"]})

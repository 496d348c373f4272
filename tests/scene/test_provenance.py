"""What was trained on, and whether a test is new to a model."""

from pathlib import Path

import numpy as np
import pytest

from core.errors import InputError, MissingFileError
from scene.provenance import (
    DIGESTS,
    Corpus,
    Provenance,
    among,
    normalised,
    scene_digest,
    sentence_digest,
    source_of,
    unseen,
    unseen_of_folder,
)
from scene.store import SceneStore
from tests.scene.toy import toy_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SceneStore:
    return SceneStore(toy_folder(tmp_path_factory.mktemp("toys"), train=2, val=1, test=1))


def trained(store: SceneStore) -> Provenance:
    return Provenance.collect([store], [("toy-0", "the red cube"), ("toy-0", "The red cube."), ("toy-1", "the pole")])


def test_each_scene_and_sentence_counts_once(store: SceneStore):
    found = trained(store)
    assert (len(found.scenes), len(found.sentences), found.sources) == (2, 2, ("toy",))
    assert (np.diff(found.sentences.astype(object)) > 0).all()


def test_it_reads_back_as_it_was_written(store: SceneStore, tmp_path: Path):
    trained(store).save(tmp_path)
    found = Provenance.load(tmp_path)
    assert found is not None and found.corpora == (Corpus.of(store),) and len(found.corpora[0].manifest) == 64
    assert found.scenes.tolist() == trained(store).scenes.tolist()
    assert found.sentences.tolist() == trained(store).sentences.tolist()


def test_a_folder_without_a_record_is_unknown_and_a_torn_record_is_an_error(store: SceneStore, tmp_path: Path):
    assert Provenance.load(tmp_path) is None
    trained(store).save(tmp_path)
    (tmp_path / DIGESTS).write_bytes((tmp_path / DIGESTS).read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged"):
        Provenance.load(tmp_path)
    (tmp_path / DIGESTS).unlink()
    with pytest.raises(MissingFileError, match="digests"):
        Provenance.load(tmp_path)


@pytest.mark.parametrize(
    ("source", "sentences", "zero_shot", "words"),
    [
        ("procthor", [("house-1", "the pole")], True, "zero-shot: no scene and no sentence of procthor"),
        ("toy", [("toy-9", "the pole")], False, "toy was trained on, but none of these 1 scenes"),
        ("toy", [("toy-1", "a new one"), ("toy-9", "x")], False, "1 of these 2 scenes were trained on, but none"),
        ("toy", [("toy-0", "the RED cube"), ("toy-0", "x")], False, "1 of these 1 scenes and 1 of these 2 sentences"),
        ("elsewhere", [("toy-1", "x")], False, "1 of these 1 scenes were trained on"),  # renamed, yet the same scene
    ],
)
def test_the_verdict_counts_what_was_seen(
    store: SceneStore, source: str, sentences: list[tuple[str, str]], zero_shot: bool, words: str
):
    verdict = unseen(trained(store), source, sentences)
    assert verdict.zero_shot is zero_shot and words in str(verdict)
    assert verdict.to_json()["text"] == str(verdict)


def test_unknown_training_is_said_and_never_zero_shot(store: SceneStore, tmp_path: Path):
    verdict = unseen_of_folder(tmp_path, "toy", [("a", "x")])
    assert verdict.zero_shot is None and "training.json" in str(verdict)
    assert "predictions" in str(unseen_of_folder(None, "toy", [("a", "x")]))
    started = trained(store).after(None)
    assert "started from weights" in str(unseen(started, "procthor", [("a", "x")]))


def test_what_the_first_model_saw_counts_for_the_second(store: SceneStore):
    later = Provenance.collect([], [("house-1", "the bed")]).after(trained(store))
    assert later.sources == ("toy",) and len(later.scenes) == 3
    assert unseen(later, "toy", [("toy-1", "the pole")]).sentences_seen == 1


def test_scans_of_one_scannet_room_are_one_scene_and_sentences_ignore_capitals_and_stops():
    assert scene_digest("scene0011_00") == scene_digest("scene0011_01") != scene_digest("scene0012_00")
    assert normalised("  The CHAIR, left-of it. ") == "the chair left of it"
    assert sentence_digest("a", "the bed") != sentence_digest("b", "the bed")


def test_a_dataset_goes_by_its_own_name_whoever_packed_it(store: SceneStore):
    assert source_of(store) == "toy"
    store.manifest["dataset"] = "ScanNet"
    assert source_of(store) == "scannet"
    del store.manifest["dataset"]


def test_look_up_finds_first_last_and_nothing_in_nothing():
    known = np.array([3, 5, 2**63 + 1], np.uint64)
    assert among(known, [3, 4, 5, 2**63 + 1, 2**64 - 1]).tolist() == [True, False, True, True, False]
    assert among(known[:0], [3]).tolist() == [False]

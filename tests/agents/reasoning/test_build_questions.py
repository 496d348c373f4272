"""The job build-questions on small homes."""

import json
from collections import Counter, defaultdict
from dataclasses import replace

import pytest

from agents.reasoning.build_questions import CONFIG, KINDS, ask, run
from agents.reasoning.rewards import check_samples
from agents.reasoning.task_files import open_samples
from core.errors import InputError
from core.job import load_config
from scene.io import save_scene
from scene.store import save_manifest
from tests.scene.test_views import home

ASKED = ("existence", "relation", "two-views", "box")


def config(folder, *words):
    return load_config("build-questions", CONFIG, [f"scenes={folder / 'scenes'}", *words])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    names = [f"home-{k}" for k in range(4)]
    for k, name in enumerate(names):
        save_scene(home(name, seed=k), folder / "scenes")
    save_manifest(folder / "scenes", {"source": "test", "splits": {"train": names[:3], "val": names[3:], "test": []}})
    words = [f"out={folder / 'q'}", f"kinds=[{','.join(ASKED)}]", "splits=[train,val]", "per_home=6", "views=6"]
    return folder, words, run(config(folder, *words))


def test_every_kind_is_asked_with_answers_that_pass_and_pictures_that_read(built):
    folder, _, result = built
    train = open_samples(folder / "q", "train")
    check_samples(train.samples)
    counts = Counter(sample.kind for sample in train.samples)
    assert {kind: row["questions"] for kind, row in result["train"]["kinds"].items()} == {k: counts[k] for k in ASKED}
    assert counts["existence"] and counts["two-views"] and counts["box"] and max(counts.values()) <= 18
    assert all(picture.shape == (64, 64, 3) for i in range(len(train)) for picture in train.pictures_of(i))
    assert {sample.group for sample in train.samples} <= {"home-0", "home-1", "home-2"}


def test_words_alone_do_not_tell_yes_from_no(built):
    folder, _, result = built
    answers = defaultdict(Counter)
    for sample in open_samples(folder / "q", "train").samples:
        if sample.kind == "existence":
            answers[sample.prompt][sample.answer] += 1
    assert answers and all(count["yes"] == count["no"] for count in answers.values())
    assert result["train"]["kinds"]["existence"]["guess"] == 0.5 and "words" in result["val"]["kinds"]["existence"]


def test_homes_of_as_many_things_are_asked_other_sums(built):
    cfg = config(built[0], "kinds=[arithmetic]", "views=2")
    told = []
    for name in ("home-a", "home-b"):
        drawn = home(name)
        labels = ("bed", "lamp", "sofa", "desk", "stool")
        scene = replace(drawn, objects=[replace(item, label=label) for item, label in zip(drawn.objects, labels)])
        told.append({(one.sample.prompt, one.sample.answer) for one in ask(scene, {}, cfg)[0]})
    assert told[0] and len(told[0] & told[1]) < len(told[0]) / 2


def test_the_same_seed_writes_the_same_bytes_and_a_continued_run_keeps_whole_splits(built, tmp_path):
    folder, words, result = built
    other = tmp_path / "again"
    assert run(config(folder, *words[1:], f"out={other}")) == result
    files = ("train.jsonl", "train_images.zip", "val.jsonl", "val_images.zip", "questions.json")
    assert all((other / name).read_bytes() == (folder / "q" / name).read_bytes() for name in files)
    before = (other / "train_images.zip").stat().st_mtime_ns
    (other / "result.json").unlink()
    (other / "val.jsonl").unlink()
    assert run(config(folder, *words[1:], f"out={other}", "resume=auto")) == result
    assert (other / "train_images.zip").stat().st_mtime_ns == before
    assert (other / "val.jsonl").read_bytes() == (folder / "q" / "val.jsonl").read_bytes()
    assert json.loads((other / "questions.json").read_text()) == result


def test_what_cannot_be_asked_is_an_error(built, tmp_path):
    folder = built[0]
    with pytest.raises(InputError, match="no homes of test; leave it out"):
        run(config(folder, f"out={tmp_path / 'a'}"))
    with pytest.raises(InputError, match="give no questions of arithmetic"):  # three kinds of things
        run(config(folder, f"out={tmp_path / 'b'}", "kinds=[arithmetic]", "splits=[val]", "views=2"))
    wrong = ({"kinds": ["exist"]}, {"kinds": []}, {"kinds": ["box", "box"]}, {"splits": ["trian"]}, {"per_home": 0})
    for change in (*wrong, {"size": 8}):
        with pytest.raises(InputError, match=next(iter(change))):
            CONFIG(scenes="x", **change)
    assert set(ASKED) < set(KINDS)

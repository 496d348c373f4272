"""The job build-scenes on a handful of homes."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest

import scene.build as build
import scene.corpus as corpus
from core.errors import InputError
from core.job import load_config
from scene.build import BuildScenesConfig, build_shard, run
from scene.corpus import HomeSource, Skipped, SourceConfig, Wanted, procthor_source
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.language import verify_referral
from scene.palette import GOAL_LABELS
from scene.shards import ENDINGS, ShardWriter, shard_fault
from scene.store import SceneStore
from scene.types import Scene
from vl.generator import GeneratorConfig

TINY = {"train_homes": 4, "val_homes": 2, "test_homes": 3, "train_referrals": 12, "eval_referrals": 5, "shard_homes": 3}


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "scenes"
    return out, run(BuildScenesConfig(out=str(out), seed=3, **TINY))


def test_the_corpus_holds_homes_with_sentences_that_are_true(built):
    out, result = built
    store = SceneStore(out)
    assert {name: len(ids) for name, ids in store.splits.items()} == {"train": 4, "val": 2, "test": 3}
    assert len({scene_id for ids in store.splits.values() for scene_id in ids}) == 9
    assert store.manifest["goal_labels"] and "red" in store.manifest["palette"]
    assert [shard["homes"] for shard in store.manifest["shards"]["train"]] == [3, 1]
    for split, ids in store.splits.items():
        referrals = store.referrals(split)
        assert {r.scene_id for r in referrals} == set(ids)
        assert len(referrals) <= len(ids) * (12 if split == "train" else 5)
        for referral in referrals:
            scene = store.load(referral.scene_id)
            assert verify_referral(referral, scene, build_graph(scene))
        texts = store.texts(split)
        assert {text.type for text in texts} == {"referral", "caption", "question"}
        counts = store.manifest["counts"][split]
        assert sum(counts["texts"].values()) == len(texts) and counts["homes"] == len(ids)
        assert counts["texts"] == result[split]["texts"]


def test_nothing_but_the_corpus_is_in_its_folder(built):
    out, result = built
    assert {path.parts[0] for path in files(out)} == {"manifest.json", *ENDINGS}
    beside = out.with_name("scenes.run")
    assert json.loads((beside / "result.json").read_text()) == result
    assert "</html>" in (beside / "statistics.html").read_text()


def test_checksums_of_the_manifest_are_those_of_the_files(built):
    store = SceneStore(built[0])
    for shards in store.manifest["shards"].values():
        for shard in shards:
            assert shard_fault(built[0], shard["name"], shard["files"]) == ""


def test_the_result_counts_what_was_made(built):
    _, result = built
    train = result["train"]
    assert train["homes"] == 4 and train["skipped"] == 0
    assert sum(train["referrals_by_kind"].values()) == train["referrals"]
    assert train["objects_per_home"]["min"] <= train["objects_per_home"]["mean"] <= train["objects_per_home"]["max"]
    assert 0 <= result["overlap"]["test"]["referral"] < 1


def test_two_workers_write_the_same_bytes_and_another_seed_other_homes(built, tmp_path):
    out, _ = built
    again, other = tmp_path / "again", tmp_path / "other"
    run(BuildScenesConfig(out=str(again), seed=3, workers=2, **TINY))
    assert files(again) == files(out)
    run(BuildScenesConfig(out=str(other), seed=4, **{**TINY, "val_homes": 0, "test_homes": 0}))
    assert not set(SceneStore(other).split("train")) & set(SceneStore(out).split("train"))


@pytest.mark.slow
def test_a_cluster_writes_the_same_bytes(built, tmp_path):
    pytest.importorskip("ray")
    run(BuildScenesConfig(out=str(tmp_path / "ray"), seed=3, workers=2, engine="ray", **TINY))
    assert files(tmp_path / "ray") == files(built[0])


def test_a_finished_build_is_not_made_again(built):
    out, result = built
    before = (out / "manifest.json").stat().st_mtime_ns
    assert run(BuildScenesConfig(out=str(out), seed=3, resume="auto", **TINY)) == result
    assert (out / "manifest.json").stat().st_mtime_ns == before


def test_an_interrupted_build_keeps_whole_shards_and_writes_damaged_ones_again(built, tmp_path, monkeypatch, capsys):
    out, cfg = tmp_path / "s", BuildScenesConfig(out=str(tmp_path / "s"), seed=3, resume="auto", **TINY)
    done = []

    def interrupted(task):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.name)
        return build_shard(task)

    monkeypatch.setattr(build, "build_shard", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(cfg)
    assert done == ["train-00000", "train-00001"] and not (out / "manifest.json").exists()
    texts = out / "texts" / "train-00001.parquet"
    texts.write_bytes(texts.read_bytes()[:-1])
    (out / "texts" / ".val-00000.parquet.tmp-1").touch()

    again = []
    monkeypatch.setattr(build, "build_shard", lambda task: again.append(task.name) or build_shard(task))
    run(cfg)
    assert again == ["train-00001", "val-00000", "test-00000"]
    assert "train-00001.parquet differs" in capsys.readouterr().out
    assert files(out) == files(built[0])


@pytest.mark.slow
def test_a_build_whose_processes_were_killed_ends_with_the_same_bytes(tmp_path):
    small = {**TINY, "train_homes": 12, "shard_homes": 1}
    words = [f"{key}={value}" for key, value in {**small, "seed": 3, "workers": 2, "out": tmp_path / "s"}.items()]
    command = [sys.executable, "-m", "scene.build", *words, "resume=auto"]
    killed = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    records = tmp_path / "s.run" / "shards"
    deadline = time.monotonic() + 120
    while len(list(records.glob("*.json"))) < 3 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert 3 <= len(list(records.glob("*.json"))) < 17
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    run(BuildScenesConfig(out=str(tmp_path / "whole"), seed=3, **small))
    assert files(tmp_path / "s") == files(tmp_path / "whole")


def test_a_language_model_that_says_nothing_useful_leaves_the_templates(built, tmp_path):
    from tests.vl.chat_server import completion, serving

    with serving(lambda request, number: completion("a chair")) as chat:
        model = GeneratorConfig(f"{chat.url}#any", retries=0)
        small = {**TINY, "train_homes": 2, "val_homes": 0, "test_homes": 0}
        result = run(BuildScenesConfig(out=str(tmp_path / "s"), seed=3, rephrase=model, **small))
    counts = result["rewrites"]
    assert counts["kept"] == 0 and counts["total"] == sum(counts["rejected"].values())
    assert len(chat.requests) == counts["total"] - counts["rejected"]["kind not rephrased"] > 0
    assert {text.source for text in SceneStore(tmp_path / "s").texts("train")} == {"template"}


def broken_source(wanted):
    def fail():
        raise InputError("house 2 is cut off")

    def bare():
        return Scene("bare", "test", [])

    whole = [("a home", lambda: generate_home(0)), ("cut off", fail), ("bare", bare)]
    return HomeSource({"train": whole, "test": whole[1:]})


def test_a_broken_home_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setitem(corpus.SOURCES, "procedural", broken_source)
    result = run(BuildScenesConfig(out=str(tmp_path / "s"), **TINY))
    assert (result["train"]["homes"], result["train"]["skipped"]) == (1, 2)
    assert result["train"]["skipped_reasons"]["cut off"] == "house 2 is cut off"
    assert "no objects" in result["train"]["skipped_reasons"]["bare"]
    assert SceneStore(tmp_path / "s").splits == {"train": [generate_home(0).id], "val": [], "test": []}


def test_a_source_without_any_usable_home_is_an_error_and_leaves_no_manifest(tmp_path, monkeypatch):
    only_broken = lambda wanted: HomeSource({"train": broken_source(wanted).makers["test"]})  # noqa: E731
    monkeypatch.setitem(corpus.SOURCES, "procedural", only_broken)
    with pytest.raises(InputError, match="no home is left: cut off: house 2 is cut off"):
        run(BuildScenesConfig(out=str(tmp_path / "s"), **TINY))
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_two_homes_of_one_name_are_refused(tmp_path, monkeypatch):
    twice = [("a", lambda: generate_home(0)), ("b", lambda: generate_home(0))]
    monkeypatch.setitem(corpus.SOURCES, "procedural", lambda wanted: HomeSource({"train": twice}))
    with pytest.raises(InputError, match="two homes are called 'procedural-train-00000'"):
        run(BuildScenesConfig(out=str(tmp_path / "s"), **{**TINY, "shard_homes": 1}))


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="not empty and no build"):
        run(BuildScenesConfig(out=str(tmp_path), **TINY))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path, monkeypatch):
    def full(self, texts):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "s" / "texts"))

    monkeypatch.setattr(ShardWriter, "tables", full)
    with pytest.raises(OSError, match="No space left"):
        run(BuildScenesConfig(out=str(tmp_path / "s"), **TINY))
    assert files(tmp_path / "s") == {}


def test_sources_are_chosen_on_the_command_line(tmp_path):
    cfg = load_config("build-scenes", BuildScenesConfig, ["source=procthor", "source.path=houses.jsonl", "val_homes=3"])
    assert cfg.source == SourceConfig("procthor", "houses.jsonl") and cfg.val_homes == 3
    assert load_config("build-scenes", BuildScenesConfig, []).source == SourceConfig()
    for words, message in (
        (["source=procthor"], "source.path=FILE"),
        (["source.path=x"], "reads no file"),
        (["source=procthr"], "did you mean 'procthor'"),
        (["train_referrals=0"], r"train_referrals=0 \(at least 1\)"),
    ):
        with pytest.raises(InputError, match=message):
            load_config("build-scenes", BuildScenesConfig, words)


def test_goals_are_the_palettes_classes_that_train_homes_have(built):
    store = SceneStore(built[0])
    seen = {label for scene_id in store.split("train") for label in store.load(scene_id).labels}
    assert set(store.manifest["goal_labels"]) == set(GOAL_LABELS) & seen
    assert all(goal in store.manifest["palette"] for goal in store.manifest["goal_colors"])


HOUSE = {
    "rooms": [{"id": "room|1", "roomType": "Bedroom", "floorPolygon": []}],
    "walls": [], "doors": [], "windows": [], "objects": [],
}  # fmt: skip


def test_a_file_without_val_houses_is_refused(tmp_path):
    houses = tmp_path / "houses.jsonl"
    houses.write_text("".join(json.dumps({"split": "train", "house": HOUSE}) + "\n" for _ in range(7)))
    assets = tmp_path / "asset-database.json.gz"
    assets.write_bytes(gzip.compress(b'{"Bed": []}'))
    with pytest.raises(InputError, match="7 train and 0 val houses"):
        procthor_source(Wanted({"train": 3, "val": 1, "test": 1}, SourceConfig("procthor", str(houses), str(assets))))


def test_the_last_five_train_houses_of_a_file_are_for_tuning_and_val_is_the_test_set(tmp_path):
    houses = tmp_path / "houses.jsonl"
    splits = ["train"] * 4 + ["val"] + ["train"] * 4
    houses.write_text("".join(json.dumps({"split": split, "house": HOUSE}) + "\n" for split in splits))
    assets = tmp_path / "asset-database.json.gz"
    assets.write_bytes(gzip.compress(b'{"Bed": []}'))
    source = procthor_source(
        Wanted({"train": 200, "val": 4, "test": 9}, SourceConfig("procthor", str(houses), str(assets)))
    )
    lines = {split: [int(name.split()[-1]) for name, _ in source.makers[split]] for split in source.makers}
    assert lines == {"train": [1, 2, 3], "val": [4, 6, 7, 8], "test": [5]}
    (broken,) = source.homes("test")
    assert isinstance(broken, Skipped) and "no objects" in broken.reason

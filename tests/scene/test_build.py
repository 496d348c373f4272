"""The job build-scenes on a handful of homes."""

import gzip
import json

import pytest

import scene.build as build
from core.errors import InputError
from core.job import load_config
from scene.build import BuildScenesConfig, run
from scene.corpus import HomeSource, Skipped, SourceConfig, Wanted, procthor_source
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.io import SceneStore
from scene.language import load_referrals, verify_referral
from scene.palette import GOAL_LABELS
from scene.types import Scene

TINY = {"train_homes": 4, "val_homes": 2, "test_homes": 3, "train_referrals": 12, "eval_referrals": 5}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    out = tmp_path_factory.mktemp("build") / "scenes"
    return out, run(BuildScenesConfig(out=str(out), seed=3, **TINY))


def test_the_run_folder_is_a_folder_of_scenes_with_sentences(built):
    out, result = built
    store = SceneStore(out)
    assert {name: len(ids) for name, ids in store.splits.items()} == {"train": 4, "val": 2, "test": 3}
    assert len({scene_id for ids in store.splits.values() for scene_id in ids}) == 9
    assert store.manifest["goal_labels"] and "red" in store.manifest["palette"]
    for split, ids in store.splits.items():
        referrals = load_referrals(out / "referrals" / f"{split}.parquet")
        assert {r.scene_id for r in referrals} == set(ids)
        assert len(referrals) == result[split]["referrals"] <= len(ids) * (12 if split == "train" else 5)
        for referral in referrals:
            scene = store.load(referral.scene_id)
            assert verify_referral(referral, scene, build_graph(scene))


def test_the_result_counts_what_was_made(built):
    out, result = built
    assert json.loads((out / "result.json").read_text()) == result
    train = result["train"]
    assert train["homes"] == 4 and train["skipped"] == 0
    assert sum(train["referrals_by_kind"].values()) == train["referrals"]
    assert train["with_distractors"] >= 0.5
    assert train["objects_per_home"]["min"] <= train["objects_per_home"]["mean"] <= train["objects_per_home"]["max"]


def test_the_same_seed_writes_the_same_files_and_another_seed_other_homes(built, tmp_path):
    out, _ = built
    again, other = tmp_path / "again", tmp_path / "other"
    run(BuildScenesConfig(out=str(again), seed=3, **TINY))
    names = [p.relative_to(out) for p in sorted(out.rglob("*")) if p.suffix in (".npz", ".parquet") or "proc" in p.name]
    assert len(names) == 9 * 2 + 3
    for name in [*names, "manifest.json"]:
        assert (again / name).read_bytes() == (out / name).read_bytes(), name
    run(BuildScenesConfig(out=str(other), seed=4, **TINY))
    assert not set(SceneStore(other).split("train")) & set(SceneStore(out).split("train"))


def test_a_finished_build_is_not_made_again(built):
    out, result = built
    before = (out / "manifest.json").stat().st_mtime_ns
    assert run(BuildScenesConfig(out=str(out), seed=3, resume="auto", **TINY)) == result
    assert (out / "manifest.json").stat().st_mtime_ns == before


def broken_source(cfg):
    def fail():
        raise InputError("house 2 is cut off")

    def bare():
        return Scene("bare", "test", [])

    whole = [("a home", lambda: generate_home(0)), ("cut off", fail), ("bare", bare)]
    return HomeSource({"train": whole, "val": whole[:1], "test": whole if cfg.test_homes > 1 else whole[1:]})


def test_a_broken_home_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_source", broken_source)
    result = run(BuildScenesConfig(out=str(tmp_path / "s"), **TINY))
    assert (result["train"]["homes"], result["train"]["skipped"]) == (1, 2)
    assert result["train"]["skipped_reasons"]["cut off"] == "house 2 is cut off"
    assert "no objects" in result["train"]["skipped_reasons"]["bare"]


def test_a_split_without_any_home_left_is_an_error_and_leaves_no_manifest(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "_source", broken_source)
    with pytest.raises(InputError, match="no home left for the split 'test': cut off: house 2 is cut off"):
        run(BuildScenesConfig(out=str(tmp_path / "s"), **{**TINY, "test_homes": 1}))
    assert not (tmp_path / "s" / "manifest.json").exists()


def test_sources_are_chosen_on_the_command_line(tmp_path):
    cfg = load_config("build-scenes", BuildScenesConfig, ["source=procthor", "source.path=houses.jsonl", "val_homes=3"])
    assert cfg.source == SourceConfig("procthor", "houses.jsonl") and cfg.val_homes == 3
    assert load_config("build-scenes", BuildScenesConfig, []).source == SourceConfig()
    for words, message in (
        (["source=procthor"], "source.path=FILE"),
        (["source.path=x"], "reads no file"),
        (["source=procthr"], "did you mean 'procthor'"),
        (["train_homes=0"], "train_homes=0: give at least 1"),
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

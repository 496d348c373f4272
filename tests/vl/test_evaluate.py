"""Facts about vl/evaluate.py and what it measures."""

import csv
import dataclasses
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from core.errors import InputError
from tests.vl.conftest import COLORS
from tests.vl.fusing import fusing_model
from tests.vl.nlvr_on_disk import write_nlvr1
from tests.vl.views_on_disk import write_views
from vl.answering import with_answers
from vl.data import CaptionedViews
from vl.evaluate import EvaluateVLConfig, run
from vl.evaluate_answers import write_vqa
from vl.evaluate_classes import class_vectors
from vl.evaluate_retrieval import Gallery, mentions, retrieve, unseen_names, write_queries
from vl.retrieval import target_ranks


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model, tiny_config):
    root = tmp_path_factory.mktemp("evaluate")
    write_views(root / "views", {"train": 40, "test": 60}, heldout="red")
    write_nlvr1(root / "nlvr1", {"test": 4})
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for color, value in COLORS.items():
            (root / "colors" / split / f"{color}_box").mkdir(parents=True)
            for n in range(count):
                Image.new("RGB", (32, 32), tuple(max(0, v - 9 * n) for v in value)).save(
                    root / "colors" / split / f"{color}_box" / f"{n}.png"
                )
    tiny_model.save_pretrained(root / "model")
    fusing = fusing_model(tiny_config)
    fusing.save_pretrained(root / "fusing")
    with_answers(fusing, ["false", "true"], 1, seed=1).save_pretrained(root / "answering")
    return root


def config(folders, tmp_path, **keys) -> EvaluateVLConfig:
    return EvaluateVLConfig(out=str(tmp_path / "run"), **{"model": str(folders / "model"), **keys})


def test_the_table_has_model_random_weights_chance_and_the_subset_of_unseen_names(folders, tmp_path):
    result = run(config(folders, tmp_path, views=str(folders / "views"), queries=20))
    assert [(row["model"], row["direction"], row["subset"]) for row in result["table"]] == [
        ("model", "text to view", "all"),
        ("model", "text to view", "unseen name"),
        ("model", "view to text", "all"),
        ("model", "view to text", "unseen name"),
        ("random weights", "text to view", "all"),
        ("random weights", "view to text", "all"),
        ("chance", "both", "all"),
    ]
    assert result["table"][-1]["R@10"] == 0.5 and result["homes"] == 15
    rows = parquet.read_table(tmp_path / "run" / "retrieval.parquet").to_pydict()
    assert len(rows["query"]) == len(set(rows["query"])) == 20
    assert sum("a red box" in query for query in rows["query"]) == result["table"][1]["queries"]
    assert result["text_to_view_R@1"] == np.mean([rank == 1 for rank in rows["rank"]])
    views = CaptionedViews.open(folders / "views", "test")
    for view, home, query in zip(rows["view"], rows["scene_id"], rows["query"]):
        assert views.scene_id[view] == home and query in [views.texts[t] for t in views.full[view]]


def test_reranking_is_a_second_row_and_a_full_shortlist_gives_the_grids_ranks(folders, tmp_path, tiny_config):
    cfg = config(folders, tmp_path, views=str(folders / "views"), model=str(folders / "fusing"), queries=12, rerank=3)
    result = run(cfg)
    kinds = [row["model"] for row in result["table"] if row["subset"] == "all"]
    assert kinds == ["dual encoder"] * 2 + ["reranked"] * 2 + ["random weights"] * 2 + ["chance"]
    assert 36 <= result["pairs_fused"] <= 72 < result["pairs_of_the_grid"] == 144
    reranked = next(row for row in result["table"] if row["model"] == "reranked")
    assert result["text_to_view_R@1"] == reranked["R@1"]

    model = fusing_model(tiny_config)
    views = CaptionedViews.open(folders / "views", "test")
    chosen, captions = views.distinct(7, seed=0)
    images = np.stack([views.images[row] for row in chosen])
    _, found = retrieve(model, images, captions, 7)
    grid = np.stack([model.match(torch.from_numpy(images), [text] * 7).numpy() for text in captions])
    own = np.arange(7)
    assert found.pairs == 49
    assert target_ranks(found.text_to_image, own).tolist() == target_ranks(grid, own).tolist()
    assert target_ranks(found.image_to_text, own).tolist() == target_ranks(grid.T, own).tolist()


def test_captions_of_photographs_are_reranked_too(folders, tmp_path):
    colors = list(COLORS)
    for color in colors:
        (tmp_path / "data" / "images").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), COLORS[color]).save(tmp_path / "data" / "images" / f"{color}.png")
    said = [[{"raw": f"a {color} box"}, {"raw": f"there is a {color} box on the left"}] for color in colors]
    images = [{"filename": f"{c}.png", "split": "test", "sentences": s} for c, s in zip(colors, said)]
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"images": images}))
    result = run(config(folders, tmp_path, data=str(tmp_path / "data"), model=str(folders / "fusing"), rerank=2))
    assert [row["model"] for row in result["table"]] == ["dual encoder", "reranked"]
    assert (result["images"], result["captions"], result["pairs_of_the_grid"]) == (4, 8, 32)
    assert 16 <= result["pairs_fused"] <= 24 and result["mean_recall"] == result["table"][1]["mean_recall"]


def test_reranking_without_a_fusion_is_refused(folders, tmp_path):
    with pytest.raises(InputError, match="rerank=3 needs a model that sees image and text together"):
        run(config(folders, tmp_path, views=str(folders / "views"), queries=20, rerank=3))
    assert not (tmp_path / "run").exists()


def test_a_task_has_rows_for_the_model_and_for_grey_pictures_and_one_prediction_per_picture(folders, tmp_path):
    cfg = config(folders, tmp_path, task="nlvr1", data=str(folders / "nlvr1"), model=str(folders / "answering"))
    result = run(cfg)
    assert [row["model"] for row in result["table"]] == ["model", "blind"]
    assert result["table"][0]["majority"] == 0.5 and result["examples"] == 24
    rows = parquet.read_table(tmp_path / "run" / "predictions.parquet").to_pydict()
    right = [said == label for said, label in zip(rows["prediction"], rows["label"])]
    assert result["accuracy"] == np.mean(right) and rows["group"][::6] == ["0", "1", "2", "3"]
    low, high = result["accuracy_interval"]
    assert 0 <= low <= result["accuracy"] <= high <= 1
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["test-0-0-0.png", rows["prediction"][0]] and len(lines) == 24

    blind = run(dataclasses.replace(cfg, out=str(tmp_path / "blind"), blind=True))
    assert blind["table"] == [result["table"][1]]
    rows = parquet.read_table(tmp_path / "blind" / "predictions.parquet").to_pydict()
    said = dict(zip(rows["text"], rows["probability"]))
    assert [said[text] for text in rows["text"]] == rows["probability"]  # the picture makes no difference


def test_a_model_without_the_head_is_told_how_to_get_one(folders, tmp_path):
    with pytest.raises(InputError, match="sightline finetune-vl task=nlvr1"):
        run(config(folders, tmp_path, task="nlvr1", data=str(folders / "nlvr1"), model=str(folders / "fusing")))


def test_results_for_the_vqa_server_are_questions_and_answers(tmp_path):
    file = write_vqa(tmp_path / "r.json", ["1000", "7"], ["red", "2"])
    assert json.loads(file.read_text()) == [{"question_id": 1000, "answer": "red"}, {"question_id": 7, "answer": "2"}]


def test_a_class_is_the_mean_of_its_templates_and_a_picture_belongs_to_the_nearest(folders, tmp_path, tiny_model):
    classes = ["blue_box", "red_box"]
    vectors = class_vectors(tiny_model, classes, ["a {} on the left", "{}"])
    texts = tiny_model.encode_texts(["a red box on the left", "red box"])
    assert torch.allclose(vectors[1], torch.nn.functional.normalize(texts.mean(0), dim=0), atol=1e-6)
    result = run(config(folders, tmp_path, task="zero-shot", data=str(folders / "colors"), templates=["a {}"]))
    assert result["classes"] == 4 and result["majority"] == 0.25
    with pytest.raises(InputError, match="should hold {} once"):
        class_vectors(tiny_model, classes, ["a box"])


def test_a_linear_probe_tells_colours_apart_that_random_towers_see(folders, tmp_path):
    result = run(config(folders, tmp_path, task="linear-probe", data=str(folders / "colors")))
    assert result["accuracy"] > 0.9 and f"{result['l2']:g}" in result["val_accuracy"]


def test_ones_own_pictures_give_features_names_and_scores(folders, tmp_path):
    (tmp_path / "texts.txt").write_text("a red box\n\na blue box\n")
    pictures = folders / "colors" / "test"
    (pictures / "cut.png").write_bytes(b"\x89PNG\r\n")
    cfg = config(
        folders, tmp_path, images=str(pictures), texts=str(tmp_path / "texts.txt"), model=str(folders / "fusing")
    )
    result = run(cfg)
    (pictures / "cut.png").unlink()
    features = np.load(tmp_path / "run" / "features.npy")
    names = json.loads((tmp_path / "run" / "names.json").read_text())
    assert features.shape == (12, 12) == tuple(result["features"]) and len(names) == 12
    assert list(result["unreadable_pictures"]) == ["cut.png"] and sum(result["unreadable"].values()) == 1
    rows = parquet.read_table(tmp_path / "run" / "scores.parquet").to_pydict()
    assert rows["picture"][:3] == [names[0], names[0], names[1]] and rows["text"][:2] == ["a red box", "a blue box"]
    assert all(-1.001 <= value <= 1.001 for value in rows["similarity"])
    assert all(0 < value < 1 for value in rows["match"])


def test_queries_are_written_with_row_numbers_of_the_split(tmp_path):
    similarity = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.3], [0.7, 0.1, 0.6]])
    images, none = np.zeros((3, 8, 8, 3), dtype=np.uint8), np.zeros(3, dtype=bool)
    gallery = Gallery(images, ["a", "b", "c"], np.array([40, 7, 12]), ["h", "h", "i"], none, [])
    write_queries(tmp_path / "q.parquet", similarity, gallery)
    rows = parquet.read_table(tmp_path / "q.parquet").to_pydict()
    assert rows["rank"] == [3, 1, 2]
    assert rows["top_views"] == [[7, 12, 40], [7, 12, 40], [40, 12, 7]]


def captioned(*objects: str) -> CaptionedViews:
    count = len(objects)
    kinds, texts = ["full", "object"] * count, [t for o in objects for t in (f"{o} and a wall", o)]
    images = np.zeros((count, 8, 8, 3), dtype=np.uint8)
    return CaptionedViews.from_rows(images, [i // 2 for i in range(2 * count)], texts, kinds, ["h"] * 2 * count)


def test_unseen_names_are_whole_names_whose_words_were_seen_apart():
    train = captioned("a red bed", "a blue armchair", "a yellow table lamp", "a table", "a red tv stand", "a blue tv")
    test = captioned("a red armchair", "a red bed", "a violet bed", "a red toaster", "a yellow table", "a table lamp")
    assert unseen_names(train, test) == {"red armchair", "yellow table", "table lamp"}


def test_a_caption_mentions_a_name_also_in_the_plural_but_not_inside_a_longer_one():
    known = {"yellow table", "yellow table lamp", "red bookshelf", "blue chair"}
    assert mentions("a yellow table close by on the left", "yellow table", known)
    assert not mentions("a yellow table lamp close by and two yellow table lamps", "yellow table", known)
    assert mentions("a yellow table lamp and a yellow table far away", "yellow table", known)
    assert mentions("two blue chairs within reach", "blue chair", known)
    assert mentions("two red bookshelves far away", "red bookshelf", known)
    assert not mentions("a blue armchair far away", "blue chair", known)


def test_too_few_views_and_missing_settings_are_errors(folders, tmp_path):
    good = {"out": str(tmp_path / "r"), "views": str(folders / "views"), "model": str(folders / "model")}
    with pytest.raises(InputError, match="asked for"):
        run(EvaluateVLConfig(**good))
    with pytest.raises(InputError, match="model is required"):
        run(EvaluateVLConfig(**{**good, "model": ""}))
    with pytest.raises(InputError, match="queries=0"):
        EvaluateVLConfig(**good, queries=0)
    with pytest.raises(InputError, match="views is required"):
        run(EvaluateVLConfig(**{**good, "views": ""}))
    with pytest.raises(InputError, match="data is required"):
        run(EvaluateVLConfig(**good, task="nlvr1"))
    with pytest.raises(InputError, match="did you mean 'linear-probe'"):
        EvaluateVLConfig(**good, task="linear-prob")
    with pytest.raises(InputError, match="texts= goes with images="):
        EvaluateVLConfig(**good, texts="t.txt")

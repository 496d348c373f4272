"""Facts about vl/evaluate.py."""

import numpy as np
import pyarrow.parquet as parquet
import pytest

from core.errors import InputError
from tests.vl.views_on_disk import write_views
from vl.data import CaptionedViews
from vl.evaluate import EvaluateVLConfig, mentions, run, unseen_names, write_queries


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_model):
    root = tmp_path_factory.mktemp("evaluate")
    write_views(root / "views", {"train": 40, "test": 60}, heldout="red")
    tiny_model.save_pretrained(root / "model")
    return root


def test_the_table_has_model_random_weights_chance_and_the_subset_of_unseen_names(folders, tmp_path):
    cfg = EvaluateVLConfig(
        out=str(tmp_path / "run"), views=str(folders / "views"), model=str(folders / "model"), queries=20
    )
    result = run(cfg)
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


def test_queries_are_written_with_row_numbers_of_the_split(tmp_path):
    similarity = np.array([[0.1, 0.9, 0.5], [0.2, 0.8, 0.3], [0.7, 0.1, 0.6]])
    write_queries(tmp_path / "q.parquet", similarity, np.array([40, 7, 12]), ["a", "b", "c"], ["h", "h", "i"])
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

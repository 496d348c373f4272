"""The job evaluate-reasoner on a handful of questions and a model of a few thousand weights."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
import yaml
from PIL import Image

from agents.reasoning import evaluate, reasoner_plots
from agents.reasoning.evaluate import oracle
from agents.reasoning.types import PICTURE, Sample
from agents.reasoning.ways import WAYS
from core.errors import InputError
from core.job import load_config
from tests.agents.reasoning.tiny_vlm import tiny_vlm


def write_questions(folder: Path, split: str, count: int) -> None:
    folder.mkdir(exist_ok=True)
    draw = np.random.default_rng(0)
    lines = []
    for number in range(count):
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{split}-{number}.png")
        lines.append({"images": [f"{split}-{number}.png"], "prompt": f"{PICTURE} how many lamps ?", "kind": "count",
                      "answer": str(1 + number % 3), "reward": "number", "group": f"home {number // 2}"})  # fmt: skip
    lines.append({"images": [], "prompt": "yes or no", "answer": "yes", "reward": "yes-no", "kind": "words"})
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with questions, a model within its training run, and a model before."""
    root = tmp_path_factory.mktemp("reasoner")
    write_questions(root / "questions", "test", 5)
    write_questions(root / "questions", "val", 2)
    (root / "run").mkdir()
    (root / "run" / "config.yaml").write_text(yaml.safe_dump({"job": "train-reasoner", "seed": 3, "algorithm": "grpo"}))
    rows = [{"step": k, "epoch": k / 2, "val_accuracy": 0.1 * k, "val_pass@2": 0.3, "reward": 0.2} for k in range(3)]
    (root / "run" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_vlm().save_pretrained(root / "run" / "model")
    return root


def evaluated(root: Path, *words: str) -> dict:
    asked = [f"model={root}/run/model", f"data={root}/questions", "max_new_tokens=4", "threads=1", *words]
    return evaluate.run(load_config("evaluate-reasoner", evaluate.CONFIG, asked))


def test_all_ways_are_asked_and_table_answers_and_page_are_left(trained, monkeypatch):
    monkeypatch.setattr(reasoner_plots, "figure_html", lambda figure, alt, *_, **__: alt)  # drawn in test_reasoner_page
    out = trained / "out"
    words = (f"out={out}", "k=2", "also=[val]", f"before={trained}/run/model", "shown=3")
    found = evaluated(trained, *words)
    assert list(found["sets"]) == ["test", "val"]
    accuracy = found["sets"]["test"]["accuracy"]
    assert {"pass@1", "pass@2", "cold", "warm", "blind", "exchanged", "before training", "chance"} <= set(accuracy)
    assert accuracy["the exact answers"]["all"]["value"] == 1
    assert accuracy["before training"] == accuracy["cold"]  # the same model
    assert accuracy["chance"]["needs the picture"]["value"] == pytest.approx(1 / 3)
    rows = parquet.read_table(out / "answers.parquet").to_pydict()
    ways = len(WAYS) + 1  # and the model before
    assert len(rows["text"]) == (6 + 3) * (ways + 1)  # of one way two answers
    assert sum(r for r, s, w in zip(rows["correct"], rows["set"], rows["way"]) if (s, w) == ("test", "cold")) == round(
        6 * accuracy["cold"]["all"]["value"]
    )
    page = (out / "page.html").read_text()
    assert page.count('<div class="card') == 3 and "Learning curves" in page  # of the run that the model lies in
    assert found["curves"]["arms"] == {"grpo": {"runs": [str(trained / "run")], "seeds": [3]}}
    assert found["curves"]["over"]["accuracy on val, likeliest answers"]["grpo"]["last"]["value"] == pytest.approx(0.2)
    assert found["curves"]["over"]["pass@2 on val, T = 1"]["grpo"]["max"]["value"] == pytest.approx(0.3)
    assert evaluated(trained, *words, "resume=auto")["seconds"] == found["seconds"]  # finished: read, not run again


class Killed(Exception):
    pass


@pytest.mark.parametrize("finished", [3, 8])  # sets of questions and ways, in the first set and in the second
def test_a_killed_evaluation_asks_the_rest_and_ends_as_one_that_ran_through(trained, tmp_path, monkeypatch, finished):
    monkeypatch.setattr(reasoner_plots, "figure_html", lambda figure, alt, *_, **__: alt)
    real, asked = evaluate.ask, []

    def counted(model, questions, way, **options):
        if len(asked) == dies_after:
            raise Killed
        asked.append((len(questions), way.title))
        return real(model, questions, way, **options)

    monkeypatch.setattr(evaluate, "ask", counted)
    words = ("k=2", "also=[val]", f"before={trained}/run/model", "shown=2")
    dies_after = -1
    whole = evaluated(trained, f"out={tmp_path}/whole", *words)
    every, asked[:], dies_after = list(asked), [], finished
    with pytest.raises(Killed):
        evaluated(trained, f"out={tmp_path}/cut", *words)
    first, asked[:], dies_after = list(asked), [], -1
    assert len(list((tmp_path / "cut" / "answers").glob("[0-9]*.json"))) == finished

    with pytest.raises(InputError, match="add resume=auto to continue"):
        evaluated(trained, f"out={tmp_path}/cut", *words)
    with pytest.raises(InputError, match="another configuration: k was 2, now 3"):
        evaluated(trained, f"out={tmp_path}/cut", *words, "k=3", "resume=auto")
    assert not asked
    again = evaluated(trained, f"out={tmp_path}/cut", *words, "resume=auto")
    assert first + asked == every and len(every) == 2 * (len(WAYS) + 1)  # nothing twice
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    one, two = (parquet.read_table(tmp_path / name / "answers.parquet") for name in ("whole", "cut"))
    assert one.equals(two)
    for name in ("whole", "cut"):
        left = {item.name for item in (tmp_path / name).iterdir()}
        assert left == {".lock", "config.yaml", "version.json", "result.json", "page.html", "answers.parquet"}


def test_answers_of_a_model_that_is_another_now_are_not_mixed_with_its_own(trained, tmp_path, monkeypatch):
    model, real, calls = tmp_path / "model", evaluate.ask, []
    tiny_vlm().save_pretrained(model)

    def dies(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(evaluate, "ask", dies)
    words = (f"out={tmp_path}/out", f"model={model}", "k=1", "resume=auto")
    with pytest.raises(Killed):
        evaluated(trained, *words)
    shutil.rmtree(model)
    tiny_vlm(seed=1).save_pretrained(model)
    with pytest.raises(InputError, match=r"other content of model=.*choose another out="):
        evaluated(trained, *words)


def test_what_is_wrong_is_said_before_there_is_a_run_folder(trained, tmp_path):
    out = f"out={tmp_path / 'out'}"
    for words, said in (
        (["model="], "model is required"),
        (["split=none"], "no split 'none'"),
        (["also=[test]"], "names a set that is measured already"),
        ([f"data={trained}/questions/val.jsonl", "also=[test]"], "is one file and has no splits"),
        (["compare=[nowhere-*]"], "no run folder fits nowhere-"),
        (["k=0"], "k=0 should be positive"),
        (["style=loud"], "loud"),
    ):
        with pytest.raises(InputError, match=said):
            evaluated(trained, out, *words)
    assert not (tmp_path / "out").exists()


def test_an_answer_that_its_check_does_not_take_stops_the_job(trained):
    (trained / "bad.jsonl").write_text(json.dumps({"images": [], "prompt": "?", "answer": "many", "reward": "number"}))
    with pytest.raises(InputError, match="many"):
        evaluated(trained, f"data={trained}/bad.jsonl")


@pytest.mark.parametrize("style", ["tags", "boxed", "whole"])
def test_the_exact_answers_are_right_in_every_style(style):
    samples = [Sample("a", "?", (), "1/2", reward="number"), Sample("b", "?", (), "[[1, 2, 3, 4]]", reward="boxes")]
    assert oracle(samples, style).tolist() == [1, 1]

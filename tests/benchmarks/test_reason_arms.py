"""The tables of reasoning arms, from runs small enough to check by hand."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml

from benchmarks.reason_arms import comparisons, draw, page, read_arm, read_arms, steps_of_imitation, table
from core.errors import InputError

VERSION = {"platform": "Linux", "threads": 1, "torch": "2", "python": "3.11", "code": "abc"}
HOMES = ["a", "a", "b", "b"]
NEEDS = [True, True, True, False]
WAYS = {"cold": 1, "blind": 1, "exchanged": 1, "sampled": 2}


def write_arm(root: Path, arm: str, seed: int, right: list[int], blind: int = 0, questions: str = "test", **training):
    """`right`: the question's answer at T = 0.01, and one of its two at T = 1."""
    names = ("set", "way", "question", "group", "needs_picture", "correct", "tokens")
    columns: dict[str, list] = {name: [] for name in names}
    for way, draws in WAYS.items():
        for number, hit in enumerate(right):
            for time in range(draws):
                correct = (blind if way == "blind" else hit) and not time
                row = (questions, way, f"q{number}", HOMES[number], NEEDS[number], bool(correct), 4 + time)
                for column, value in zip(columns.values(), row):
                    column.append(value)
    folder = root / f"{arm}-{seed}-test"
    folder.mkdir(parents=True)
    parquet.write_table(pa.table(columns), folder / "answers.parquet")
    part = {"value": 0.5, "interval": [0.4, 0.6]}
    accuracy = {
        row: {"all": part, "needs the picture": part} for row in ("chance", "most frequent answer", "the exact answers")
    }
    (folder / "result.json").write_text(json.dumps({"k": 2, "sets": {questions: {"accuracy": accuracy}}}))
    (folder / "version.json").write_text(json.dumps(VERSION))
    run = root / f"{arm}-{seed}"
    run.mkdir()
    result = {"answers": 1000, "forward_tokens": 2e6, "seconds": 90.0, "parameters": 1.5e6, "steps": 10} | training
    (run / "result.json").write_text(json.dumps(result))
    (run / "version.json").write_text(json.dumps(VERSION))
    (run / "config.yaml").write_text(yaml.safe_dump({"job": "train-reasoner", "seed": seed, "algorithm": arm}))
    rows = [
        {"step": k, "answers": 500.0 * k, "forward_tokens": 1e6 * k, "val_accuracy": 0.2 + 0.1 * k} for k in range(3)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def runs(tmp_path):
    for seed, right in enumerate(([1, 1, 1, 0], [1, 1, 0, 0])):
        write_arm(tmp_path, "grpo", seed, right, forward_tokens=6e6)
    for seed, right in enumerate(([1, 0, 0, 0], [0, 1, 0, 0])):
        write_arm(tmp_path, "warm", seed, right, blind=1, answers=320)
    return tmp_path


def test_a_line_tells_accuracy_over_seeds_and_homes_and_what_it_cost(runs):
    lines = table(read_arms(runs, ["warm", "grpo"], "test"), {"warm": "warm start", "grpo": "GRPO"}, "test")
    warm, grpo = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:4])
    assert grpo[1].startswith("62.5 (-96.3 to 221.3)")  # t interval of two seeds, 12.706 * 12.5
    assert grpo[2] == "25.0 to 100.0"  # home a is right throughout, home b in a quarter
    assert grpo[3].startswith("83.3") and grpo[4].startswith("0.0")  # three need the picture, one does not
    assert grpo[5].startswith("0.0") and warm[5].startswith("100.0")  # with grey pictures
    assert grpo[7].startswith("62.5") and grpo[8].startswith("4.0")
    assert grpo[9:] == ["1,000", "6.00", "1.5"] and warm[9] == "320"
    assert lines[4].startswith("| chance | 50.0 | | 50.0 |  |") and len(lines) == 7
    assert {line.count("|") for line in lines} == {13}


def test_arms_are_compared_question_by_question_over_homes(runs):
    arms = read_arms(runs, ["warm", "grpo"], "test")
    every, seen, told = comparisons(arms, [("grpo", "warm"), ("dapo", "grpo")])
    # home a: 2 of 2 against 1 of 2; home b: a quarter against nothing
    assert every.startswith("    GRPO - supervised warm start, all: +37.5 (+25.0 to +50.0) higher")
    assert "needs the picture: +50.0" in seen and "words suffice: +0.0 (+0.0 to +0.0) not apart" in told


def test_the_page_has_each_set_and_names_what_is_missing(runs, capsys):
    text = page({"test": read_arms(runs, ["warm", "grpo", "vgpo"], "test")}, "curves.png")
    assert "no finished evaluation of vgpo" in capsys.readouterr().err
    assert "### test: 4 questions about 2 unseen homes" in text and "1.5 M parameters" in text
    assert "![learning curves](curves.png)" in text and "one of 2 answers" in text
    assert draw(runs, runs / "curves.png") and (runs / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert not draw(runs / "none", runs / "none.png")


def test_supervised_learning_gets_the_compute_that_reward_took(runs):
    assert steps_of_imitation(runs, 0) == 30  # three times the tokens of the ten steps of the warm start
    with pytest.raises(InputError, match="training"):
        steps_of_imitation(runs, 7)


def test_seeds_and_arms_that_met_other_questions_are_refused(runs):
    write_arm(runs, "grpo", 2, [1, 1, 1])
    with pytest.raises(InputError, match="different questions"):
        read_arm(runs, "grpo", "test")
    with pytest.raises(InputError, match="no answers to val"):
        read_arm(runs, "warm", "val")

"""ALFRED's demonstrations read as text."""

import gzip
import os
from pathlib import Path

import pytest

from agents.subgoals.alfred import data_folder, held_out, read
from agents.subgoals.step_grammar import Grammar
from agents.subgoals.step_sequences import Step
from core.errors import InputError, MissingFileError
from tests.agents.subgoals.alfred_files import APPLE, record, small_folder, write


def test_the_closing_noop_is_no_step_and_plans_without_it_are_whole(tmp_path):
    write(tmp_path, [record(APPLE, ["a goal"]), record(APPLE, ["another"], end=False)])
    first, second = read(tmp_path, "train").demonstrations
    assert first.steps == second.steps
    assert first.steps[-1] == Step("PutObject", "apple", "countertop")
    assert [step.words for step in first.steps[:2]] == ["go to the fridge", "pick up the apple"]


def test_instructions_count_only_where_there_is_one_for_each_step(tmp_path):
    write(tmp_path, [record(APPLE, ["g", "h"]), record(APPLE, ["k"], instructions=["just do it"])])
    split = read(tmp_path, "train")
    assert [goal for goal, _ in split.goals] == ["g", "h", "k"]
    assert len(split.instructions) == 2 * 4
    assert split.instructions[1] == ("PickupObject apple", Step("PickupObject", "apple"))


def test_a_step_about_a_nameless_thing_drops_its_demonstration_by_name(tmp_path):
    nameless = [*APPLE[:2], ("CleanObject", [""]), *APPLE[2:]]
    write(tmp_path, [record(nameless, ["wash it"], trial="odd"), record(APPLE, ["a goal"])])
    split = read(tmp_path, "train")
    assert split.dropped == ("odd",)
    assert len(split.demonstrations) == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"plan": {}}, "line 2 is no demonstration of ALFRED: KeyError"),
        (record([("Dance", ["floor"])], ["g"]), "line 2: action='Dance' is unknown"),
        (record([("PickupObject", ["a", "b"])], ["g"]), "line 2: PickupObject is about 1 thing"),
        (record([("PutObject", ["a"])], ["g"]), "line 2: PutObject is about 2 thing"),
        (record([], ["g"]), "line 2 has 0 steps and 1 goals"),
        (record(APPLE, []), "line 2 has 4 steps and 0 goals"),
        (record([("NoOp", []), *APPLE], ["g"]), "line 2: NoOp stands before the end"),
    ],
)
def test_a_line_that_is_no_demonstration_is_named(tmp_path, broken, message):
    write(tmp_path, [record(APPLE, ["a goal"]), broken])
    with pytest.raises(InputError, match=message):
        read(tmp_path, "train")


def test_missing_torn_and_unknown_files_say_so(tmp_path, monkeypatch):
    with pytest.raises(MissingFileError, match="valid_seen split not found"):
        read(tmp_path, "valid_seen")
    (tmp_path / "valid_seen.jsonl.gz").write_bytes(gzip.compress(b"{}" * 500)[:-12])
    with pytest.raises(InputError, match="cannot be read as gzipped text"):
        read(tmp_path, "valid_seen")
    with pytest.raises(InputError, match="split='test' is unknown"):
        read(tmp_path, "test")
    monkeypatch.delenv("SIGHTLINE_DATA", raising=False)
    with pytest.raises(MissingFileError, match="give data=FOLDER or set SIGHTLINE_DATA"):
        data_folder("")


def test_held_out_tasks_are_whole_and_the_same_every_time(tmp_path):
    small_folder(tmp_path)
    write(tmp_path, [record(APPLE, ["g"], f"kind-thing{k // 2}", f"t{k}") for k in range(80)])
    split = read(tmp_path, "train")
    kept, held = held_out(split, 0.25)
    assert {demo.task for demo in kept.demonstrations}.isdisjoint(demo.task for demo in held.demonstrations)
    assert len(kept.demonstrations) + len(held.demonstrations) == 80
    assert 4 <= len(held.demonstrations) <= 36
    assert held_out(split, 0.25) == (kept, held)
    with pytest.raises(InputError, match="leaves 80 to train on and 0 to tune on"):
        held_out(split, 1e-9)


@pytest.mark.shared_data
@pytest.mark.skipif("SIGHTLINE_DATA" not in os.environ, reason="SIGHTLINE_DATA names no folder")
def test_the_sample_holds_what_is_known_of_it():
    seen = read(Path(os.environ["SIGHTLINE_DATA"]) / "alfred", "valid_seen")
    assert (len(seen.demonstrations), len(seen.dropped)) == (250, 1)
    grammar = Grammar.of(demo.steps for demo in seen.demonstrations)
    assert sum(not grammar.keeps(demo.steps) for demo in seen.demonstrations) == 1

"""How a run begins: where it looks for questions, and what it says of a model that was asked otherwise."""

import json

import pytest

from agents.reasoning.start import note_other_style, open_material
from agents.reasoning.train import looked_at
from agents.reasoning.train_config import TrainReasonerConfig
from agents.reasoning.turn_config import EnvironmentConfig, TurnStyle, save_style
from core.errors import InputError


def questions(file, *prompts):
    lines = [json.dumps({"images": [], "prompt": prompt, "answer": "5", "reward": "number"}) for prompt in prompts]
    file.write_text("\n".join(lines))
    return str(file)


def test_held_out_questions_may_be_a_file_and_without_one_the_run_says_what_its_accuracy_is_about(tmp_path):
    mine, other = questions(tmp_path / "mine.jsonl", "2 and 3?", "1 and 4?"), questions(tmp_path / "held.jsonl", "5?")
    apart = TrainReasonerConfig(data=mine, val_split=other)
    material = open_material(apart)
    assert material.epoch == 2 and [sample.prompt for sample in material.val.samples] == ["5?"]
    assert looked_at(apart) == other
    same = TrainReasonerConfig(data=mine)
    assert len(open_material(same).val) == 2 and "learned from" in looked_at(same)


def test_sets_out_of_distribution_are_held_out_and_lend_a_small_model_no_words(tmp_path):
    mine, held = questions(tmp_path / "mine.jsonl", "2 and 3?"), questions(tmp_path / "held.jsonl", "5?")
    far = questions(tmp_path / "far.jsonl", *(f"{k} sheep?" for k in range(9)))
    cfg = TrainReasonerConfig(data=mine, val_split=held, val_ood=[far], val_questions=4)
    material = open_material(cfg)
    assert {name: len(each) for name, each in material.ood.items()} == {f"{tmp_path.name}/far": 4}
    assert not any("sheep" in words for words in material.words("tags"))
    for item, said in (
        (mine, "learned from"),
        (held, "looked at already, as val_split"),
        ("test", "has no splits"),
        (questions(tmp_path / "none.jsonl"), "empty"),
    ):
        with pytest.raises(InputError, match=said):
            open_material(TrainReasonerConfig(data=mine, val_split=held, val_ood=[item]))
    with pytest.raises(InputError, match="leave out val_ood"):
        TrainReasonerConfig(environment=EnvironmentConfig(scenes="homes"), val_ood=[far])


def test_looks_at_the_test_split_are_noted(tmp_path, capsys):
    mine, test = questions(tmp_path / "mine.jsonl", "2 and 3?"), questions(tmp_path / "test.jsonl", "5?")
    open_material(TrainReasonerConfig(data=mine, val_ood=[test]))
    assert (
        "test.jsonl is looked at while training; report its curve, and choose by val alone" in capsys.readouterr().out
    )
    open_material(TrainReasonerConfig(data=mine, val_split=test))
    assert "is chosen on the test split" in capsys.readouterr().out
    open_material(TrainReasonerConfig(data=mine))
    assert "note:" not in capsys.readouterr().out


def test_a_model_asked_otherwise_than_before_is_noted(tmp_path, capsys):
    save_style(tmp_path, TurnStyle("find_object", 2, 64, 64, 32))
    same, other = EnvironmentConfig(scenes="homes", history=2), EnvironmentConfig(scenes="homes", task="find_referral")
    for environment in (same, other):
        cfg = TrainReasonerConfig(model=str(tmp_path), environment=environment)
        note_other_style(cfg, environment.style(cfg.max_new_tokens))
    said = capsys.readouterr().out
    assert said.count("note:") == 1
    assert "task=find_referral (trained with find_object), history=4 (trained with 2)" in said

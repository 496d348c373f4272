"""The jobs train-decomposer and evaluate-decomposer, and the model as a Decomposer, on a handful of sentences."""

import json
from pathlib import Path

import pytest
import torch

from agents.subgoals import evaluate_decomposer, train_decomposer
from agents.subgoals.sequence_model import CONFIG, LearnedSteps, SequenceConfig, sentences
from agents.subgoals.step_decomposer import LearnedDecomposer
from agents.subgoals.step_grammar import GOAL, Position
from core.errors import InputError
from core.job import load_config
from core.run import read_metrics
from tests.agents.subgoals.alfred_files import small_folder
from tests.agents.subgoals.test_step_decomposer import home


def trained(folder: Path, out: str, *words: str) -> dict:
    asked = [f"data={folder}", f"out={folder}/{out}", "threads=1", "width=24", "batch_size=12", "val_share=0.2",
             "instructions=0.2", "dropout=0.1", "lr=0.03", "steps=40", "eval_every=40", "checkpoint_every=20",
             *words]  # fmt: skip
    return train_decomposer.run(load_config("train-decomposer", train_decomposer.CONFIG, asked))


def evaluated(folder: Path, *words: str) -> dict:
    asked = [f"data={folder}", "threads=1", "val_share=0.2", *words]
    return evaluate_decomposer.run(load_config("evaluate-decomposer", evaluate_decomposer.CONFIG, asked))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """ALFRED's files in small, with a training run."""
    place = small_folder(tmp_path_factory.mktemp("alfred"))
    trained(place, "run")
    return place


@pytest.fixture(scope="module")
def learned(folder) -> LearnedSteps:
    return LearnedSteps.from_pretrained(folder / "run" / "model")


def test_the_model_learns_to_write_plans_it_was_never_shown(folder):
    found = evaluated(folder, f"model={folder}/run/model", f"out={folder}/measured")
    assert found["goals"] == 8
    assert found["tasks"] == 4
    table = {name: parts["all"] for name, parts in found["methods"].items()}
    assert table["template"]["exact"]["value"] == 1  # these goals name everything
    assert table["nearest goal"]["exact"]["value"] == 0  # each asks for a pair that training has not
    assert table["decomposer"]["exact"]["value"] > 0.5
    assert found["over_retrieval"]["exact"]["low"] > 0
    lines = (folder / "measured" / "proposals.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["template"] == json.loads(lines[0])["truth"]


def test_an_interrupted_run_goes_on_to_the_same_weights(folder, monkeypatch):
    short = ("steps=6", "eval_every=2", "checkpoint_every=2")
    trained(folder, "whole", *short)
    log = train_decomposer.RunFolder.log

    def stop(self, step, **metrics):
        log(self, step, **metrics)
        if step == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(train_decomposer.RunFolder, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(folder, "cut", *short)
    monkeypatch.undo()
    trained(folder, "cut", *short, "resume=auto")
    whole, cut = (LearnedSteps.from_pretrained(folder / run / "model").model.state_dict() for run in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert read_metrics(folder / "whole") == read_metrics(folder / "cut")


def test_sentences_in_a_batch_are_read_as_they_are_alone(learned):
    goals = ["put the mug on the bed", "move a book"]
    together = learned.model.read(*sentences(learned.tokenizer, goals))
    alone = learned.model.read(*sentences(learned.tokenizer, goals[1:]))
    torch.testing.assert_close(together.states[1, : alone.states.shape[1]], alone.states[0])
    tokens = torch.tensor([[GOAL]])
    row = together.rows(torch.tensor([1]))
    torch.testing.assert_close(
        learned.model.write(row, tokens, row.start)[0], learned.model.write(alone, tokens, alone.start)[0]
    )


def test_a_wider_beam_never_ends_in_a_less_likely_plan(learned):
    goal = ["put the mug on the bed"]
    (greedy,) = learned.plans(goal)
    (best,) = LearnedSteps(learned.model, learned.tokenizer, learned.grammar, learned.phrases, beam=16).plans(goal)
    assert learned.grammar.keeps(best)
    assert mean_of(learned, goal, best) >= mean_of(learned, goal, greedy) - 1e-6


def mean_of(learned: LearnedSteps, goal: list[str], steps) -> float:
    """Mean log-probability of a plan under model and grammar, token by token."""
    tokens, at, total = learned.grammar.encode(steps), Position(), 0.0
    scores = learned.model(*sentences(learned.tokenizer, goal), torch.tensor([tokens[:-1]]))[0]
    for row, token in zip(scores, tokens[1:]):
        total += row.masked_fill(~learned.grammar.allowed(at), -torch.inf).log_softmax(-1)[token].item()
        at = learned.grammar.after(at, token)
    return total / (len(tokens) - 1)


def test_constrained_plans_keep_to_the_grammar_whatever_is_asked(learned):
    for plan in learned.plans(["zzz", "bed bed bed mug", "turn on everything!"]):
        assert learned.grammar.keeps(plan)
    free = LearnedSteps(learned.model, learned.tokenizer, learned.grammar, learned.phrases, constrained=False)
    assert len(free.plans(["put the mug on the bed"])) == 1
    with pytest.raises(InputError, match="empty goal"):
        learned.plans([" "])
    with pytest.raises(InputError, match="beam=0"):
        LearnedSteps(learned.model, learned.tokenizer, learned.grammar, learned.phrases, beam=0)


def test_the_decomposer_plans_in_a_home_and_refuses_what_it_cannot_read(learned):
    decompose = LearnedDecomposer(learned)
    labels = ("table", "apple", "mug", "book", "pen", "cup", "bed", "sofa", "shelf", "desk")
    plan = decompose("put the pen on the sofa", home(*labels))
    assert plan.goal == "put the pen on the sofa"
    assert len(plan.subgoals) == 4
    with pytest.raises(InputError, match="knows no word of 'xyzzy'"):
        decompose("xyzzy", home("bed"))


def test_a_finished_run_is_returned_and_wrong_input_is_named(folder, tmp_path):
    assert trained(folder, "run", "resume=auto")["steps"] == 40
    with pytest.raises(InputError, match="trained with val_share=0.2, this is val_share=0.3"):
        evaluated(folder, f"model={folder}/run/model", "val_share=0.3", f"out={tmp_path}/x")
    with pytest.raises(InputError, match="steps=0 should be positive"):
        trained(folder, "none", "steps=0")
    with pytest.raises(InputError, match="split='train' is unknown"):
        evaluated(folder, "split=train")
    with pytest.raises(InputError, match="width=3 should be even"):
        SequenceConfig(words=9, tokens=9, width=3)
    with pytest.raises(InputError, match="description not found"):
        LearnedSteps.from_pretrained(tmp_path)
    content = json.loads((folder / "run" / "model" / CONFIG).read_text())
    content["config"]["tokens"] += 1
    (tmp_path / CONFIG).write_text(json.dumps(content))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match="tokens in its grammar"):
        LearnedSteps.from_pretrained(tmp_path)
    content["config"]["tokens"] -= 1
    (tmp_path / CONFIG).write_text(json.dumps(content))
    with pytest.raises(InputError, match="cannot be read"):
        LearnedSteps.from_pretrained(tmp_path)


def test_baselines_can_be_measured_alone_on_the_held_out_tasks(folder, tmp_path):
    found = evaluated(folder, "split=val", f"out={tmp_path}/alone")
    assert set(found["methods"]) == {"most frequent plan", "template", "nearest goal"}
    assert "over_retrieval" not in found
    assert found["words"]["plain"]["value"] < 1

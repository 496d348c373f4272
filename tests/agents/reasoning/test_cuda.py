"""Reasoning policies on CUDA: the same answers and log-probabilities as on the processor, and runs that train."""

import dataclasses
from pathlib import Path

import pytest
import torch

import agents.reasoning.train as job
from agents.reasoning.evaluate import EvaluateReasonerConfig
from agents.reasoning.evaluate import run as evaluate
from agents.reasoning.generation import generate
from agents.reasoning.log_probs import score
from agents.reasoning.small_vlm import BUILDERS
from agents.reasoning.vgpo import VGPOConfig
from agents.reasoning.vlm import VLM
from core.run import read_metrics
from tests.agents.reasoning.colour_questions import config, write_questions
from tests.agents.reasoning.test_train import WARM
from tests.agents.reasoning.tiny_vlm import tiny_prompts, tiny_vlm

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture(scope="module")
def warm(data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("warm") / "run"
    job.run(config(data, folder, device="cuda", **WARM))
    return folder


@pytest.mark.parametrize("family", BUILDERS)
def test_answers_and_their_log_probabilities_are_those_of_the_processor(family):
    """Noise is drawn on the processor, so that sampled answers are the same but for ties in rounding."""
    told = []
    for device in ("cpu", "cuda"):
        vlm = tiny_vlm(family, spread=3.0)
        vlm.model.to(device)
        prompts = tiny_prompts(vlm)
        answers = generate(vlm, prompts, samples=2, max_new_tokens=7, generator=torch.Generator().manual_seed(0))
        scored = score(vlm, prompts.repeat(2), answers, entropy=True)
        told.append((answers.ids.cpu(), scored.log_prob.detach().cpu(), scored.entropy.detach().cpu()))
    (ids, log_p, entropy), (other, other_log_p, other_entropy) = told
    same = (ids == other).all(1)
    assert same.float().mean() >= 0.8
    torch.testing.assert_close(other_log_p[same], log_p[same], atol=5e-3, rtol=0)
    torch.testing.assert_close(other_entropy[same], entropy[same], atol=5e-3, rtol=0)


def test_imitation_learns_as_on_the_processor(data, warm, tmp_path):
    job.run(config(data, tmp_path / "cpu", **WARM))
    rows, here = read_metrics(warm), read_metrics(tmp_path / "cpu")
    assert [row["loss"] for row in rows[1:4]] == pytest.approx([row["loss"] for row in here[1:4]], rel=1e-2)
    assert rows[-1]["val_format"] == 1.0


@pytest.mark.parametrize("changes", [{}, {"algorithm": "dapo"}, {"vgpo": VGPOConfig()}, {"precision": "bfloat16"}])
def test_learning_from_reward_takes_its_steps(data, warm, tmp_path, changes):
    options = {"model": str(warm / "model"), "steps": 3, "minibatches": 2, "device": "cuda", **changes}
    result = job.run(config(data, tmp_path / "run", **options))
    assert result["answers"] >= 48
    before = VLM.from_pretrained(warm / "model").model.state_dict()
    after = VLM.from_pretrained(tmp_path / "run" / "model").model.state_dict()
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in before)


def test_an_interrupted_run_resumes_to_the_same_rows(data, warm, tmp_path, monkeypatch):
    options = {"model": str(warm / "model"), "steps": 4, "device": "cuda", "checkpoint_every": 2}
    job.run(config(data, tmp_path / "whole", **options))
    real = job.update_policy

    def fails_at_the_third(*arguments, **named):
        if (tmp_path / "broken" / "metrics.jsonl").read_text().count("\n") >= 3:
            raise KeyboardInterrupt
        return real(*arguments, **named)

    monkeypatch.setattr(job, "update_policy", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        job.run(config(data, tmp_path / "broken", **options))
    monkeypatch.undo()
    job.run(config(data, tmp_path / "broken", resume="auto", **options))
    rows, again = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "broken")
    assert [row["reward"] for row in rows[1:]] == pytest.approx([row["reward"] for row in again[1:]], abs=1e-3)


def test_a_model_is_evaluated(data, warm, tmp_path):
    cfg = EvaluateReasonerConfig(
        out=str(tmp_path / "run"), device="cuda", model=str(warm / "model"), data=str(data), split="val", k=2,
        max_new_tokens=12,
    )  # fmt: skip
    on_cuda = evaluate(cfg)
    on_cpu = evaluate(dataclasses.replace(cfg, out=str(tmp_path / "cpu"), device="cpu"))
    assert on_cuda.keys() == on_cpu.keys()

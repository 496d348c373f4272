"""benchmarks/rewards.py compares like with like, and its readings mean what the page says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from benchmarks import gpu, reward_shapes, rewards
from benchmarks.reward_shapes import SMALL, SMALL_SIGLIP
from benchmarks.reward_steps import Noise
from benchmarks.turns import in_turns

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [SMALL, SMALL_SIGLIP])
def test_the_bare_encoder_computes_what_is_scored(shape):
    embedder = reward_shapes.encoder(shape, CPU)
    frames = reward_shapes.pictures(3, shape.side, CPU)
    features = reward_shapes.bare(embedder, reward_shapes.normalised(embedder, frames)).pooler_output
    assert features.shape == (3, embedder.dim) == (3, shape.dim)
    torch.testing.assert_close(normalize(features, dim=-1), embedder.encode_images(frames), rtol=1e-4, atol=1e-5)


def test_products_of_a_frame_are_those_of_the_layers():
    # 16 patches of 8x8x3 and a class token of width 32; per layer: q, k, v, out, two maps to 64 and back, q k and a v
    tokens, width, hidden = 17, 32, 64
    layer = 2 * tokens * width * (4 * width + 2 * hidden) + 4 * tokens * tokens * width
    by_hand = 2 * 16 * (8 * 8 * 3) * width + 2 * layer + 2 * width * 16
    found = reward_shapes.products_per_frame(reward_shapes.encoder(SMALL, CPU).encode_images, SMALL.side, CPU)
    assert found == by_hand


def test_turns_alternate_and_every_other_round_goes_backwards():
    order: list[str] = []
    found = in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "abbaab"
    assert found["a"].shape == (3, 2)


def test_a_leak_grows_along_a_million_steps_and_a_larger_block_does_not():
    steps = np.arange(1_000, 101_000, 1_000)
    assert rewards.growth(steps, 5 * steps, 1_000_000) == pytest.approx(5 * 900_000)
    block = np.where(steps < 50_000, 1_000_000, 1_250_000)
    assert rewards.growth(steps, block, 1_000_000) == 250_000
    assert rewards.growth(10 * steps, 50 * steps, 1_000_000) == pytest.approx(5 * 900_000)


def test_the_task_without_cost_ends_by_itself_and_by_its_limit_in_turn():
    env, ends = Noise(8, length=3), []
    for _ in range(2):
        env.reset()
        for _ in range(3):
            _, _, terminated, truncated, _ = env.step(np.zeros(1))
        ends.append((terminated, truncated))
        assert (env.render() == env.pictures[2]).all()
    assert ends == [(True, False), (False, True)]


def test_every_target_is_measured_on_a_tiny_size():
    parts = rewards.run(rewards.TINY)
    assert [part.target.name for part in parts] == list(rewards.LIMITS)
    assert all(np.isfinite(part.target.value) and not part.target.least for part in parts)
    page = "\n".join(line for part in parts for line in part.lines)
    assert "20 prompts x 10 alphas over 2,000 stored" in page and "Fewer than a million steps" in page


def test_the_gpu_script_scores_frames_by_both_families_without_cuda():
    report, size = gpu.Report(), replace(gpu.SMALL, seconds=0.01, rounds=1)
    gpu.reward_models(report, gpu.Clock(CPU, size))
    rows = [line.split(" | ") for line in report.lines if line.startswith("| tiny")]
    assert [row[0] for row in rows] == ["| tiny CLIP", "| tiny SigLIP"]
    assert all(float(rate.replace(",", "")) > 0 for row in rows for rate in row[2:5])

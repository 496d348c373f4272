"""benchmarks/vl.py compares equal work, and its readings mean what the page says."""

import numpy as np
import pytest
import torch

from benchmarks import vl, vl_memory, vl_retrieval, vl_steps
from benchmarks.vl_baseline import baseline_terms
from vl.objectives import objective_terms

SHAPE = vl.SMALLEST.step


def test_a_pass_per_objective_has_the_losses_and_gradients_of_shared_encodings():
    texts = vl_steps.some_texts(3)
    model = vl_steps.build(SHAPE, texts).eval()
    batch = vl_steps.batch_of(model, vl_steps.noise(3, SHAPE.side), texts)
    found = []
    for terms in (objective_terms, baseline_terms):
        model.zero_grad()
        losses = terms(model, batch, vl_steps.ALL, torch.Generator().manual_seed(0))
        sum(losses.values()).backward()
        found.append((losses, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(our_gradients, their_gradients, rtol=1e-4, atol=1e-6)


def test_operations_count_one_encoding_of_the_image_instead_of_three():
    texts = vl_steps.some_texts(2)
    model = vl_steps.build(SHAPE, texts)
    batch = vl_steps.batch_of(model, vl_steps.noise(2, SHAPE.side), texts)
    slow = vl_steps.Step(model, vl_steps.ALL, baseline_terms).flops(batch)
    fast = vl_steps.Step(model, vl_steps.ALL).flops(batch)
    with vl_steps.counted_flops() as counter:
        model.image_states(model.pixels(batch.images)).states.sum().backward()
    with vl_steps.counted_flops() as words:
        model.text_states(batch.input_ids, batch.attention_mask).states.sum().backward()
    assert slow - fast == 2 * counter.get_total_flops() + words.get_total_flops()


def test_a_caption_tells_of_its_picture_and_of_no_other():
    data = vl_retrieval.gallery(40, seed=0)
    assert data.images.shape == (40, 32, 24, 3) and len(data.texts) == 200 and len(set(data.texts[::5])) == 40
    assert (
        vl_retrieval.caption((("blue", "black"), ("yellow",), ("blue",)), 0)
        == "left blue black middle yellow right blue"
    )
    assert vl_retrieval.caption((("blue", "black"), ("yellow",), ("blue",)), 3) == "left blue black right blue"
    part = data.part(6, 8)
    assert len(part.images) == 6 and part.image.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    image = vl_retrieval.coarse((("blue", "black"), ("yellow",), ("blue",)))
    assert image[-1, 0].tolist() == [0, 153, 255] and image[-9, 0].tolist() == [0, 0, 0] and image[0, 0, 0] == 211


def test_recall_counts_any_caption_of_the_picture():
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.8, 0.4]])  # texts 0, 2 tell of picture 0, text 1 of picture 1
    assert vl_retrieval.both_ways(scores, scores.T, np.array([0, 1, 0])) == [1.0, 0.5]


def test_cached_gradients_are_the_uncached_ones():
    assert 0 < vl_memory.gradient_difference(12, 5, 16, 16) < 1e-5


@pytest.mark.slow
def test_memory_is_read_in_a_fresh_process():
    used = vl_memory.in_a_fresh_process(24, 8, 16, 16)
    assert used.chunks == 3 and used.peak_gb >= used.before_gb > 0 and used.loss > 0


def test_every_target_is_measured_on_a_tiny_size(tmp_path, monkeypatch):
    monkeypatch.setattr(vl_memory, "in_a_fresh_process", vl_memory.step)  # a process takes seconds to start
    parts = vl.run(vl.SMALLEST, tmp_path / "kept")
    found = [each for part in parts for each in part.targets]
    assert {each.name for each in found} == {*vl.LEAST, *vl.MOST} and all(np.isfinite(each.value) for each in found)
    page = "\n".join(line for part in parts for line in part.lines)
    assert "extrapolated from 20 of its pairs" in page and "pictures a second" in page
    assert (tmp_path / "kept" / "config.json").exists()
    again = vl.retrieval(vl.SMALLEST, tmp_path / "kept")
    assert "trained earlier" in again.lines[2]


def test_the_verdict_is_short_where_a_figure_misses_its_limit():
    assert not vl.target("step_over_pass_per_objective", 1.69).fine and vl.target("r1_points_lost", -3.0).fine
    with pytest.raises(KeyError):
        vl.target("unknown", 1.0)

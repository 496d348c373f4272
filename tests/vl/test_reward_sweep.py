"""Facts about vl/reward_sweep.py."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from core.errors import InputError
from vl.embedding_store import EmbeddingStore
from vl.reward_sweep import auc, sweep, sweep_table
from vl.rewards import StepBatch, VLMReward

ALPHAS = [0.0, 0.3, 1.0]


class Width:
    dim = 16


def unit(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, Width.dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def rewards(embeddings: torch.Tensor, goals: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
    """The slow way: the reward model itself, once for each prompt and alpha; (P, A, M)."""
    table = torch.empty(len(goals), len(ALPHAS), len(embeddings))
    for a, alpha in enumerate(ALPHAS):
        model = VLMReward.from_vectors(Width(), goals, baseline, alpha)
        for p in range(len(goals)):
            rows = torch.full((len(embeddings),), p)
            table[p, a] = model.score(StepBatch(embedding=embeddings), rows)
    return table


def test_a_sweep_gives_the_scores_of_the_reward_model_in_blocks():
    embeddings, goals, baseline = unit(23, 0).half(), unit(4, 1), unit(1, 2)[0]
    parts = list(sweep(embeddings, goals, baseline, ALPHAS, block=10))
    assert [part.shape for part in parts] == [(4, 3, 10), (4, 3, 10), (4, 3, 3)]
    torch.testing.assert_close(torch.cat(parts, -1), rewards(embeddings, goals, baseline), atol=1e-6, rtol=0)


def test_a_store_is_swept_as_its_rows_are(monkeypatch):
    monkeypatch.setattr("vl.embedding_store.BLOCK", 8)
    store = EmbeddingStore(Width.dim, capacity=20)
    store.append(unit(23, 0))
    parts = list(sweep(store, unit(4, 1), unit(1, 2)[0], ALPHAS, block=5))
    assert max(part.shape[-1] for part in parts) == 5
    expected = torch.cat(list(sweep(unit(23, 0)[3:].half(), unit(4, 1), unit(1, 2)[0], ALPHAS)), -1)
    assert torch.equal(torch.cat(parts, -1), expected)


def test_the_table_is_what_numpy_says_of_the_written_out_scores():
    embeddings, goals, baseline = unit(301, 0), unit(5, 1), unit(1, 2)[0]
    generator = np.random.default_rng(3)
    truth = np.where(np.arange(301) % 7 == 0, np.nan, generator.random(301) + 5 * embeddings[:, 0].numpy())
    success = generator.random(301) < 0.2
    table = sweep_table(embeddings, goals, baseline, ALPHAS, torch.tensor(truth), torch.tensor(success), block=64)
    scores, known = rewards(embeddings, goals, baseline).double().numpy(), ~np.isnan(truth)
    assert (table.rows, table.known) == (301, known.sum())
    np.testing.assert_allclose(table.mean, scores.mean(-1), atol=1e-6)
    for p in range(5):
        for a in range(3):
            rho = np.corrcoef(scores[p, a, known], truth[known])[0, 1]
            assert float(table.pearson[p, a]) == pytest.approx(rho, abs=1e-5)
            assert float(table.epic[p, a]) == pytest.approx(math.sqrt((1 - rho) / 2), abs=1e-5)
            high, low = scores[p, a, success], scores[p, a, ~success]
            wins = np.mean(high[:, None] > low) + 0.5 * np.mean(high[:, None] == low)
            assert float(table.auc[p, a]) == pytest.approx(wins, abs=1e-3)


def test_blocks_far_from_zero_mean_lose_no_precision():
    truth = torch.arange(100, dtype=torch.float64) + 1e8
    tables = [sweep_table(unit(100, 0), unit(2, 1), None, [0.0], truth, block=size) for size in (100, 7)]
    rho = np.corrcoef((unit(100, 0) @ unit(2, 1).T).T.numpy(), np.arange(100))[:2, 2]
    for table in tables:
        np.testing.assert_allclose(table.pearson[:, 0], rho, atol=1e-5)


def test_a_constant_score_or_truth_counts_as_unrelated():
    same = unit(1, 0).expand(50, -1)
    table = sweep_table(same, unit(2, 1), None, [0.0], torch.arange(50.0))
    assert table.pearson.tolist() == [[0.0], [0.0]] and float(table.epic[0, 0]) == pytest.approx(math.sqrt(0.5))
    assert sweep_table(unit(50, 0), unit(1, 1), None, [0.0], torch.full((50,), 0.7)).pearson.item() == 0.0
    assert math.isnan(table.auc[0, 0])


def test_without_a_known_truth_there_is_no_correlation_and_no_distance():
    table = sweep_table(unit(5, 0), unit(1, 1), None, [0.0], torch.full((5,), math.nan))
    assert table.known == 0 and math.isnan(table.pearson) and math.isnan(table.epic)
    assert float(table.mean) == pytest.approx(float((unit(5, 0) @ unit(1, 1).T).mean()), abs=1e-5)


def test_auc_by_hand():
    positive = np.array([True, False, True, False])
    assert auc(np.array([3.0, 1.0, 2.0, 0.0]), positive) == 1.0
    assert auc(np.array([1.0, 1.0, 0.0, 0.0]), positive) == 0.5  # won 1, tied 2, lost 1
    assert math.isnan(auc(np.zeros(4), np.zeros(4, dtype=bool)))


def test_sweeps_that_mean_nothing_are_refused():
    def run(embeddings=unit(3, 0), goals=unit(2, 1), baseline=None, alphas=(0.0,)):  # noqa: B008
        return list(sweep(embeddings, goals, baseline, alphas))

    with pytest.raises(InputError, match="embeddings are 8 wide and goal vectors 16"):
        run(unit(3, 0)[:, :8])
    with pytest.raises(InputError, match="alpha=0.5 needs a baseline vector"):
        run(alphas=(0.0, 0.5))
    with pytest.raises(InputError, match=r"alphas are \[1.5\]"):
        run(alphas=(1.5,), baseline=unit(1, 3)[0])
    with pytest.raises(InputError, match=r"alphas are \[\]"):
        run(alphas=())
    with pytest.raises(InputError, match="prompt 1 is the baseline"):
        run(baseline=unit(2, 1)[1], alphas=(0.5,))
    with pytest.raises(InputError, match=r"expected \(P, D\)"):
        run(goals=unit(2, 1)[:0])
    bad = unit(3, 0)
    bad[1, 2] = math.nan
    with pytest.raises(InputError, match=r"NaN or infinite numbers \(row 1, counted from row 0\)"):
        run(bad)
    with pytest.raises(InputError, match=r"truth has shape \(4,\), expected one entry for each of 3 rows"):
        sweep_table(unit(3, 0), unit(2, 1), None, [0.0], torch.zeros(4))

"""Facts about vl/linear_probe.py."""

import math

import pytest
import torch

from core.errors import InputError
from vl.linear_probe import choose_probe, fit_probe


def test_without_features_the_optimum_is_the_log_of_the_class_frequencies():
    label = torch.tensor([0, 0, 0, 1])
    probe = fit_probe(torch.zeros(4, 2), label, 2, l2=0.1)
    assert probe.bias[0] - probe.bias[1] == pytest.approx(math.log(3), abs=1e-5)


def test_the_gradient_vanishes_at_the_optimum():
    generator = torch.Generator().manual_seed(0)
    features, label = torch.randn(40, 3, generator=generator), torch.randint(0, 4, (40,), generator=generator)
    probe = fit_probe(features, label, 4, l2=0.01)
    values = (features.double() - probe.mean) / probe.deviation
    error = probe.logits(features).softmax(1) - torch.nn.functional.one_hot(label, 4)
    assert (error.T @ values / 40 + 0.01 * probe.weight).abs().max() < 1e-5
    assert error.mean(0).abs().max() < 1e-5


def test_val_chooses_a_strong_penalty_for_noise_and_the_largest_of_equals():
    generator = torch.Generator().manual_seed(1)
    signal = torch.randint(0, 2, (60,), generator=generator)
    noise = torch.randn(60, 40, generator=generator)
    features = torch.cat([(2.0 * signal[:, None] - 1) + 0.8 * torch.randn(60, 1, generator=generator), noise], 1)
    probe, accuracy = choose_probe((features[:30], signal[:30]), (features[30:], signal[30:]), 2)
    assert accuracy[probe.l2] == max(accuracy.values()) > accuracy[100.0]
    assert probe.l2 == max(l2 for l2 in accuracy if accuracy[l2] == accuracy[probe.l2])


def test_labels_out_of_range_are_named():
    with pytest.raises(InputError, match=r"labels run 0\.\.2, expected 0\.\.1"):
        fit_probe(torch.zeros(2, 1), torch.tensor([0, 2]), 2, 0.1)
    with pytest.raises(InputError, match="one label per feature"):
        fit_probe(torch.zeros(2, 1), torch.tensor([0]), 2, 0.1)

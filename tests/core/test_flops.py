"""Facts about core/flops.py: counts by hand."""

import torch
from torch.nn import functional as F

from core.flops import counted_flops


def test_a_product_counts_twice_its_multiplications_and_its_gradients_double_that():
    weight, x = torch.ones(3, 5, requires_grad=True), torch.ones(7, 3, requires_grad=True)
    with counted_flops() as counter:
        (x @ weight).sum().backward()
    assert counter.get_total_flops() == 3 * (2 * 7 * 3 * 5)


def test_fused_attention_on_the_cpu_is_counted_forwards_and_backwards():
    q = torch.ones(2, 4, 16, 8, requires_grad=True)
    with counted_flops() as counter:
        F.scaled_dot_product_attention(q, q, q).sum().backward()
    forward = 2 * (2 * 2 * 4 * 16 * 16 * 8)  # scores, and their mixture of values
    assert counter.get_total_flops() == forward + forward * 5 // 2  # backwards the scores are computed once more


def test_nothing_is_counted_where_it_is_switched_off():
    with counted_flops(False) as counter:
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert counter is None

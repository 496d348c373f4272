"""How many floating point operations a piece of work takes: products of matrices, convolutions and attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

aten = torch.ops.aten


@contextmanager
def counted_flops(enabled: bool = True) -> Iterator[FlopCounterMode | None]:
    """Counts what is computed inside, forwards and backwards; `get_total_flops()` of what it yields has the sum.

    A product and its sum are two operations. Element-wise work is left out, as in torch's own counter, which does not
    know the fused attention of the CPU: it is added here.

    Args:
        enabled: False counts nothing and yields None.
    """
    if not enabled:
        yield None
        return
    mapping = {
        aten._scaled_dot_product_flash_attention_for_cpu: _attention,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
        yield counter


def _attention(query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    gradient: Any, query: Any, key: Any, value: Any, *rest: Any, out_shape: Any = None, **named: Any
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)

"""Models whose every weight was moved, for comparing two of the same weights."""

import torch
from torch import nn


def shaken(model: nn.Module) -> nn.Module:
    """In eval mode, every weight moved: fresh norms, biases and scales, all 1 or 0, would hide mistakes."""
    draw = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=draw)
    return model.eval()

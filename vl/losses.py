"""Contrastive objectives on unit embeddings: pure functions, batches in, one number out.

Row i of `image` belongs to row i of `text`. Captions repeat and overlap: where text j also holds for image i, the pair
can be named in `positive` (it is a match too) or in `ignored` (it is neither a match nor a contrast).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError


def pair_masks(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    positive: Bool[Tensor, "B B"] | None,
    ignored: Bool[Tensor, "B B"] | None,
) -> tuple[Bool[Tensor, "B B"], Bool[Tensor, "B B"]]:
    """Both masks filled in: the diagonal is always positive and a positive pair is never ignored."""
    if image.shape != text.shape or image.ndim != 2:
        raise InputError(f"a contrastive loss needs two (B, D) tensors, got {tuple(image.shape)}, {tuple(text.shape)}")
    diagonal = torch.eye(len(image), dtype=torch.bool, device=image.device)
    for name, mask in (("positive", positive), ("ignored", ignored)):
        if mask is not None and (mask.shape != diagonal.shape or mask.dtype != torch.bool):
            raise InputError(f"{name} is {mask.dtype} {tuple(mask.shape)}, expected bool {tuple(diagonal.shape)}")
    matches = diagonal if positive is None else positive | diagonal
    dropped = torch.zeros_like(diagonal) if ignored is None else ignored & ~matches
    return matches, dropped


def softmax_loss(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None = None,
    positive: Bool[Tensor, "B B"] | None = None,
    ignored: Bool[Tensor, "B B"] | None = None,
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (CLIP), with any number of positives per row.

        z_ij = s u_i . v_j        p_ij = 1 if text j holds for image i        k = ignored pairs
        L = - 1/(2B) sum_i sum_j  y_ij log softmax_{j not in k}(z_i)_j  +  the same over columns,
        y_ij = p_ij / sum_j p_ij  (columns: / sum_i p_ij)

    Args:
        logit_scale: s = exp(theta).
        logit_bias: takes no part; the softmax does not see a constant.
        positive: (image i, text j) pairs that fit, beside the diagonal.
        ignored: pairs left out of every sum.

    Source: Radford et al., arXiv:2103.00020, section 2.3; with several positives L_out of Khosla et al., 2004.11362.
    """
    matches, dropped = pair_masks(image, text, positive, ignored)
    logits = (logit_scale * image @ text.T).masked_fill(dropped, float("-inf"))
    loss = logits.new_zeros(())
    for dimension in (1, 0):
        log_prob = F.log_softmax(logits, dim=dimension).masked_fill(dropped, 0.0)
        share = matches.to(logits.dtype) / matches.sum(dimension, keepdim=True)
        loss = loss - (share * log_prob).sum() / (2 * len(image))
    return loss


def sigmoid_loss(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None = None,
    positive: Bool[Tensor, "B B"] | None = None,
    ignored: Bool[Tensor, "B B"] | None = None,
) -> Float[Tensor, ""]:
    """Every pair a yes-or-no question of its own (SigLIP).

        L = - 1/B sum_{ij not ignored} log sigmoid( z_ij (s u_i . v_j + b) ),   z_ij = +1 for positives, -1 otherwise

    Args:
        logit_scale: s; SigLIP starts it at 10.
        logit_bias: b; SigLIP starts it at -10, None stands for 0.
        positive, ignored: as in `softmax_loss`.

    Source: Zhai et al., arXiv:2303.15343, equation 1.
    """
    matches, dropped = pair_masks(image, text, positive, ignored)
    logits = logit_scale * image @ text.T
    if logit_bias is not None:
        logits = logits + logit_bias
    sign = matches.to(logits.dtype) * 2 - 1
    return F.softplus(-sign * logits).masked_fill(dropped, 0.0).sum() / len(image)


LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}

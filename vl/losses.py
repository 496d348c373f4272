"""Losses of vision-language pretraining: pure functions, batches in, one number out.

Contrastive losses compare unit embeddings; row i of `image` belongs to row i of `text`. Captions repeat and overlap:
where text j also holds for image i, the pair can be named in `positive` (it is a match too) or in `ignored` (it is
neither a match nor a contrast). They work through blocks of rows and compute each block again for its gradient, so
that the table of all similarities is never held: memory grows with the number of rows, not with its square.

The others take what a head says about chosen rows and return the sum over rows; who calls them knows by how many rows,
of all processes, to divide (`vl.objectives`).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from core import distributed
from core.errors import InputError

BLOCK = 1 << 22
"""Similarities held at a time: 16 MB of float32."""


def _checked(
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    positive: Bool[Tensor, "C C"] | None,
    ignored: Bool[Tensor, "C C"] | None,
    count: int,
) -> None:
    if image.shape != text.shape or image.ndim != 2:
        raise InputError(f"a contrastive loss needs two (B, D) tensors, got {tuple(image.shape)}, {tuple(text.shape)}")
    for name, mask in (("positive", positive), ("ignored", ignored)):
        if mask is not None and (tuple(mask.shape) != (count, count) or mask.dtype != torch.bool):
            raise InputError(f"{name} is {mask.dtype} {tuple(mask.shape)}, expected bool {(count, count)}")


def _block_masks(
    positive: Bool[Tensor, "M B"] | None, ignored: Bool[Tensor, "M B"] | None, own: Int64[Tensor, " M"], width: int
) -> tuple[Bool[Tensor, "M B"], Bool[Tensor, "M B"] | None]:
    """Both masks of some rows: what is a row's own is always positive, and a positive pair is never ignored."""
    shape = (len(own), width)
    matches = torch.zeros(shape, dtype=torch.bool, device=own.device) if positive is None else positive.clone()
    matches.scatter_(1, own[:, None], True)
    return matches, None if ignored is None else ignored & ~matches


def _softmax_block(
    query: Float[Tensor, "M D"],
    keys: Float[Tensor, "B D"],
    own: Int64[Tensor, " M"],
    logit_scale: Float[Tensor, ""],
    logit_bias: None,
    positive: Bool[Tensor, "M B"] | None,
    ignored: Bool[Tensor, "M B"] | None,
) -> Float[Tensor, ""]:
    """Sum over rows of logsumexp(z) - mean of z over positives."""
    logits = logit_scale * query @ keys.T
    if positive is None and ignored is None:
        return (logits.logsumexp(1) - logits.gather(1, own[:, None])[:, 0]).sum()
    matches, dropped = _block_masks(positive, ignored, own, len(keys))
    if dropped is not None:
        logits = logits.masked_fill(dropped, float("-inf"))
    return (logits.logsumexp(1) - logits.where(matches, 0.0).sum(1) / matches.sum(1)).sum()


def _sigmoid_block(
    query: Float[Tensor, "M D"],
    keys: Float[Tensor, "B D"],
    own: Int64[Tensor, " M"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None,
    positive: Bool[Tensor, "M B"] | None,
    ignored: Bool[Tensor, "M B"] | None,
) -> Float[Tensor, ""]:
    """Sum over pairs of softplus(x), less x at positives: -log sigmoid(x) = softplus(x) - x."""
    logits = logit_scale * query @ keys.T
    if logit_bias is not None:
        logits = logits + logit_bias
    if positive is None and ignored is None:
        return F.softplus(logits).sum() - logits.gather(1, own[:, None]).sum()
    matches, dropped = _block_masks(positive, ignored, own, len(keys))
    if dropped is not None:
        logits = logits.masked_fill(dropped, float("-inf"))  # softplus(-inf) = 0, and so is its slope
    return F.softplus(logits).sum() - logits.where(matches, 0.0).sum()


def _in_blocks(
    block: Callable[..., Tensor],
    query: Float[Tensor, "M D"],
    keys: Float[Tensor, "B D"],
    first: int,
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None,
    positive: Bool[Tensor, "M B"] | None,
    ignored: Bool[Tensor, "M B"] | None,
) -> Float[Tensor, ""]:
    """Sum of `block` over blocks of rows; row i of `query` has its own match in row `first` + i of `keys`."""
    size = max(1, BLOCK // len(keys))
    total = query.new_zeros(())
    for start in range(0, len(query), size):
        rows = slice(start, min(start + size, len(query)))
        given = (
            query[rows],
            keys,
            torch.arange(first + rows.start, first + rows.stop, device=query.device),
            logit_scale,
            logit_bias,
            None if positive is None else positive[rows],
            None if ignored is None else ignored[rows],
        )
        if len(query) <= size:
            return block(*given)
        part = checkpoint(block, *given, use_reentrant=False, preserve_rng_state=False)
        assert isinstance(part, Tensor)
        total = total + part
    return total


def _both_ways(
    image: Float[Tensor, "M D"],
    text: Float[Tensor, "M D"],
    images: Float[Tensor, "B D"],
    texts: Float[Tensor, "B D"],
    first: int,
    logit_scale: Float[Tensor, ""],
    positive: Bool[Tensor, "B B"] | None,
    ignored: Bool[Tensor, "B B"] | None,
) -> Float[Tensor, ""]:
    """The softmax loss's part of M rows, `first` and following, of B."""
    rows = slice(first, first + len(image))
    forth = [None if mask is None else mask[rows] for mask in (positive, ignored)]
    back = [None if mask is None else mask[:, rows].T for mask in (positive, ignored)]
    loss = _in_blocks(_softmax_block, image, texts, first, logit_scale, None, *forth)
    loss = loss + _in_blocks(_softmax_block, text, images, first, logit_scale, None, *back)
    return loss / (2 * len(images))


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
    _checked(image, text, positive, ignored, len(image))
    return _both_ways(image, text, image, text, 0, logit_scale, positive, ignored)


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
          = 1/B [ sum_{ij not ignored} softplus(s u_i . v_j + b) - sum_{ij positive} (s u_i . v_j + b) ]

    Args:
        logit_scale: s; SigLIP starts it at 10.
        logit_bias: b; SigLIP starts it at -10, None stands for 0.
        positive, ignored: as in `softmax_loss`.

    Source: Zhai et al., arXiv:2303.15343, equation 1.
    """
    _checked(image, text, positive, ignored, len(image))
    return _in_blocks(_sigmoid_block, image, text, 0, logit_scale, logit_bias, positive, ignored) / len(image)


LOSSES = {"softmax": softmax_loss, "sigmoid": sigmoid_loss}


def local_loss(
    name: str,
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    logit_scale: Float[Tensor, ""],
    logit_bias: Float[Tensor, ""] | None = None,
    positive: Bool[Tensor, "C C"] | None = None,
    ignored: Bool[Tensor, "C C"] | None = None,
) -> Float[Tensor, ""]:
    """This process's share of `LOSSES[name]` of the rows of all W processes: its own rows against everybody's.

    The shares add up to the loss of the whole batch, and so do the gradients (`core.distributed.sum_gradients`), while
    each process holds similarities of B rows with W B. In a plain process this is the loss itself.

    Args:
        positive, ignored: (W B, W B), of the whole batch, in the order of the processes; the same on each.

    Source: the local loss with gathered gradients of open_clip; arXiv:2303.15343, section 3.3, for the sigmoid.
    """
    count = len(image) * distributed.world_size()
    _checked(image, text, positive, ignored, count)
    if distributed.world_size() == 1:
        return LOSSES[name](image, text, logit_scale, logit_bias, positive, ignored)
    first = distributed.rank() * len(image)
    texts = distributed.gather_rows(text)
    if name == "softmax":
        images = distributed.gather_rows(image)
        return _both_ways(image, text, images, texts, first, logit_scale, positive, ignored)
    masks = [None if mask is None else mask[first : first + len(image)] for mask in (positive, ignored)]
    return _in_blocks(_sigmoid_block, image, texts, first, logit_scale, logit_bias, *masks) / count


def match_loss(logits: Float[Tensor, "M 2"], fits: Bool[Tensor, " M"]) -> Float[Tensor, ""]:
    """Image-text matching: sum over pairs of the cross-entropy of "they fit" (column 1) against "they do not".

        L = - sum_m log softmax(z_m)_{y_m},  y_m = 1 where pair m belongs together

    Source: ITM of Li et al., ALBEF, arXiv:2107.07651, equation 4.
    """
    return F.cross_entropy(logits.float(), fits.long(), reduction="sum")


def word_loss(logits: Float[Tensor, "M V"], target: Int64[Tensor, " M"]) -> Float[Tensor, ""]:
    """Words told from their context: sum over the M asked positions of - log softmax(z_m)_{target_m}.

    For masked words the context is the rest of the sentence and the image (Devlin et al., arXiv:1810.04805, section
    3.1; ALBEF, arXiv:2107.07651, equation 3), for captions the words before and the image (prefix language modelling,
    Wang et al., SimVLM, arXiv:2108.10904, equation 2).
    """
    return F.cross_entropy(logits.float(), target, reduction="sum")


def pixel_loss(
    predicted: Float[Tensor, "B 3 H W"], pixels: Float[Tensor, "B 3 H W"], hidden: Bool[Tensor, "B H W"]
) -> Float[Tensor, ""]:
    """Hidden pixels told from the others: sum over hidden pixels and channels of |predicted - pixels|.

    Source: Xie et al., SimMIM, arXiv:2111.09886, equation 1 (before the division by the number of hidden values).
    """
    return ((predicted.float() - pixels.float()).abs() * hidden[:, None]).sum()

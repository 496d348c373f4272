"""What a vision-language model is trained on: any weighted sum of objectives, from one encoding of each image.

    itc       image-text contrast of the embeddings, before fusion
    itm       image-text matching: does this fused pair belong together, against hard or random negatives
    mlm       masked words, told from the other words and the image
    caption   every next word, told from the words before and the image (prefix language model)
    mim       hidden parts of an image, told from its other parts (image tower alone)
    text_mlm  masked words, told from the other words (text tower alone)

The image is encoded once for itc, itm, mlm and caption, the text once as it is, once with words hidden and once
causally, each only where an objective asks; words are told at the positions that are asked alone. Another objective is
another function of the same encodings.

Several processes (torchrun): every term is this process's share, so that terms and gradients of all processes add up
(`core.distributed`) to those of one process with the whole batch. Negatives of itm come from a process's own pairs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from core import distributed
from core.errors import InputError, check_choice
from vl.data import Batch
from vl.encoded import Encoded
from vl.losses import LOSSES, local_loss, match_loss, pixel_loss, word_loss
from vl.masking import WordMasker, hidden_cells
from vl.model import VLModel

TERMS = ("itc", "itm", "mlm", "caption", "mim", "text_mlm")


@dataclass
class Objectives:
    """Weights of the objectives (0 = left out) and how each is asked."""

    itc: float = 1.0  # weight of the contrast of images and texts; 0 = without
    itm: float = 0.0  # of matching: does this pair belong together
    mlm: float = 0.0  # of masked words, told from the other words and the image
    caption: float = 0.0  # of the next word, told from the words before and the image
    mim: float = 0.0  # of hidden patches, told from the image alone
    text_mlm: float = 0.0  # of masked words, told from the text alone
    itc_loss: str = "softmax"  # or sigmoid
    overlap: str = "positive"  # what another true caption of the batch is for an image: positive, ignored, negative
    mlm_probability: float = 0.15  # share of words hidden, for mlm and text_mlm
    whole_word: bool = False  # hide all pieces of a word together
    negatives: str = "hard"  # of itm: hard (alike by embedding; wants itc, or towers trained with it) or random
    mim_share: float = 0.5  # share of the image hidden, for mim

    def __post_init__(self) -> None:
        check_choice("itc_loss", self.itc_loss, tuple(LOSSES))
        check_choice("overlap", self.overlap, ("positive", "ignored", "negative"))
        check_choice("negatives", self.negatives, ("hard", "random"))
        weights = {name: getattr(self, name) for name in TERMS}
        if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()) or not any(weights.values()):
            raise InputError(f"weights of objectives are {weights}; give numbers of 0 or more, at least one above 0")
        for name in ("mlm_probability", "mim_share"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be between 0 and 1")

    def heads(self) -> set[str]:
        """Switches of the model's config that these objectives need: its single-modality heads."""
        return {head for name, head in (("mim", "mim_head"), ("text_mlm", "text_mlm_head")) if getattr(self, name)}

    def fuses(self) -> bool:
        """Whether text and image must see each other: the model needs fusion layers, or to be one tower."""
        return bool(self.itm or self.mlm or self.caption)


def weighted_sum(terms: dict[str, Float[Tensor, ""]], objectives: Objectives) -> Float[Tensor, ""]:
    """sum over objectives of weight x term."""
    return torch.stack([getattr(objectives, name) * term for name, term in terms.items()]).sum()


def objective_terms(
    model: VLModel,
    batch: Batch,
    objectives: Objectives,
    generator: torch.Generator,
    *,
    image: Encoded | None = None,
    text: Encoded | None = None,
    drop: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Each objective's loss of one batch, not yet weighted.

    Args:
        batch: of this process; `positive` is that of the whole batch, (W B, W B) with W processes.
        generator: of hidden words and cells, negatives and dropped patches; dropout follows torch's own state.
        image, text: the towers' states of the batch's images and distinct texts, where they are known (frozen towers).
        drop: share of patches that the image tower does not see (FLIP).

    Raises:
        InputError: the model lacks a head, fusion or mask token that an objective needs.
    """
    device = model.device
    ids, attention, row = (x.to(device) for x in (batch.input_ids, batch.attention_mask, batch.text))
    terms: dict[str, Tensor] = {}

    if image is None and (objectives.itc or objectives.fuses()):
        pixels = model.pixels(batch.images.to(device), batch.gain.to(device))
        image = model.image_states(pixels, drop=drop, generator=generator)
    if text is None and (objectives.itc or objectives.itm):
        text = model.text_states(ids, attention)

    similarity, hard = None, bool(objectives.itm) and objectives.negatives == "hard"
    if objectives.itc or hard:
        assert image is not None and text is not None
        with torch.set_grad_enabled(objectives.itc > 0 and torch.is_grad_enabled()):
            images, texts = embeddings(model, image, "image"), embeddings(model, text, "text")[row]
        if objectives.itc:
            terms["itc"] = contrast(model, images, texts, batch.positive.to(device), objectives)
        if hard:
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                similarity = model.logit_scale * images @ texts.T
    if objectives.itm:
        assert image is not None and text is not None
        terms["itm"] = matching(model, image, text, row, own_positives(batch).to(device), similarity, generator)

    if objectives.mlm or objectives.text_mlm:
        masker = word_masker(model.tokenizer, objectives.mlm_probability, objectives.whole_word)
        masked_ids, hidden = masker(ids, attention, generator)
        masked = model.text_states(masked_ids, attention)
        if objectives.mlm:
            assert image is not None
            states = model.fuse(image, masked.rows(row)).text
            terms["mlm"] = words(model.word_logits, states, ids[row], hidden[row])
        if objectives.text_mlm:
            terms["text_mlm"] = words(model.word_logits_text, masked.states, ids, hidden)
    if objectives.caption:
        assert image is not None
        states = model.fuse(image, model.text_states(ids, attention, causal=True).rows(row), causal=True).text
        real = attention.bool()
        follows = (real[:, 1:] & real[:, :-1])[row]
        terms["caption"] = words(model.word_logits, states[:, :-1], ids[row, 1:], follows)
    if objectives.mim:
        pixels = model.pixels(batch.images.to(device), batch.gain.to(device))
        terms["mim"] = hidden_pixels(model, pixels, objectives, generator)
    return terms


@lru_cache(maxsize=8)
def word_masker(tokenizer: object, probability: float, whole_word: bool) -> WordMasker:
    """The masker of a tokenizer; reading a vocabulary takes longer than a step."""
    return WordMasker(tokenizer, probability=probability, whole_word=whole_word)  # type: ignore[arg-type]


def embeddings(model: VLModel, encoded: Encoded, kind: str) -> Float[Tensor, "B D"]:
    """Unit vectors of what a tower made, in float32."""
    if encoded.embedding is None:
        encoded = model.with_embedding(encoded, kind)
    assert encoded.embedding is not None
    return encoded.embedding.float()


def contrast(
    model: VLModel,
    image: Float[Tensor, "B D"],
    text: Float[Tensor, "B D"],
    positive: Bool[Tensor, "C C"],
    objectives: Objectives,
) -> Float[Tensor, ""]:
    """The contrastive loss of pairs, in float32, whatever the towers computed in."""
    with torch.autocast(image.device.type, enabled=False):
        return local_loss(
            objectives.itc_loss,
            image,
            text,
            model.logit_scale,
            model.logit_bias,
            positive if objectives.overlap == "positive" else None,
            positive if objectives.overlap == "ignored" else None,
        )


def share(total: Float[Tensor, ""], count: int) -> Float[Tensor, ""]:
    """A sum over this process's items, divided by the number of items of all processes."""
    items = torch.tensor(float(count), device=total.device)
    return total / distributed.sum_over_ranks(items).clamp(min=1)


def words(
    head: Callable[[Tensor], Tensor],
    states: Float[Tensor, "B L W"],
    target: Int64[Tensor, "B L"],
    asked: Bool[Tensor, "B L"],
) -> Float[Tensor, ""]:
    """Mean loss of the words at the asked positions; the head sees no other."""
    chosen = target[asked]
    return share(word_loss(head(states[asked]), chosen), len(chosen))


def own_positives(batch: Batch) -> Bool[Tensor, "B B"]:
    """Pairs (image i, text j) of this process's part of the batch that must not be called a mismatch."""
    count = len(batch.text)
    rows = slice(distributed.rank() * count, (distributed.rank() + 1) * count)
    return batch.positive[rows, rows] | (batch.text[:, None] == batch.text[None, :])


def matching(
    model: VLModel,
    image: Encoded,
    text: Encoded,
    row: Int64[Tensor, " B"],
    positive: Bool[Tensor, "B B"],
    similarity: Float[Tensor, "B B"] | None,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Mean matching loss of every pair and, for each, one wrong text and one wrong image, all fused in one call."""
    images, texts, fits = matching_pairs(positive, similarity, generator)
    fused = model.fuse(image.rows(images), text.rows(row[texts]))
    return share(match_loss(model.match_logits(fused), fits), len(fits))


def matching_pairs(
    positive: Bool[Tensor, "B B"], similarity: Float[Tensor, "B B"] | None, generator: torch.Generator
) -> tuple[Int64[Tensor, " M"], Int64[Tensor, " M"], Bool[Tensor, " M"]]:
    """The pairs of a batch, then wrong texts for its images, then wrong images for its texts.

        P(text j for image i) = exp(z_ij) / sum over wrong k of exp(z_ik),  images for texts alike over columns

    A row whose every pair is positive gets no negative, so M is at most 3 B.

    Args:
        similarity: z, images along rows; None draws evenly.

    Returns:
        Number of the image, number of the text (in pairs, 0..B-1), whether they fit.

    Source: ALBEF, arXiv:2107.07651, section 3.2; here no positive is ever drawn, not only the diagonal.
    """
    own = torch.arange(len(positive), device=positive.device)
    wrong_text = _draw_wrong(positive, similarity, generator)
    wrong_image = _draw_wrong(positive.T, None if similarity is None else similarity.T, generator)
    has_text, has_image = ~positive.all(1), ~positive.all(0)
    images = torch.cat([own, own[has_text], wrong_image[has_image]])
    texts = torch.cat([own, wrong_text[has_text], own[has_image]])
    return images, texts, torch.arange(len(images), device=own.device) < len(own)


def _draw_wrong(
    positive: Bool[Tensor, "B B"], logits: Float[Tensor, "B B"] | None, generator: torch.Generator
) -> Int64[Tensor, " B"]:
    """For each row a column that is not positive, by the softmax of logits (the largest of logits + Gumbel noise)."""
    noise = torch.empty(positive.shape, device=generator.device).exponential_(generator=generator).to(positive.device)
    keys = -noise.log() if logits is None else logits - noise.log()
    return keys.masked_fill(positive, float("-inf")).argmax(1)


def hidden_pixels(
    model: VLModel, pixels: Float[Tensor, "B 3 H W"], objectives: Objectives, generator: torch.Generator
) -> Float[Tensor, ""]:
    """SimMIM's loss: cells of the tower's grid turn grey (0 after normalisation), and their pixels are told.

    Grey stands in for SimMIM's learned mask token, so that every kind of image tower can be asked.
    """
    count, _, height, width = pixels.shape
    rows, columns = model.image_tower.grid
    cells = hidden_cells(count, (rows, columns), objectives.mim_share, generator, pixels.device)
    hidden = cells.repeat_interleave(height // rows, 1).repeat_interleave(width // columns, 2)
    predicted = model.pixels_of(model.image_states(pixels.masked_fill(hidden[:, None], 0.0)).states)
    return share(pixel_loss(predicted, pixels, hidden), 3 * int(hidden.sum()))

"""The pretraining step that benchmarks/vl.py compares with: each objective in a full forward pass of its own.

So does Renaissance (github.com/bsu-slim/renaissance, after METER and ViLT): its training step calls, for every
objective, a function that runs both towers and the fusion on a batch prepared for it. Here the same model, with the
same weights, heads and losses, runs

    itc  images, texts -> embeddings
    itm  images, texts -> fusion of the pairs and of wrong pairs
    mlm  images, texts with hidden words -> fusion -> words

What is better than in Renaissance, so that only the repeated passes are compared: attention is fused
(scaled_dot_product_attention), padding is masked out before the text tower, the vocabulary's logits are computed where
words are hidden alone, and wrong pictures of ITM come from the batch, which is encoded once for them, where Renaissance
reads and encodes other ones. ITM pairs are ours, three per picture: so the losses can be held against each other.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vl.data import Batch
from vl.losses import match_loss
from vl.model import VLModel
from vl.objectives import Objectives, contrast, embeddings, matching_pairs, own_positives, word_masker, words


def baseline_terms(
    model: VLModel, batch: Batch, objectives: Objectives, generator: torch.Generator
) -> dict[str, Float[Tensor, ""]]:
    """What `vl.objectives.objective_terms` gives for itc, itm (with negatives at random) and mlm."""
    terms = {}
    if objectives.itc:
        terms["itc"] = contrastive(model, batch, objectives)
    if objectives.itm:
        terms["itm"] = matching(model, batch, generator)
    if objectives.mlm:
        terms["mlm"] = masked_words(model, batch, objectives, generator)
    return terms


def contrastive(model: VLModel, batch: Batch, objectives: Objectives) -> Float[Tensor, ""]:
    """ITC: each image's embedding against the texts' and the other way round."""
    image = embeddings(model, model.image_states(model.pixels(batch.images, batch.gain)), "image")
    text = embeddings(model, model.text_states(batch.input_ids, batch.attention_mask), "text")[batch.text]
    return contrast(model, image, text, batch.positive, objectives)


def matching(model: VLModel, batch: Batch, generator: torch.Generator) -> Float[Tensor, ""]:
    """ITM: whether an image and a text belong together, for the pairs and for two wrong ones each."""
    image = model.image_states(model.pixels(batch.images, batch.gain))
    text = model.text_states(batch.input_ids, batch.attention_mask)
    images, texts, fits = matching_pairs(own_positives(batch), None, generator)
    fused = model.fuse(image.rows(images), text.rows(batch.text[texts]))
    return match_loss(model.match_logits(fused), fits) / len(fits)


def masked_words(model: VLModel, batch: Batch, objectives: Objectives, generator: torch.Generator) -> Float[Tensor, ""]:
    """MLM: the hidden words, from the others and the image."""
    masker = word_masker(model.tokenizer, objectives.mlm_probability, objectives.whole_word)
    masked_ids, hidden = masker(batch.input_ids, batch.attention_mask, generator)
    image = model.image_states(model.pixels(batch.images, batch.gain))
    text = model.text_states(masked_ids, batch.attention_mask)
    states = model.fuse(image, text.rows(batch.text)).text
    return words(model.word_logits, states, batch.input_ids[batch.text], hidden[batch.text])

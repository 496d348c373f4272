"""Contrastive batches of any size in the memory of one chunk: embed everything, then learn chunk by chunk.

The contrastive loss needs the embeddings of the whole batch, but a tower's activations only while its own chunk is
differentiated. So all chunks are embedded without gradient; the loss of all embeddings gives each embedding's
gradient; then every chunk is embedded again, with gradient and the same random draws, and passes its part on to the
weights. Every image and text goes through its tower once more than without, which is the price.

Source: GradCache, Gao et al., arXiv:2101.06983, section 3. Here, besides, the loss itself works in blocks (`vl.losses`)
and distinct captions are embedded once.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import InputError
from vl.data import Batch
from vl.model import VLModel
from vl.objectives import TERMS, Objectives, contrast, embeddings


class RandomState:
    """Where torch's own generators (CPU, and one GPU if that is the device) and a generator of ours stand."""

    def __init__(self, device: torch.device, generator: torch.Generator) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.own = generator.get_state()

    def restore(self, generator: torch.Generator) -> None:
        """Puts them back there."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)
        generator.set_state(self.own)


def contrastive_step(
    model: VLModel,
    batch: Batch,
    objectives: Objectives,
    generator: torch.Generator,
    *,
    chunk: int,
    drop: float = 0.0,
) -> dict[str, Float[Tensor, ""]]:
    """Adds the gradients of a batch's weighted contrastive loss to the weights, `chunk` images or texts at a time.

    They are those of one loss on towers that were given the same chunks with the same random draws; without dropout and
    dropped patches, those of `objective_terms`. BatchNorm, where an image tower has it, sees a chunk at a time, twice.
    Towers run under the caller's autocast.

    Args:
        batch, generator, drop: as in `vl.objectives.objective_terms`.
        chunk: images, and distinct texts, that go through their tower at once.

    Returns:
        The term as `objective_terms` names it, not weighted; there is nothing left to differentiate.

    Raises:
        InputError: an objective besides itc is asked, or `chunk` is not positive.
    """
    others = [name for name in TERMS if name != "itc" and getattr(objectives, name)]
    if others or not objectives.itc:
        raise InputError(
            f"gradient caching is for the objective itc alone, {', '.join(others) or 'another'} is asked too; set "
            "gradient_cache=0"
        )
    if chunk < 1:
        raise InputError(f"gradient_cache={chunk} should be a positive number of images")
    device = model.device

    def image_chunk(rows: slice) -> Tensor:
        pixels = model.pixels(batch.images[rows].to(device), batch.gain[rows].to(device))
        return embeddings(model, model.image_states(pixels, drop=drop, generator=generator), "image")

    def text_chunk(rows: slice) -> Tensor:
        ids, attention = batch.input_ids[rows].to(device), batch.attention_mask[rows].to(device)
        return embeddings(model, model.text_states(ids, attention), "text")

    images, image_starts = _embed(image_chunk, len(batch.images), chunk, device, generator)
    texts, text_starts = _embed(text_chunk, len(batch.input_ids), chunk, device, generator)
    after = RandomState(device, generator)
    term = contrast(model, images, texts[batch.text.to(device)], batch.positive.to(device), objectives)
    with torch.autocast(device.type, enabled=False):
        (objectives.itc * term).backward()
    _pass_on(image_chunk, images, image_starts, generator)
    _pass_on(text_chunk, texts, text_starts, generator)
    after.restore(generator)
    return {"itc": term.detach()}


Starts = list[tuple[slice, RandomState]]
"""Rows of each chunk, and where random draws stood before it."""


def _embed(
    encode: Callable[[slice], Tensor], count: int, chunk: int, device: torch.device, generator: torch.Generator
) -> tuple[Float[Tensor, "B D"], Starts]:
    """Embeddings of all rows, as a leaf that collects gradient."""
    rows = [slice(start, min(start + chunk, count)) for start in range(0, count, chunk)]
    starts, parts = [], []
    with torch.no_grad():
        for part in rows:
            starts.append((part, RandomState(device, generator)))
            parts.append(encode(part))
    torch.clear_autocast_cache()  # it holds weights in half precision, cast without gradient
    return torch.cat(parts).requires_grad_(), starts


def _pass_on(
    encode: Callable[[slice], Tensor], embedded: Float[Tensor, "B D"], starts: Starts, generator: torch.Generator
) -> None:
    """Embeds every chunk again and hands the gradients of its embeddings to the weights."""
    assert embedded.grad is not None
    for rows, state in starts:
        state.restore(generator)
        again = encode(rows)
        if not again.requires_grad:  # tower and head are frozen
            return
        with torch.autocast(embedded.device.type, enabled=False):
            torch.autograd.backward(again, embedded.grad[rows])
        torch.clear_autocast_cache()  # the next chunk needs casts, and a graph, of its own

"""One's own pictures in one call: embeddings of a folder, and how well sentences fit each picture.

    names, vectors = sl.embed_folder("runs/towers/model", "holiday/")
    names, scores = sl.score_folder("runs/towers/model", "holiday/", ["a red door", "a bicycle"])

The model is anything `load_embedder` opens. Pictures that cannot be read are left out, and a warning counts them by
cause.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray

from core.errors import InputError
from vl.embedder import Embedder, load_embedder
from vl.model import VLModel, embedding_of
from vl.pictures import PictureError, Pictures, resize
from vl.retrieval import match_scores, read_all

CHUNK = 32
"""Pictures read before they are encoded: no more than this many are in memory at once."""


@dataclass
class FolderFeatures:
    """What a model makes of a folder of pictures; M of them could be read."""

    names: list[str]
    features: Float[ndarray, "M D"]  # unit embeddings
    match: Float[ndarray, "M T"] | None  # probability that text t fits picture m; None without texts or without fusion
    unreadable: dict[str, str] = field(default_factory=dict)  # name: cause

    def causes(self) -> dict[str, int]:
        """How many pictures could not be read for which cause."""
        return dict(Counter(self.unreadable.values()))


def folder_features(
    model: Embedder | str | Path,
    folder: str | Path,
    texts: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> FolderFeatures:
    """Embeddings of every picture of a folder or .zip, and match probabilities with `texts` where there is a fusion.

    Pictures are read and encoded in chunks, so memory does not grow with the folder but by its features.

    Raises:
        InputError: no picture there, or none that can be read. MissingFileError: no folder there.
    """
    embedder = opened(model)
    pictures = Pictures(folder)
    names = pictures.names()
    if not names:
        raise InputError(f"no pictures in {folder}; expected files such as .jpg or .png in it or below it")
    fusing = embedder if isinstance(embedder, VLModel) and has_fusion(embedder) and len(texts) else None
    read = read_all(fusing, texts) if fusing else None
    height, width = picture_size(embedder)
    found = FolderFeatures([], np.zeros((0, embedder.dim), dtype=np.float32), None)
    features: list[ndarray] = []
    match: list[ndarray] = []
    for start in range(0, len(names), CHUNK):
        chunk = list(_readable(pictures, names[start : start + CHUNK], height, width, found.unreadable))
        if chunk:
            found.names += [name for name, _ in chunk]
            images = torch.from_numpy(np.stack([picture for _, picture in chunk]))
            if fusing and read:
                with torch.no_grad():
                    seen = fusing.see(fusing.pixels(images))
                features.append(embedding_of(seen).float().cpu().numpy())
                rows = np.indices((len(chunk), len(texts))).reshape(2, -1)
                odds = match_scores(fusing, read, seen, rows[1], rows[0])
                match.append(1 / (1 + np.exp(-odds.reshape(len(chunk), len(texts)))))
            else:
                features.append(embedder.encode_images(images).float().cpu().numpy())
        if progress is not None:
            progress(len(names[start : start + CHUNK]))
    if not found.names:
        raise InputError(f"none of the {len(names)} pictures in {folder} can be read: {found.causes()}")
    found.features = np.concatenate(features)
    found.match = np.concatenate(match) if match else None
    return found


def embed_folder(model: Embedder | str | Path, folder: str | Path) -> tuple[list[str], Float[ndarray, "M D"]]:
    """Names and unit embeddings of the readable pictures in a folder, sorted by name.

    Raises:
        InputError: see `folder_features`.
    """
    found = folder_features(model, folder)
    _warn(found)
    return found.names, found.features


def score_folder(
    model: Embedder | str | Path, folder: str | Path, texts: Sequence[str]
) -> tuple[list[str], Float[ndarray, "M T"]]:
    """Names of the readable pictures in a folder, and how well each of `texts` fits each of them.

    Scores are match probabilities where the model has a fusion, else cosine similarities of the embeddings.

    Raises:
        InputError: see `folder_features`; or no text is given.
    """
    if isinstance(texts, str) or not texts:
        raise InputError(f"score_folder() takes a list of sentences, got {texts!r}")
    embedder = opened(model)
    found = folder_features(embedder, folder, texts)
    _warn(found)
    return found.names, similarities(embedder, found, texts) if found.match is None else found.match


def similarities(embedder: Embedder, found: FolderFeatures, texts: Sequence[str]) -> Float[ndarray, "M T"]:
    """Cosine similarity of each picture with each text."""
    return found.features @ embedder.encode_texts(list(texts)).float().cpu().numpy().T


def opened(model: Embedder | str | Path, device: str = "cpu") -> Embedder:
    """The model itself, or the one in a folder."""
    return load_embedder(model, device) if isinstance(model, str | Path) else model


def picture_size(embedder: Embedder) -> tuple[int, int]:
    """(height, width) at which a model reads pictures."""
    if isinstance(embedder, VLModel):
        return embedder.config.image.size
    side = int(getattr(embedder, "image_size", 224))
    return side, side


def has_fusion(model: VLModel) -> bool:
    """Whether a model sees image and text together."""
    return model.config.kind == "one-tower" or model.config.fusion.layers > 0


def _readable(
    pictures: Pictures, names: Sequence[str], height: int, width: int, unreadable: dict[str, str]
) -> Iterator[tuple[str, UInt8[ndarray, "H W 3"]]]:
    for name in names:
        try:
            yield name, resize(pictures.read(name, (height, width)), height, width)
        except PictureError as error:
            unreadable[name] = error.cause


def _warn(found: FolderFeatures) -> None:
    if found.unreadable:
        counts = ", ".join(f"{count} {cause}" for cause, count in found.causes().items())
        warnings.warn(f"{len(found.unreadable)} pictures left out: {counts}", stacklevel=3)

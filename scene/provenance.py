"""What a grounder was trained on, and whether an evaluation is therefore zero-shot.

pretrain-grounding writes it beside the model: training.json says the sources in words, training.safetensors holds an
8-byte digest of every scene and of every sentence with its scene, sorted; 2.5 million sentences take 20 MB. A digest
coincides by chance with one of a test of 10,000 sentences about once in a thousand million such tests.

Scans of one room count as one scene: ScanNet's scene0011_00 and scene0011_01 show the same walls and furniture.
Rescans of 3RScan carry no such sign in their names; there each scan counts by itself.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, UInt64
from numpy import ndarray

from core.errors import InputError, existing_file
from core.files import atomic_write, read_json
from scene.io import MANIFEST
from scene.store import SceneStore

FORMAT: Final = "sightline-training/1"
FILE, DIGESTS = "training.json", "training.safetensors"
SCANNET_SCAN: Final = re.compile(r"(scene\d{4})_\d{2}")
NOTHING: Final = np.zeros(0, np.uint64)


@dataclass(frozen=True)
class Corpus:
    """A folder of scenes that was trained on."""

    source: str  # see `source_of`
    manifest: str  # SHA-256 of its manifest.json

    @classmethod
    def of(cls, store: SceneStore) -> "Corpus":
        return cls(source_of(store), hashlib.sha256((store.folder / MANIFEST).read_bytes()).hexdigest())


def source_of(store: SceneStore) -> str:
    """Where scenes come from, as evaluations name it: procedural, procthor, scannet, hm3d, ...

    A dataset that is read from SceneVerse's release goes by its own name, so that ScanNet is ScanNet whoever packed it.
    """
    return str(store.manifest.get("dataset") or store.manifest["source"]).lower()


@dataclass(frozen=True, eq=False)
class Provenance:
    """Sources, scenes and sentences that a model was trained on, those of the model it started from included."""

    corpora: tuple[Corpus, ...] = ()
    scenes: UInt64[ndarray, " K"] = field(default_factory=lambda: NOTHING)  # sorted digests, each once
    sentences: UInt64[ndarray, " M"] = field(default_factory=lambda: NOTHING)
    complete: bool = True  # False: it started from weights of which nobody knows what they were trained on

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted({corpus.source for corpus in self.corpora}))

    @classmethod
    def collect(cls, stores: Iterable[SceneStore], sentences: Iterable[tuple[str, str]]) -> "Provenance":
        """Of a training run.

        Args:
            stores: the folders of scenes it read.
            sentences: (scene id, sentence) of everything the loss saw, in any order and any number of times.
        """
        ids = set[str]()

        def digests() -> Iterator[int]:
            for scene_id, text in sentences:
                ids.add(scene_id)
                yield sentence_digest(scene_id, text)

        said = np.unique(np.fromiter(digests(), np.uint64))
        corpora = tuple(sorted({Corpus.of(store) for store in stores}, key=lambda corpus: corpus.manifest))
        return cls(corpora, np.unique(np.fromiter(map(scene_digest, ids), np.uint64)), said)

    def after(self, earlier: "Provenance | None") -> "Provenance":
        """Of a model that was first trained on `earlier`; None = on nobody knows what."""
        if earlier is None:
            return Provenance(self.corpora, self.scenes, self.sentences, complete=False)
        return Provenance(
            tuple(sorted({*self.corpora, *earlier.corpora}, key=lambda corpus: corpus.manifest)),
            np.union1d(self.scenes, earlier.scenes),
            np.union1d(self.sentences, earlier.sentences),
            self.complete and earlier.complete,
        )

    def save(self, folder: str | Path) -> None:
        """Writes training.json and training.safetensors into a model's folder."""
        from safetensors.numpy import save

        raw = save({"scenes": self.scenes, "sentences": self.sentences}, metadata={"format": FORMAT})
        atomic_write(Path(folder) / DIGESTS, raw)
        said = {
            "format": FORMAT,
            "corpora": [asdict(corpus) for corpus in self.corpora],
            "scenes": len(self.scenes),
            "sentences": len(self.sentences),
            "complete": self.complete,
            "digests": hashlib.sha256(raw).hexdigest(),
        }
        atomic_write(Path(folder) / FILE, json.dumps(said, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "Provenance | None":
        """What `save` wrote; None where a model's folder does not say.

        Raises:
            MissingFileError, InputError: one of the two files is gone, damaged, or not the other's.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        folder = Path(folder).expanduser()
        if not (folder / FILE).exists():
            return None
        said = read_json(folder / FILE, "record of training data")
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            found = said.get("format") if isinstance(said, dict) else type(said).__name__
            raise InputError(f"{folder / FILE} has format {found!r}, expected {FORMAT!r}; train with this version")
        raw = existing_file(folder / DIGESTS, "digests of training data").read_bytes()
        if hashlib.sha256(raw).hexdigest() != said.get("digests"):
            raise InputError(f"{folder / DIGESTS} is damaged or of another model than {FILE}; copy both again")
        try:
            arrays = load(raw)
            corpora = tuple(Corpus(**corpus) for corpus in said["corpora"])
            return cls(corpora, arrays["scenes"], arrays["sentences"], bool(said["complete"]))
        except (SafetensorError, KeyError, TypeError) as error:
            raise InputError(f"{folder / FILE} lacks what {FORMAT} holds ({error}); copy it again") from error


@dataclass(frozen=True)
class Verdict:
    """How much of an evaluation a model has seen in training."""

    source: str  # of the evaluation's scenes
    scenes: int
    sentences: int
    scenes_seen: int = 0
    sentences_seen: int = 0
    source_seen: bool = False  # some scene of the source was trained on, one of the evaluation's or another
    trained_on: tuple[str, ...] = ()  # sources
    unknown: str = ""  # why nobody knows; then all of the above that speaks of training means nothing

    @property
    def zero_shot(self) -> bool | None:
        """No scene and no sentence of the evaluation's source was trained on; None = unknown."""
        return None if self.unknown else not (self.source_seen or self.scenes_seen or self.sentences_seen)

    def __str__(self) -> str:
        if self.unknown:
            return f"zero-shot or not is unknown: {self.unknown}"
        if self.zero_shot:
            trained = ", ".join(self.trained_on) or "nothing"
            return f"zero-shot: no scene and no sentence of {self.source} was trained on (trained on: {trained})"
        if not self.scenes_seen and not self.sentences_seen:
            return (
                f"not zero-shot: {self.source} was trained on, but none of these {self.scenes:,} scenes and none of "
                f"these {self.sentences:,} sentences"
            )
        if not self.sentences_seen:
            return (
                f"not zero-shot: {self.scenes_seen:,} of these {self.scenes:,} scenes were trained on, but none of "
                f"these {self.sentences:,} sentences"
            )
        return (
            f"not zero-shot: {self.scenes_seen:,} of these {self.scenes:,} scenes and {self.sentences_seen:,} of these "
            f"{self.sentences:,} sentences were trained on"
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "zero_shot": self.zero_shot, "text": str(self)}


def unseen(
    trained: Provenance | None,
    source: str,
    sentences: Sequence[tuple[str, str]],
    why_unknown: str = "the model's folder holds no training.json",
) -> Verdict:
    """Whether an evaluation's scenes and sentences are new to a model.

    Args:
        trained: what the model was trained on; None = unknown.
        source: of the evaluation's scenes (`source_of`).
        sentences: (scene id, sentence) of the evaluation.
        why_unknown: said where `trained` is None.
    """
    scenes = sorted({scene_id for scene_id, _ in sentences})
    if trained is not None and not trained.complete:
        why_unknown = "it started from weights that do not say what they were trained on"
    if trained is None or not trained.complete:
        return Verdict(source, len(scenes), len(sentences), unknown=why_unknown)
    return Verdict(
        source,
        len(scenes),
        len(sentences),
        scenes_seen=int(among(trained.scenes, map(scene_digest, scenes)).sum()),
        sentences_seen=int(among(trained.sentences, (sentence_digest(*pair) for pair in sentences)).sum()),
        source_seen=source in trained.sources,
        trained_on=trained.sources,
    )


def unseen_of_folder(folder: Path | None, source: str, sentences: Sequence[tuple[str, str]]) -> Verdict:
    """`unseen` for the model in a folder; None = predictions of a model that is not here."""
    if folder is None:
        return unseen(None, source, sentences, "a file of predictions does not say what its model was trained on")
    return unseen(Provenance.load(folder), source, sentences)


def among(known: UInt64[ndarray, " K"], asked: Iterable[int]) -> Bool[ndarray, " Q"]:
    """Which of the asked digests are known; `known` is sorted."""
    wanted = np.fromiter(asked, np.uint64)
    place = np.searchsorted(known, wanted)
    found = np.zeros(len(wanted), bool)
    inside = place < len(known)
    found[inside] = known[place[inside]] == wanted[inside]
    return found


def scene_digest(scene_id: str) -> int:
    """8 bytes of a scene's id, the same for every scan of one ScanNet room."""
    scan = SCANNET_SCAN.fullmatch(scene_id)
    return _digest(scan[1] if scan else scene_id)


def sentence_digest(scene_id: str, text: str) -> int:
    """8 bytes of a sentence about a scene, whatever its capitals, stops and spaces."""
    return _digest(f"{scene_id}\n{normalised(text)}")


def normalised(text: str) -> str:
    """Lower-case words with single spaces between."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).lower()))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

"""Counts of a corpus that fit in memory whatever its size, and that parts of a corpus add up to.

Nothing is kept per scene but its id, nothing per text. Values are counted in fixed bins; distinct texts are counted
exactly up to SKETCH of them and estimated beyond, from the SKETCH smallest hashes (Bar-Yossef et al., RANDOM 2002,
algorithm 2; relative error about 1 / sqrt(SKETCH), 1.6 %).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from core.errors import InputError
from scene.graph import SceneGraph
from scene.relations import FAMILIES, Relation
from scene.types import Scene

FORMAT: Final = "sightline-statistics/1"
TEXT_FIELDS: Final = {"utterance": "referral", "text": "caption", "question": "question"}
"""The field that holds a text's sentence, and what such a text is called."""
SKETCH: Final = 4096  # hashes of distinct texts kept
MAX_OBJECTS, MAX_WORDS, MAX_RIVALS = 1000, 100, 50  # larger values share the last bin
MARGIN_BIN, MARGIN_BINS = 0.05, 40  # margins of edges: bins of 0.05 (metres, or what the relation measures) up to 2
REASONS: Final = 100  # skipped scenes kept by name, and kinds of reasons counted apart
PATTERNS: Final = 2000  # patterns counted apart
OTHER: Final = "other"
_FAMILY: Final = {relation: name for name, members in FAMILIES.items() for relation in members}
_WORD: Final = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_DETAIL: Final = re.compile(r"'[^']*'|\"[^\"]*\"|\S*\d\S*")


class SkippedScene(Protocol):
    """A scene that was left out."""

    @property
    def name(self) -> str: ...
    @property
    def reason(self) -> str: ...


def words(sentence: str) -> list[str]:
    """Its words in lower case, without punctuation; "night-stand" and "lamp's" are one word each."""
    return _WORD.findall(sentence.lower())


def type_and_sentence(text: object) -> tuple[str, str]:
    """What kind of text this is (a value of TEXT_FIELDS), and what a reader reads: a situation before its question.

    Raises:
        InputError: an object without any of the fields of TEXT_FIELDS.
    """
    for name, kind in TEXT_FIELDS.items():
        sentence = getattr(text, name, None)
        if isinstance(sentence, str):
            situation = getattr(text, "situation", "")  # questions have one, perhaps an empty one
            return kind, f"{situation}: {sentence}" if situation else sentence
    raise InputError(f"{type(text).__name__} is no text: expected one of the fields {', '.join(TEXT_FIELDS)}")


class Distinct:
    """Counts distinct strings: the SKETCH smallest of their 64-bit hashes stand for all."""

    def __init__(self, hashes: Iterable[int] = ()) -> None:
        self._kept = set(hashes)
        self._limit = 2**64

    def add(self, text: str) -> None:
        value = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        if value < self._limit:
            self._kept.add(value)
            if len(self._kept) >= 2 * SKETCH:
                self._shrink()

    def merge(self, other: "Distinct") -> None:
        self._kept |= other._kept
        self._limit = min(self._limit, other._limit)
        self._shrink()

    def _shrink(self) -> None:
        if len(self._kept) > SKETCH:
            smallest = sorted(self._kept)[:SKETCH]
            self._kept, self._limit = set(smallest), smallest[-1]

    @property
    def hashes(self) -> list[int]:
        """The smallest, in order."""
        self._shrink()
        return sorted(self._kept)

    def __len__(self) -> int:
        """How many different strings were added: exact below SKETCH, an estimate from there on."""
        kept = self.hashes
        return len(kept) if len(kept) < SKETCH else round((SKETCH - 1) * 2**64 / kept[-1])

    def overlap(self, other: "Distinct") -> float:
        """The share of these strings that `other` has, too; exact while both have fewer than SKETCH."""
        mine, theirs = set(self.hashes), set(other.hashes)
        if not mine:
            return 0.0
        if len(mine) < SKETCH and len(theirs) < SKETCH:
            return len(mine & theirs) / len(mine)
        # below both limits either sketch is complete
        limit = min((max(kept) for kept in (mine, theirs) if len(kept) >= SKETCH), default=2**64)
        sample = [value for value in mine if value <= limit]
        return sum(value in theirs for value in sample) / len(sample) if sample else 0.0


@dataclass
class Statistics:
    """Counts of one split."""

    ids: list[str] = field(default_factory=list)
    objects: Counter[int] = field(default_factory=Counter)  # scenes by how many objects they hold, up to MAX_OBJECTS
    labels: Counter[str] = field(default_factory=Counter)  # objects of each class
    rooms: Counter[str] = field(default_factory=Counter)  # rooms of each kind
    room_objects: Counter[str] = field(default_factory=Counter)  # objects in rooms of each kind
    relations: Counter[str] = field(default_factory=Counter)  # graph edges of each relation
    margins: dict[str, list[int]] = field(default_factory=dict)  # per family, edges by margin in bins of MARGIN_BIN
    kinds: dict[str, Counter[str]] = field(default_factory=dict)  # per type of text, texts of each kind
    patterns: Counter[str] = field(default_factory=Counter)  # texts of each pattern
    lengths: dict[str, Counter[int]] = field(default_factory=dict)  # per type, texts by words, up to MAX_WORDS
    vocabulary: Counter[str] = field(default_factory=Counter)  # how often each word occurs
    distinct: dict[str, Distinct] = field(default_factory=dict)  # per type, different sentences
    rivals: Counter[int] = field(default_factory=Counter)  # referrals by things of the target's class in its room
    view_dependent: int = 0
    held_out: Counter[str] = field(
        default_factory=Counter
    )  # texts held out of training by each reason; a text may have several
    skipped: list[tuple[str, str]] = field(default_factory=list)  # the first REASONS: name, reason
    reasons: Counter[str] = field(default_factory=Counter)  # all skipped scenes by reason, without its particulars
    total_objects: int = 0
    most_objects: int = 0
    total_rivals: int = 0

    def add(self, scene: Scene, graph: SceneGraph, texts: Iterable[object]) -> None:
        """Counts a scene with everything said about it."""
        count = len(scene.objects)
        self.ids.append(scene.id)
        self.objects[min(count, MAX_OBJECTS)] += 1
        self.total_objects, self.most_objects = self.total_objects + count, max(self.most_objects, count)
        self.labels.update(scene.labels)
        self.rooms.update(room.kind for room in scene.rooms)
        places = np.asarray(graph.room)
        for room in scene.rooms:
            self.room_objects[room.kind] += int((places == room.id).sum())
        self._add_edges(graph)
        for text in texts:
            self.add_text(text)

    def _add_edges(self, graph: SceneGraph) -> None:
        values: dict[Relation, list[float]] = {}
        for edge in graph.edges:
            values.setdefault(edge.relation, []).append(edge.margin)
        for relation, margins in values.items():
            self.relations[relation.value] += len(margins)
            bins = self.margins.setdefault(_FAMILY[relation], [0] * MARGIN_BINS)
            places = np.clip((np.array(margins) / MARGIN_BIN).astype(int), 0, MARGIN_BINS - 1)
            for place, many in zip(*np.unique(places, return_counts=True)):
                bins[place] += int(many)

    def add_text(self, text: Any) -> None:
        """Counts one text."""
        name, sentence = type_and_sentence(text)
        said = words(sentence)
        self.kinds.setdefault(name, Counter())[text.kind] += 1
        self.lengths.setdefault(name, Counter())[min(len(said), MAX_WORDS)] += 1
        self.vocabulary.update(said)
        self.distinct.setdefault(name, Distinct()).add(sentence)
        if name == "question":
            self.vocabulary.update(words(" ".join(text.answers)))
        if pattern := getattr(text, "pattern", ""):  # captions and questions may have none
            _count(self.patterns, str(pattern), PATTERNS)
        self.held_out.update(reason for reason in getattr(text, "held_out", "").split(",") if reason)
        if name == "referral":
            self.view_dependent += bool(text.view_dependent)
            self.rivals[min(text.n_same_class, MAX_RIVALS)] += 1
            self.total_rivals += text.n_same_class

    def skip(self, skipped: SkippedScene) -> None:
        """Counts a scene that was left out."""
        _count(self.reasons, _DETAIL.sub("...", skipped.reason), REASONS)
        if len(self.skipped) < REASONS:
            self.skipped.append((skipped.name, skipped.reason))

    def merge(self, other: "Statistics") -> None:
        """Adds the counts of another part of the corpus, which comes after this one."""
        self.ids += other.ids
        for mine, theirs in ((self.objects, other.objects), (self.rivals, other.rivals)):
            mine.update(theirs)
        for name in ("labels", "rooms", "room_objects", "relations", "vocabulary", "held_out"):
            getattr(self, name).update(getattr(other, name))
        for counts, more, limit in ((self.patterns, other.patterns, PATTERNS), (self.reasons, other.reasons, REASONS)):
            for key, many in more.items():
                _count(counts, key, limit, many)
        for family, bins in other.margins.items():
            old = self.margins.get(family, [0] * MARGIN_BINS)
            self.margins[family] = [a + b for a, b in zip(old, bins)]
        for name in other.kinds:
            self.kinds.setdefault(name, Counter()).update(other.kinds[name])
            self.lengths.setdefault(name, Counter()).update(other.lengths[name])
            self.distinct.setdefault(name, Distinct()).merge(other.distinct[name])
        self.skipped = (self.skipped + other.skipped)[:REASONS]
        self.view_dependent += other.view_dependent
        self.total_objects += other.total_objects
        self.most_objects = max(self.most_objects, other.most_objects)
        self.total_rivals += other.total_rivals

    def to_json(self) -> str:
        """All counts as text; the same scenes in the same order give the same bytes, in one part or in several."""
        content: dict[str, Any] = {"format": FORMAT}
        for name, value in vars(self).items():
            if name == "distinct":
                value = {kind: sketch.hashes for kind, sketch in value.items()}
            content[name] = value
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Statistics":
        """Reads what `to_json` wrote. Raises InputError when it is something else or cut off."""
        try:
            raw = json.loads(text)
            if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
                raise ValueError(f"no {FORMAT!r} in its head")
            for name in ("objects", "rivals"):
                raw[name] = Counter({int(key): many for key, many in raw[name].items()})
            for name in ("labels", "rooms", "room_objects", "relations", "patterns", "vocabulary", "held_out",
                         "reasons"):  # fmt: skip
                raw[name] = Counter({key: int(many) for key, many in raw[name].items()})
            raw["kinds"] = {name: Counter(counts) for name, counts in raw["kinds"].items()}
            raw["lengths"] = {
                name: Counter({int(key): many for key, many in counts.items()})
                for name, counts in raw["lengths"].items()
            }
            raw["distinct"] = {name: Distinct(hashes) for name, hashes in raw["distinct"].items()}
            raw["skipped"] = [(name, reason) for name, reason in raw["skipped"]]
            return cls(**raw)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"no corpus statistics, or damaged ones ({error}); build the corpus again") from error

    @property
    def texts(self) -> dict[str, int]:
        """Texts of each type."""
        return {name: counts.total() for name, counts in sorted(self.kinds.items())}

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        referrals = self.kinds.get("referral", Counter())
        sentences = max(referrals.total(), 1)
        return {
            "homes": len(self.ids),
            "objects": self.total_objects,
            "objects_per_home": {
                "mean": round(self.total_objects / max(len(self.ids), 1), 1),
                "min": min(self.objects, default=0),
                "max": self.most_objects,
            },
            "classes": len(self.labels),
            "objects_by_class": dict(self.labels.most_common(100)),
            "rooms": dict(sorted(self.rooms.items())),
            "objects_by_room": dict(sorted(self.room_objects.items())),
            "referrals": referrals.total(),
            "referrals_by_kind": dict(sorted(referrals.items())),
            "view_dependent": self.view_dependent,
            "with_distractors": round((referrals.total() - self.rivals[1] - self.rivals[0]) / sentences, 3),
            "mean_same_class": round(self.total_rivals / sentences, 2),
            "relations": dict(sorted(self.relations.items())),
            "median_margin": {name: round(_median(bins), 3) for name, bins in sorted(self.margins.items())},
            "texts": self.texts,
            "texts_by_kind": {name: dict(sorted(counts.items())) for name, counts in sorted(self.kinds.items())},
            "texts_by_pattern": dict(sorted(self.patterns.items())),
            "words_per_text": {name: round(_mean(counts), 1) for name, counts in sorted(self.lengths.items())},
            "vocabulary": len(self.vocabulary),
            "distinct_share": {
                name: round(min(1.0, len(sketch) / max(self.texts[name], 1)), 3)
                for name, sketch in sorted(self.distinct.items())
            },
            "held_out": dict(sorted(self.held_out.items())),
            "skipped": self.reasons.total(),
            "skipped_by_reason": dict(self.reasons.most_common()),
            "skipped_reasons": dict(self.skipped),
        }


def overlaps(by_split: Mapping[str, Statistics], trained: str = "train") -> dict[str, dict[str, float]]:
    """Per other split and type of text, the share of its different sentences that the training split has, too."""
    known = by_split[trained].distinct if trained in by_split else {}
    return {
        split: {name: sketch.overlap(known[name]) for name, sketch in sorted(part.distinct.items()) if name in known}
        for split, part in by_split.items()
        if split != trained and known
    }


def _count(counts: Counter[str], key: str, limit: int, many: int = 1) -> None:
    """Counts `key` by itself while there are fewer than `limit` keys, among OTHER afterwards."""
    counts[key if key in counts or len(counts) < limit else OTHER] += many


def _mean(counts: Counter[int]) -> float:
    return sum(key * many for key, many in counts.items()) / max(counts.total(), 1)


def _median(bins: list[int]) -> float:
    """The middle of the bin that holds the median."""
    half = np.searchsorted(np.cumsum(bins), 0.5 * sum(bins))
    return (float(half) + 0.5) * MARGIN_BIN

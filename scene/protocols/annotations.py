"""Annotation files of benchmarks: rows that know their place, and official ids found among the loaded scenes."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.errors import InputError, check_choice, existing_file
from scene.protocols.records import Example
from scene.types import SceneObject

Scenes = Mapping[str, Sequence[SceneObject]]
"""Scene id -> its objects, as `{scene.id: scene.objects for scene in load(...)}`."""
VIEW_WORDS: Final = frozenset(
    ("front", "behind", "back", "right", "left", "facing", "leftmost", "rightmost", "looking", "across")
)
"""A sentence with one of these tokens depends on the viewer (ReferIt3D, Achlioptas et al., ECCV 2020)."""
VIEWS: Final = ("view-dependent", "view-independent")
ON_FAULT: Final = ("error", "skip")
UNKNOWN_SCENE: Final = "scene not loaded"
MISSING_TARGET: Final = "target not in the scene"


@dataclass(frozen=True)
class Row:
    """One sentence or question of an annotation file."""

    file: Path
    number: int  # from 0, a csv's header not counted
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """For errors: the file, and the row counted from 1."""
        return f"{self.file}, row {self.number + 1}"

    def text(self, key: str) -> str:
        """A non-empty text. Raises InputError for anything else."""
        value = self.values[key]
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{self.where}: {key} is {value!r}, expected a text that is not empty")
        return value.strip()

    def id(self, key: str) -> str:
        """An official id, a whole number or text, as text. Raises InputError for anything else."""
        return self._as_id(key, self.values[key])

    def ids(self, key: str) -> list[str]:
        """A list of official ids; may be empty. Raises InputError for anything else."""
        listed = self.values[key]
        if not isinstance(listed, list):
            raise InputError(f"{self.where}: {key} is {listed!r}, expected a list of object ids")
        return [self._as_id(key, item) for item in listed]

    def flag(self, key: str) -> bool:
        """True or False, also as the text of it. Raises InputError for anything else."""
        found = {"true": True, "false": False}.get(str(self.values[key]).strip().lower())
        if found is None:
            raise InputError(f"{self.where}: {key} is {self.values[key]!r}, expected True or False")
        return found

    def _as_id(self, key: str, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise InputError(f"{self.where}: {key} is {value!r}, expected an id (a whole number, or text)")
        return str(value).strip()


def read_rows(path: str | Path, what: str, needed: Sequence[str]) -> list[Row]:
    """The rows of a .json (a list of objects), .jsonl (one object a line) or .csv file.

    Args:
        what: names the file in errors, e.g. "ScanRefer annotations".
        needed: keys or columns that every row must have; others are kept, too.

    Raises:
        MissingFileError: not there. InputError: empty, truncated, of another format, or a row that lacks a key.
    """
    file = existing_file(path, what)
    readers = {".json": _json, ".jsonl": _jsonl, ".csv": _csv}
    if file.suffix not in readers:
        raise InputError(f"{what} are {file.name!r}, expected a file that ends in {', '.join(readers)}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} are no UTF-8 text: {file} ({error}); copy the file again") from error
    rows = [Row(file, number, item) for number, item in enumerate(readers[file.suffix](file, text))]
    if not rows:
        raise InputError(f"{what} hold no rows: {file}")
    for row in rows:
        lacking = [key for key in needed if key not in row.values]
        if lacking:
            raise InputError(
                f"{row.where} lacks {', '.join(lacking)}; it has {', '.join(map(str, row.values))}. Expected "
                f"{what} with {', '.join(needed)}"
            )
    return rows


def _json(file: Path, text: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file} is truncated or not JSON ({error}); copy it again") from error
    if not isinstance(content, list):
        found = f" with keys {', '.join(list(content)[:8])}" if isinstance(content, dict) else ""
        raise InputError(f"{file} holds a {type(content).__name__}{found}, expected a list of rows")
    return [_checked(file, number, item) for number, item in enumerate(content, start=1)]


def _jsonl(file: Path, text: str) -> list[dict[str, Any]]:
    items = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                items.append(_checked(file, number, json.loads(line)))
            except json.JSONDecodeError as error:
                raise InputError(f"{file}, line {number} is truncated or not JSON ({error}); copy it again") from error
    return items


def _csv(file: Path, text: str) -> list[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *lines = [line for line in reader if line]
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num} is truncated or no CSV ({error}); copy it again") from error
    except ValueError as error:  # nothing but blank lines
        raise InputError(f"{file} holds no header and no rows") from error
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise InputError(
                f"{file}, row {number} has {len(line)} values for the {len(header)} columns {', '.join(header)}; is "
                "the file truncated?"
            )
    return [dict(zip(header, line)) for line in lines]


def _checked(file: Path, number: int, item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InputError(f"{file}, row {number} is a {type(item).__name__}, expected an object with keys")
    return item


class Loaded(list[Example]):
    """The examples of an annotation file, and which of its rows are not among them.

    Attributes:
        left_out: id -> why it is no example.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left_out: dict[str, str] = {}
        self._seen: set[str] = set()

    def take(self, row: Row, example: Example) -> None:
        """Adds an example. Raises InputError when its id stands twice in the file."""
        self._once(row, example.id)
        self.append(example)

    def leave(self, row: Row, example_id: str, why: str) -> None:
        """Counts a row that is left out."""
        self._once(row, example_id)
        self.left_out[example_id] = why

    def report(self) -> str:
        """One line of counts, for the log."""
        counts = Counter(self.left_out.values()).most_common()
        why = ", ".join(f"{count} {reason}" for reason, count in counts)
        return f"{len(self)} examples" + (f"; left out: {why}" if why else "")

    def checked(self, path: str | Path) -> "Loaded":
        """Itself. Raises InputError when no example is left."""
        if not self:
            raise InputError(f"{path}: nothing is left to evaluate on ({self.report()})")
        return self

    def _once(self, row: Row, example_id: str) -> None:
        if example_id in self._seen:
            raise InputError(f"{row.where}: the id {example_id} stands twice in the file; ids must differ")
        self._seen.add(example_id)


class Placing:
    """Finds official object ids in the loaded scenes; what cannot be found is an error, or is left out and counted.

    Args:
        unknown_scenes: "error", or "skip" rows of scenes that are not loaded.
        missing_targets: "error", or "skip" rows with a target that its scene lacks.
        official: ids are the source's; False = our own, indices into the scene's objects.
    """

    def __init__(
        self, scenes: Scenes, out: Loaded, unknown_scenes: str, missing_targets: str, *, official: bool = True
    ) -> None:
        check_choice("unknown_scenes", unknown_scenes, ON_FAULT)
        check_choice("missing_targets", missing_targets, ON_FAULT)
        self.scenes, self.out, self._official = scenes, out, official
        self._skip_scenes, self._skip_targets = unknown_scenes == "skip", missing_targets == "skip"
        self._index: dict[str, dict[str, int]] = {}

    def find(self, row: Row, example_id: str, scene_id: str, official: Sequence[str]) -> tuple[int, ...] | None:
        """Indices into the scene's objects; None = the row was left out.

        Raises:
            InputError: the scene is not loaded or lacks one of the objects, and such rows are not to be skipped.
        """
        if scene_id not in self.scenes:
            if not self._skip_scenes:
                some = ", ".join(list(self.scenes)[:3])
                raise InputError(
                    f"{row.where}: scene {scene_id!r} is not among the {len(self.scenes)} loaded scenes ({some}, ...); "
                    "load it, too, or leave such rows out with unknown_scenes=skip"
                )
            self.out.leave(row, example_id, UNKNOWN_SCENE)
            return None
        if scene_id not in self._index:
            objects = self.scenes[scene_id]
            self._index[scene_id] = {item.source_id if self._official else str(item.id): item.id for item in objects}
        known = self._index[scene_id]
        lacking = [item for item in official if item not in known]
        if not lacking:
            return tuple(known[item] for item in official)
        if not self._skip_targets:
            raise InputError(
                f"{row.where}: scene {scene_id} has no object {', '.join(lacking)}; its {len(known)} objects have the "
                f"ids {', '.join(list(known)[:8])}, ... Is it the scan the annotations were made for? Leave such rows "
                "out with missing_targets=skip"
            )
        self.out.leave(row, example_id, MISSING_TARGET)
        return None

    def boxes(self, scene_id: str, targets: Sequence[int]) -> tuple[tuple[float, ...], ...]:
        """Boxes of objects of a scene, 7 numbers each."""
        return tuple(tuple(float(v) for v in self.scenes[scene_id][index].box) for index in targets)

    def alike(self, scene_id: str, target: int) -> int:
        """How many objects of the scene have the target's label, itself included."""
        labels = [item.label for item in self.scenes[scene_id]]
        return labels.count(labels[target])


def view_group(tokens: Sequence[str]) -> str:
    """Whether one of the tokens means nothing without a viewer."""
    return VIEWS[0] if VIEW_WORDS.intersection(tokens) else VIEWS[1]


_STIMULUS: Final = re.compile(r"(?P<scan>[^-]+)-(?P<label>.+?)-(?P<count>\d+)-(?P<target>\d+)(?P<others>(?:-\d+)*)")


def stimulus(row: Row) -> tuple[int, str]:
    """Of ReferIt3D's stimulus_id, "scan-label-n-target-distractor-...": n, and the target's id.

    n counts the target and its distractors of the same class.

    Raises:
        InputError: another form, or not n - 1 distractors.
    """
    found = _STIMULUS.fullmatch(row.text("stimulus_id"))
    distractors = found["others"].count("-") if found else 0
    if found is None or distractors != int(found["count"]) - 1:
        raise InputError(
            f"{row.where}: stimulus_id is {row.values['stimulus_id']!r}, expected scan-label-n-target and n - 1 "
            "distractors, e.g. scene0011_00-chair-2-4-7"
        )
    return int(found["count"]), found["target"]

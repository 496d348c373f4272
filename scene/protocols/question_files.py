"""Annotation files of questions: JSON rows whose fields are checked, and what every benchmark of questions shares."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from core.errors import InputError
from core.files import read_json
from scene.protocols.records import Example
from scene.types import SceneObject

Field = TypeVar("Field")


@dataclass(frozen=True)
class Row:
    """One entry of an annotation file."""

    values: Mapping[str, Any]
    where: str  # "entry 3 of FILE"

    def get(self, name: str, kind: type[Field]) -> Field:
        """A field of the entry.

        Raises:
            InputError: it is absent, of another type, or an empty text.
        """
        if name not in self.values:
            raise InputError(f"{self.where} has no {name!r}; it has {', '.join(map(repr, self.values)) or 'nothing'}")
        value = self.values[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise InputError(f"{self.where}: {name!r} is {value!r}, expected {kind.__name__}")
        if isinstance(value, str) and not value.strip():
            raise InputError(f"{self.where}: {name!r} is empty")
        return value

    def number(self, name: str, part: str) -> float:
        """A finite number in a field that is itself a dictionary. Raises InputError as `get`."""
        value = self.get(name, dict).get(part)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"{self.where}: {part!r} of {name!r} is {value!r}, expected a number")
        return float(value)

    def row(self, name: str, value: Any) -> "Row":
        """An entry within this one. Raises InputError when it is no dictionary."""
        if not isinstance(value, dict):
            raise InputError(f"{self.where}: {name} is {value!r}, expected a dictionary")
        return Row(value, f"{self.where}, {name}")


def rows_of(path: str | Path, what: str, key: str = "") -> Iterator[Row]:
    """The entries of an annotation file: a JSON list, or the list under `key` of a dictionary.

    Raises:
        MissingFileError: not there. InputError: empty, truncated, or of another form.
    """
    content = read_json(path, what)
    if key:
        if not isinstance(content, dict) or key not in content:
            raise InputError(f"{what} {path} should be a dictionary with {key!r}, but is {_form(content)}")
        content = content[key]
    if not isinstance(content, list) or not content:
        raise InputError(f"{what} {path} should be a list of entries, but is {_form(content)}")
    for number, values in enumerate(content):
        if not isinstance(values, dict):
            raise InputError(f"entry {number} of {path} is {values!r}, expected a dictionary")
        yield Row(values, f"entry {number} of {path}")


def _form(content: Any) -> str:
    if isinstance(content, dict):
        return "a dictionary with " + (", ".join(map(repr, list(content)[:8])) or "nothing")
    return f"a list of {len(content)}" if isinstance(content, list) else type(content).__name__


def checked(examples: Sequence[Example], path: str | Path) -> list[Example]:
    """The examples, when no two have one id. Raises InputError otherwise."""
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise InputError(f"{path} has two questions with the id {example.id!r}")
        seen.add(example.id)
    return list(examples)


def objects_of(scene_id: str, scenes: Mapping[str, Sequence[SceneObject]] | None, where: str) -> dict[str, int] | None:
    """What each object of a scan is called in the raw data, and its index; None when no scans are at hand.

    Raises:
        InputError: scans are at hand, but not this one.
    """
    if scenes is None:
        return None
    if scene_id not in scenes:
        raise InputError(f"{where} asks about {scene_id!r}, which is not among the {len(scenes)} scenes at hand")
    return {item.source_id: item.id for item in scenes[scene_id]}

"""Reading releases: JSON and JSON lines (plain or .gz) with errors that name the line, and pictures checked by name."""

import gzip
import json
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import InputError, MissingFileError, existing_file
from vl.tasks.task import Example

if TYPE_CHECKING:
    from vl.pictures import Pictures

SHOWN = 3  # missing pictures named in an error


def read_text(path: Path, what: str) -> str:
    """A text file, unpacked where its name ends in .gz.

    Raises:
        MissingFileError: not there. InputError: empty, cut short, not UTF-8.
    """
    existing_file(path, what)
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{what} is cut short or no gzip file: {path} ({error}); download it again") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} is not UTF-8 text: {path} ({error}); download it again") from error


def json_lines(path: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each record is ("FILE, line 7") and the record, of a file with one JSON object a line; blank lines pass.

    Raises:
        MissingFileError: not there. InputError: a line that is no JSON object, named by its number.
    """
    # not splitlines(): sentences may hold U+2028, which JSON leaves as it is
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{what}: {where} is cut short or not JSON ({error.msg}); download it again") from error
        if not isinstance(record, dict):
            raise InputError(f"{what}: {where} holds {type(record).__name__}; expected one JSON object a line")
        yield where, record


def json_content(path: Path, what: str) -> Any:
    """The content of a JSON file, plain or .gz.

    Raises:
        MissingFileError: not there. InputError: cut short or not JSON, with the line it fails on.
    """
    try:
        return json.loads(read_text(path, what))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{what} is cut short or not JSON: {path}, line {error.lineno} ({error.msg}); download it again"
        ) from error


def text_field(record: dict[str, Any], name: str, where: str) -> str:
    """A field that must be there as text.

    Raises:
        InputError: absent, or not text, or blank.
    """
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        have = ", ".join(sorted(record)) or "none"
        raise InputError(f"{where}: field {name!r} should be text, got {value!r} (fields there: {have})")
    return value


def one_label(value: object, labels: Collection[str], where: str) -> str:
    """A label in lower case, when it is one of `labels`; JSON's true and false count as words.

    Raises:
        InputError: another label.
    """
    label = str(value).strip().lower()
    if label not in labels:
        raise InputError(f"{where}: label {value!r} is none of {', '.join(labels)}")
    return label


def first_there(places: Sequence[Path], what: str) -> Path:
    """The first of several places a file or folder may be in.

    Raises:
        MissingFileError: none exists; the message lists them.
    """
    for place in places:
        if place.exists():
            return place
    raise MissingFileError(f"{what} not found; looked for {', '.join(str(place) for place in places)}")


def check_folder(folder: Path, task: str) -> None:
    """Raises MissingFileError unless `folder` is a folder."""
    if not folder.is_dir():
        raise MissingFileError(f"{task}: data={folder} is not a folder (working folder: {Path.cwd()})")


def pictures_there(
    place: Path, names: Collection[str], inside: Sequence[str] = ("",)
) -> tuple["Pictures", str, set[str]]:
    """The pictures of a folder or .zip, what precedes a name in it, and which of `names` are there.

    Args:
        inside: where in an archive the pictures may be: COCO's train2014.zip holds them in "train2014/".

    Raises:
        MissingFileError: no such place. InputError: no whole zip archive.
    """
    from vl.pictures import Pictures

    pictures = Pictures(place)
    if place.is_dir():
        return pictures, "", {name for name in names if (place / name).is_file()}
    held = set(pictures.names())
    prefix = next((start for start in inside if any(start + name in held for name in names)), "")
    return pictures, prefix, {name for name in names if prefix + name in held}


def open_pictures(
    place: Path, names: Iterable[str], what: str, inside: Sequence[str] = ("",)
) -> tuple["Pictures", str]:
    """The pictures of a folder or .zip after a look that all `names` are there, and what precedes a name in it.

    Raises:
        MissingFileError: pictures that are not there, the first ones named. InputError: as `pictures_there`.
    """
    wanted = list(dict.fromkeys(names))
    pictures, prefix, there = pictures_there(place, wanted, inside)
    check_none_missing([name for name in wanted if name not in there], len(wanted), place, what)
    return pictures, prefix


def check_none_missing(missing: Sequence[str], wanted: int, place: Path, what: str) -> None:
    """Raises MissingFileError, naming the first of the pictures that are not in `place`, where there are any."""
    if missing:
        named = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
        raise MissingFileError(f"{what}: {len(missing)} of {wanted} pictures are not in {place}: {named}")


def with_prefix(examples: list[Example], prefix: str) -> list[Example]:
    """The same examples, their pictures' names preceded by `prefix`."""
    if not prefix:
        return examples
    return [replace(example, pictures=tuple(prefix + name for name in example.pictures)) for example in examples]

"""A small strict reader of PLY files: ascii and both binary forms, nothing guessed and nothing left over.

Every byte has to be where the header says: too few, too many, a list of another length or a face that names no vertex
is an error, so that a half-copied scan is noticed when it is read. Rows have one layout each: a list has the same
length in all rows, and faces are triangles.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy import ndarray

from core.errors import InputError, existing_file

TYPES: Final = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip
ORDERS: Final = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
FACE_LISTS: Final = ("vertex_indices", "vertex_index")
HEADER_LIMIT: Final = 65_536  # bytes; a header is some lines of text

_END = re.compile(rb"^end_header[ \t]*\r?\n", re.MULTILINE)


@dataclass
class _Property:
    name: str
    item: str  # numpy code of a value, or of the values of a list
    count: str = ""  # numpy code of a list's length; "" = no list


@dataclass
class _Element:
    name: str
    rows: int
    properties: list[_Property] = field(default_factory=list)


def read_ply(path: str | Path) -> dict[str, dict[str, ndarray]]:
    """Element -> property -> values, e.g. `read_ply(p)["vertex"]["x"]` of shape (V,).

    Scalars keep the type the file gives them. A list property is (rows, k), where every row has to hold k values;
    integer lists are int32. `vertex_indices` (or `vertex_index`) must hold triangles of vertices that exist.

    Raises:
        MissingFileError: not there.
        InputError: no PLY file, truncated or too long (names expected and found bytes or numbers), lists of unequal
            length, faces that are no triangles or name no vertex, a number that its type cannot hold.
    """
    path = existing_file(path, "PLY file")
    data = path.read_bytes()
    order, elements, start = _header(data, path)
    read = _ascii if order == "=" else _binary
    table = read(data[start:], order, elements, path)
    vertices = next((element.rows for element in elements if element.name == "vertex"), None)
    for element in elements:
        for name in FACE_LISTS:
            faces = table[element.name].get(name)
            if faces is None or faces.ndim != 2 or not len(faces):
                continue
            if faces.shape[1] != 3:
                raise InputError(
                    f"{path}: {element.name} 0 has {faces.shape[1]} corners, expected triangles; triangulate the mesh"
                )
            if vertices is not None and (faces.min() < 0 or faces.max() >= vertices):
                raise InputError(
                    f"{path}: faces name vertices {faces.min()}..{faces.max()}, but there are 0..{vertices - 1}"
                )
    return table


def _header(data: bytes, path: Path) -> tuple[str, list[_Element], int]:
    """Byte order ("=" for ascii), elements, and where the content starts."""
    if not re.match(rb"ply[ \t]*\r?\n", data):
        raise InputError(f"{path} is no PLY file: it starts with {data[:8]!r}, expected b'ply'")
    end = _END.search(data, 0, HEADER_LIMIT)
    if end is None:
        raise InputError(f"{path} is truncated or no PLY file: no end_header in its first {HEADER_LIMIT} bytes")
    order = ""
    elements: list[_Element] = []
    for number, line in enumerate(data[: end.start()].decode("latin-1").splitlines()[1:], start=2):
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        fault = InputError(f"{path}, line {number}: {line!r} is no line of a PLY header")
        if words[0] == "format" and len(words) == 3 and not order:
            if words[1] not in ORDERS or words[2] != "1.0":
                raise InputError(f"{path}: PLY format {' '.join(words[1:])!r}, expected one of {', '.join(ORDERS)} 1.0")
            order = ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and re.fullmatch(r"[0-9]{1,12}", words[2]):
            if words[1] in (element.name for element in elements):
                raise fault
            elements.append(_Element(words[1], int(words[2])))
        elif words[0] == "property" and elements:
            elements[-1].properties.append(_property(words[1:], elements[-1], fault))
        else:
            raise fault
    if not order or not elements:
        raise InputError(f"{path}: its PLY header names no {'element' if order else 'format'}")
    return order, elements, end.end()


def _property(words: list[str], element: _Element, fault: InputError) -> _Property:
    taken = {item.name for item in element.properties}
    if len(words) == 2 and words[0] in TYPES and words[1] not in taken:
        return _Property(words[1], TYPES[words[0]])
    if len(words) == 4 and words[0] == "list" and words[3] not in taken:
        count, item = TYPES.get(words[1], ""), TYPES.get(words[2], "")
        if item and count[:1] in ("i", "u"):
            return _Property(words[3], item, count)
    raise fault


def _binary(data: bytes, order: str, elements: list[_Element], path: Path) -> dict[str, dict[str, ndarray]]:
    table: dict[str, dict[str, ndarray]] = {}
    at = 0
    for element in elements:
        fields: list[Any] = []  # of a numpy record: (name, type) or (name, type, shape)
        for k, item in enumerate(element.properties):
            if not item.count:
                fields.append((f"v{k}", order + item.item))
                continue
            fields.append((f"n{k}", order + item.count))
            before = np.dtype(fields).itemsize
            # every row is as long as the first one, whose lists tell where the next property stands
            length = 0
            if element.rows:
                first = data[at + before - np.dtype(item.count).itemsize : at + before]
                if len(first) < np.dtype(item.count).itemsize:
                    raise _short(path, element, at + before, len(data))
                length = int(np.frombuffer(first, order + item.count)[0])
            if length < 0 or at + before + length > len(data):
                raise InputError(f"{path}: the first {element.name} has a list {item.name!r} of {length} values")
            fields.append((f"v{k}", order + item.item, (length,)))
        layout = np.dtype(fields)
        need = at + element.rows * layout.itemsize
        if need > len(data):
            raise _short(path, element, need, len(data))
        rows = np.frombuffer(data, layout, element.rows, at) if layout.itemsize else np.zeros(element.rows, layout)
        table[element.name] = {}
        for k, item in enumerate(element.properties):
            values = rows[f"v{k}"]
            if item.count:
                _same_length(rows[f"n{k}"], element, item, path)
            table[element.name][item.name] = _own(values, item, element, path)
        at = need
    if at != len(data):
        raise InputError(f"{path}: {len(data)} bytes after the header, expected {at}; it is damaged")
    return table


def _short(path: Path, element: _Element, expected: int, found: int) -> InputError:
    return InputError(
        f"{path} is truncated in its {element.name} table: expected at least {expected} bytes after the header, "
        f"found {found}; copy it again"
    )


def _same_length(lengths: ndarray, element: _Element, item: _Property, path: Path) -> None:
    other = np.flatnonzero(lengths != lengths[:1])
    if len(other):
        raise InputError(
            f"{path}: the list {item.name!r} of {element.name} {other[0]} has {int(lengths[other[0]])} values, the "
            f"first has {int(lengths[0])}; expected one length (triangulate the mesh, or the file is damaged)"
        )


def _own(values: ndarray, item: _Property, element: _Element, path: Path) -> ndarray:
    """Values in this machine's byte order, on their own; integer lists as int32."""
    if not item.count or item.item[0] == "f":
        return values.astype(item.item)
    if values.size and values.max() > np.iinfo(np.int32).max:
        raise InputError(f"{path}: the list {item.name!r} of {element.name} holds {values.max()}, beyond int32")
    return values.astype(np.int32)


def _ascii(data: bytes, order: str, elements: list[_Element], path: Path) -> dict[str, dict[str, ndarray]]:
    words = data.split()
    table: dict[str, dict[str, ndarray]] = {}
    at = 0
    for element in elements:
        # column of each property's first value (of its count, for lists); rows are as long as the first one
        columns: list[tuple[_Property, int, int]] = []
        width = 0
        for item in element.properties:
            length = 1
            if item.count:
                if element.rows and at + width >= len(words):
                    raise _few(path, element, at + width + 1, len(words))
                length = int(_numbers([words[at + width]], item.count, element, path)[0]) if element.rows else 0
                if length < 0 or at + width + length > len(words):
                    raise InputError(f"{path}: the first {element.name} has a list {item.name!r} of {length} values")
            columns.append((item, width, length))
            width += length + bool(item.count)
        need = at + element.rows * width
        if need > len(words):
            raise _few(path, element, need, len(words))
        table[element.name] = {}
        for item, column, length in columns:
            if not item.count:
                table[element.name][item.name] = _numbers(words[at + column : need : width], item.item, element, path)
                continue
            _same_length(_numbers(words[at + column : need : width], item.count, element, path), element, item, path)
            parts = [
                _numbers(words[at + column + 1 + k : need : width], item.item, element, path) for k in range(length)
            ]
            values = np.stack(parts, axis=1) if parts else np.zeros((element.rows, 0), item.item)
            table[element.name][item.name] = _own(values, item, element, path)
        at = need
    if at != len(words):
        raise InputError(f"{path}: {len(words)} numbers after the header, expected {at}; it is damaged")
    return table


def _few(path: Path, element: _Element, expected: int, found: int) -> InputError:
    return InputError(
        f"{path} is truncated in its {element.name} table: expected at least {expected} numbers after the header, "
        f"found {found}; copy it again"
    )


def _numbers(words: list[bytes], code: str, element: _Element, path: Path) -> ndarray:
    """Words as numbers of a type that can hold them."""
    try:
        values = np.array(words, dtype="S").astype(np.float64) if words else np.zeros(0)
    except ValueError as error:
        raise InputError(f"{path}: a {element.name} holds something that is no number ({error})") from error
    if code[0] == "f":
        with np.errstate(over="ignore"):
            return values.astype(code)
    limits = np.iinfo(code)
    wrong = ~((values >= limits.min) & (values <= limits.max) & (values == np.floor(values)))
    if wrong.any():
        word = words[int(np.flatnonzero(wrong)[0])].decode("latin-1")
        raise InputError(f"{path}: a {element.name} holds {word}, expected a whole number {limits.min}..{limits.max}")
    return values.astype(code)

"""What a user knows about a scan, in files beside it: ids of points, labels of ids, boxes, masks, splits, poses.

JSON, CSV, .npy and .npz only; nothing is unpickled. docs/sources/custom.md shows each form. All lengths are in the
scan's own unit and frame.
"""

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from core.errors import InputError, existing_file
from scene.datasets.scan_files import whole_numbers

ID_FILES: Final = (".npy", ".npz", ".json", ".csv")
TABLE_FILES: Final = (".json", ".csv")
MOST_MASK_BYTES: Final = 4 << 30  # unpacked; a mask file that claims more is damaged or hostile


@dataclass(frozen=True)
class RawBox:
    """A box in the scan's own frame; `yaw` turns about its up axis, counter-clockwise seen from above."""

    id: str
    label: str
    center: Float64[ndarray, "3"]
    size: Float64[ndarray, "3"]
    yaw_rad: float


def text_of(path: Path, what: str) -> str:
    """A file as UTF-8 text, with or without a byte order mark. Raises InputError when it is something else."""
    try:
        return existing_file(path, what).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is no UTF-8 text ({error}); save it as UTF-8") from error


def json_of(path: Path, what: str) -> Any:
    """A JSON value in which no object has a key twice.

    Raises:
        InputError: not JSON, truncated, nested beyond reason, or a key that comes twice.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = sorted({name for name in names if names.count(name) > 1})
            raise InputError(f"{what} {path} holds {', '.join(map(repr, twice[:5]))} twice; keep one of them")
        return found

    try:
        return json.loads(text_of(path, what), object_pairs_hook=once)
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{what} {path} is damaged or not JSON ({error})") from error


def csv_of(path: Path, what: str, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file whose first line names at least the columns `needed`."""
    reader = csv.DictReader(io.StringIO(text_of(path, what), newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        missing = [name for name in needed if name not in columns]
        if missing or len(set(columns)) < len(columns):
            raise InputError(
                f"{what} {path}: its first line names the columns {columns}, expected {', '.join(needed)}, each once"
            )
        rows = list(reader)
    except csv.Error as error:
        raise InputError(f"{what} {path} is no CSV file ({error})") from error
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise InputError(f"{what} {path}, row {line}: expected {len(columns)} values, one per column")
    return rows


def label_text(value: Any, where: str) -> str:
    """A label as scenes use it: lower case, one space between words. Raises InputError for what is no text."""
    text = " ".join(value.lower().split()) if isinstance(value, str) else ""
    if not text or not text.isprintable():
        raise InputError(f"{where}: label {value!r} should be a word or some, e.g. 'office chair'")
    return text


def read_labels(path: str | Path) -> dict[int, str]:
    """Id -> label: {"3": "chair"} or [{"id": 3, "label": "chair"}] in JSON, columns id,label in CSV.

    Raises:
        InputError: another ending or form, an id twice or no whole number, a label without letters.
    """
    path = Path(path).expanduser()
    what = "labels file"
    _check_ending(path, what, TABLE_FILES)
    if path.suffix.lower() == ".csv":
        pairs = [(row["id"], row["label"]) for row in csv_of(path, what, ("id", "label"))]
    else:
        value = json_of(path, what)
        value = value["labels"] if isinstance(value, dict) and isinstance(value.get("labels"), dict | list) else value
        if isinstance(value, dict):
            pairs = list(value.items())
        elif isinstance(value, list) and all(
            isinstance(item, dict) and {"id", "label"} <= item.keys() for item in value
        ):
            pairs = [(item["id"], item["label"]) for item in value]
        else:
            raise InputError(f'{what} {path} should hold {{"3": "chair", ...}} or [{{"id": 3, "label": "chair"}}, ...]')
    labels: dict[int, str] = {}
    for name, label in pairs:
        try:
            number = int(str(name).strip())
        except ValueError:
            raise InputError(f"{what} {path}: id {name!r} is no whole number") from None
        if number in labels:
            raise InputError(f"{what} {path} names id {number} twice; keep one of them")
        labels[number] = label_text(label, f"{what} {path}, id {number}")
    return labels


def read_instances(path: str | Path, count: int) -> Int64[ndarray, " P"]:
    """One id per point, in the scan's order: an array in .npy or .npz, a JSON list, or a CSV column `instance`.

    Raises:
        InputError: another ending or form, pickled content, ids that are no whole numbers or not one per point.
    """
    path = Path(path).expanduser()
    what = "instance file"
    _check_ending(path, what, ID_FILES)
    suffix = path.suffix.lower()
    values: Any
    if suffix == ".csv":
        values = [_number(row["instance"], f"{what} {path}") for row in csv_of(path, what, ("instance",))]
    elif suffix == ".json":
        values = json_of(path, what)
        values = values.get("instance") if isinstance(values, dict) else values
        if not isinstance(values, list) or not all(type(item) in (int, float) for item in values):
            raise InputError(f'{what} {path} should hold a list of numbers, or {{"instance": [...]}}')
    else:
        arrays = _arrays(path, what)
        if suffix == ".npz" and "instance" not in arrays and len(arrays) != 1:
            raise InputError(f"{what} {path} holds {sorted(arrays)}, expected an array 'instance'")
        values = arrays["instance"] if "instance" in arrays else next(iter(arrays.values()))
    try:
        ids = whole_numbers(
            np.asarray(values).squeeze(axis=1) if np.ndim(values) == 2 else np.asarray(values), str(path)
        )
    except (ValueError, OverflowError) as error:
        raise InputError(f"{what} {path}: {error}") from error
    if len(ids) != count:
        raise InputError(f"{what} {path} holds {len(ids)} ids, but the scan has {count} points; they belong together")
    return ids


def _check_ending(path: Path, what: str, endings: Sequence[str]) -> None:
    if path.suffix.lower() not in endings:
        raise InputError(f"{what} {path} ends in {path.suffix!r}, expected {' or '.join(endings)}")


def _number(value: Any, where: str) -> float:
    """A finite number, from JSON or from text."""
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else np.nan
    except (ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{where}: {value!r} is no finite number")
    return number


def numbers(value: Any, shape: tuple[int, ...], where: str) -> Float64[ndarray, "..."]:
    """A list (of lists) of finite numbers of that shape. Raises InputError when it is something else."""
    if not isinstance(value, list) or len(value) != shape[0]:
        raise InputError(f"{where}: {str(value)[:80]} should be {' x '.join(map(str, shape))} numbers")
    if len(shape) > 1:
        return np.stack([numbers(row, shape[1:], where) for row in value])
    return np.array([_number(item, where) for item in value])


def _arrays(path: Path, what: str) -> dict[str, ndarray]:
    """The arrays of a .npy or .npz file, never unpickled."""
    existing_file(path, what)
    try:
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                size = sum(item.file_size for item in archive.infolist())
            if size > MOST_MASK_BYTES:
                raise InputError(f"{what} {path} unpacks to {size >> 20} MB, more than {MOST_MASK_BYTES >> 20}")
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except Exception as error:  # zip, zlib and numpy's header parser raise whatever the damage trips over first
        hint = "it holds pickled objects, which are never run; save plain arrays" if "pickle" in str(error) else error
        raise InputError(f"{what} {path} is no readable {path.suffix} of plain arrays: {hint}") from error


def read_masks(path: str | Path, count: int) -> tuple[Int64[ndarray, " P"], dict[int, str]]:
    """Ids of points from a mask file, and labels where it has them. Where masks overlap, the smaller one wins.

    The .npz holds `mask`, (instances, points), boolean or numbers where other than 0 means inside; or the arrays that
    scipy.sparse.save_npz writes (csr, csc, coo). `label`, where there, is one text per instance. Ids are mask rows.

    Raises:
        InputError: another ending or form, pickled content, another number of points, a mask without points.
    """
    path = Path(path).expanduser()
    what = "mask file"
    _check_ending(path, what, (".npz",))
    arrays = _arrays(path, what)
    if "mask" in arrays:
        mask = arrays["mask"]
        if mask.ndim != 2 or mask.dtype.kind not in "biuf":
            raise InputError(
                f"{what} {path}: mask has shape {mask.shape} and type {mask.dtype}, expected (N, P) boolean"
            )
        shape, (row, column) = mask.shape, np.nonzero(mask)
    elif {"format", "shape", "data"} <= arrays.keys():
        shape, row, column = _sparse(arrays, f"{what} {path}")
    else:
        raise InputError(f"{what} {path} holds {sorted(arrays)}, expected 'mask', or what scipy.sparse.save_npz writes")
    if shape[1] != count:
        raise InputError(f"{what} {path} is {shape[0]} x {shape[1]}, but the scan has {count} points (columns)")
    size = np.bincount(row, minlength=shape[0])
    if (size == 0).any():
        raise InputError(f"{what} {path}: masks {np.flatnonzero(size == 0)[:8].tolist()} hold no point; drop them")
    ids = np.full(count, -1, dtype=np.int64)
    order = np.lexsort((row, -size[row]))  # the smallest last, to win
    ids[column[order]] = row[order]
    labels: dict[int, str] = {}
    if "label" in arrays:
        if arrays["label"].shape != (shape[0],) or arrays["label"].dtype.kind != "U":
            raise InputError(f"{what} {path}: label should be {shape[0]} texts, got {arrays['label'].dtype}")
        labels = {k: label_text(str(text), f"{what} {path}, mask {k}") for k, text in enumerate(arrays["label"])}
    return ids, labels


def _sparse(
    arrays: dict[str, ndarray], where: str
) -> tuple[tuple[int, int], Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Shape, rows and columns of a sparse matrix that scipy saved, from its arrays."""
    kind = arrays["format"].tobytes().rstrip(b"\x00").decode("ascii", "replace").replace("\x00", "")
    try:
        rows, columns = (int(n) for n in arrays["shape"].tolist())
        kept = arrays["data"] != 0
        if kind == "coo":
            row, column = arrays["row"].astype(np.int64), arrays["col"].astype(np.int64)
        elif kind in ("csr", "csc"):
            pointer, index = arrays["indptr"].astype(np.int64), arrays["indices"].astype(np.int64)
            major, minor = (rows, columns) if kind == "csr" else (columns, rows)
            if pointer.shape != (major + 1,) or pointer[0] or pointer[-1] != len(index) or (np.diff(pointer) < 0).any():
                raise ValueError("indptr does not fit its shape")
            outer = np.repeat(np.arange(major), np.diff(pointer))
            row, column = (outer, index) if kind == "csr" else (index, outer)
        else:
            raise ValueError(f"format {kind!r}, expected csr, csc or coo")
        if not row.shape == column.shape == kept.shape or kept.ndim != 1:
            raise ValueError("data and indices differ in length")
        if len(row) and (min(row.min(), column.min()) < 0 or row.max() >= rows or column.max() >= columns):
            raise ValueError("an index lies outside its shape")
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{where} is no sparse matrix of scipy's: {error}") from error
    return (rows, columns), row[kept], column[kept]


def read_boxes(path: str | Path) -> list[RawBox]:
    """Boxes of a scan's things, in its own frame and unit.

    JSON: [{"label": "chair", "center": [x, y, z], "size": [dx, dy, dz], "yaw": 0.0, "id": "3"}, ...], also under
    "boxes"; yaw (radians) and id may be left out. CSV: columns label,x,y,z,dx,dy,dz and, if wanted, yaw,id.

    Raises:
        InputError: another ending or form, sizes that are not positive, numbers that are not finite, an id twice.
    """
    path = Path(path).expanduser()
    what = "boxes file"
    _check_ending(path, what, TABLE_FILES)
    entries: Any
    if path.suffix.lower() == ".csv":
        entries = [
            {"label": row["label"], "center": [row[k] for k in "xyz"], "size": [row[k] for k in ("dx", "dy", "dz")]}
            | {k: row[k] for k in ("yaw", "id") if row.get(k)}
            for row in csv_of(path, what, ("label", "x", "y", "z", "dx", "dy", "dz"))
        ]  # fmt: skip
    else:
        entries = json_of(path, what)
        entries = entries.get("boxes") if isinstance(entries, dict) else entries
        if not isinstance(entries, list) or not all(isinstance(item, dict) for item in entries):
            raise InputError(f'{what} {path} should hold [{{"label": ..., "center": [3], "size": [3], "yaw": 0}}, ...]')
    if not entries:
        raise InputError(f"{what} {path} lists no boxes; without it a scan gets geometric proposals")
    boxes = []
    for index, item in enumerate(entries):
        where = f"{what} {path}, box {index}"
        lacks = {"label", "center", "size"} - item.keys()
        if lacks:
            raise InputError(f"{where} lacks {', '.join(sorted(lacks))}")
        size = numbers(item["size"], (3,), f"{where}, size")
        if (size <= 0).any():
            raise InputError(f"{where} ({item['label']}): size {size.tolist()} should be positive; give full extents")
        boxes.append(
            RawBox(
                str(item.get("id", index)),
                label_text(item["label"], where),
                numbers(item["center"], (3,), f"{where}, center"),
                size,
                _number(item.get("yaw", 0.0), f"{where}, yaw"),
            )
        )
    names = [box.id for box in boxes]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{what} {path} names the ids {twice[:5]} twice; keep one of each")
    return boxes


def read_splits(path: Path, homes: Sequence[str]) -> dict[str, list[str]]:
    """splits.json: {"train": [names], "val": [...], "test": [...]}, each home in exactly one of them.

    Raises:
        InputError: another form, a home that is not there, in two splits or in none.
    """
    value = json_of(path, "splits file")
    sound = isinstance(value, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in value.values()
    )
    if not sound or set(value) - {"train", "val", "test"}:
        raise InputError(f'splits file {path} should hold {{"train": [...], "val": [...], "test": [...]}} of names')
    listed = [name for names in value.values() for name in names]
    faults = {
        "names homes that are not there": sorted(set(listed) - set(homes)),
        "names homes twice": sorted({name for name in listed if listed.count(name) > 1}),
        "leaves homes out": sorted(set(homes) - set(listed)),
    }
    for fault, names in faults.items():
        if names:
            raise InputError(f"splits file {path} {fault}: {', '.join(names[:5])}; homes: {', '.join(homes[:5])}")
    return value

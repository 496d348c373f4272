"""A scan of unit boxes in a row, and files in the official schemas, for the tests of the protocols."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scene.types import SceneObject


def scan(*labels: str, first_id: int = 10) -> list[SceneObject]:
    """Unit boxes at x = 0, 10, 20, ...; source ids first_id, first_id + 1, ..."""
    return [
        SceneObject(k, label, np.array([10.0 * k, 0, 0, 1, 1, 1, 0]), source_id=str(first_id + k))
        for k, label in enumerate(labels)
    ]


def box(x: float, size: float = 1.0) -> tuple[float, ...]:
    """A box along the axes, `size` long in x and 1 in y and z."""
    return (x, 0.0, 0.0, size, 1.0, 1.0, 0.0)


def json_file(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def jsonl_file(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def csv_file(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path

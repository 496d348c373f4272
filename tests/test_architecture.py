"""ARCHITECTURE.md names every file of the packages, and no other."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
NAME = re.compile(r"`([\w/]+\.py)`")


def files(package: str) -> set[str]:
    """Modules below a package's folder; a package's own __init__.py needs no line."""
    found = (path.relative_to(ROOT / package).as_posix() for path in (ROOT / package).rglob("*.py"))
    return {name for name in found if Path(name).name != "__init__.py"}


def named(page: str, package: str) -> list[str]:
    """Files in the first column of the table under `## package: ...`."""
    _, _, section = page.partition(f"\n## {package}:")
    rows = section.partition("\n## ")[0].splitlines()
    return [name for row in rows if row.startswith("|") for name in NAME.findall(row.split("|")[1])]


@pytest.mark.parametrize("package", ["core", "vl", "scene", "envs", "agents", "sightline"])
def test_every_file_has_one_line_and_every_line_a_file(package: str):
    names = named(PAGE, package)
    assert len(set(names)) == len(names)
    assert set(names) == files(package)


def test_files_named_in_running_text_exist():
    text = "\n".join(line for line in PAGE.splitlines() if not line.startswith("|"))
    assert [name for name in NAME.findall(text) if not (ROOT / name).is_file()] == []


def test_a_forgotten_file_would_be_found():
    assert named("# Map\n\n## core: x\n\n| `a.py`, `b/c.py` | `d.py` |\n\n## vl: y\n| `e.py` | f |\n", "core") == [
        "a.py",
        "b/c.py",
    ]

"""Foreign packages that carry our names are noticed."""

import sys
from pathlib import Path

import pytest

from core.packages import check_packages, describe_foreign, foreign_packages


def test_here_every_package_is_ours():
    assert foreign_packages() == {}
    check_packages()


@pytest.mark.parametrize("kind", ["package", "namespace"])
def test_a_foreign_package_is_named_with_its_place(tmp_path: Path, monkeypatch, kind: str):
    folder = tmp_path / "site-packages" / "zoo_agents"
    folder.mkdir(parents=True)
    if kind == "package":
        (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder.parent)
    assert foreign_packages(("zoo_agents",)) == {"zoo_agents": str(folder)}


def test_a_missing_package_counts_as_hidden():
    assert foreign_packages(("no_such_package",)) == {"no_such_package": "nowhere"}
    assert "make setup" in describe_foreign("no_such_package", "nowhere")


def test_the_message_names_the_distribution_to_uninstall():
    place = next(path for path in sys.path if path.endswith("site-packages")) + "/pytest"
    message = describe_foreign("pytest", place)
    assert "hides Sightline's own" in message and "pip uninstall pytest" in message


def test_a_folder_of_the_working_directory_is_told_to_be_renamed(tmp_path: Path):
    assert "start from another folder" in describe_foreign("configs", str(tmp_path / "configs"))

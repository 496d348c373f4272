"""Where trained grounders are on disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.errors import InputError
from core.run import CONFIG, RESULT

DEPTH: Final = 3  # folders below runs/ that are looked through: runs/<job>/<date>, runs/stages/<stage>


def model_folder(path: str | Path) -> Path:
    """The folder that holds a grounder: `path`, or model/ in it."""
    inner = Path(path).expanduser() / "model"
    return inner if (inner / "config.json").is_file() else Path(path).expanduser()


def newest_model(runs: str | Path = "runs") -> Path:
    """The grounder of the pretrain-grounding run below `runs` that finished last.

    Raises:
        InputError: there is none.
    """
    found = [(run.stat().st_mtime, run.parent) for run in _finished(Path(runs), DEPTH)]
    if not found:
        raise InputError(
            f"no finished pretrain-grounding run in {Path(runs).absolute()}; give model=FOLDER, or train one: "
            "sightline pretrain-grounding scenes=SCENES"
        )
    return model_folder(max(found)[1])


def _finished(folder: Path, depth: int) -> Iterator[Path]:
    """result.json of every finished pretrain-grounding run in a folder."""
    if (folder / CONFIG).is_file():
        if (folder / RESULT).is_file() and (folder / "model/config.json").is_file() and _is_training(folder):
            yield folder / RESULT
        return
    if depth and folder.is_dir():
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _finished(inner, depth - 1)


def _is_training(folder: Path) -> bool:
    """Whether the run is of pretrain-grounding; its configuration says so in its second line."""
    lines = (folder / CONFIG).read_text(encoding="utf-8", errors="replace").splitlines()[:3]
    if not any(line.strip() == "job: pretrain-grounding" for line in lines):
        return False
    try:
        json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except ValueError:
        return False  # cut off while it was written
    return True

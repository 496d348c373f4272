"""ALFRED's demonstrations as text: goals and step instructions that people wrote, and the plan they describe.

Reads lines of ALFRED's traj_data.json (Shridhar et al., arXiv:1912.01734), gzipped, from a folder with
train_sample800.jsonl.gz and valid_seen.jsonl.gz. Low-level actions and poses are left aside.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from agents.subgoals.step_sequences import Step, Steps
from core.errors import InputError, MissingFileError, check_choice, existing_file

FILES: Final = {"train": "train_sample800.jsonl.gz", "valid_seen": "valid_seen.jsonl.gz"}
END: Final = "NoOp"
"""What most plans end in; others stop at their last step."""
DATA_VARIABLE: Final = "SIGHTLINE_DATA"


@dataclass(frozen=True)
class Telling:
    """How one person told a demonstration."""

    goal: str
    instructions: tuple[str, ...]  # one a step; empty where the person wrote more or fewer than there are steps


@dataclass(frozen=True)
class Demonstration:
    """One task done once by ALFRED's planner."""

    trial: str
    task: str  # kind and things, e.g. pick_heat_then_place_in_recep-Egg-None-SinkBasin-7; several trials may share it
    kind: str  # one of ALFRED's seven kinds of tasks
    steps: Steps
    tellings: tuple[Telling, ...]


@dataclass(frozen=True)
class Split:
    """What a file holds."""

    demonstrations: tuple[Demonstration, ...]
    dropped: tuple[str, ...] = ()  # trials with a step about a thing without a name

    @property
    def goals(self) -> list[tuple[str, Demonstration]]:
        """Every goal sentence with what it asks for."""
        return [(telling.goal, demo) for demo in self.demonstrations for telling in demo.tellings]

    @property
    def instructions(self) -> list[tuple[str, Step]]:
        """Every step instruction with its step."""
        return [
            pair
            for demo in self.demonstrations
            for telling in demo.tellings
            for pair in zip(telling.instructions, demo.steps)
        ]


def data_folder(data: str) -> Path:
    """The folder given, or alfred/ in the one that SIGHTLINE_DATA names.

    Raises:
        MissingFileError: neither is given.
    """
    if data:
        return Path(data).expanduser()
    root = os.environ.get(DATA_VARIABLE, "")
    if not root:
        raise MissingFileError(f"where ALFRED lies is not known: give data=FOLDER or set {DATA_VARIABLE}=FOLDER")
    return Path(root) / "alfred"


def read(folder: str | Path, split: str) -> Split:
    """A split of the folder.

    Raises:
        InputError: an unknown split, a missing or damaged file, or a line that is no demonstration; with its number.
    """
    check_choice("split", split, FILES)
    path = existing_file(Path(folder) / FILES[split], f"ALFRED's {split} split")
    demonstrations, dropped = [], []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                found = _demonstration(_object(line, path, number), f"{path}, line {number}")
                if isinstance(found, str):
                    dropped.append(found)
                else:
                    demonstrations.append(found)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as gzipped text ({error}); fetch it again") from error
    if not demonstrations:
        raise InputError(f"{path} holds no demonstration")
    return Split(tuple(demonstrations), tuple(dropped))


def held_out(split: Split, share: float) -> tuple[Split, Split]:
    """The split without, and of, about this share of its tasks; all trials of a task go together.

    Which tasks are held out depends on their names alone, so every seed trains and tunes on the same.

    Raises:
        InputError: nothing would be left on one side.
    """

    def out(demo: Demonstration) -> bool:
        return int.from_bytes(hashlib.sha256(demo.task.encode()).digest()[:8]) < share * 2**64

    kept = tuple(demo for demo in split.demonstrations if not out(demo))
    held = tuple(demo for demo in split.demonstrations if out(demo))
    if not kept or not held:
        raise InputError(
            f"holding out {share:g} of {len(split.demonstrations)} demonstrations leaves {len(kept)} to train on and "
            f"{len(held)} to tune on; both need some"
        )
    return Split(kept, split.dropped), Split(held)


def _object(line: str, path: Path, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}, line {number} is no JSON: {line[:60]!r}") from error


def _demonstration(record: Any, place: str) -> Demonstration | str:
    """The demonstration of a line, or the trial's name where a step is about a thing without a name."""
    try:
        parts = PurePosixPath(record["_path"]).parts
        trial, task, kind = str(record["task_id"]), parts[-3], str(record["task_type"])
        rows = [(a["discrete_action"]["action"], a["discrete_action"]["args"]) for a in record["plan"]["high_pddl"]]
        told = [(a["task_desc"], a["high_descs"]) for a in record["turk_annotations"]["anns"]]
    except (KeyError, IndexError, TypeError) as error:
        raise InputError(f"{place} is no demonstration of ALFRED: {type(error).__name__} {error}") from error
    if not all(isinstance(text, str) for goal, words in told for text in (goal, *words)):
        raise InputError(f"{place}: goals and instructions should be text")
    if any(action == END for action, _ in rows[:-1]):
        raise InputError(f"{place}: {END} stands before the end of the plan")
    rows = [(action, args) for action, args in rows if action != END]
    if not rows or not told:
        raise InputError(f"{place} has {len(rows)} steps and {len(told)} goals; expected at least one of each")
    if any("" in args for _, args in rows):
        return trial
    try:
        steps = tuple(Step(action, *args) for action, args in rows)
    except (InputError, TypeError) as error:
        raise InputError(f"{place}: {error}") from error
    return Demonstration(trial, task, kind, steps, tuple(_telling(goal, words, len(steps)) for goal, words in told))


def _telling(goal: str, words: Sequence[str], steps: int) -> Telling:
    return Telling(goal.strip(), tuple(text.strip() for text in words) if len(words) == steps else ())

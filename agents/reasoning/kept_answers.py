"""Answers kept while an evaluation runs, so that one that was killed asks only what it had not asked."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from agents.reasoning.ways import Answered
from core.errors import InputError
from core.files import atomic_write, plain, read_json

GIVEN: Final = "given.json"


class KeptAnswers:
    """A folder with a file for each set of questions that was asked in one way; each is whole or absent.

    Attributes:
        seconds: that it took to get what was there when the folder was opened.
    """

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        """
        Args:
            given: fingerprints of what answers depend on beside the configuration, by what it is called.

        Raises:
            InputError: the folder holds answers to other questions, or of another model; the message names which.
        """
        self.folder = folder
        note = folder / GIVEN
        before = read_json(note, "note of kept answers") if note.is_file() else dict(given)
        changed = [name for name in sorted({*before, *given}) if before.get(name) != given.get(name)]
        if changed:
            raise InputError(
                f"{folder.parent} was begun with other content of {', '.join(changed)}: its answers so far are not to "
                "these. Put back what was there to continue, or choose another out="
            )
        atomic_write(note, json.dumps(dict(given)) + "\n")
        found = [read_json(file, "kept answers") for file in folder.glob("*.json") if file != note]
        self.seconds = sum(float(each["seconds"]) for each in found)

    def take(self, number: int, way: str) -> Answered | None:
        """What was answered; None where it was not, or not to the end.

        Args:
            number: of the set of questions.
        """
        file = self._file(number, way)
        if not file.is_file():
            return None
        kept = read_json(file, "kept answers")
        tokens = tuple(tuple(tuple(answer) for answer in row) for row in kept["tokens"])
        return Answered(tuple(tuple(row) for row in kept["texts"]), tokens, np.array(kept["ended"], dtype=bool))

    def keep(self, number: int, way: str, answered: Answered, seconds: float) -> None:
        """Writes down what was answered, and how long that took."""
        atomic_write(self._file(number, way), json.dumps({**plain(answered), "seconds": seconds}) + "\n")

    def remove(self) -> None:
        """Once the result is written nothing of it is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int, way: str) -> Path:
        return self.folder / f"{number}-{way.replace(' ', '-')}.json"

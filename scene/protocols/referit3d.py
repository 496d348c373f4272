"""Nr3D and Sr3D (ReferIt3D, Achlioptas et al., ECCV 2020): choose the target among a ScanNet scan's annotated objects.

Input: nr3d.csv or sr3d.csv, with the columns scan_id, target_id, utterance, stimulus_id, and tokens (a Python list as
text; Sr3D may lack it), mentions_target_class and correct_guess where such rows are filtered. Example ids are
"scan_id|target_id|row", rows counted from 0 in the file. SceneVerse's annotations/refer/{nr3d,sr3d}.jsonl is read, too,
with its item_id as id.

A target is hard when more than two objects are of its class, itself included. ReferIt3D takes that number from
stimulus_id; the released code of 3D-VisTA and GPS counts labels in the scan. Both stand in the table, the second
as "easy (scan)" and "hard (scan)"; a jsonl without stimulus_id has the second alone.
ReferIt3D's code averages five runs of differently drawn points; a file of predictions holds one.
"""

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from core.errors import InputError
from scene.protocols.annotations import VIEWS, Loaded, Placing, Row, Scenes, read_rows, stimulus, view_group
from scene.protocols.grounding_metrics import Predictions, accuracy_at_iou, accuracy_of_choice, by_boxes
from scene.protocols.metric import Metric
from scene.protocols.records import Example

EASY_MAX: Final = 2  # objects of the target's class, itself included
MAX_TOKENS: Final = 24
GROUPS: Final = ("easy", "hard", "easy (scan)", "hard (scan)", *VIEWS)


def load_nr3d(
    path: str | Path,
    scenes: Scenes,
    *,
    max_tokens: int = MAX_TOKENS,
    mentions_target_class: bool = True,
    correct_guess: bool = False,
    unknown_scenes: str = "skip",
    missing_targets: str = "error",
) -> Loaded:
    """The utterances of Nr3D about the loaded scans; what is left out is counted.

    Args:
        scenes: objects of the scans, with ScanNet's object ids as source ids.
        max_tokens: longer utterances are dropped, as in ReferIt3D's code; 0 = keep all.
        mentions_target_class: keep only rows whose column of that name is True, as ReferIt3D's code does; a jsonl
            has no such column and is kept whole.
        correct_guess: keep only rows that a human listener understood, by the column of that name.
        unknown_scenes: "skip" rows of scans that are not loaded (the file holds all splits), or "error".
        missing_targets: "error", or "skip" rows whose target its scan lacks.

    Raises:
        MissingFileError, InputError: the file is absent, damaged or of another kind; a target is unknown; or no row
            is left.
    """
    flags = ("mentions_target_class",) * mentions_target_class + ("correct_guess",) * correct_guess
    return _load(path, scenes, "Nr3D annotations", ("tokens",), flags, max_tokens, unknown_scenes, missing_targets)


def load_sr3d(
    path: str | Path,
    scenes: Scenes,
    *,
    max_tokens: int = MAX_TOKENS,
    unknown_scenes: str = "skip",
    missing_targets: str = "error",
) -> Loaded:
    """The utterances of Sr3D; arguments and errors as `load_nr3d`. Without tokens, words between spaces count."""
    return _load(path, scenes, "Sr3D annotations", (), (), max_tokens, unknown_scenes, missing_targets)


def _load(
    path: str | Path,
    scenes: Scenes,
    what: str,
    further: Sequence[str],
    flags: Sequence[str],
    max_tokens: int,
    unknown_scenes: str,
    missing_targets: str,
) -> Loaded:
    official = Path(path).suffix == ".csv"
    if not official:
        flags = [flag for flag in flags if flag == "correct_guess"]
    keys = ("stimulus_id", *further) if official else ("item_id",)
    rows = read_rows(path, what, ("scan_id", "target_id", "utterance", *keys, *flags))
    out = Loaded()
    placing = Placing(scenes, out, unknown_scenes, missing_targets)
    for row in rows:
        scan, target = row.text("scan_id"), row.id("target_id")
        name = f"{scan}|{target}|{row.number}" if official else row.id("item_id")
        text, tokens = row.text("utterance"), _tokens(row)
        dropped = [f"not {flag}" for flag in flags if not row.flag(flag)]
        if max_tokens and len(tokens) > max_tokens:
            dropped.append(f"longer than {max_tokens} tokens")
        if dropped:
            out.leave(row, name, dropped[0])
            continue
        found = placing.find(row, name, scan, [target])
        if found is None:
            continue
        groups = [_difficulty(placing.alike(scan, found[0])) + " (scan)", view_group(tokens)]
        if "stimulus_id" in row.values:
            count, meant = stimulus(row)
            if meant != target:
                raise InputError(f"{row.where}: target_id is {target}, but stimulus_id names {meant}")
            groups.insert(0, _difficulty(count))
        out.take(row, Example(name, scan, text, found, placing.boxes(scan, found), groups=tuple(groups)))
    return out.checked(path)


def _difficulty(alike: int) -> str:
    return "easy" if alike <= EASY_MAX else "hard"


def _tokens(row: Row) -> list[str]:
    """The column of that name, a list or a Python literal of one; where there is none, words between spaces."""
    if "tokens" not in row.values:
        return row.text("utterance").lower().split()
    value = row.values["tokens"]
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)  # evaluates literals only: runs nothing
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise InputError(f"{row.where}: tokens are no Python list of words: {str(value)[:80]!r}") from error
    if not isinstance(value, list) or not all(isinstance(token, str) for token in value):
        raise InputError(f"{row.where}: tokens are {str(value)[:80]!r}, expected a list of words")
    return value


def measure(examples: Sequence[Example], predictions: Predictions, objects: Scenes) -> list[Metric]:
    """Accuracy of the chosen object; of boxes or of other proposals, Acc@0.25 and Acc@0.5 (the "detection" track).

    Args:
        objects: scene id -> what predicted objects index: the scans' annotated objects, or other proposals.
    """
    if by_boxes(examples, predictions, objects):
        return accuracy_at_iou(examples, predictions, objects)
    return [accuracy_of_choice(examples, predictions)]

"""Files in ALFRED's form with a few made-up demonstrations."""

import gzip
import json
from pathlib import Path
from typing import Any

APPLE = [
    ("GotoLocation", ["fridge"]),
    ("PickupObject", ["apple"]),
    ("GotoLocation", ["countertop"]),
    ("PutObject", ["apple", "countertop"]),
]


SIMPLE = "pick_and_place_simple-Apple-None-CounterTop-1"


def record(
    plan: list[tuple[str, list[str]]],
    goals: list[str],
    task: str = SIMPLE,
    trial: str = "t0",
    instructions: list[str] | None = None,
    end: bool = True,
) -> dict[str, Any]:
    """A line of the file."""
    rows = [*plan, ("NoOp", [])] if end else plan
    words = [f"{action} {' '.join(args)}" for action, args in plan] if instructions is None else instructions
    return {
        "_path": f"data/json_2.1.0/train/{task}/{trial}/traj_data.json",
        "task_id": trial,
        "task_type": task.split("-")[0],
        "plan": {"high_pddl": [{"discrete_action": {"action": action, "args": args}} for action, args in rows]},
        "turk_annotations": {"anns": [{"task_desc": goal, "high_descs": words} for goal in goals]},
    }


def moves(thing: str, place: str) -> list[tuple[str, list[str]]]:
    """A plan that moves a thing from the table to a place."""
    return [
        ("GotoLocation", ["table"]),
        ("PickupObject", [thing]),
        ("GotoLocation", [place]),
        ("PutObject", [thing, place]),
    ]


def write(folder: Path, records: list[dict[str, Any]], name: str = "train_sample800.jsonl.gz") -> Path:
    """A gzipped file of lines."""
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / name, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in records)
    return folder


def small_folder(folder: Path) -> Path:
    """Both files: things moved to places, every pair in training or in valid_seen."""
    pairs = [
        (thing, place) for thing in ("apple", "mug", "book", "pen", "cup") for place in ("bed", "sofa", "shelf", "desk")
    ]
    records = [
        record(moves(thing, place), [f"put the {thing} on the {place}", f"move a {thing} to the {place}"],
               f"pick_and_place_simple-{thing}-None-{place}-1", f"{thing}-{place}")
        for thing, place in pairs
    ]  # fmt: skip
    write(folder, [row for k, row in enumerate(records) if k % 5])
    return write(folder, records[::5], "valid_seen.jsonl.gz")

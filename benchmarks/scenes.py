"""Scene graphs and corpora, measured: python -m benchmarks.scenes [--quick] [--out FOLDER]

1. Support against the houses' own nesting, on the 9 val houses (benchmarks/support_truth.py).
2. Graphs per second of one core, over all 38 houses.
3. Growth: houses side by side, 250 to 2,000 things, with their rooms and as one scan without rooms.
4. The same bytes in another process with another hash seed; no pair of edges that contradict each other.
5. Generated homes with their texts, written as a corpus (benchmarks/corpus.py).

Needs the data folder that SIGHTLINE_DATA names (exit code 2 without it). Ends with a line per target; exit code 1 when
one is short, 2 after an error. `--out` writes scenes.md there, with machine, date and command.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Final

os.environ["OMP_NUM_THREADS"] = "1"  # figures are of one core

import numpy as np

from benchmarks import corpus, support_truth
from benchmarks.homes import procthor_houses
from benchmarks.verdict import Target, judged, machine
from scene.datasets.procthor import load
from scene.graph import SceneGraph, build_graph
from scene.relations import CONVERSES
from scene.types import Room, Scene

SIZES: Final = (250, 500, 1_000, 2_000)  # things at least, houses side by side
SLOPE_UP_TO: Final = 1_000
PEER: Final = """\
SceneVerse's released script (`preprocess/ssg`, commit 140d172, boxes as point clouds), measured elsewhere, on one core
of a Xeon at 2.1 GHz, over all 38 houses: nested recall 69.8 % and precision 93.6 % as given, 97.5 % and 95.4 % settled;
358 nested things said to hang on a wall (18 settled); 83 things with several supporters; 60 pairs each above the other;
0.25 s for the graph of a median house; 290, 508 and 890 things side by side in 5.6, 17 and 59 s (slope 1.87); no file
the same bytes in two processes. Another processor and other runs than ours, and all houses where our support is of the
9 val houses: a ratio would not be a measurement."""
UNSEEN: Final = """\
Thresholds were chosen on the 29 train houses (there: recall 1,009 of 1,010, precision 1,009 of 1,010). The val houses
were first measured with recall 353/356, precision 353/354 and one nested thing said to hang on a wall, a TV wider than
its stand; that a wide thing is carried while its middle is over the supporter was added after that, so this one is not
unseen."""


@dataclass(frozen=True)
class Part:
    """What one measurement found."""

    title: str
    lines: list[str]  # Markdown
    targets: list[Target]


@dataclass(frozen=True)
class Houses:
    """What is measured on."""

    path: Path
    scenes: list[Scene]
    quick: bool


def support(houses: Houses) -> Part:
    """Who rests on what, on the val houses."""
    outcomes = support_truth.evaluate(houses.path, "val")
    given, settled = outcomes["as given"], outcomes["settled"]
    targets = [
        Target("nested_precision_percent", 100 * given.nested.precision, 98),
        Target("nested_recall_percent", 100 * given.nested.recall, 97),
        Target("settled_nested_precision_percent", 100 * settled.nested.precision, 98),
        Target("settled_nested_recall_percent", 100 * settled.nested.recall, 97.5),
        Target("nested_said_to_hang_on_a_wall", given.nested_on_wall + settled.nested_on_wall, 0, least=False),
        Target("things_without_exactly_one_supporter", given.supporters_not_one, 0, least=False),
    ]
    head = f"{given.houses} val houses, {given.objects} things (doors and windows among them)."
    lines = [head, "", *support_truth.table(outcomes), "", UNSEEN]
    return Part("Support against the houses' own nesting", lines, targets)


def seconds_of(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median processor and wall seconds of one call, after one that does not count."""
    work()
    taken = []
    for _ in range(rounds):
        processor, wall = time.process_time(), time.perf_counter()
        work()
        taken.append((time.process_time() - processor, time.perf_counter() - wall))
    processor, wall = np.median(np.array(taken), axis=0)
    return float(processor), float(wall)


def speed(houses: Houses) -> Part:
    """Graphs per second of one core."""
    scenes = houses.scenes
    processor, wall = seconds_of(lambda: [build_graph(scene) for scene in scenes], 5 if houses.quick else 25)
    things = sum(len(scene.objects) for scene in scenes)
    edges = sum(len(build_graph(scene).table) for scene in scenes)
    lines = [
        f"{len(scenes)} houses, {things / len(scenes):.0f} things and {edges / len(scenes):.0f} edges on average: "
        f"{len(scenes) / processor:.0f} graphs per second of one core's time, {len(scenes) / wall:.0f} on the clock "
        "(median over rounds; houses loaded, edges as columns)."
    ]
    return Part("Speed", lines, [Target("houses_per_second", len(scenes) / processor, 100)])


def side_by_side(scenes: list[Scene], at_least: int, rooms: bool) -> Scene:
    """Houses in a row along x until there are so many things; from the first again when they run out."""
    objects, shells, end = [], [], 0.0
    while len(objects) < at_least:
        scene = scenes[len(shells) % len(scenes)]
        outline = np.concatenate([room.polygon for room in scene.rooms])
        shift = end + 1.0 - float(outline[:, 0].min())
        end = shift + float(outline[:, 0].max())
        before = sum(len(shell) for shell in shells)
        shells.append([_shifted(room, before, shift) for room in scene.rooms])
        for item in scene.objects:
            box = item.box + [shift, 0, 0, 0, 0, 0, 0]
            room = item.room + before if item.room >= 0 else -1
            objects.append(replace(item, id=len(objects), box=box, room=room if rooms else -1))
    return Scene("side by side", "procthor", objects, [room for shell in shells for room in shell] if rooms else [])


def _shifted(room: Room, before: int, shift: float) -> Room:
    return replace(room, id=room.id + before, polygon=room.polygon + [shift, 0.0])


def growth(houses: Houses) -> Part:
    """How time and edges grow with the number of things."""
    lines = ["| things | with rooms, ms | edges | without rooms, ms | edges |", "|---|---|---|---|---|"]
    scenes = {(rooms, size): side_by_side(houses.scenes, size, rooms) for rooms in (True, False) for size in SIZES}
    edges_of = {key: len(build_graph(scene).table) for key, scene in scenes.items()}
    fastest = dict.fromkeys(scenes, np.inf)
    for _ in range(5 if houses.quick else 20):  # in turn, so that a busy neighbour hits all sizes
        for key, scene in scenes.items():
            start = time.process_time()
            build_graph(scene)
            fastest[key] = min(fastest[key], time.process_time() - start)
    found = {
        rooms: [(len(scenes[rooms, n].objects), fastest[rooms, n], edges_of[rooms, n]) for n in SIZES]
        for rooms in (True, False)
    }
    for (things, with_rooms, edges), (_, without, edges_without) in zip(found[True], found[False]):
        lines.append(f"| {things} | {1000 * with_rooms:.1f} | {edges} | {1000 * without:.1f} | {edges_without} |")
    slopes = {rooms: slope([row for row in rows if row[0] < 1.2 * SLOPE_UP_TO]) for rooms, rows in found.items()}
    lines += [
        "",
        f"Fastest of the rounds. Slope of log time over log things, up to about {SLOPE_UP_TO:,} things: "
        f"{slopes[True]:.2f} with rooms, {slopes[False]:.2f} without (there all things on the floor and on walls are "
        "siblings; of so large a crowd only pairs within 2 m are compared, see scene/graph.py).",
    ]
    targets = [
        Target("slope_with_rooms", slopes[True], 1.2, least=False),
        Target("slope_without_rooms", slopes[False], 1.2, least=False),
        Target("seconds_for_1000_things", found[True][SIZES.index(1_000)][1], 1.0, least=False),
    ]
    return Part("Growth", lines, targets)


def slope(rows: list[tuple[int, float, int]]) -> float:
    """Of log seconds over log things, by least squares."""
    things, seconds = np.log([row[:2] for row in rows]).T
    return float(np.polyfit(things, seconds, 1)[0])


def digest(scenes: list[Scene]) -> str:
    """One hash of the graphs of these scenes as text."""
    return hashlib.sha256("\n".join(build_graph(scene).to_json() for scene in scenes).encode()).hexdigest()


def contradictions(graph: SceneGraph) -> int:
    """Pairs of things each of which is said to be above (left of, ...) the other, or in two directions at once."""
    stated = {(e.subject, e.objects[0], e.relation) for e in graph.edges if e.relation in CONVERSES}
    mutual = sum((other, subject, relation) in stated for subject, other, relation in stated) // 2
    unanswered = sum((other, subject, CONVERSES[relation]) not in stated for subject, other, relation in stated)
    return mutual + unanswered


def sameness(houses: Houses) -> Part:
    """The same bytes everywhere, and no contradictions."""
    split = "val" if houses.quick else "train"
    code = (
        "from pathlib import Path; from benchmarks.scenes import digest; from scene.datasets.procthor import load;"
        f"print(digest(list(load(Path({str(houses.path)!r}), {split!r}))))"
    )
    own = digest([scene for scene in houses.scenes if f"-{split}-" in scene.id])
    found = {own}
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(run.stdout.strip())
    wrong = sum(contradictions(build_graph(scene)) for scene in houses.scenes)
    lines = [
        f"Graphs of the {split} houses as JSON in three processes with other hash seeds: {len(found)} distinct "
        f"{'text' if len(found) == 1 else 'texts'} (SHA-256 {own[:16]}). Contradictory or unanswered pairs: {wrong}."
    ]
    targets = [
        Target("distinct_texts_of_three_processes", len(found), 1, least=False),
        Target("contradictory_pairs", wrong, 0, least=False),
    ]
    return Part("Sameness", lines, targets)


def throughput(houses: Houses) -> Part:
    """How long a corpus of SceneVerse's size takes."""
    found = corpus.measure(corpus.QUICK_HOMES, 8) if houses.quick else corpus.measure(corpus.HOMES, 50)
    targets = [
        Target("hours_for_68406_scenes", corpus.hours(found), 6, least=False),
        Target("million_texts_with_them", corpus.texts(found) / 1e6, corpus.TEXTS / 1e6),
        Target("cost_of_last_over_first_quarter", found["growth"], 1.2, least=False),
        Target("corpus_peak_memory_gb", found["peak_memory_gb"], 2, least=False),
    ]
    return Part("A corpus", corpus.lines(found), targets)


MEASUREMENTS: Final[tuple[Callable[[Houses], Part], ...]] = (support, speed, growth, sameness, throughput)


def page(parts: list[Part], command: str, load_before: float) -> str:
    """The measurements as a page of Markdown."""
    lines = [
        "# Scene graphs and corpora",
        "",
        f"Command: `{command}`. Machine: {machine()}. Date: {date.today().isoformat()}. Load before the start: "
        f"{load_before:.1f}.",
        "",
    ]
    for part in parts:
        lines += [f"## {part.title}", "", *part.lines, ""]
    lines += ["## Targets", "", *(f"    {target}" for part in parts for target in part.targets), ""]
    lines += ["## A peer, measured elsewhere", "", PEER, ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds; every target is still measured")
    parser.add_argument("--out", type=Path, help="folder for the page (scenes.md)")
    args = parser.parse_args()
    path, load_before = procthor_houses(), os.getloadavg()[0]
    houses = Houses(path, list(load(path)), args.quick)
    parts = []
    for measure in MEASUREMENTS:
        part = measure(houses)
        print(f"\n{part.title}\n\n" + "\n".join(part.lines), flush=True)
        parts.append(part)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        command = "python -m benchmarks.scenes" + " --quick" * args.quick + f" --out {args.out}"
        (args.out / "scenes.md").write_text(page(parts, command, load_before), encoding="utf-8")
    print()
    targets = [target for part in parts for target in part.targets]
    print("\n".join(map(str, targets)))
    sys.exit(0 if all(target.fine for target in targets) else 1)


if __name__ == "__main__":
    judged(main)

"""Episode sets with a name: the same homes, starts and goals for everybody who evaluates on them.

    pool, episodes = make_set("procedural-test", "find_referral")
    sim = Simulator(pool, "find_referral", num_envs=64, sensors=None)
    run_episodes(sim, Expert(sim), episodes).summary()

A set is a definition: which homes, how many episodes, which seed. Homes and episodes are made from it on the spot, and
compared with the SHA-256 written down here for each task, so a version that makes other homes, goals or starts says so
instead of handing out other episodes under the old name. `python -m envs.episode_sets` prints the table anew, for a
version that changes them on purpose; results from before then no longer compare.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.errors import InputError, MissingFileError, check_choice, nearest
from envs.episodes import Episodes, load_episodes, make_episodes
from envs.goals import Task
from envs.pool import HomePool
from envs.recording import scene_fingerprint
from envs.tasks import TASKS
from scene.corpus import HomeSource, Skipped, SourceConfig, Wanted, procedural_source, procthor_source
from scene.palette import GOAL_COLORS, GOAL_LABELS, PALETTE
from scene.types import Scene

DATA_VARIABLE: Final = "SIGHTLINE_DATA"
PROCTHOR_FILE: Final = "procthor_houses/houses.jsonl.gz"
MANIFEST: Final = {"goal_labels": list(GOAL_LABELS), "goal_colors": list(GOAL_COLORS), "palette": dict(PALETTE)}
"""What tasks take their vocabulary from: that of build-scenes."""


@dataclass(frozen=True)
class EpisodeSet:
    """How a set is made, and what it comes to."""

    source: Callable[[str | Path | None], HomeSource]  # where homes come from, given the data the caller has
    homes: int  # the first of the source's test split
    episodes: int
    seed: int
    sha256: Mapping[str, str]  # task -> `fingerprint` of the set


def _procedural(data: str | Path | None) -> HomeSource:
    return procedural_source(Wanted({"test": 30}, seed=9, rooms_max=3))  # build-scenes users have seeds 0, 1, 2, ...


def _procthor(data: str | Path | None) -> HomeSource:
    folder = data or os.environ.get(DATA_VARIABLE)
    if not folder:
        raise MissingFileError(
            f"the set needs ProcTHOR houses: give data=FOLDER or set {DATA_VARIABLE}=FOLDER, with {PROCTHOR_FILE} in it"
        )
    path = Path(folder)
    return procthor_source(
        Wanted({"test": 100}, SourceConfig("procthor", str(path / PROCTHOR_FILE if path.is_dir() else path)))
    )


EPISODE_SETS: Final[dict[str, EpisodeSet]] = {
    "procedural-test": EpisodeSet(
        _procedural,
        homes=30,
        episodes=200,
        seed=2026,
        sha256={
            "find_object": "a20aad722f222708900736472da018cb32a1d8caa22670cd90f25d108d24aa87",
            "find_referral": "d3928215aa457534a369c5f3fdf760fe8f804990ce331351aaef304f61715873",
            "follow_instruction": "18ed220a4670eedaf054c605e84c2fbe8b0489851980cf38d70a5c86e829bba9",
            "point_goal": "a2ed0002411a059f400d6a38e4f18c01cd2a9211c568fef6ec0efdaf5619f82d",
            "rearrange": "b25bc86223a6e10305ece919e4e2a2cd60c2933dc3cfd92def2c51c4a31e8444",
        },
    ),
    "procthor-val": EpisodeSet(
        _procthor,
        homes=9,
        episodes=100,
        seed=2026,
        sha256={
            "find_object": "6b3fb257984ab81d89522edd38bd939009ee7840551b576bd9bb2a00f8830237",
            "find_referral": "d06dfe8988abb88630bbb75e7e984da6ae04b581cf573079ce5cf08adf9c3a34",
            "follow_instruction": "809b42eba10cb3127a47f5409eb5485dfd2c45fb47c30dd309e40640257ec045",
            "point_goal": "3c249c76c0b7c2078bd92774e814bd25b2e2b7d8ba21be0422a4cf38036a7f32",
            "rearrange": "2b4ba73d9ed36b22da9eeed8ce971dc6c1d64b9e9a7c6f25bae04cf45ee11fbd",
        },
    ),
}


def make_set(name: str, task: str, data: str | Path | None = None) -> tuple[HomePool, Episodes]:
    """The homes and episodes of a named set; the same in every run and on every machine.

    Args:
        name: key of EPISODE_SETS.
        task: key of TASKS; its goals are those of `from_manifest(MANIFEST)`.
        data: folder with `procthor_houses/` in it, or the file of houses; left out: $SIGHTLINE_DATA.

    Raises:
        InputError: unknown set or task; homes or episodes came out other than when the set was fixed.
        MissingFileError: the houses are not there.
    """
    check_choice("episode set", name, EPISODE_SETS)
    check_choice("task", task, TASKS)
    chosen = EPISODE_SETS[name]
    pool, episodes = _made(chosen, task, data)
    found, expected = fingerprint(pool, episodes), chosen.sha256.get(task)
    if expected is None:
        raise InputError(
            f"episode set {name!r} is not fixed for the task {task!r}; there are: {', '.join(chosen.sha256)}"
        )
    if found != expected:
        where = "the file holds other houses, or this version" if name.startswith("procthor") else "this version"
        raise InputError(
            f"episode set {name!r} of {task!r} came out as {found[:12]}..., fixed was {expected[:12]}...: {where} "
            "makes other homes, goals or starts. Use the version whose numbers you compare with, or a file "
            "of episodes (envs.episodes.save_episodes)"
        )
    return pool, episodes


def episodes_of(name: str, task: str, data: str | Path | None = None) -> tuple[HomePool | None, Episodes]:
    """A named set, or the episodes of a Parquet file; homes come with a named set only.

    Raises:
        InputError, MissingFileError: neither a set nor a readable file; see make_set and load_episodes.
    """
    if name in EPISODE_SETS:
        return make_set(name, task, data)
    if not Path(name).exists():
        raise MissingFileError(
            f"episode set {name!r} is neither a file nor a name of one ({', '.join(EPISODE_SETS)}); "
            f"{nearest(name, EPISODE_SETS)}"
        )
    return None, load_episodes(name)


def fingerprint(pool: HomePool, episodes: Episodes) -> str:
    """SHA-256 over the homes (surfaces, objects, rooms, doors) and the episodes to a millimetre or a microradian."""
    content: list[object] = [[home.name, scene_fingerprint(home.scene)] for home in pool.homes]
    rows = zip(episodes.scene_ids, episodes.start, episodes.yaw, episodes.goals, episodes.shortest_m)
    for scene_id, start, yaw, goal, shortest in rows:
        stages = [{**asdict(stage), "place": _round(stage.place or (), 3)} for stage in goal.stages]
        numbers = _round(start, 3) + _round(yaw, 6) + _round(shortest, 3)
        content.append([scene_id, numbers, goal.text, goal.label, goal.color, stages])
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _round(values: object, digits: int) -> list[float]:
    return [round(float(v), digits) + 0.0 for v in np.atleast_1d(np.asarray(values, np.float64))]  # + 0.0: no -0.0


def _made(chosen: EpisodeSet, task: str, data: str | Path | None) -> tuple[HomePool, Episodes]:
    kind: Task = TASKS[task].from_manifest(MANIFEST)
    scenes: list[Scene] = []
    for scene in chosen.source(data).homes("test"):
        if isinstance(scene, Skipped):
            raise InputError(f"{scene.name} of the episode set cannot be had: {scene.reason}")
        scenes.append(scene)
    pool = HomePool(scenes[: chosen.homes], goal_labels=GOAL_LABELS, manifest=MANIFEST, interactive=kind.interactive)
    return pool, make_episodes(pool, kind, chosen.episodes, chosen.seed)


def main() -> None:
    """Prints the SHA-256 of every set and task as they come out now."""
    for name, chosen in EPISODE_SETS.items():
        for task in TASKS:
            sys.stdout.write(f"{name}  {task}  {fingerprint(*_made(chosen, task, None))}\n")


if __name__ == "__main__":
    main()

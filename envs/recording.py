"""Episodes on file, to be played again to the byte (envs/replay.py): what was started from, what was done.

    recorder = Recorder(sim)
    results = run_episodes(sim, policy, episodes, on_state=recorder)
    save_recording(recorder.finish(results), "episodes.parquet")

    recording = load_recording("episodes.parquet")
    results = replay(recording, homes)                 # the same positions, metrics and pictures, or an error

One Parquet file with a row per episode: the columns of an episode set (it can be loaded as one), the actions, the path,
the metrics, and for every step a hash of the state and one of the picture (colour, depth and ids). The file's metadata
holds, as JSON, the task with its options, the simulator's options, the fingerprints of the homes and the versions.
The homes themselves are not in it.
"""

import hashlib
import importlib.metadata
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from core.errors import InputError, existing_file
from core.files import atomic_file, plain
from core.run import describe_version
from envs.episodes import EpisodeResults, episode_columns, episodes_from_columns
from envs.metrics import METRICS
from envs.pool import Home
from envs.simulator import Simulator
from envs.state import SimState
from envs.tasks import TASKS
from scene.render import Frame
from scene.types import Scene

FORMAT = "sightline-recording/1"
KEY = b"sightline"  # of the file's metadata
LIBRARIES = ("numpy", "numba", "torch", "open3d-cpu")  # what the last bits of states and pictures hang on


@dataclass(eq=False)
class Recording:
    """What a file of recorded episodes holds."""

    task: str  # a name of envs.tasks.TASKS, or the class of a task of one's own
    task_options: dict[str, Any]  # its fields
    simulator: dict[str, Any]  # options of the Simulator: seed, max_steps, slide, control, tilt, noise, ...
    interactive: bool  # whether the homes were
    homes: dict[str, dict[str, str]]  # per home's name: source, and fingerprints of its "scene" and its "floor" grid
    versions: dict[str, str]
    results: EpisodeResults  # without pictures
    states: list[list[str]]  # per episode and step (the start first): hash of the state
    pictures: list[list[str]]  # the same of what was seen; empty lists where nothing was
    policy: str = ""  # who acted, for tables

    def __len__(self) -> int:
        return len(self.results)


class Recorder:
    """Hashes every state and picture of a run; give it to `run_episodes` as `on_state`."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.states: dict[int, list[str]] = defaultdict(list)
        self.pictures: dict[int, list[str]] = defaultdict(list)

    def __call__(self, state: SimState, frame: Frame | None) -> None:
        """Takes note of some states and of what is seen of them."""
        rows = state.episode.tolist()
        for row, print_ in zip(rows, state_prints(self.sim, state)):
            self.states[row].append(print_)
        if frame is not None:
            for row, print_ in zip(rows, frame_prints(frame)):
                self.pictures[row].append(print_)

    def finish(self, results: EpisodeResults, policy: str = "") -> Recording:
        """The recording of the run that has just ended with `results`.

        Raises:
            InputError: the task is no dataclass, so its options are not known.
        """
        sim = self.sim
        if not is_dataclass(sim.task) or isinstance(sim.task, type):
            raise InputError(f"{type(sim.task).__name__} is no dataclass; a recording keeps a task's fields")
        count = len(results)
        return Recording(
            task=next((name for name, kind in TASKS.items() if type(sim.task) is kind), type(sim.task).__name__),
            task_options=plain(sim.task),
            simulator={
                "seed": sim.seed,
                "max_steps": sim.max_steps,
                "slide": sim.slide,
                "control": sim.control,
                "tilt": sim.tilt,
                "noise": None if sim.noise is None else asdict(sim.noise),
                "shut_doors": sim.shut_doors,
                "sensors": None if sim.sensors is None else asdict(sim.sensors),
            },
            interactive=sim.homes.interactive,
            homes={
                name: home_record(sim.homes[sim.homes.index[name]]) for name in sorted({*results.episodes.scene_ids})
            },
            versions=versions(),
            results=replace(results, frames={}),
            states=[self.states[row] for row in range(count)],
            pictures=[self.pictures[row] for row in range(count)],
            policy=policy,
        )


def state_prints(sim: Simulator, state: SimState) -> list[str]:
    """A hash of each environment's state: all that a policy or a metric could read, nothing that hangs on the pool."""
    columns = (
        state.stage, state.position[:, 0], state.position[:, 1], state.yaw, state.pitch, state.step,
        state.start_distance, state.distance, state.path_length, state.collisions, state.terminated, state.truncated,
    )  # fmt: skip
    table = np.column_stack([column.cpu().numpy().astype(np.float64) for column in columns])
    world = None if state.world is None else [c.cpu().numpy() for c in (state.world.pose, state.world.support)]
    hands = None if state.world is None else torch.stack([state.world.doors, state.world.held], 1).cpu().numpy()
    homes = state.home.tolist()
    found = []
    for b in range(len(table)):
        parts = [table[b]]
        if world is not None and hands is not None:
            things = len(sim.homes[homes[b]].things)
            parts += [hands[b], *(column[b, :things] for column in world)]
        found.append(_digest(parts))
    return found


def frame_prints(frame: Frame) -> list[str]:
    """A hash of each picture's colours, depths and ids."""
    columns = [column.cpu().numpy() for column in (frame.rgb, frame.depth, frame.instance)]
    return [_digest([column[b] for column in columns]) for b in range(len(columns[0]))]


def _digest(parts: Sequence[ndarray]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for part in parts:
        found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def scene_fingerprint(scene: Scene) -> str:
    """16 hex digits of what a home is: surfaces, objects, rooms and doors."""
    described = [
        scene.id,
        scene.source,
        [[item.label, item.source_id, item.attributes, item.affordances, item.box] for item in scene.objects],
        [[room.kind, np.asarray(room.polygon, np.float64), room.floor_z, room.height] for room in scene.rooms],
        [[np.asarray(door.box, np.float64), door.rooms, bool(door.open)] for door in scene.doors],
    ]
    found = hashlib.blake2b(json.dumps(plain(described), sort_keys=True).encode(), digest_size=8)
    if scene.mesh is not None:
        for part in (scene.mesh.vertices, scene.mesh.faces, scene.mesh.face_colors, scene.mesh.face_instance):
            found.update(np.ascontiguousarray(part).data)
    return found.hexdigest()


def home_record(home: Home) -> dict[str, str]:
    """What a recording notes of a home."""
    grid = home.grid
    place_ = np.array([*grid.origin, grid.cell_m, home.floor_z, *grid.free.shape], dtype=np.float64)
    layers = [place_, grid.free] + ([] if grid.shut is None else [grid.shut])
    return {"source": home.scene.source, "scene": scene_fingerprint(home.scene), "floor": _digest(layers)}


def versions() -> dict[str, str]:
    """Of this code and of the libraries that states and pictures hang on."""
    found = {"sightline": str(describe_version()["code"])}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def save_recording(recording: Recording, path: str | Path) -> Path:
    """Writes the file, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    results = recording.results
    about = {name: getattr(recording, name) for name in _ABOUT}
    about |= {"format": FORMAT, "action_type": str(results.actions[0].dtype)}
    table = pyarrow.table(
        {
            **episode_columns(results.episodes),
            **results.metrics,
            "steps": results.steps,
            "return": results.returns,
            "stopped": results.stopped,
            "actions": [row.tolist() for row in results.actions],
            "path": [path.tolist() for path in results.trajectories],
            "state_hash": recording.states,
            "picture_hash": pyarrow.array(recording.pictures, pyarrow.list_(pyarrow.string())),
        }
    ).replace_schema_metadata({KEY: json.dumps(about).encode()})
    with atomic_file(path) as file:
        pyarrow.parquet.write_table(table, file)
    return Path(path)


def load_recording(path: str | Path) -> Recording:
    """Reads what `save_recording` wrote.

    Raises:
        MissingFileError: no such file. InputError: it is no recording, damaged, or of another format.
    """
    import pyarrow
    import pyarrow.parquet

    path = existing_file(path, "recording")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            f"recording {path} is no readable Parquet file ({error}); record the episodes again"
        ) from error
    try:
        about = json.loads((table.schema.metadata or {}).get(KEY, b"{}"))
        if about.get("format") != FORMAT:
            raise InputError(
                f"{path} has format {about.get('format')!r}, expected {FORMAT!r}: evaluate-agent makes one with "
                "record=true"
            )
        column = {name: table[name].to_pylist() for name in table.column_names}
        results = EpisodeResults(
            episodes=episodes_from_columns(column, path),
            metrics={name: np.array(column[name], np.float32) for name in METRICS},
            steps=np.array(column["steps"], np.int64),
            returns=np.array(column["return"]),
            stopped=np.array(column["stopped"]),
            trajectories=[np.array(row) for row in column["path"]],
            actions=[np.array(row, np.dtype(about["action_type"])) for row in column["actions"]],
            frames={},
        )
        return Recording(
            **{name: about[name] for name in _ABOUT},
            results=results,
            states=column["state_hash"],
            pictures=column["picture_hash"],
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"recording {path} lacks or garbles a part ({error}); record the episodes again") from error


_ABOUT = ("task", "task_options", "simulator", "interactive", "homes", "versions", "policy")

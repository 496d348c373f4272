"""Recorded episodes played again to the byte, checked at every step.

    results = replay(load_recording("episodes.parquet"), homes)     # the same positions, metrics, pictures, or an error

What was done is done again; every state and picture on the way is compared with the recording's hashes.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, nearest
from envs.episodes import EpisodeResults, place, run_episodes
from envs.goals import Task
from envs.pool import HomePool
from envs.recording import Recording, frame_prints, home_record, state_prints, versions
from envs.simulator import Simulator
from envs.state import Noise, Sensors, SimState
from envs.tasks import TASKS
from scene.render import Frame


class ReplayError(InputError):
    """An episode does not go as it was recorded."""


class Playback:
    """A policy that does again what was done: row `state.episode`, action `state.step`.

    Args:
        actions: of each episode of a set, as EpisodeResults has them.
    """

    def __init__(self, actions: Sequence[ndarray]) -> None:
        self.actions = actions

    def __call__(self, state: SimState, frame: Frame | None = None) -> Tensor:
        """The recorded action of each environment.

        Raises:
            ReplayError: an episode goes on where its recording ended.
        """
        chosen = []
        for row, step in zip(state.episode.tolist(), state.step.tolist()):
            if step >= len(self.actions[row]):
                raise ReplayError(f"episode {row} goes on after step {step}, the last one that was recorded")
            chosen.append(self.actions[row][step])
        return torch.from_numpy(np.stack(chosen)).to(state.home.device)


def retrace(sim: Simulator, results: EpisodeResults, row: int) -> list[SimState]:
    """The states one episode went through, the first one included; nothing is drawn."""
    blind = sim.seeded(sim.seed)
    blind.sensors = None
    play, state = Playback(results.actions), place(sim, results.episodes, [row])
    states = [state]
    for _ in range(int(results.steps[row])):
        state, _ = blind.step(state, play(state))
        states.append(state)
    return states


def simulator_of(recording: Recording, homes: HomePool, num_envs: int = 16, task: Task | None = None) -> Simulator:
    """A simulator with the options of a recording.

    Args:
        task: for recordings of a task that is not one of envs.tasks.TASKS.

    Raises:
        InputError: the task is unknown or has changed its options; the homes are of another kind.
    """
    if homes.interactive != recording.interactive:
        raise InputError(
            f"the recording was made in homes with interactive={recording.interactive}; load these homes like that"
        )
    if task is None:
        if recording.task not in TASKS:
            raise InputError(
                f"the recording's task {recording.task!r} is not known here: {nearest(recording.task, TASKS)}"
            )
        try:
            task = TASKS[recording.task](**{name: _tuples(value) for name, value in recording.task_options.items()})
        except TypeError as error:
            raise InputError(
                f"the task {recording.task} has other options than when it was recorded: {error}"
            ) from error
    options = dict(recording.simulator)
    try:
        noise, sensors = options.pop("noise"), options.pop("sensors")
        return Simulator(
            homes,
            task,
            num_envs,
            noise=None if noise is None else Noise(**noise),
            sensors=None if sensors is None else Sensors(**sensors),
            **options,
        )
    except (TypeError, KeyError) as error:
        raise InputError(f"the recording names simulator options that this version does not have: {error}") from error


def replay(
    recording: Recording,
    homes: HomePool,
    *,
    sim: Simulator | None = None,
    record: Sequence[int] = (),
    pictures: bool = True,
    on_episode: Callable[[int], object] | None = None,
) -> EpisodeResults:
    """Plays all episodes of a recording again and compares every state and picture with it.

    Args:
        homes: those it was made in, by name; others may be among them.
        sim: what `simulator_of` gave, if it is needed elsewhere too; left out, one is made.
        record: rows whose pictures are kept in the results.
        pictures: compare pictures, too. They may differ in their last bits between a CPU and a GPU.
        on_episode: as in `run_episodes`.

    Raises:
        ReplayError: an episode departs from its recording; names the first step where, and what differs in homes and
            versions. InputError: homes are missing, or of another kind.
    """
    sim = sim or simulator_of(recording, homes)
    strangers = changed_homes(recording, homes)
    why = _why(recording, strangers)
    check = _Check(recording, sim, why, pictures)
    try:
        results = run_episodes(
            sim, Playback(recording.results.actions), recording.results.episodes, record, on_episode, on_state=check
        )
    except ReplayError:
        raise
    except InputError as error:
        if strangers:
            raise ReplayError(f"the episodes cannot begin: {error}. {why}") from error
        raise
    old, new = recording.results, results
    kept = {**old.metrics, "steps": old.steps, "return": old.returns, "stopped": old.stopped}
    again = {**new.metrics, "steps": new.steps, "return": new.returns, "stopped": new.stopped}
    for name, values in kept.items():
        rows = np.flatnonzero(values != again[name])
        if len(rows):
            row = int(rows[0])
            raise ReplayError(
                f"episode {row} walks as recorded, but its {name} is {again[name][row]} instead of {values[row]}. {why}"
            )
    if strangers:
        warnings.warn(f"the episodes went as recorded, though homes differ: {', '.join(strangers[:3])}", stacklevel=2)
    return results


def changed_homes(recording: Recording, homes: HomePool) -> list[str]:
    """Names of homes of the recording that are not what they were."""
    return [
        name
        for name, noted in recording.homes.items()
        if name in homes.index and home_record(homes[homes.index[name]]) != noted
    ]


def _why(recording: Recording, strangers: Sequence[str]) -> str:
    if strangers:
        return f"Not the homes that were recorded: {', '.join(strangers[:3])}; build them as they were"
    now = versions()
    other = [f"{name} {old} (here {now.get(name)})" for name, old in recording.versions.items() if now.get(name) != old]
    if other:
        return f"The homes are the same; recorded with {', '.join(other)}"
    return "The homes and the versions are the same"


class _Check:
    """Compares states and pictures with a recording as they come."""

    def __init__(self, recording: Recording, sim: Simulator, why: str, pictures: bool) -> None:
        self.recording, self.sim, self.why = recording, sim, why
        self.pictures = pictures and any(recording.pictures)

    def __call__(self, state: SimState, frame: Frame | None) -> None:
        pose: Float64[ndarray, "B 3"] = torch.cat([state.position, state.yaw[:, None]], 1).cpu().numpy()
        steps = state.step.tolist()
        prints = state_prints(self.sim, state)
        seen = frame_prints(frame) if self.pictures and frame is not None else None
        for b, row in enumerate(state.episode.tolist()):
            step = steps[b]
            was = self.recording.results.trajectories[row][step]
            if not np.array_equal(pose[b], was):
                self._depart(row, step, f"x, y, yaw are {pose[b].tolist()} instead of {was.tolist()}")
            if prints[b] != self.recording.states[row][step]:
                self._depart(row, step, "it stands where it did, but what is left to do or what was moved differs")
            if seen is not None and seen[b] != self.recording.pictures[row][step]:
                self._depart(row, step, "the picture is another one")

    def _depart(self, row: int, step: int, what: str) -> None:
        name = self.recording.results.episodes.scene_ids[row]
        raise ReplayError(f"episode {row} (home {name}) departs from its recording at step {step}: {what}. {self.why}")


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that tasks are made of."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value

"""Fixed sets of evaluation episodes, kept as files, and running policies on them.

    episodes = make_episodes(pool, task, 200, seed=7)
    save_episodes(episodes, "val.parquet")
    results = run_episodes(sim, policy, episodes, record=[0, 1])
    results.summary()                                  # {"success": 0.61, "spl": 0.48, ...}

Two people who evaluate on the same file meet the same homes, starts and goals, whatever their batch size.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from numpy import ndarray
from torch import Tensor

from core.errors import InputError, existing_file
from core.files import atomic_file
from envs import counter_random
from envs.goals import Goal, GoalFields, Stage, Task, goal_number
from envs.metrics import METRICS
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame

SAME_M = 0.02  # a shortest way longer or shorter than when the set was made means another home
COLUMNS = ("scene_id", "start_x", "start_y", "yaw", "goal_text", "goal_label", "goal_color", "stages", "shortest_m")


class PolicyFn(Protocol):
    """What acts: a state and what is seen of it to one action per environment, as Simulator.step takes them.

    Rows with `state.step == 0` have just begun an episode: a policy with a memory clears it there.
    """

    def __call__(self, state: SimState, frame: Frame | None) -> Tensor: ...


@dataclass(eq=False)
class Episodes:
    """n starts and goals; independent of any simulator."""

    scene_ids: list[str]
    start: Float64[ndarray, "n 2"]  # world xy, metres
    yaw: Float64[ndarray, " n"]  # radians
    goals: list[Goal]
    shortest_m: Float64[ndarray, " n"]  # walking distance from start to success when the set was made

    def __len__(self) -> int:
        return len(self.scene_ids)


def make_episodes(pool: HomePool, task: Task, n: int, seed: int, fields: GoalFields | None = None) -> Episodes:
    """n episodes that go round the pool's homes in a shuffled order; goals and starts as the simulator draws them.

    Raises:
        InputError: n is not positive; no home has a reachable goal.
    """
    if n < 1:
        raise InputError(f"an episode set needs at least one episode, got n={n}")
    fields = fields or GoalFields(pool, task)
    row = np.arange(n)
    key = counter_random.episode_key(seed, -1, row)
    order = np.argsort(counter_random.uniform(counter_random.episode_key(seed, -2, fields.playable), 0, 0))
    home = fields.playable[order][row % len(fields.playable)]
    goal = fields.draw_goal(home, counter_random.uniform(key, 0, 1))
    share, start, shortest = counter_random.uniform(key, 0, 2), np.zeros((n, 2)), np.zeros(n)
    for first in range(0, n, fields.capacity):  # no more fields at once than fit
        part = slice(first, first + fields.capacity)
        start[part] = fields.draw_start(home[part], goal[part], share[part])
        cell = pool.grids.cell(home[part], start[part])
        shortest[part] = fields.distance(home[part], goal[part], np.zeros_like(cell), cell)
    yaw = (2 * counter_random.uniform(key, 0, 3) - 1) * np.pi
    return Episodes([pool.ids[k] for k in home], start, yaw, [fields.goal(h, g) for h, g in zip(home, goal)], shortest)


def save_episodes(episodes: Episodes, path: str | Path) -> Path:
    """Writes a Parquet file with the columns COLUMNS, whole or not at all."""
    import pyarrow
    import pyarrow.parquet

    with atomic_file(path) as file:
        pyarrow.parquet.write_table(pyarrow.table(episode_columns(episodes)), file)
    return Path(path)


def episode_columns(episodes: Episodes) -> dict[str, Any]:
    """The columns COLUMNS of a table of episodes."""
    return {
        "scene_id": episodes.scene_ids,
        "start_x": episodes.start[:, 0],
        "start_y": episodes.start[:, 1],
        "yaw": episodes.yaw,
        "goal_text": [goal.text for goal in episodes.goals],
        "goal_label": [goal.label for goal in episodes.goals],
        "goal_color": [goal.color for goal in episodes.goals],
        "stages": [json.dumps([asdict(stage) for stage in goal.stages]) for goal in episodes.goals],
        "shortest_m": episodes.shortest_m,
    }


def load_episodes(path: str | Path) -> Episodes:
    """Reads what save_episodes wrote.

    Raises:
        MissingFileError: no such file. InputError: not a Parquet file, or columns are missing or empty.
    """
    import pyarrow
    import pyarrow.parquet

    path = existing_file(path, "episode set")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(f"episode set {path} is no readable Parquet file ({error}); make it again") from error
    return episodes_from_columns({name: table[name].to_pylist() for name in table.column_names}, path)


def episodes_from_columns(column: dict[str, list[Any]], path: Path) -> Episodes:
    """Episodes from a table's columns; `path` is named in errors.

    Raises:
        InputError: columns are missing or empty, or stages that cannot be read.
    """
    missing = [name for name in COLUMNS if name not in column]
    if missing:
        raise InputError(f"episode set {path} lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    if not column["scene_id"] or any(None in column[name] for name in COLUMNS):
        raise InputError(f"episode set {path} has no rows, or rows with empty values; make it again")
    return Episodes(
        column["scene_id"],
        np.stack([column["start_x"], column["start_y"]], axis=1),
        np.array(column["yaw"]),
        [
            Goal(text, _stages(stages, path), label, color)
            for text, stages, label, color in zip(
                column["goal_text"], column["stages"], column["goal_label"], column["goal_color"]
            )
        ],
        np.array(column["shortest_m"]),
    )


def _stages(text: str, path: Path) -> tuple[Stage, ...]:
    try:
        rows = json.loads(text)
        return tuple(
            Stage(
                row["kind"],
                tuple(row["objects"]),
                tuple(row["on"]),
                None if row["place"] is None else (float(row["place"][0]), float(row["place"][1])),
            )
            for row in rows
        )
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"episode set {path} has stages that cannot be read ({error}); make it again") from error


def place(sim: Simulator, episodes: Episodes, rows: Sequence[int] | Int64[ndarray, " K"]) -> SimState:
    """The first states of chosen episodes, one environment each; merge them into a batch with SimState.merged.

    Random draws within an episode depend on the simulator's seed and the row, not on where in a batch it runs.

    Raises:
        InputError: a home is not in the simulator's pool, or a goal not in its task's vocabulary, or the start no
            longer works there (another home behind the same id, another agent size).
    """
    rows = np.asarray(rows, dtype=np.int64)
    names = [episodes.scene_ids[row] for row in rows]
    homeless = sorted({name for name in names if name not in sim.homes.index})
    if homeless:
        raise InputError(
            f"{len(homeless)} homes of the episode set are not in the simulator's pool, first {homeless[:3]}; "
            "load the split the episodes were made from"
        )
    home = np.array([sim.homes.index[name] for name in names], dtype=np.int64)
    numbers = [goal_number(sim.fields.goals[h], episodes.goals[row]) for h, row in zip(home, rows)]
    unknown = sorted({episodes.goals[row].text for row, number in zip(rows, numbers) if number is None})
    if unknown:
        raise InputError(
            f"{len(unknown)} goals of the episode set are not among those the task offers in their homes: "
            f"{unknown[:3]}; use the task and the homes the set was made for"
        )
    state = sim.placed(
        env=np.zeros(len(rows), np.int64),
        episode=rows,
        key=counter_random.episode_key(sim.seed, -1, rows),
        home=home,
        goal=np.array(numbers, dtype=np.int64),
        position=episodes.start[rows],
        yaw=episodes.yaw[rows],
    )
    off = np.abs(state.start_distance.cpu().numpy() - episodes.shortest_m[rows])
    if len(off) and off.max() > SAME_M:
        k = int(off.argmax())
        raise InputError(
            f"{int((off > SAME_M).sum())} of {len(rows)} episodes are not those the set was made of: in home "
            f"{names[k]} success is {float(state.start_distance[k]):.2f} m away, then it was "
            f"{episodes.shortest_m[rows[k]]:.2f} m. Homes, agent size or task have changed; make the set again"
        )
    return state


@dataclass(eq=False)
class EpisodeResults:
    """How a policy did on an episode set; rows in the order of the set."""

    episodes: Episodes
    metrics: dict[str, Float32[ndarray, " n"]]  # see envs/metrics.py
    steps: Int64[ndarray, " n"]  # actions taken
    returns: Float64[ndarray, " n"]  # the task's rewards, summed
    stopped: ndarray  # (n,) bool: ended by the agent's own stop rather than by the time limit
    trajectories: list[Float64[ndarray, "t 3"]]  # x, y, yaw before each action and at the end: steps + 1 rows
    actions: list[ndarray]  # (t,) numbers of Simulator.action_names, or (t, A) speeds
    frames: dict[int, UInt8[ndarray, "t H W 3"]]  # recorded episodes: the view at each row of their trajectory

    def __len__(self) -> int:
        return len(self.steps)

    def summary(self) -> dict[str, float]:
        """Means over the episodes: every metric, plus steps and return."""
        means = {name: float(values.mean(dtype=np.float64)) for name, values in self.metrics.items()}
        return means | {"steps": float(self.steps.mean()), "return": float(self.returns.mean())}


def run_episodes(
    sim: Simulator,
    policy: PolicyFn,
    episodes: Episodes,
    record: Sequence[int] = (),
    on_episode: Callable[[int], object] | None = None,
    on_state: Callable[[SimState, Frame | None], object] | None = None,
) -> EpisodeResults:
    """Runs every episode of a set once, `sim.num_envs` at a time.

    An environment that finishes takes the next waiting episode; when none waits the batch shrinks. The policy sees
    every row at its own step, so results do not depend on the batch size for policies that act row by row.

    Args:
        policy: called as policy(state, frame); frame is None when the simulator has no sensors. The number of rows
            only ever shrinks towards the end of the set; rows keep their order, and `state.env` numbers them.
        record: rows whose pictures are kept.
        on_episode: called with the number of episodes finished since the last call, e.g. a progress bar's advance.
        on_state: called with the states episodes begin in and each action leads to, and what is seen of them; the
            number of an episode's row is in `state.episode`.

    Raises:
        InputError: see `place`; a row to record that does not exist; pictures asked of a simulator without sensors.
    """
    count, wanted = len(episodes), {int(row) for row in record}
    if wanted and (min(wanted) < 0 or max(wanted) >= count):
        raise InputError(f"record names rows {sorted(wanted)}, the set has 0..{count - 1}")
    if wanted and sim.sensors is None:
        raise InputError("recording pictures needs a simulator with sensors")
    paths: list[list[ndarray]] = [[] for _ in range(count)]
    taken: list[list[ndarray]] = [[] for _ in range(count)]
    pictures: dict[int, list[ndarray]] = {row: [] for row in sorted(wanted)}
    metrics = {name: np.zeros(count, np.float32) for name in METRICS}
    steps, returns, stopped = np.zeros(count, np.int64), np.zeros(count), np.zeros(count, bool)

    width = min(sim.num_envs, count)
    state = _numbered(place(sim, episodes, range(width)), np.arange(width))
    frame = None if sim.sensors is None else sim.observe(state)
    waiting = width
    _note(state, frame, paths, pictures, on_state)
    while len(state):
        action = policy(state, frame)
        before = state.episode.cpu().numpy()
        state, step = sim.step(state, action)
        frame = step.frame
        for row, taken_action in zip(before, torch.as_tensor(action).cpu().numpy()):
            taken[row].append(taken_action)
        returns[before] += step.reward.cpu().numpy()
        _note(state, frame, paths, pictures, on_state)
        done = step.done
        if not bool(done.any()):
            continue
        over = before[done.cpu().numpy()]
        for name in METRICS:
            metrics[name][over] = step.metrics[name][done].cpu().numpy()
        steps[over] = state.step[done].cpu().numpy()
        stopped[over] = step.terminated[done].cpu().numpy()
        if on_episode is not None:
            on_episode(len(over))
        places = torch.nonzero(done).flatten()
        new = places[: count - waiting]
        if len(new):
            fresh = place(sim, episodes, range(waiting, waiting + len(new)))
            fresh = _numbered(fresh, state.env[new].cpu().numpy())
            mask = torch.zeros_like(done)
            mask[new] = True
            state = state.merged(mask, fresh)
            waiting += len(new)
            if frame is not None:
                seen = sim.observe(fresh)
                for name in ("rgb", "depth", "instance"):
                    getattr(frame, name)[new] = getattr(seen, name)
                _note(fresh, seen, paths, pictures, on_state)
            else:
                _note(fresh, None, paths, pictures, on_state)
        if len(new) < len(places):  # nothing waits: drop the finished rows
            keep = ~state.done
            state = state.rows(keep)
            if frame is not None:
                frame = Frame(frame.rgb[keep], frame.depth[keep], frame.instance[keep])
    return EpisodeResults(
        episodes=episodes,
        metrics=metrics,
        steps=steps,
        returns=returns,
        stopped=stopped,
        trajectories=[np.array(path) for path in paths],
        actions=[np.array(row) for row in taken],
        frames={row: np.stack(views) for row, views in pictures.items()},
    )


def _numbered(state: SimState, env: Int64[ndarray, " K"]) -> SimState:
    """The state with environment numbers that say where in the batch its rows began."""

    return replace(state, env=torch.from_numpy(np.asarray(env, dtype=np.int64)).to(state.env.device))


def _note(
    state: SimState,
    frame: Frame | None,
    paths: list[list[ndarray]],
    pictures: dict[int, list[ndarray]],
    on_state: Callable[[SimState, Frame | None], object] | None,
) -> None:
    """Adds where the agents are, and what those to record see, to the record of their episodes."""
    pose = torch.cat([state.position, state.yaw[:, None]], dim=1).cpu().numpy()
    for place_in_batch, row in enumerate(state.episode.tolist()):
        paths[row].append(pose[place_in_batch])
        if row in pictures and frame is not None:
            pictures[row].append(frame.rgb[place_in_batch].cpu().numpy().copy())
    if on_state is not None:
        on_state(state, frame)

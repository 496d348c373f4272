"""Measure a policy on fixed episodes: success, SPL, SoftSPL, distance to goal, with 95 % intervals, and videos.

sightline evaluate-agent scenes=SCENES policy=random|oracle
sightline evaluate-agent scenes=SCENES policy=runs/train-agent/.../policy vl=MODEL video=4

Episodes depend on the homes and the seed alone, so every policy meets the same ones. Goals whose colour and noun never
occurred together in the training homes are reported apart. Leaves result.json, episodes.parquet and videos/*.mp4.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from rich.console import Console
from rich.table import Table

from agents.agent import Agent
from core.errors import InputError, check_choice
from core.files import atomic_file
from core.intervals import grouped_mean, grouped_rate
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from core.threads import one_torch_thread
from envs.episodes import EpisodeResults, PolicyFn, load_episodes, make_episodes, run_episodes, save_episodes
from envs.expert import Expert, RandomPolicy
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks import TASKS
from scene.io import SceneStore

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal_m", "path_length_m", "collisions", "steps")
BASELINES = ("random", "oracle")


@dataclass
class EvaluateAgentConfig(JobConfig):
    """Measure a policy on unseen homes: sightline evaluate-agent scenes=SCENES policy=random|oracle|PATH"""

    scenes: str = ""  # folder of homes made by build-scenes
    policy: str = "random"  # random, oracle, or the policy/ folder of a train-agent run
    vl: str = ""  # the two-tower model a trained policy sees with; empty = the one it was trained with
    task: str = "find_object"  # what to do in the homes
    split: str = "test"  # homes: train, val or test
    episodes: int = 300  # how many
    episode_set: str = ""  # Parquet file of episodes to use instead of drawing them
    max_steps: int = 100  # actions after which an episode is cut off
    num_envs: int = 64  # episodes run together
    greedy: bool = False  # take the most probable action instead of drawing one
    video: int = 0  # episodes filmed: the first ones of the set

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tuple(TASKS))
        for name in ("episodes", "max_steps", "num_envs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if not 0 <= self.video <= self.episodes:
            raise InputError(f"video={self.video} should lie between 0 and episodes={self.episodes}")


CONFIG = EvaluateAgentConfig


def measure(results: EpisodeResults, rows: ndarray) -> dict[str, Any]:
    """Mean and 95 % interval, over homes, of every measure over chosen episodes."""
    homes = np.asarray(results.episodes.scene_ids)[rows]
    columns = {**results.metrics, "steps": results.steps}
    found: dict[str, Any] = {}
    for name in MEASURES:
        values = np.asarray(columns[name], dtype=float)[rows]
        interval = grouped_rate(values, homes) if name == "success" else grouped_mean(values, homes)
        found[name] = {"mean": float(values.mean()), "interval": interval}
    return {"episodes": len(rows), "metrics": found}


def results_table(groups: dict[str, dict[str, Any]], title: str) -> Table:
    """The measures of each group of episodes as a table."""
    columns = [("success", "success %", 100), ("spl", "SPL %", 100), ("soft_spl", "SoftSPL %", 100)]
    columns.append(("distance_to_goal_m", "metres left", 1))
    table = Table(title=title, title_justify="left")
    table.add_column("goals (episodes)", no_wrap=True)
    for _, header, _ in columns:
        table.add_column(header, justify="right")
    for group, found in groups.items():
        cells = []
        for name, _, factor in columns:
            mean, (low, high) = found["metrics"][name]["mean"], found["metrics"][name]["interval"]
            digits = 1 if factor == 100 else 2
            mean, low, high = (f"{factor * value:.{digits}f}" for value in (mean, low, high))
            cells.append(f"{mean} ({low}-{high})")
        table.add_row(f"{group} ({found['episodes']})", *cells)
    return table


def save_results(results: EpisodeResults, seen_pair: ndarray, path: Path) -> None:
    """One row per episode: where, for what, how it went, and the path walked."""
    import pyarrow
    import pyarrow.parquet

    episodes = results.episodes
    table = pyarrow.table(
        {
            "scene_id": episodes.scene_ids,
            "goal_text": [goal.text for goal in episodes.goals],
            "goal_label": [goal.label for goal in episodes.goals],
            "goal_color": [goal.color for goal in episodes.goals],
            "seen_pair": seen_pair,
            "shortest_m": episodes.shortest_m,
            **results.metrics,
            "steps": results.steps,
            "return": results.returns,
            "stopped": results.stopped,
            "actions": [row.tolist() for row in results.actions],
            "x": [path[:, 0].tolist() for path in results.trajectories],
            "y": [path[:, 1].tolist() for path in results.trajectories],
            "yaw": [path[:, 2].tolist() for path in results.trajectories],
        }
    )
    with atomic_file(path) as file:
        pyarrow.parquet.write_table(table, file)


def make_policy(cfg: EvaluateAgentConfig, simulator: Simulator) -> tuple[PolicyFn, Sensors | None]:
    """The policy a config names, and the camera it needs (None: it does not look).

    Raises:
        InputError: the policy or its tower is not there or does not fit.
    """
    if cfg.policy == "random":
        return RandomPolicy(cfg.seed, sim=simulator), None
    if cfg.policy == "oracle":
        return Expert(simulator), None
    folder = Path(cfg.policy).expanduser()
    if not folder.is_dir():
        raise InputError(f"policy={cfg.policy} is neither {' nor '.join(BASELINES)} nor a folder with a trained policy")
    agent = Agent.from_pretrained(folder, cfg.vl or None, simulator.goals, seed=cfg.seed, greedy=cfg.greedy)
    return agent, agent.encoder.sensors


@one_torch_thread()
def run(cfg: EvaluateAgentConfig) -> dict[str, Any]:
    """Run the episodes, print the table, write files and videos."""
    if not cfg.scenes:
        raise InputError("scenes is required: scenes=FOLDER, made by build-scenes")
    store = SceneStore(cfg.scenes)
    task = TASKS[cfg.task].from_manifest(store.manifest)
    homes = HomePool.from_store(store, store.split(cfg.split), interactive=task.interactive)
    simulator = Simulator(
        homes, task, num_envs=min(cfg.num_envs, cfg.episodes), seed=cfg.seed, max_steps=cfg.max_steps, sensors=None
    )
    policy, simulator.sensors = make_policy(cfg, simulator)
    if cfg.video and simulator.sensors is None:
        simulator.sensors = Sensors()
    folder = RunFolder.open(cfg, "evaluate-agent")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    if cfg.episode_set:
        episodes = load_episodes(cfg.episode_set)
    else:
        episodes = make_episodes(homes, task, cfg.episodes, cfg.seed, simulator.fields)
    save_episodes(episodes, folder.file("episode_set.parquet"))
    name = cfg.policy if cfg.policy in BASELINES else "agent"
    with track(len(episodes), f"{name} on {cfg.split} homes") as bar:
        results = run_episodes(simulator, policy, episodes, range(cfg.video), on_episode=bar.advance)

    heldout = {tuple(pair) for pair in store.manifest.get("heldout_pairs", [])}
    seen_pair = np.array([(goal.color, goal.label) not in heldout for goal in episodes.goals])
    groups = {"all": measure(results, np.arange(len(results)))}
    if heldout and not seen_pair.all():
        members = {"seen pairs": np.flatnonzero(seen_pair), "held-out pairs": np.flatnonzero(~seen_pair)}
        groups |= {group: measure(results, rows) for group, rows in members.items() if len(rows)}
    save_results(results, seen_pair, folder.file("episodes.parquet"))
    videos = []
    if cfg.video:
        from agents.episode_video import film

        with track(cfg.video, "videos") as bar:
            for row in range(cfg.video):
                path = folder.file(f"videos/episode-{row:03d}.mp4")
                film(path, homes[homes.index[episodes.scene_ids[row]]], results, row, task)
                videos.append(str(path.relative_to(folder.path)))
                bar.advance()
    Console().print(results_table(groups, f"{cfg.policy} on {len(homes)} {cfg.split} homes"))
    return folder.finish(
        {
            "policy": cfg.policy,
            "split": cfg.split,
            "homes": len(homes),
            **groups["all"],
            "groups": groups,
            "videos": videos,
        }
    )


if __name__ == "__main__":
    job_main("evaluate-agent")

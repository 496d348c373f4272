"""Measure a policy on fixed episodes: success, SPL, SoftSPL, distance to goal, with 95 % intervals, and videos.

    sightline evaluate-agent scenes=SCENES policy=random|oracle task=find_referral
    sightline evaluate-agent scenes=SCENES policy=runs/train-agent/.../policy vl=MODEL video=4
    sightline evaluate-agent scenes=SCENES policy=runs/train-reasoner/.../model   a language model that sees and answers
    sightline evaluate-agent episode_set=procedural-test policy=oracle     a named set brings its homes along
    sightline evaluate-agent scenes=SCENES policy=keyboard                 you play, in the terminal
    sightline evaluate-agent scenes=SCENES replay=RUN/recording.parquet    what record=true kept, to the byte

Episodes depend on the homes and the seed alone, so every policy meets the same ones. Goals whose colour and noun never
occurred together in the training homes are reported apart. Leaves result.json, episodes.parquet and videos/*.mp4.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from rich import box
from rich.console import Console
from rich.table import Table

from agents.agent import Agent, read_description
from agents.reasoning.turn_config import is_language_policy, read_style
from core.errors import InputError, check_choice
from core.files import atomic_file
from core.intervals import grouped_mean, grouped_rate
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from core.threads import one_torch_thread
from envs.controls import CONTROLS
from envs.episode_sets import EPISODE_SETS, episodes_of, make_set
from envs.episodes import EpisodeResults, Episodes, PolicyFn, make_episodes, run_episodes, save_episodes
from envs.expert import Expert, RandomPolicy
from envs.observation import noise_of, task_max_steps
from envs.pool import HomePool
from envs.recording import Recorder, Recording, load_recording, save_recording
from envs.replay import replay, simulator_of
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks import TASKS
from scene.store import SceneStore

MEASURES = ("success", "spl", "soft_spl", "distance_to_goal_m", "path_length_m", "collisions", "subgoals", "steps")
BASELINES = ("random", "oracle", "keyboard")
EPISODES = 300  # drawn where nobody says how many
RECORDED = (
    "policy", "vl", "grounder", "task", "split", "episodes", "max_steps", "greedy", "control", "tilt", "noise",
    "shut_doors",
)  # fmt: skip  # options that a recording decides


@dataclass
class EvaluateAgentConfig(JobConfig):
    """Measure a policy on unseen homes: sightline evaluate-agent scenes=SCENES policy=random|oracle|keyboard|PATH"""

    scenes: str = ""  # folder of homes made by build-scenes; a named episode_set needs none
    policy: str = "random"  # random, oracle, keyboard (you play), policy/ of train-agent, or a vision-language model
    vl: str = ""  # the two-tower model a trained policy sees with; empty = the one it was trained with
    grounder: str = ""  # the grounder a trained policy perceives with; empty = the one it was trained with
    task: str = "find_object"  # what to do in the homes
    split: str = ""  # homes of the folder: train, val or test; empty = test
    episodes: int = 0  # how many, the first ones of a given set; 0 = all of the set, or 300 drawn ones
    episode_set: str = ""  # name of a fixed set, or a Parquet file of episodes; empty = draw them
    max_steps: int = 0  # actions after which an episode is cut off; 0 = what the policy was trained with, or the task's
    num_envs: int = 64  # episodes run together
    greedy: bool = False  # take the most probable action instead of drawing one
    control: str = "discrete"  # discrete actions, or continuous speeds
    tilt: bool = False  # the agent can look up and down
    noise: float = 0.0  # how far actions and depth stray: 0 = not at all, 1 = as on a real robot
    shut_doors: float = 0.0  # chance of each inner door to be shut at first; the agent can open them
    video: int = 0  # episodes filmed: the first ones of the set
    record: bool = False  # keep all episodes in recording.parquet, to be replayed
    replay: str = ""  # a recording to play again and check, instead of a policy; it decides the task and its options

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tuple(TASKS))
        check_choice("control", self.control, CONTROLS)
        for name in ("episodes", "max_steps", "video"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should be a number from 0 on")
        if self.num_envs < 1:
            raise InputError(f"num_envs={self.num_envs} should be positive")
        if self.episodes and self.video > self.episodes:
            raise InputError(f"video={self.video} films more than the episodes={self.episodes} that are run")
        if not 0 <= self.shut_doors <= 1:
            raise InputError(f"shut_doors={self.shut_doors} is a chance and lies between 0 and 1")
        if not 0 <= self.noise < 100:
            raise InputError(f"noise={self.noise} is a factor from 0 to 100")
        if self.replay:
            self._refuse(RECORDED, f"replay={self.replay} says itself who does what, and how")
        if self.episode_set in EPISODE_SETS:
            self._refuse(("scenes", "split"), f"episode_set={self.episode_set} brings its own homes")
            if self.shut_doors and TASKS[self.task].interactive is not True:
                raise InputError(
                    f"shut_doors={self.shut_doors}: the homes of {self.episode_set} have fixed doors with "
                    f"task={self.task}; leave shut_doors out, or give scenes= instead of episode_set="
                )

    def _refuse(self, names: tuple[str, ...], reason: str) -> None:
        given = [item.name for item in fields(self) if item.name in names and getattr(self, item.name) != item.default]
        if given:
            words = ", ".join(f"{name}={getattr(self, name)}" for name in given)
            raise InputError(f"{reason}; leave out {words}")


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


def results_table(groups: dict[str, dict[str, Any]], title: str, several_stages: bool = False) -> Table:
    """The measures of each group of episodes as a table, intervals below their means."""
    columns = [("success", "success %", 100), ("spl", "SPL %", 100), ("soft_spl", "SoftSPL %", 100)]
    columns += [("subgoals", "subgoals %", 100)] * several_stages
    columns.append(("distance_to_goal_m", "metres left", 1))
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("goals (episodes)")
    for _, header, _ in columns:
        table.add_column(header, justify="right", overflow="fold")
    for group, found in groups.items():
        cells = []
        for name, _, factor in columns:
            mean, (low, high) = found["metrics"][name]["mean"], found["metrics"][name]["interval"]
            digits = 1 if factor == 100 else 2
            mean, low, high = (f"{factor * value:.{digits}f}" for value in (mean, low, high))
            cells.append(f"{mean}\n{low}-{high}")
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


def make_simulator(cfg: EvaluateAgentConfig, recording: Recording | None) -> tuple[Simulator, Episodes]:
    """The homes, the task and the episodes a config names; the simulator has no sensors yet.

    Raises:
        InputError: homes, task, episodes and options are missing or do not go together.
    """
    named = cfg.episode_set in EPISODE_SETS
    if cfg.episode_set and not named and not Path(cfg.episode_set).exists():
        episodes_of(cfg.episode_set, cfg.task)  # says which names there are
    if not cfg.scenes and not named:
        names = ", ".join(EPISODE_SETS)
        raise InputError(f"scenes is required: scenes=FOLDER, made by build-scenes; or episode_set= one of {names}")
    if recording is not None:
        homes = recorded_homes(cfg, recording)
        return simulator_of(recording, homes, min(cfg.num_envs, len(recording))), recording.results.episodes
    brought, episodes = episodes_of(cfg.episode_set, cfg.task) if cfg.episode_set else (None, None)
    if brought is not None:
        homes = brought
        task = TASKS[cfg.task].from_manifest(homes.manifest)
    else:
        store = SceneStore(cfg.scenes)
        task = TASKS[cfg.task].from_manifest(store.manifest)
        interactive = task.interactive or cfg.shut_doors > 0
        homes = HomePool.from_store(store, store.split(cfg.split or "test"), interactive=interactive)
    if episodes is not None and cfg.episodes:
        episodes = first_episodes(episodes, cfg.episodes)
    count = len(episodes) if episodes is not None else cfg.episodes or EPISODES
    trained = 0 if cfg.policy in BASELINES else trained_for(policy_folder(cfg))[1]
    simulator = Simulator(
        homes,
        task,
        1 if cfg.policy == "keyboard" else min(cfg.num_envs, count),
        cfg.seed,
        sensors=None,
        max_steps=cfg.max_steps or trained or task_max_steps(cfg.task),
        control=cfg.control,
        tilt=cfg.tilt,
        noise=noise_of(cfg.noise),
        shut_doors=cfg.shut_doors,
    )
    return simulator, episodes or make_episodes(homes, task, count, cfg.seed, simulator.fields)


def first_episodes(episodes: Episodes, count: int) -> Episodes:
    """The first `count` of some episodes. Raises InputError where there are not so many."""
    if count > len(episodes):
        raise InputError(f"episodes={count}, but the set has {len(episodes)}; leave episodes out to run them all")
    return replace(episodes, **{item.name: getattr(episodes, item.name)[:count] for item in fields(episodes)})


def recorded_homes(cfg: EvaluateAgentConfig, recording: Recording) -> HomePool:
    """The homes of a recording, out of the folder or the named set a config names."""
    if cfg.episode_set in EPISODE_SETS:
        return make_set(cfg.episode_set, recording.task)[0]
    store = SceneStore(cfg.scenes)
    known = {scene_id for split in store.splits.values() for scene_id in split}
    ids = sorted(known & {name.partition("#")[0] for name in recording.homes})
    if not ids:
        raise InputError(f"none of the recording's homes is in {cfg.scenes}, first {min(recording.homes)}")
    return HomePool.from_store(store, ids, interactive=recording.interactive)


def make_policy(cfg: EvaluateAgentConfig, simulator: Simulator) -> tuple[PolicyFn, Sensors | None]:
    """The policy a config names, and the camera it needs (None: it does not look).

    Raises:
        InputError: the policy or its tower is not there or does not fit.
    """
    if cfg.policy == "random":
        return RandomPolicy(cfg.seed, sim=simulator), None
    if cfg.policy == "oracle":
        return Expert(simulator), None
    folder = policy_folder(cfg)
    trained, _ = trained_for(folder)
    if trained not in ("", cfg.task):
        Console().print(f"Note: {folder} was trained for task={trained}; here it does task={cfg.task}.", soft_wrap=True)
    if is_language_policy(folder):
        cfg._refuse(("vl", "grounder"), f"policy={folder} is a language model that looks at pictures itself")
        from agents.reasoning.sim_policy import VLMAgent  # needs transformers

        speaker = VLMAgent.from_pretrained(folder, simulator, seed=cfg.seed, greedy=cfg.greedy)
        return speaker, speaker.sensors
    agent = Agent.from_pretrained(
        folder, simulator, vl=cfg.vl or None, grounder=cfg.grounder or None, seed=cfg.seed, greedy=cfg.greedy
    )
    return agent, agent.sensors


def trained_for(folder: Path) -> tuple[str, int]:
    """The task a policy was trained for, and how many actions its episodes had; "" and 0 where nothing says so."""
    if not is_language_policy(folder):
        document = read_description(folder)
        return document["task"], document["max_steps"]
    style = read_style(folder)
    return style.task, style.max_turns


def policy_folder(cfg: EvaluateAgentConfig) -> Path:
    """The folder of the trained policy a config names. Raises InputError where there is none."""
    folder = Path(cfg.policy).expanduser()
    if not folder.is_dir():
        raise InputError(f"policy={cfg.policy} is neither {', '.join(BASELINES)} nor a folder with a trained policy")
    return folder


@one_torch_thread()
def run(cfg: EvaluateAgentConfig) -> dict[str, Any]:
    """Run the episodes, print the table, write files and videos."""
    by_hand = cfg.policy == "keyboard" and not cfg.replay
    if by_hand:
        from agents.keyboard import check_terminal

        check_terminal()
    recording = load_recording(cfg.replay) if cfg.replay else None
    simulator, episodes = make_simulator(cfg, recording)
    policy: PolicyFn | None = None
    if recording is None and not by_hand:
        policy, simulator.sensors = make_policy(cfg, simulator)
    if cfg.record and simulator.sensors is None:
        simulator.sensors = Sensors()
    folder = RunFolder.open(cfg, "evaluate-agent")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    name = cfg.policy if cfg.policy in BASELINES else "agent"
    homes, split = simulator.homes, cfg.split or "test"
    where = cfg.episode_set if cfg.episode_set in EPISODE_SETS else f"{split} homes"
    recorder = Recorder(simulator) if cfg.record else None
    found: EpisodeResults | None
    if by_hand:
        from agents.keyboard import play_in_terminal

        found = play_in_terminal(simulator, episodes, recorder)
        if found is None:
            Console().print("No episode was finished, so there is nothing to measure.")
            return folder.finish({"policy": name, "task": cfg.task, "episodes": 0})
        results = found
    elif recording is not None:
        name = recording.policy or "somebody"
        with track(len(episodes), f"replay of {name}") as bar:
            results = replay(recording, homes, sim=simulator, on_episode=bar.advance)
    else:
        assert policy is not None
        with track(len(episodes), f"{name} on {where}") as bar:
            results = run_episodes(simulator, policy, episodes, on_episode=bar.advance, on_state=recorder)
    episodes = results.episodes
    save_episodes(episodes, folder.file("episode_set.parquet"))
    heldout = {tuple(pair) for pair in homes.manifest.get("heldout_pairs", [])}
    seen_pair = np.array([(goal.color, goal.label) not in heldout for goal in episodes.goals])
    groups = {"all": measure(results, np.arange(len(results)))}
    if heldout and not seen_pair.all():
        members = {"seen pairs": np.flatnonzero(seen_pair), "held-out pairs": np.flatnonzero(~seen_pair)}
        groups |= {group: measure(results, rows) for group, rows in members.items() if len(rows)}
    save_results(results, seen_pair, folder.file("episodes.parquet"))
    task = cfg.task if recording is None else recording.task
    title = f"{name} at {task}, {len({*episodes.scene_ids})} homes ({where})"
    if recording is not None:
        title += f"; every state{' and picture' if simulator.sensors else ''} as recorded"
    Console().print(results_table(groups, title, simulator.fields.stages > 1))
    unreadable = getattr(policy, "unreadable_share", None)
    answered = {} if unreadable is None else {"unreadable_share": unreadable}
    if unreadable:
        Console().print(f"{100 * unreadable:.1f} % of the answers named no action; the agent then turned to the left.")
    if recorder is not None:  # large: after the results, should the disk be full
        save_recording(recorder.finish(results, name), folder.file("recording.parquet"))
    videos = []
    if cfg.video:
        from agents.episode_video import film

        count = min(cfg.video, len(episodes))
        with track(count, "videos") as bar:
            for row in range(count):
                path = folder.file(f"videos/episode-{row:03d}.mp4")
                film(path, simulator, results, row)
                videos.append(str(path.relative_to(folder.path)))
                bar.advance()
    return folder.finish(
        {
            "policy": cfg.policy if recording is None else name,
            "task": task,
            "split": split,
            "homes": len(homes),
            **groups["all"],
            "groups": groups,
            "videos": videos,
            **answered,
        }
    )


if __name__ == "__main__":
    job_main("evaluate-agent")

"""Is the reward model any good? Its scores against what the simulator knows, on frames of unseen homes.

sightline score-rewards scenes=SCENES vl=MODEL

Frames come from sampled cameras and from random and shortest-path walks. Each frame is paired with every goal its home
offers and sorted by what it shows of that goal:

    near      at least 25 of its pixels in view, and within 2 m (camera to footprint): what the reward should pay
    far       at least 25 pixels, but farther: reported apart, since a good reward may well pay some of it
    absent    not a single pixel
    sliver    1 to 24 pixels: neither, counted only

AUC is the chance that a near frame scores above an absent (or far) one, of any home and goal; intervals resample whole
homes. EPIC is the distance between the score and the label "near" over near and absent frames. Frames are encoded
once; every alpha re-uses the embeddings. Leaves result.json, frames.parquet and reward_path.json.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from rich.console import Console
from rich.table import Table
from torch import Tensor

from agents.agent import goal_reward, score_every_goal
from agents.agreement import epic_distance, grouped_auc
from core.conventions import intrinsics_from_fov
from core.errors import InputError, check_choice
from core.files import atomic_file, atomic_write
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from envs import episodes as episode_sets
from envs.episodes import PolicyFn, make_episodes
from envs.expert import Expert, RandomPolicy
from envs.goals import Goal
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS
from scene.geometry import distance_to_footprint
from scene.occupancy import EYE_M
from scene.render import Frame, prepare, render
from scene.store import SceneStore
from scene.views import sample_camera
from vl.embedder import Embedder, load_embedder
from vl.two_tower import VLModel

MIN_PIXELS = 25
NEAR_M = 2.0
KINDS = ("near", "far", "absent", "sliver")


@dataclass
class ScoreRewardsConfig(JobConfig):
    """Measure a VLM reward on unseen homes: sightline score-rewards scenes=SCENES vl=MODEL"""

    CUDA = True

    scenes: str = ""  # folder of homes made by build-scenes
    vl: str = ""  # two-tower model, or a CLIP / SigLIP folder or hub id
    task: str = "find_object"  # whose goals are scored
    split: str = "test"  # homes: train, val or test
    cameras: int = 20  # sampled cameras per home
    walks: int = 2  # random and oracle walks per home, each
    walk_steps: int = 16  # frames of a walk at most
    alpha: float = 0.25  # projection strength of the headline figures, 0..1; chosen on val homes
    alphas: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0])  # projection strengths compared
    resamples: int = 1000  # bootstrap resamples of homes

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tuple(TASKS))
        for name in ("cameras", "walks", "walk_steps", "resamples"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for value in [self.alpha, *self.alphas]:
            if not 0 <= value <= 1:
                raise InputError(f"alpha {value} should be between 0 and 1")


CONFIG = ScoreRewardsConfig


@dataclass
class Shot:
    """Frames of one kind of camera, and what they show."""

    source: str  # camera, random or oracle
    home: ndarray  # (M,) index into the pool
    position: Float[ndarray, "M 2"]  # of the camera
    frame: Frame


@dataclass
class Pairs:
    """A row for each frame and each goal its home offers."""

    frame: ndarray  # index into the embeddings
    goal: ndarray  # index into `goals_of` the simulator
    home: ndarray  # index into the pool
    pixels: ndarray  # of the goal
    distance_m: ndarray  # to the nearest matching object in view; inf where none is
    kind: ndarray  # index into KINDS


def goals_of(simulator: Simulator) -> list[Goal]:
    """One goal for each sentence that some home of the pool offers, in the order of their numbers.

    Raises:
        InputError: a goal is a place and no thing, so there is nothing to see.
    """
    known = {goal.text: goal for offered in simulator.fields.goals for goal in offered}
    blind = [goal.text for goal in known.values() if not goal.stages[0].objects]
    if blind:
        raise InputError(
            f"{len(blind)} goals name no thing that a picture could show, first {blind[0]!r}; choose another task"
        )
    return [known[text] for text in simulator.texts if text in known]


def walk(simulator: Simulator, policy: PolicyFn, source: str, per_home: int, steps: int, seed: int) -> list[Shot]:
    """Frames along walks of a policy: `per_home` episodes in each playable home, up to `steps` frames each."""
    count = per_home * len(simulator.fields.playable)
    episodes = make_episodes(simulator.homes, simulator.task, count, seed, simulator.fields)
    state = episode_sets.place(simulator, episodes, range(count))
    shots = []
    for _ in range(steps):
        frame = simulator.observe(state)
        shots.append(Shot(source, state.home.numpy(), state.position.numpy(), frame))
        state, _ = simulator.step(state, policy(state, frame))
        state = state.rows(~state.done)
        if not len(state):
            break
    return shots


def cameras(simulator: Simulator, per_home: int, seed: int) -> Shot:
    """Frames of sampled cameras in every playable home."""
    home = np.repeat(simulator.fields.playable, per_home)
    rng = np.random.default_rng(seed)
    poses = np.stack([sample_camera(simulator.homes[k].scene, simulator.homes[k].grid, rng) for k in home.tolist()])
    sensors = simulator.sensors
    assert sensors is not None
    intrinsics = intrinsics_from_fov(sensors.width, sensors.height, np.deg2rad(sensors.fov_deg))
    poses[:, 2, 3] = simulator.homes.floor_z[home] + EYE_M
    prepared = [prepare(item.scene) if item.interactive else item.prepared for item in simulator.homes.homes]
    frame = render(prepared, poses, intrinsics, sensors.width, sensors.height, home)
    return Shot("camera", home, poses[:, :2, 3], frame)


def label(simulator: Simulator, shots: list[Shot]) -> Pairs:
    """What every frame shows of every goal its home offers: the things its first stage is about."""
    rows: list[tuple[int, int, int, int, float]] = []
    number = 0
    index = {goal.text: k for k, goal in enumerate(goals_of(simulator))}
    for shot in shots:
        for k, (place, position) in enumerate(zip(shot.home.tolist(), shot.position)):
            objects = simulator.homes[place].scene.objects
            seen = np.bincount(shot.frame.instance[k].numpy().ravel() + 1, minlength=len(objects) + 1)[1:]
            for wanted in simulator.fields.goals[place]:
                matching = [i for i in wanted.stages[0].objects if seen[i]]
                # what the goal shows: its nearest member in full view, else whatever there is of it
                clear = [i for i in matching if seen[i] >= MIN_PIXELS] or matching
                away = min((float(distance_to_footprint(position, objects[i].box)) for i in clear), default=np.inf)
                rows.append((number, index[wanted.text], place, int(max((seen[i] for i in clear), default=0)), away))
            number += 1
    frame, goal, home, pixels, distance = map(np.array, zip(*rows))
    shown = pixels >= MIN_PIXELS
    kind = np.select([shown & (distance <= NEAR_M), shown, pixels == 0], [0, 1, 2], 3)
    return Pairs(frame, goal, home, pixels, distance, kind)


def compare(score: ndarray, pairs: Pairs, chosen: ndarray, resamples: int) -> dict[str, Any]:
    """AUC of near against absent and against far frames, and the EPIC distance, over chosen pairs."""
    near, far, absent = (pairs.kind == k for k in range(3))
    found: dict[str, Any] = {"near": int((near & chosen).sum())}
    for name, other in (("absent", absent), ("far", far)):
        rows = np.flatnonzero(chosen & (near | other))
        auc, interval = grouped_auc(score[rows], near[rows], pairs.home[rows], resamples=resamples)
        found[name] = {"frames": int((other & chosen).sum()), "auc": auc, "interval": interval}
    rows = np.flatnonzero(chosen & (near | absent))
    found["epic"] = epic_distance(score[rows], near[rows].astype(float))
    return found


def embed(embedder: Embedder, shots: list[Shot]) -> Float[Tensor, "M D"]:
    """Image embeddings of all frames in order."""
    return torch.cat([embedder.encode_images(shot.frame.rgb) for shot in shots])


def reward_path(simulator: Simulator, embedder: Embedder, alpha: float, seed: int) -> dict[str, Any]:
    """The score along one shortest path, that of the farthest of a few starts, for drawing."""
    episodes = make_episodes(simulator.homes, simulator.task, 12, seed + 1, simulator.fields)
    row = int(np.argmax(episodes.shortest_m))
    state = episode_sets.place(simulator, episodes, [row])
    expert, shots, distance, pixels = Expert(simulator), [], [], []
    while not bool(state.done.any()):
        frame = simulator.observe(state)
        shots.append(Shot("oracle", state.home.numpy(), state.position.numpy(), frame))
        distance.append(float(state.distance[0]))
        pixels.append(int(simulator.goal_visibility(frame.instance, state)[0][0]))
        state, _ = simulator.step(state, expert(state, frame))
    model = goal_reward(embedder, [episodes.goals[row]], alpha)
    score = score_every_goal(model, embed(embedder, shots))[:, 0]
    return {
        "scene_id": episodes.scene_ids[row],
        "goal": episodes.goals[row].text,
        "alpha": alpha,
        "score": score.tolist(),
        "distance_m": distance,
        "visible_pixels": pixels,
    }


def save_pairs(pairs: Pairs, score: ndarray, shots: list[Shot], simulator: Simulator, file: Any) -> None:
    """One row per frame and goal, with the headline score."""
    import pyarrow
    import pyarrow.parquet

    source = np.concatenate([np.full(len(shot.home), shot.source) for shot in shots])
    position = np.concatenate([shot.position for shot in shots])
    goals = goals_of(simulator)
    table = pyarrow.table(
        {
            "frame": pairs.frame,
            "source": source[pairs.frame],
            "scene_id": [simulator.homes.ids[k] for k in pairs.home],
            "goal": [goals[k].text for k in pairs.goal],
            "x": position[pairs.frame, 0],
            "y": position[pairs.frame, 1],
            "pixels": pairs.pixels,
            "distance_m": pairs.distance_m,
            "kind": np.array(KINDS)[pairs.kind],
            "score": score,
        }
    )
    pyarrow.parquet.write_table(table, file)


def run(cfg: ScoreRewardsConfig) -> dict[str, Any]:
    """Collect frames, label them, score them with every reward, write the tables."""
    for name, what in (("scenes", "made by build-scenes"), ("vl", "a two-tower model")):
        if not getattr(cfg, name):
            raise InputError(f"{name} is required: {name}=FOLDER, {what}")
    embedder = load_embedder(cfg.vl, cfg.device)
    store = SceneStore(cfg.scenes)
    task = TASKS[cfg.task].from_manifest(store.manifest)
    homes = HomePool.from_store(store, store.split(cfg.split), interactive=task.interactive)
    simulator = Simulator(homes, task, seed=cfg.seed, max_steps=100)
    goals = goals_of(simulator)
    folder = RunFolder.open(cfg, "score-rewards")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    with track(3, "frames to score") as bar:
        shots = [cameras(simulator, cfg.cameras, cfg.seed)]
        bar.advance()
        for source, policy in (
            ("random", RandomPolicy(cfg.seed, stop=0.0, sim=simulator)),
            ("oracle", Expert(simulator)),
        ):
            shots += walk(simulator, policy, source, cfg.walks, cfg.walk_steps, cfg.seed)
            bar.advance()
    pairs = label(simulator, shots)
    heldout = {tuple(pair) for pair in store.manifest.get("heldout_pairs", [])}
    seen_goal = np.array([(goal.color, goal.label) not in heldout for goal in goals])
    groups = {"all pairs": np.ones(len(pairs.goal), bool)}
    if heldout and not seen_goal[pairs.goal].all():
        groups |= {"seen pairs": seen_goal[pairs.goal], "held-out pairs": ~seen_goal[pairs.goal]}

    def scored(model: Embedder, embedding: Tensor, alpha: float) -> ndarray:
        every = score_every_goal(goal_reward(model, goals, alpha), embedding).cpu().numpy()
        return every[pairs.frame, pairs.goal]

    embedding = embed(embedder, shots)
    scores = {f"alpha {alpha:g}": scored(embedder, embedding, alpha) for alpha in sorted({*cfg.alphas, cfg.alpha})}
    headline = f"alpha {cfg.alpha:g}"
    if isinstance(embedder, VLModel):
        blind = VLModel.create(embedder.config, embedder.tokenizer, seed=cfg.seed).eval()
        scores["random weights"] = scored(blind, embed(blind, shots), cfg.alpha)
    scores["constant"] = np.full(len(pairs.goal), 0.5)
    scores["oracle"] = pairs.pixels / (1.0 + np.where(np.isfinite(pairs.distance_m), pairs.distance_m, 0.0))
    table = {
        name: {group: compare(score, pairs, chosen, cfg.resamples) for group, chosen in groups.items()}
        for name, score in scores.items()
    }

    with atomic_file(folder.file("frames.parquet")) as file:
        save_pairs(pairs, scores[headline], shots, simulator, file)
    path = reward_path(simulator, embedder, cfg.alpha, cfg.seed)
    atomic_write(folder.file("reward_path.json"), json.dumps(path))
    show(table, f"AUC of the reward on {len(simulator.fields.playable)} {cfg.split} homes")
    counts = {name: int((pairs.kind == k).sum()) for k, name in enumerate(KINDS)}
    return folder.finish(
        {
            "split": cfg.split,
            "homes": len(simulator.fields.playable),
            "frames": len(embedding),
            "pairs": counts,
            "alpha": cfg.alpha,
            "auc": headline_rows(table, headline),
            "table": table,
        }
    )


def headline_rows(table: dict[str, dict[str, Any]], headline: str) -> dict[str, dict[str, Any]]:
    """The figures a report shows: name -> auc, interval and a remark."""
    found = {}
    for group, part in table[headline].items():
        name = "goal near against goal not in view" + ("" if group == "all pairs" else f", {group}")
        beside = f"{part['near']} near, {part['absent']['frames']} without"
        found[name] = {**part["absent"], "beside": beside}
    far = table[headline]["all pairs"]["far"]
    found["goal near against goal in view but farther"] = {**far, "beside": f"{far['frames']} farther"}
    for name in ("random weights", "constant"):
        if name in table:
            found[f"{name}: near against not in view"] = {**table[name]["all pairs"]["absent"], "beside": "baseline"}
    return found


def show(table: dict[str, dict[str, Any]], title: str) -> None:
    """Print AUC and EPIC per reward and group of goals (number of near frames)."""
    printed = Table(title=title, title_justify="left")
    for name in ("reward", "goals", "near / absent", "near / far", "EPIC"):
        text = name in ("reward", "goals")
        printed.add_column(name, justify="left" if text else "right", no_wrap=text)
    for name, parts in table.items():
        for group, part in parts.items():
            cells = [
                "{:.3f} ({:.3f}-{:.3f})".format(part[kind]["auc"], *part[kind]["interval"])
                for kind in ("absent", "far")
            ]
            printed.add_row(name, f"{group} ({part['near']})", *cells, f"{part['epic']:.3f}")
    Console().print(printed)


if __name__ == "__main__":
    job_main("score-rewards")

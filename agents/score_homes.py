"""Rewards on pictures of homes: everything is known there, so every figure can be had.

Sampled cameras, shortest-path and random walks, walks that no reward should pay (agents/reward_paths.py), and an
agent's own where one is given. Every picture is encoded once; every prompt, alpha and scale re-uses the embedding.
Compared on the same moments are

    alpha A                 the raw score, with the first of the prompts
    alpha A, standardised   in units of each goal's spread over pictures of train homes: what an agent is paid by
    grounded                the grounder's belief in what was seen so far, times nearness (agents/grounded_reward.py)
    random weights, constant, oracle    controls: no training, no information, the true progress itself
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy import ndarray
from torch import Tensor

from agents import reward_views
from agents.agent import Agent
from agents.grounded_scores import GroundedScores
from agents.prompt_sets import PromptSet, prompt_sets
from agents.reward_frames import (
    ASKED_FOR_ALL,
    KINDS,
    Collector,
    Pairs,
    Pictures,
    collect_cameras,
    collect_walks,
    embed,
    goals_of,
)
from agents.reward_metrics import Rows, table
from agents.reward_paths import ADVERSARIES, WrongThing
from agents.reward_report import report
from agents.senses import asked_for, head_of
from agents.sentence_reward import score_every_goal
from agents.shaping import Calibration
from core.files import atomic_file, atomic_write
from core.progress import track
from core.run import RunFolder
from envs import episodes as episode_sets
from envs.episodes import PolicyFn, make_episodes
from envs.expert import Expert, RandomPolicy
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS
from scene.grounder import Grounder
from scene.store import SceneStore
from vl.embedder import Embedder, load_embedder
from vl.embedding_store import EmbeddingStore
from vl.model import VLModel
from vl.rewards import StepBatch, VLMReward

if TYPE_CHECKING:
    from agents.score_rewards import ScoreRewardsConfig

STOPS = 1 / 16  # chance that a random walk stops at each step
TRAIN_HOMES = 32  # whose pictures set the scale of each goal's scores, at most
BLOCK = 8192  # pairs scored at a time


def collect(cfg: "ScoreRewardsConfig", simulator: Simulator, collector: Collector, agent: PolicyFn | None) -> dict:
    """Pictures of cameras and of every kind of walk from the same starts; counts for the result."""
    count = cfg.walks * len(simulator.fields.playable)
    episodes = make_episodes(simulator.homes, simulator.task, count, cfg.seed, simulator.fields)
    collect_cameras(collector, cfg.cameras, cfg.seed)
    walks: dict[str, PolicyFn] = {
        "oracle": Expert(simulator),
        "random": RandomPolicy(cfg.seed, stop=STOPS, sim=simulator),
        **{name: make(simulator) for name, make in ADVERSARIES.items()},
    }
    if agent is not None:
        walks["policy"] = agent
    left_out = {name: collect_walks(collector, name, policy, episodes) for name, policy in walks.items()}
    wrong = walks["wrong_thing"]
    assert isinstance(wrong, WrongThing)
    alike = int(wrong.same_class(episode_sets.place(simulator, episodes, range(count))).sum())
    return {
        "walks": count,
        "left_out": {name: number for name, number in left_out.items() if number},
        "wrong_things_of_the_goals_class": alike,
    }


def calibration_pictures(cfg: "ScoreRewardsConfig", store: SceneStore, like: Simulator, folder: str) -> Pictures:
    """What agents see where episodes of train homes begin; neither goals nor truth are read."""
    ids = store.split("train")[:TRAIN_HOMES]
    homes = HomePool.from_store(store, ids, interactive=like.task.interactive)
    simulator = Simulator(homes, like.task, cfg.calibration_frames, cfg.seed + 1, sensors=like.sensors)
    pictures = Pictures(folder)
    pictures.add(simulator.observe(simulator.reset()).rgb)
    return pictures


def pair_scores(
    model: VLMReward, embeddings: EmbeddingStore, frame: Int64[Tensor, " P"], goal: Int64[Tensor, " P"]
) -> Float[ndarray, " P"]:
    """Scores of pairs of a picture and a goal of the model, a block at a time."""
    scores = []
    for rows, goals in zip(frame.split(BLOCK), goal.split(BLOCK)):
        scores.append(model.score(StepBatch(embedding=embeddings.rows(rows)), goals).cpu().numpy())
    return np.concatenate(scores).astype(float)


class Scorer:
    """Rewards of one model for the pairs, by prompt and alpha, raw and on the scale of train homes.

    Args:
        things: what each goal asks for, e.g. "red armchair"; many sentences may ask for one thing.
        pictures: those of the pairs; each is encoded once.
        ordinary: those that set the scale.
    """

    def __init__(
        self, embedder: Embedder, things: Sequence[str], pairs: Pairs, pictures: Pictures, ordinary: Pictures
    ) -> None:
        self.embedder, self.pairs = embedder, pairs
        self.things, number = np.unique(np.array(things), return_inverse=True)
        self.thing = torch.from_numpy(number[pairs.goal])  # of each pair
        self.embeddings, scale = embed(embedder, pictures), embed(embedder, ordinary)
        self.ordinary = scale.rows(torch.arange(len(scale)))

    def __call__(
        self, prompts: PromptSet, alphas: Sequence[float]
    ) -> Iterator[tuple[float, Float[ndarray, " P"], Float[ndarray, " P"]]]:
        """Each alpha with raw and standardised scores of the pairs."""
        said = VLMReward(self.embedder, [prompts.goal(str(k)) for k in self.things], prompts.baseline, alpha=0.0)
        for alpha in alphas:
            model = VLMReward.from_vectors(self.embedder, said.goal_vectors, said.baseline_vector, alpha)
            raw = pair_scores(model, self.embeddings, torch.from_numpy(self.pairs.frame), self.thing)
            scale = Calibration.fit(score_every_goal(model, self.ordinary).cpu(), 0.99)
            paid = scale.standardise(torch.from_numpy(raw), self.thing)
            yield alpha, raw, paid.numpy()


def score_homes(cfg: "ScoreRewardsConfig") -> dict[str, Any]:
    """Collect pictures, say what is true of them, score them with every reward, write tables and page."""
    embedder = load_embedder(cfg.vl, cfg.device) if cfg.vl else None
    grounded = GroundedScores(Grounder.from_pretrained(cfg.grounder)) if cfg.grounder else None
    store = SceneStore(cfg.scenes)
    task = TASKS[cfg.task].from_manifest(store.manifest)
    homes = HomePool.from_store(store, store.split(cfg.split), interactive=task.interactive)
    simulator = Simulator(homes, task, 32, seed=cfg.seed, max_steps=cfg.walk_steps)
    agent = Agent.from_pretrained(cfg.policy, simulator, seed=cfg.seed) if cfg.policy else None
    if agent is not None:
        simulator.sensors = agent.sensors
    goals = goals_of(simulator)
    folder = RunFolder.open(cfg, "score-rewards")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    pictures = Pictures(folder.path)
    collector = Collector(simulator, pictures, grounded)
    counts = collect(cfg, simulator, collector, agent)
    pairs = collector.pairs()
    rows, at = pairs.rows(homes.ids)
    rewards: dict[str, ndarray] = {}
    sweep: dict[str, Any] = {}
    headline, raw = "grounded", "grounded"
    if embedder is not None:
        raw = f"alpha {cfg.alpha:g}"
        headline = f"{raw}, standardised"
        ordinary = calibration_pictures(cfg, store, simulator, str(folder.path))
        things = [head_of(asked_for(goal.text)) for goal in goals]
        rewards, sweep = score_all(cfg, Scorer(embedder, things, pairs, pictures, ordinary), rows, at)
    if grounded is not None:
        rewards["grounded"] = pairs.watched
    if embedder is not None:
        if isinstance(embedder, VLModel):
            blind = embedder.untrained(cfg.seed).eval()
            untrained = Scorer(blind, things, pairs, pictures, ordinary)
            ((_, rewards["random weights"], _),) = untrained(PromptSet(cfg.prompts[0], cfg.baselines[0]), [cfg.alpha])
        path = reward_views.reward_path(simulator, embedder, cfg.alpha, cfg.seed)
        atomic_write(folder.file("reward_path.json"), json.dumps(path))
    rewards["constant"] = np.full(len(pairs), 0.5)

    title = f"{cfg.task} on {len(simulator.fields.playable)} {cfg.split} homes"
    views = views_table(cfg, rewards, pairs, simulator, store)
    reward_views.show(views, f"AUC of the reward, {title}: goal near against not in view, and against farther")
    with atomic_file(folder.file("frames.parquet")) as file:
        reward_views.save_pairs(pairs, rewards[raw], simulator, file)
    about = {
        "task": cfg.task,
        "split": cfg.split,
        "homes": len(simulator.fields.playable),
        "frames": len(pictures),
        "moments": len(rows),
        **counts,
        "progress": "exp(-walking distance to success in metres)",
        "sweep_of": "standardised scores",
    }
    result = report(
        folder,
        title,
        rows,
        {name: score[at] for name, score in {**rewards, "oracle": pairs.progress}.items()},
        headline,
        about=about,
        goals=[goal.text for goal in goals],
        pick=pictures.pick,
        sweep=sweep,
        resamples=cfg.resamples,
        worst=cfg.worst,
    )
    return folder.finish(
        {
            **about,
            "pairs": {name: int((pairs.kind[everywhere(pairs)] == k).sum()) for k, name in enumerate(KINDS)},
            "alpha": cfg.alpha,
            "auc": reward_views.headline_rows(views, raw),
            "table": views,
            **result,
        }
    )


def score_all(
    cfg: "ScoreRewardsConfig", scorer: Scorer, rows: Rows, at: ndarray
) -> tuple[dict[str, Float[ndarray, " P"]], dict[str, Any]]:
    """The first prompts' scores by alpha, raw and standardised, and the sweep over all prompts."""
    alphas, raws, paid = sorted({*cfg.alphas, cfg.alpha}), {}, {}
    sweep: dict[str, dict[str, Any]] = {}
    ways = prompt_sets(cfg.prompts, cfg.baselines)
    with track(len(ways) * len(alphas), "prompts and alphas") as bar:
        for number, (name, prompts) in enumerate(ways.items()):
            sweep[name] = {}
            for alpha, raw, standardised in scorer(prompts, alphas):
                if number == 0:
                    raws[f"alpha {alpha:g}"], paid[f"alpha {alpha:g}, standardised"] = raw, standardised
                figures = table(rows.scored(standardised[at]), resamples=0)
                sweep[name][f"{alpha:g}"] = {metric: entry["value"] for metric, entry in figures.items()}
                bar.advance()
    return {**raws, **paid}, sweep


def everywhere(pairs: Pairs) -> ndarray:
    """Mask of the pairs of pictures that are asked for every goal."""
    return np.isin(pairs.path, ASKED_FOR_ALL)


def views_table(
    cfg: "ScoreRewardsConfig", rewards: dict[str, ndarray], pairs: Pairs, simulator: Simulator, store: SceneStore
) -> dict[str, dict[str, Any]]:
    """AUC of near against absent and far by reward: all goals, and those of seen and of held-out colour x class."""
    rows = everywhere(pairs)
    chosen = pairs.chosen(rows)
    heldout = {tuple(pair) for pair in store.manifest.get("heldout_pairs", [])}
    seen_goal = np.array([(goal.color, goal.label) not in heldout for goal in goals_of(simulator)])[chosen.goal]
    groups = {"all pairs": np.ones(len(chosen), bool)}
    if heldout and not seen_goal.all():
        groups |= {"seen pairs": seen_goal, "held-out pairs": ~seen_goal}
    scores = {name: score[rows] for name, score in rewards.items() if "standardised" not in name}
    # the most that can be read off a picture: how much of the goal it shows, and how near that is
    scores["oracle"] = chosen.pixels / (1.0 + np.where(np.isfinite(chosen.distance_m), chosen.distance_m, 0.0))
    return {
        name: {group: reward_views.compare(score, chosen, members, cfg.resamples) for group, members in groups.items()}
        for name, score in scores.items()
    }

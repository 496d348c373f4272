"""Rewards on recorded episodes: videos, folders of frames, and Gymnasium tasks that say how far they are.

What is true of them is what their recordings know (agents/recordings.py, agents/task_truth.py): some have progress,
some only success of the whole, some nothing, and figures that need more are left out. Episodes are the groups of the
intervals. Scores are raw: one goal needs no common scale, and no other pictures are at hand to set one.

    alpha A     the embedder's score with all goal prompts; the sweep asks each prompt alone where all share theirs
    progress    a generative model's percentage (vl/progress.py); frames that it was not shown lie between its answers
    random weights, constant, oracle    controls; the last where progress is known
"""

import importlib.resources
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from omegaconf import OmegaConf

from agents.recordings import Recording, open_recordings
from agents.reward_frames import Pictures
from agents.reward_metrics import Rows, table
from agents.reward_report import report
from core.errors import InputError, nearest
from core.progress import track
from core.run import RunFolder
from vl.embedder import Embedder, load_embedder
from vl.embedding_store import EmbeddingStore
from vl.generator import load_generator
from vl.model import VLModel
from vl.progress import ProgressReward
from vl.rewards import StepBatch, VLMReward

if TYPE_CHECKING:
    from agents.score_rewards import ScoreRewardsConfig

TASKS = "reward_task"  # folder of configs/ with a file for each named task


@dataclass(frozen=True)
class SpooledFrames:
    """Frames of one episode among `pictures` on disk."""

    pictures: Pictures
    start: int
    count: int

    @property
    def size(self) -> tuple[int, int]:
        return self.pictures.size

    def __iter__(self) -> Iterator[UInt8[ndarray, "H W 3"]]:
        for row in range(self.start, self.start + self.count):
            yield self.pictures.pick([row])[0]


def score_recordings(cfg: "ScoreRewardsConfig") -> dict[str, Any]:
    """Read the recordings or play the task, score every frame with every reward, write tables and page."""
    embedder = load_embedder(cfg.vl, cfg.device) if cfg.vl else None
    generator = load_generator(cfg.progress, cfg.device) if cfg.progress.model else None
    source = cfg.recordings or cfg.reward_task
    alphas = sorted({*cfg.alphas, cfg.alpha})
    recordings = _opened(cfg) if cfg.recordings else []
    if embedder is not None:
        for alpha in alphas:  # sentences that do not fit should be known before a run begins
            asked_models(embedder, recordings, alpha)
    folder = RunFolder.open(cfg, "score-rewards")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    recordings = recordings or _played(cfg, Pictures(folder.path))
    rows, goals = moments(recordings)
    scores: dict[str, ndarray] = {}
    sweep: dict[str, Any] = {}
    if embedder is not None:
        store = embed_recordings(embedder, recordings)
        scores |= {f"alpha {alpha:g}": vlm_scores(embedder, store, recordings, alpha) for alpha in alphas}
        sweep = sweep_prompts(embedder, store, recordings, rows, alphas)
    asked: dict[str, Any] = {}
    if generator is not None:
        model = ProgressReward(generator, max_frames=cfg.progress_frames, votes=cfg.progress_votes, seed=cfg.seed)
        scores["progress"] = progress_scores(model, recordings)
        asked = {"progress_answers": model.counts.summary(), "progress_calls": generator.counts.summary()}
    if isinstance(embedder, VLModel):
        blind = embedder.untrained(cfg.seed).eval()
        scores["random weights"] = vlm_scores(blind, embed_recordings(blind, recordings), recordings, cfg.alpha)
    scores["constant"] = np.full(len(rows), 0.5)
    if not np.isnan(rows.progress).all():
        scores["oracle"] = rows.progress
    about = {
        "recordings": len(recordings),
        "source": source,
        "moments": len(rows),
        "progress_known": int((~np.isnan(rows.progress)).sum()),
        "success_known": int((~np.isnan(rows.success)).sum()),
        **asked,
    }
    result = report(
        folder,
        f"{source}, {len(recordings)} recordings",
        rows,
        scores,
        "progress" if embedder is None else f"alpha {cfg.alpha:g}",
        about=about,
        goals=goals,
        pick=lambda frames: pick_frames(recordings, frames),
        sweep=sweep,
        resamples=cfg.resamples,
        worst=cfg.worst,
    )
    return folder.finish({**about, "alpha": cfg.alpha, **result})


def _opened(cfg: "ScoreRewardsConfig") -> list[Recording]:
    return open_recordings(
        cfg.recordings,
        instruction=cfg.instruction,
        goal=cfg.goal,
        baseline=cfg.baseline,
        stride=cfg.stride,
        max_frames=cfg.max_frames,
    )


def _played(cfg: "ScoreRewardsConfig", pictures: Pictures) -> list[Recording]:
    """Episodes of a task under every behaviour it has, their frames on disk."""
    from agents.task_truth import EXPERTS, task_recordings

    task = named_task(cfg.reward_task)
    goal, baseline = cfg.goal or task["goal"], cfg.baseline or task["baseline"]
    behaviours = ("expert", "failed", "random", "stare") if task["env"] in EXPERTS else ("random", "stare")
    if len(behaviours) < 4:
        warnings.warn(
            f"{task['env']} has no controller by hand: only random and idle episodes are scored", stacklevel=2
        )
    found = []
    played = task_recordings(
        task["env"],
        goal=goal,
        baseline=baseline,
        instruction=cfg.instruction,
        behaviours=behaviours,
        episodes=cfg.episodes,
        size=cfg.image_size,
        seed=cfg.seed,
        options=task["env_options"],
    )
    with track(len(behaviours) * cfg.episodes, "episodes of the task") as bar:
        for recording in played:
            start = len(pictures)
            for block in recording.blocks():
                pictures.add(torch.from_numpy(block))
            spooled = SpooledFrames(pictures, start, len(pictures) - start)
            found.append(replace(recording, frames=spooled, kept=tuple(range(spooled.count))))
            bar.advance()
    return found


def named_task(name: str) -> dict[str, Any]:
    """A task of configs/reward_task by name, or any Gymnasium id: env, env_options, goal, baseline.

    Raises:
        InputError: neither; ids have a version, as CartPole-v1 has.
    """
    folder = importlib.resources.files("configs").joinpath(TASKS)
    known = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir()) if folder.is_dir() else []
    empty: dict[str, Any] = {"env": name, "env_options": {}, "goal": [], "baseline": []}
    if name in known:
        said = OmegaConf.to_container(OmegaConf.create(folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")))
        assert isinstance(said, dict)
        return empty | {key: value for key, value in said.items() if key in empty}
    if "-v" not in name:
        raise InputError(f"reward_task={name} is no Gymnasium id, such as CartPole-v1; {nearest(name, known)}")
    return empty


def moments(recordings: Sequence[Recording]) -> tuple[Rows, list[str]]:
    """A row for each kept frame, not yet scored, frames numbered through all recordings; and what was asked for."""
    goals = list(dict.fromkeys(recording.goal[0] for recording in recordings))
    counts = [len(recording) for recording in recordings]

    def told(name: str) -> ndarray:
        columns = [getattr(recording, name) for recording in recordings]
        return np.concatenate([np.full(n, np.nan) if c is None else c for n, c in zip(counts, columns)])

    return Rows(
        score=np.full(sum(counts), np.nan),
        progress=told("progress"),
        success=told("reached"),
        trajectory=np.repeat(np.arange(len(recordings)), counts),
        step=np.concatenate([np.array(recording.kept, dtype=np.int64) for recording in recordings]),
        path=np.repeat([recording.path for recording in recordings], counts),
        group=np.repeat([recording.id for recording in recordings], counts),
        goal=np.repeat([goals.index(recording.goal[0]) for recording in recordings], counts),
        frame=np.arange(sum(counts)),
    ), goals


def embed_recordings(embedder: Embedder, recordings: Sequence[Recording]) -> EmbeddingStore:
    """Embeddings of all kept frames in order; frames are read a block at a time."""
    store = EmbeddingStore(embedder.dim, dtype=torch.float32)
    with track(sum(len(recording) for recording in recordings), "frames encoded") as bar:
        for recording in recordings:
            for block in recording.blocks():
                store.append(embedder.encode_images(torch.from_numpy(block)))
                bar.advance(len(block))
    return store


Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""Goal and baseline prompts of a recording."""


def asked_models(
    embedder: Embedder, recordings: Sequence[Recording], alpha: float, goal: Sequence[str] = ()
) -> dict[Asked, VLMReward]:
    """A reward for each goal and baseline that recordings are scored by; `goal` stands for each recording's own.

    Raises:
        InputError: alpha is positive and a recording has no baseline; prompts that the reward refuses.
    """
    models: dict[Asked, VLMReward] = {}
    for recording in recordings:
        prompts, baseline = asked = (tuple(goal) or recording.goal, recording.baseline)
        if alpha > 0 and not baseline:
            raise InputError(
                f"recording {recording.id} has no baseline prompts, which alpha={alpha:g} needs: give baseline=[...], "
                "a sentence for the scene without the goal, or alpha=0 alphas=[0]"
            )
        if asked not in models:
            models[asked] = VLMReward(embedder, [list(prompts)], baseline if alpha > 0 else (), alpha=alpha)
    return models


def vlm_scores(
    embedder: Embedder,
    store: EmbeddingStore,
    recordings: Sequence[Recording],
    alpha: float,
    goal: Sequence[str] = (),
) -> Float[ndarray, " M"]:
    """Scores of all frames, each recording's for its own goal and baseline.

    Args:
        goal: prompts asked for instead of each recording's own.

    Raises:
        InputError: as asked_models.
    """
    models = asked_models(embedder, recordings, alpha, goal)
    scores, start = [], 0
    for recording in recordings:
        rows = torch.arange(start, start + len(recording))
        model = models[tuple(goal) or recording.goal, recording.baseline]
        scores.append(model.score(StepBatch(embedding=store.rows(rows)), torch.zeros_like(rows)).cpu().numpy())
        start += len(recording)
    return np.concatenate(scores).astype(float)


def sweep_prompts(
    embedder: Embedder, store: EmbeddingStore, recordings: Sequence[Recording], rows: Rows, alphas: Sequence[float]
) -> dict[str, Any]:
    """Figures by prompt and alpha: each prompt alone where all recordings share theirs, and all prompts together."""
    shared = {recording.goal for recording in recordings}
    ways: dict[str, Sequence[str]] = {"each recording's own": ()}
    if len(shared) == 1:
        (own,) = shared
        ways = {prompt: [prompt] for prompt in own}
        if len(own) > 1:
            ways["all prompts together"] = own
    found: dict[str, Any] = {}
    with track(len(ways) * len(alphas), "prompts and alphas") as bar:
        for name, prompts in ways.items():
            found[name] = {}
            for alpha in alphas:
                score = vlm_scores(embedder, store, recordings, alpha, prompts)
                figures = table(rows.scored(score), resamples=0)
                found[name][f"{alpha:g}"] = {metric: entry["value"] for metric, entry in figures.items()}
                bar.advance()
    return found


def progress_scores(model: ProgressReward, recordings: Sequence[Recording]) -> Float[ndarray, " M"]:
    """A generative model's progress of all frames; NaN where it did not answer, or beside such a frame.

    Recordings of a single frame stay unanswered: progress is told against a first frame.
    """
    found = []
    with track(len(recordings), "episodes asked about") as bar:
        for recording in recordings:
            count = len(recording)
            shown = np.unique(np.linspace(0, count - 1, min(count, model.max_frames)).round().astype(int))
            if count < 2:
                found.append(np.full(count, np.nan))
            else:
                said = model.progress(recording.pick(shown.tolist()), recording.instruction).values
                between = np.interp(np.arange(count), shown, said)  # NaN beside a NaN
                between[shown] = said
                found.append(between)
            bar.advance()
    return np.concatenate(found)


def pick_frames(recordings: Sequence[Recording], frames: ndarray) -> list[UInt8[ndarray, "H W 3"]]:
    """Frames by their number through all recordings, each recording read once."""
    first = np.cumsum([0, *(len(recording) for recording in recordings)])
    owner = np.searchsorted(first, frames, "right") - 1
    found: list[Any] = [None] * len(frames)
    for number in np.unique(owner):
        places = np.flatnonzero(owner == number)
        for place, picture in zip(places, recordings[number].pick((frames[places] - first[number]).tolist())):
            found[place] = picture
    return found

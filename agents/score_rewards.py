"""Is the reward model any good? Its scores against what is truly the case, before any agent is trained on it.

homes       sightline score-rewards scenes=SCENES vl=MODEL
videos      sightline score-rewards recordings=PATH vl=MODEL 'goal=[an open drawer]' 'baseline=[a drawer]'
tasks       sightline score-rewards reward_task=cartpole vl=MODEL
progress    sightline score-rewards recordings=PATH progress.model=MODEL 'instruction=open the drawer'

PATH is a video, a folder of frames, or a folder with recordings.jsonl (agents/recordings.py); a task says in each
step's info how far it is; the last asks a generative model. Figures are those of agents/reward_metrics.py, and for
homes the AUC of agents/reward_views.py. Leaves result.json, page.html and worst.npz (the pictures that `worst` of
result.json numbers), and for homes frames.parquet and reward_path.json.
"""

from dataclasses import dataclass, field
from typing import Any

from agents.prompt_sets import prompt_sets
from agents.score_homes import score_homes
from agents.score_recordings import score_recordings
from core.errors import InputError, check_choice
from core.job import JobConfig, job_main
from envs.tasks import TASKS
from vl.generator import GeneratorConfig


@dataclass
class ScoreRewardsConfig(JobConfig):
    """Measure a reward where the truth is known: sightline score-rewards scenes=SCENES vl=MODEL"""

    CUDA = True

    scenes: str = ""  # score on homes: folder of homes made by build-scenes
    recordings: str = ""  # score on a video, a folder of frames, or a folder with recordings.jsonl
    reward_task: str = ""  # score on a task (cartpole, mountain-car), or a Gymnasium id, also module:ID, with truth
    vl: str = ""  # two-tower model, or a CLIP / SigLIP folder or hub id
    progress: GeneratorConfig = field(default_factory=GeneratorConfig)  # generative model asked for progress
    grounder: str = ""  # model/ of a pretrain-grounding run: adds the grounded reward; vl= may then be left out
    task: str = "find_object"  # whose goals are scored
    split: str = "test"  # homes: train, val or test
    policy: str = ""  # folder of a trained agent, for the states it gets into; may be left out
    cameras: int = 20  # sampled cameras per home
    walks: int = 2  # walks per home of each kind
    walk_steps: int = 64  # actions of a walk at most
    alpha: float = 0.25  # projection strength of the headline figures, 0..1; chosen on val homes
    alphas: list[float] = field(default_factory=lambda: [0.0, 0.25, 0.5, 0.75, 1.0])  # projection strengths compared
    prompts: list[str] = field(default_factory=lambda: ["captions", "label", "photo"])  # compared; the first leads
    baselines: list[str] = field(default_factory=lambda: ["wall"])  # names or sentences (agents/prompt_sets.py)
    calibration_frames: int = 512  # unlabelled pictures of train homes that set each goal's scale
    goal: list[str] = field(default_factory=list)  # recordings and tasks: prompts for the goal reached
    baseline: list[str] = field(default_factory=list)  # prompts for the same without it; alpha above 0 needs one
    instruction: str = ""  # what is being done, for models asked for progress; empty = the first goal
    stride: int = 1  # every n-th frame of recordings
    max_frames: int = 0  # of a recording, spread evenly; 0 = all
    episodes: int = 5  # of a task, by each behaviour
    image_size: int = 224  # pixels of a task's pictures
    progress_frames: int = 16  # shown of an episode to a model asked for progress
    progress_votes: int = 1  # shuffles of these, averaged
    resamples: int = 1000  # bootstrap resamples of homes, or of episodes
    worst: int = 12  # pictures kept of the worst errors, each way

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tuple(TASKS))
        for name in (
            "cameras",
            "walks",
            "walk_steps",
            "resamples",
            "episodes",
            "image_size",
            "stride",
            "progress_votes",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.calibration_frames < 2 or self.worst < 0:
            raise InputError("calibration_frames should be at least 2, and worst not negative")
        for value in [self.alpha, *self.alphas]:
            if not 0 <= value <= 1:
                raise InputError(f"alpha {value} should be between 0 and 1")
        prompt_sets(self.prompts, self.baselines)


CONFIG = ScoreRewardsConfig


def run(cfg: ScoreRewardsConfig) -> dict[str, Any]:
    """Score what the configuration names."""
    sources = [name for name in ("scenes", "recordings", "reward_task") if getattr(cfg, name)]
    if len(sources) != 1:
        raise InputError(
            f"give one of scenes=FOLDER (made by build-scenes), recordings=PATH or reward_task=NAME; got "
            f"{' and '.join(sources) or 'none'}"
        )
    if cfg.scenes:
        if cfg.progress.model:
            raise InputError("progress.model= watches recordings and tasks; on homes give vl= or grounder=")
        if cfg.goal or cfg.baseline or cfg.instruction:
            raise InputError(
                "goal=, baseline= and instruction= belong to recordings and tasks; the goals of homes are their own, "
                "asked for by prompts= and baselines="
            )
        if not cfg.vl and not cfg.grounder:
            raise InputError("a reward is required: vl=MODEL (two towers) or grounder=MODEL (of pretrain-grounding)")
        return score_homes(cfg)
    if cfg.grounder or cfg.policy:
        raise InputError("grounder= and policy= belong to homes (scenes=); leave them out here")
    if not cfg.vl and not cfg.progress.model:
        raise InputError("a reward is required: vl=MODEL (two towers) or progress.model=MODEL (generative)")
    return score_recordings(cfg)


if __name__ == "__main__":
    job_main("score-rewards")

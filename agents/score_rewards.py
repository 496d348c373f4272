"""Is the reward model any good? Its scores against what is truly the case, before any agent is trained on it.

sightline score-rewards scenes=SCENES vl=MODEL

Homes: agents/score_homes.py says what is compared there. Figures are those of agents/reward_metrics.py, and for homes
the AUC of agents/reward_views.py. Leaves result.json, page.html and worst.npz (the pictures that `worst` of result.json
numbers), and for homes frames.parquet and reward_path.json.
"""

from dataclasses import dataclass, field
from typing import Any

from agents.prompt_sets import prompt_sets
from agents.score_homes import score_homes
from core.errors import InputError, check_choice
from core.job import JobConfig, job_main
from envs.tasks import TASKS


@dataclass
class ScoreRewardsConfig(JobConfig):
    """Measure a reward where the truth is known: sightline score-rewards scenes=SCENES vl=MODEL"""

    CUDA = True

    scenes: str = ""  # folder of homes made by build-scenes
    vl: str = ""  # two-tower model, or a CLIP / SigLIP folder or hub id
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
    resamples: int = 1000  # bootstrap resamples of homes
    worst: int = 12  # pictures kept of the worst errors, each way

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, tuple(TASKS))
        for name in ("cameras", "walks", "walk_steps", "resamples"):
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
    if not cfg.scenes:
        raise InputError("scenes is required: scenes=FOLDER, made by build-scenes")
    if not cfg.vl and not cfg.grounder:
        raise InputError("a reward is required: vl=MODEL, two towers, or grounder=MODEL, of a pretrain-grounding run")
    return score_homes(cfg)


if __name__ == "__main__":
    job_main("score-rewards")

"""What jobs that learn with subgoals can be told beside what every learner is: the keys under `vsc.`"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from agents.encoders import ObservationSpec
from agents.networks import Policy
from agents.reasoning.turn_config import is_language_policy
from agents.subgoals.home_subgoals import SubgoalSettings
from agents.subgoals.learner import Replay
from agents.subgoals.objective import OBJECTIVES, Objective
from agents.subgoals.reference import Onlooker, ReferencePolicy
from core.errors import InputError, check_choice
from vl.encoders import looks_like_path
from vl.generator import GeneratorConfig

DEMONSTRATIONS, NO_REFERENCE = "demonstrations", "none"


@dataclass
class ObjectiveConfig:
    """What is maximised, and what the policy is held to."""

    objective: str = "vsc"  # what is maximised: vsc, vsc-imitation, vsc-released; ppo, ppo-..., digirl = controls
    shuffled: bool = False  # subgoals in another order, a control
    demonstration_steps: int = 0  # of total_steps, the first ones: the oracle acts, policy and reference are cloned
    reference: str = DEMONSTRATIONS  # its clone on the goal alone; policy/ of a run; model that sees; none
    reference_thoughts: int = 1  # of a model that sees: drawn at each step and averaged over, 0 = it answers at once
    replay: float = 0.0  # weight of imitating stored demonstrations beside, falling to 0; 0 = none are stored
    replay_steps: int = 20_000  # demonstration steps stored, the newest ones
    spread: float = 0.05  # share of the reference's probability spread over all actions
    alpha: float = -1.0  # weight of the divergence, negative = the objective's own

    def __post_init__(self) -> None:
        check_choice("vsc.objective", self.objective, OBJECTIVES)
        if not 0 < self.spread < 1:
            raise InputError(
                f"vsc.spread={self.spread} should lie between 0 and 1: without it a divergence is infinite"
            )
        if min(self.replay, self.reference_thoughts) < 0 or self.replay_steps < 1:
            raise InputError(
                f"vsc.replay={self.replay} and vsc.reference_thoughts={self.reference_thoughts} should not be "
                f"negative, vsc.replay_steps={self.replay_steps} positive"
            )
        if self.demonstration_steps < 0:
            raise InputError(f"vsc.demonstration_steps={self.demonstration_steps} should not be negative")
        if self.alpha == 0 or self.alpha > 0 and not OBJECTIVES[self.objective].alpha:
            raise InputError(
                f"vsc.alpha={self.alpha} does not go with vsc.objective={self.objective}: it needs a divergence, and a "
                "weight above 0; for none choose the objective without"
            )

    def check(self) -> None:
        """Raises InputError for what is to be diverged from, or replayed, and not there; called where it is needed."""
        if self.replay and not self.demonstration_steps:
            raise InputError(
                f"vsc.replay={self.replay} replays what the oracle showed: give vsc.demonstration_steps=, or leave it "
                "out"
            )
        if self.chosen.divergence == "none":
            return
        if self.reference == NO_REFERENCE:
            raise InputError(
                f"vsc.objective={self.objective} measures a divergence from a reference; give "
                "vsc.reference=demonstrations with vsc.demonstration_steps=, a policy/ folder, or a model that sees"
            )
        if self.reference == DEMONSTRATIONS and not self.demonstration_steps:
            raise InputError(
                "vsc.reference=demonstrations is cloned from the oracle: give vsc.demonstration_steps=, or "
                "vsc.reference= a policy/ folder or a model that sees"
            )

    @property
    def chosen(self) -> Objective:
        """The objective, with the weight that was asked for."""
        objective = OBJECTIVES[self.objective]
        return replace(objective, alpha=self.alpha) if self.alpha > 0 else objective

    @property
    def names_language_model(self) -> bool:
        """Whether the reference is a folder of an image-text model, or by its form a hub id."""
        return is_language_policy(self.reference) or not (
            Path(self.reference).expanduser().is_dir() or looks_like_path(self.reference)
        )

    def replay_of(self, updates: int, processes: int) -> Replay:
        """How demonstrations are replayed over so many updates in which the policy acts."""
        return Replay(self.replay, max(1, self.replay_steps // processes), max(1, updates))


@dataclass
class VscConfig(ObjectiveConfig):
    """Beside the objective, where subgoals of homes come from and who says they are done."""

    subgoals: str = "rooms"  # stages, rooms, doors, anchors; sentence; planner; asked; learned; none
    sight: str = "things"  # subgoals=asked: what the model knows of the home: picture, things; task = nothing
    decomposer: str = ""  # subgoals=learned: model/ folder of a train-decomposer run
    judge: str = "truth"  # who says a subgoal is done: truth; reward = score of the picture; asked = a model
    judge_vl: str = ""  # judge=reward: model/ of pretrain-vl, or a CLIP or SigLIP folder or hub id
    judge_quantile: float = 0.97  # judge=reward: done where a picture beats this share of unlabelled ones
    judge_every: int = 1  # steps from one judging to the next
    judge_miss: float = 0.0  # chance that a subgoal done is called not done
    judge_false: float = 0.0  # chance, at each judging, that one not done is called done
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)  # the model that is asked

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings(seed=0)

    def settings(self, seed: int) -> SubgoalSettings:
        """Those of agents/subgoals/home_subgoals.py; raises InputError for keys at odds."""
        same = ("subgoals", "sight", "decomposer", "judge", "judge_vl", "judge_quantile", "judge_every")
        return SubgoalSettings(
            **{name: getattr(self, name) for name in same},
            shuffle=self.shuffled,
            miss=self.judge_miss,
            false=self.judge_false,
            seed=seed,
            generator=asdict(self.generator) if self.generator.model else {},
        )

    def check(self) -> None:
        """Raises InputError also for a model that is needed and not named."""
        super().check()
        self.settings(seed=0).check()


def reference_of(
    cfg: ObjectiveConfig,
    shown: Mapping[str, ObservationSpec],
    num_actions: int,
    num_envs: int,
    goal_only: Callable[[], Policy],
    asked: Callable[[], Onlooker] | None = None,
    device: torch.device | str = "cpu",
) -> Onlooker | None:
    """The reference that a job asks for, None where its objective has no divergence.

    Args:
        shown: what the learning policy reads.
        goal_only: makes a fresh policy that reads no subgoal, on its device, to be cloned.
        asked: loads the language model that the config names; None where there are no pictures to show it.

    Raises:
        InputError: a folder whose policy does not fit, or a language model where it cannot be asked.
    """
    if cfg.chosen.divergence == "none":
        return None
    if cfg.reference == DEMONSTRATIONS:
        return ReferencePolicy(goal_only(), num_envs, cfg.spread)
    if cfg.names_language_model:
        if asked is None:
            raise InputError(
                f"vsc.reference={cfg.reference} is no policy/ folder of this task, and a language model cannot be "
                "asked here: there are no pictures to show it. Give vsc.reference=demonstrations"
            )
        return asked()
    return ReferencePolicy.from_pretrained(cfg.reference, shown, num_actions, num_envs, cfg.spread, device)

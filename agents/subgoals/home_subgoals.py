"""Subgoals in homes as `train-agent algorithm=vsc` and the agents it leaves have them: who proposes, who judges.

Proposed by (`subgoals`): the scene graph at one of four grains, from what the task counts or from what its sentence
says (at the grain of rooms), a classical planner, a language model that is asked, a
model trained on people's goals (`train-decomposer`), or nobody. Judged by (`judge`): the simulator's truth, an image
and text model's score, or a model that is asked. What enters beside picture and sentence is said here once: the scene
graph and the simulator's state, with a model that is asked the names of the home's things or one picture (`sight`), and
with a judge that looks the picture alone. Whoever compares such an agent with one that sees pictures alone should say
so.

A model's steps are words. Where truth judges they are read into steps with tests (agents/subgoals/grounded_plans.py),
and what cannot be read is left out and counted; a goal that no plan was made for stands as its own only step.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.senses import Senses
from agents.sentence_reward import unlabelled_frames
from agents.subgoals.asked_judge import AskedJudge
from agents.subgoals.asked_plans import FALLBACK, AskedPlans
from agents.subgoals.first_views import pictured_example
from agents.subgoals.grounded_plans import GroundedPlans
from agents.subgoals.judges import NoisyJudge, RewardJudge, TruthJudge
from agents.subgoals.plan_cache import RememberedPlans
from agents.subgoals.plan_prompts import EXAMPLE, SIGHTS
from agents.subgoals.planning import PlannerDecomposer
from agents.subgoals.sequence_model import LearnedSteps
from agents.subgoals.step_decomposer import LearnedDecomposer
from agents.subgoals.subgoal_senses import SubgoalSenses
from agents.subgoals.symbolic import GRAINS, SymbolicDecomposer, shuffled
from agents.subgoals.text_scores import TextScores
from agents.subgoals.types import Decomposer, Judge, Plan, Subgoal
from core.errors import InputError, check_choice
from envs.goals import Goal
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame
from scene.types import Scene
from vl.embedder import load_embedder
from vl.generator import GeneratorConfig, load_generator

NO_PLANS: Final = "none"
SENTENCE: Final = "sentence"
SOURCES: Final = (NO_PLANS, *GRAINS, SENTENCE, "planner", "asked", "learned")
JUDGES: Final = ("truth", "reward", "asked")
FRAMES: Final = 512  # unlabelled ones that set the scale of judge=reward


@dataclass(frozen=True)
class SubgoalSettings:
    """Plain settings, kept beside an agent's weights; raises InputError for those that do not go together."""

    subgoals: str = "rooms"  # one of SOURCES
    shuffle: bool = False  # subgoals in another order, a control
    sight: str = "things"  # of subgoals=asked: a key of plan_prompts.SIGHTS
    decomposer: str = ""  # of subgoals=learned: model/ of a train-decomposer run
    judge: str = "truth"  # one of JUDGES
    judge_vl: str = ""  # of judge=reward: folder or hub id of the towers
    judge_quantile: float = 0.97  # of judge=reward: done where the picture scores like this share of unlabelled frames
    judge_every: int = 1  # steps of an episode from one judging to the next
    miss: float = 0.0  # chance that the judge calls undone what is done
    false: float = 0.0  # chance, at each judging, that it calls done what is not
    seed: int = 0  # of the shuffling and of the judge's errors
    generator: Mapping[str, Any] = field(default_factory=dict)  # GeneratorConfig's fields, of what is asked

    def __post_init__(self) -> None:
        check_choice("vsc.subgoals", self.subgoals, SOURCES)
        check_choice("vsc.judge", self.judge, JUDGES)
        check_choice("vsc.sight", self.sight, SIGHTS)
        for name, chance in (("judge_miss", self.miss), ("judge_false", self.false)):
            if not 0 <= chance <= 1:
                raise InputError(f"vsc.{name}={chance} is a chance and lies between 0 and 1")
        if not 0 < self.judge_quantile < 1 or self.judge_every < 1:
            raise InputError(
                f"vsc.judge_quantile={self.judge_quantile} lies between 0 and 1, vsc.judge_every={self.judge_every} "
                "starts at 1"
            )

    def check(self) -> None:
        """Raises InputError where a model is needed that is not named; called where subgoals are made."""
        if "asked" in (self.subgoals, self.judge) and not self.generator.get("model"):
            raise InputError(
                "a model is to be asked, and none is named; give vsc.generator.model=FOLDER, a hub id, or "
                "http://host:port/v1#model-name"
            )
        if self.subgoals == "learned" and not self.decomposer:
            raise InputError("vsc.subgoals=learned needs vsc.decomposer=FOLDER, the model/ of a train-decomposer run")
        if self.judge == "reward" and not self.judge_vl:
            raise InputError("vsc.judge=reward needs vsc.judge_vl=, a model/ of pretrain-vl or CLIP's folder or hub id")


class HomeSubgoals(SubgoalSenses):
    """Senses with subgoals that plain settings describe.

    Args:
        vocabulary: see `SubgoalSenses`.

    Raises:
        InputError: settings that lack something, or what loading a model raises.
    """

    def __init__(self, inner: Senses, settings: SubgoalSettings, vocabulary: Sequence[str] = ()) -> None:
        settings.check()
        self.settings = settings
        asks = "asked" in (settings.subgoals, settings.judge)
        self.generator = load_generator(GeneratorConfig(**settings.generator)) if asks else None
        self.makers: list[Any] = []  # decomposers and judges that count what came of them
        self.remembered = RememberedPlans(self._decomposer())
        pictures = settings.subgoals == "asked" and settings.sight == "picture"
        super().__init__(inner, self.remembered, self._judge, vocabulary, pictures=pictures)

    @property
    def description(self) -> dict[str, Any]:
        """What makes them again: see `from_description`."""
        return {**asdict(self.settings), "vocabulary": self.vocabulary}

    @classmethod
    def from_description(cls, inner: Senses, description: Mapping[str, Any]) -> "HomeSubgoals":
        """The senses that were described, around others."""
        rest = dict(description)
        vocabulary = rest.pop("vocabulary")
        return cls(inner, SubgoalSettings(**rest), vocabulary)

    def _decomposer(self) -> Decomposer:
        settings = self.settings
        stages = SymbolicDecomposer("stages")
        made: Decomposer
        if settings.subgoals == NO_PLANS:
            made = _goal_alone
        elif settings.subgoals in GRAINS:
            made = SymbolicDecomposer(settings.subgoals)
        elif settings.subgoals == SENTENCE:
            made = self._counting(OrGoalAlone(partial(_read, SymbolicDecomposer("rooms"))))
        elif settings.subgoals == "planner":
            made = self._counting(OrGoalAlone(PlannerDecomposer()))
        elif settings.subgoals == "learned":
            made = self._counting(OrGoalAlone(LearnedDecomposer(LearnedSteps.from_pretrained(settings.decomposer))))
        else:
            assert self.generator is not None
            example = pictured_example() if settings.sight == "picture" else EXAMPLE
            made = self._counting(
                AskedPlans(self.generator, example=example, sight=settings.sight, fallback=stages, seed=settings.seed)
            )
        if settings.subgoals in ("asked", "learned") and settings.judge == "truth":
            made = self._counting(GroundedPlans(made, stages))
        return partial(_shuffled, made, settings.seed) if settings.shuffle else made

    def _judge(self, simulator: Simulator) -> Judge:
        settings = self.settings
        judge: Judge
        if settings.judge == "truth":
            judge = TruthJudge(simulator)
        elif settings.judge == "reward":
            frames = unlabelled_frames(simulator, FRAMES, seed=settings.seed + 1)
            scores = TextScores(load_embedder(settings.judge_vl), frames, settings.judge_quantile)
            judge = RewardJudge(scores, threshold=0.0)
        else:
            assert self.generator is not None
            judge = self._counting(AskedJudge(self.generator, self.finished))
        if settings.judge_every > 1:
            judge = SparseJudge(judge, settings.judge_every)
        if settings.miss or settings.false:
            judge = NoisyJudge(judge, miss=settings.miss, false=settings.false, seed=settings.seed)
        return judge

    def _counting(self, made: Any) -> Any:
        self.makers.append(made)
        return made

    def summary(self) -> dict[str, Any]:
        """What came of the plans and judgings, and what asking cost, for result.json; empty where nothing can fail."""
        found = {_name(made): made.counts.summary() for made in self.makers}
        return {**found, "calls": self.generator.counts.summary()} if self.generator is not None else found

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs: the plans that were made, also those that fell back while a model was away."""
        return self.remembered.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on with the plans that a run had."""
        self.remembered.load_state_dict(saved)
        self.forget()


@dataclass
class AloneCounts:
    """What became of the plans wanted since the decomposer was made."""

    wanted: int = 0
    alone: int = 0  # goals that stand as their own only step
    causes: Counter[str] = field(default_factory=Counter)  # why, by the first words of what was wrong, names left out

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json."""
        return {**vars(self), "causes": dict(sorted(self.causes.items()))}


class OrGoalAlone:
    """A decomposer whose failures do not end a run: the goal then stands as its own only step, counted."""

    def __init__(self, decomposer: Decomposer) -> None:
        self.decomposer, self.counts = decomposer, AloneCounts()

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """The other decomposer's plan, or the goal alone."""
        self.counts.wanted += 1
        try:
            return self.decomposer(goal, scene, view)
        except InputError as error:
            self.counts.alone += 1
            self.counts.causes[re.sub(r"'[^']*'", "...", str(error))[:80]] += 1
            return Plan(_text(goal), (), FALLBACK)


class SparseJudge:
    """Another judge, asked at every so-manieth step of an episode only."""

    def __init__(self, judge: Judge, every: int) -> None:
        self.judge, self.every = judge, every

    def __call__(
        self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None = None
    ) -> Bool[Tensor, " B"]:
        due = (state.step % self.every == 0).tolist()
        if not any(due):
            return torch.zeros(len(state), dtype=torch.bool, device=state.step.device)
        return self.judge([one if now else None for one, now in zip(current, due)], state, frame)


def _goal_alone(goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
    return Plan(_text(goal), (), "symbolic")


def _read(decomposer: Decomposer, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
    return decomposer(_text(goal), scene, view)


def _shuffled(decomposer: Decomposer, seed: int, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
    return shuffled(decomposer(goal, scene, view), seed)


def _text(goal: Goal | str) -> str:
    return goal if isinstance(goal, str) else goal.text


def _name(made: Any) -> str:
    named = {AskedPlans: "plans", OrGoalAlone: "plans", GroundedPlans: "grounding", AskedJudge: "judge"}
    return named[type(made)]

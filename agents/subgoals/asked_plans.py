"""Plans asked of a language model, or of one that also sees: a transformers model or any endpoint (vl/generator.py).

VSC-RL (arXiv:2502.07949) has Gemini 1.5 Pro break a task into subgoals, once, before training. Here every plan comes
from what `vl.generator.load_generator` loads, which also keeps answers on disk, tries an endpoint in trouble again, and
counts calls, tokens and money. An answer is a whole numbered list or no plan (agents/subgoals/plan_prompts.py). What
fails is counted by cause and replaced openly: by another decomposer's plan, or by the goal as its own only step, both
with the source "fallback". So a run goes on while an endpoint is down, and the next one asks for what is missing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agents.subgoals.plan_prompts import EXAMPLE, SYSTEM, Example, check_example, prompt_of, read_steps
from agents.subgoals.types import Decomposer, Plan, Subgoal
from core.errors import InputError
from envs.goals import Goal
from scene.types import Scene
from vl.generator import Failure, Generator, Picture
from vl.pixels import shown_frame

SOURCE: Final = "model"
FALLBACK: Final = "fallback"
REWORDED_AT: Final = 0.7  # temperature at which a model is asked again after an answer that is no plan


@dataclass
class PlanCounts:
    """What became of the plans wanted since the decomposer was made; wanted = read + fallback + alone."""

    wanted: int = 0
    read: int = 0  # plans in the model's words
    fallback: int = 0  # plans of the other decomposer
    alone: int = 0  # goals that stand as their own only step
    asked_again: int = 0  # prompts put once more after an answer that was no plan
    failures: Counter[str] = field(default_factory=Counter)  # plans that the model did not give, by the last cause

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json; what the calls cost is in the generator's own counts."""
        return {**vars(self), "failures": dict(sorted(self.failures.items()))}


class AskedPlans:
    """A decomposer that asks a model.

    Subgoals come in words, without a test: a judge that reads words tells when they are done. A step about a thing that
    is not there is a step like any other; nobody here knows better than the model that looked.

    Behind a cache an answer that came is kept even if it is no plan, and failures are not: a second run gives the same
    plans, and asks again only where no answer came.

    Attributes:
        counts: plans wanted, read and replaced; `generator.counts` has calls, tokens, seconds and money.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        example: Example = EXAMPLE,
        sight: str = "picture",
        fallback: Decomposer | None = None,
        tries: int = 1,
        seed: int = 0,
        max_words: int = 20,
        max_tokens: int = 512,
        max_side: int = 512,
    ) -> None:
        """
        Args:
            example: the worked example of the prompt; with sight "picture" it has its own picture.
            sight: what the model knows of the home, key of plan_prompts.SIGHTS.
            fallback: makes the plan where the model gives none; None leaves the goal as the only step.
            tries: how often a model is asked whose answers are no plans. The first answer is its likeliest, further
                ones are drawn. An endpoint that does not answer is the generator's to try again.
            seed: decides those draws.
            max_words: of a step.
            max_tokens: longest answer. Models that reason first need more.
            max_side: pixels of the longer side of pictures; larger ones are reduced to it.

        Raises:
            InputError: a number out of its range, an unknown sight, or an example that does not show it.
        """
        check_example(example, sight)
        if tries < 1 or max_words < 1 or max_tokens < 1 or max_side < 1:
            raise InputError(
                f"tries={tries}, max_words={max_words}, max_tokens={max_tokens}, max_side={max_side}: give at least 1"
            )
        self.generator, self.example, self.sight, self.fallback = generator, example, sight, fallback
        self.tries, self.seed = tries, seed
        self.max_words, self.max_tokens, self.max_side = max_words, max_tokens, max_side
        self.counts = PlanCounts()

    def __call__(self, goal: Goal | str, scene: Scene, view: Any = None) -> Plan:
        """See `plans`."""
        return self.plans([goal], [scene], [view])[0]

    def plans(self, goals: Sequence[Goal | str], scenes: Sequence[Scene], views: Sequence[Any]) -> list[Plan]:
        """A plan for each goal, in order; asked together, they keep an endpoint busy.

        Args:
            views: (H, W, 3) uint8 each, what the agent sees at first; read with sight "picture" only.

        Raises:
            InputError: a goal without words, a picture that is missing or none, lists of different lengths, or what
                the generator raises for a request that no answer could mend: a missing key, a model without eyes.
        """
        if not len(goals) == len(scenes) == len(views):
            raise InputError(f"{len(goals)} goals, {len(scenes)} scenes and {len(views)} views; give one of each")
        tasks = [_task(goal) for goal in goals]
        prompts = [
            prompt_of(task, scene, self.example, sight=self.sight, max_words=self.max_words)
            for task, scene in zip(tasks, scenes)
        ]
        pictures = [self._pictures(task, view) for task, view in zip(tasks, views)] if self.sight == "picture" else None
        said = self._steps(prompts, pictures)
        return [
            self._plan(steps, goal, task, scene, view)
            for steps, goal, task, scene, view in zip(said, goals, tasks, scenes, views)
        ]

    def _pictures(self, task: str, view: Any) -> list[Picture]:
        if view is None:
            raise InputError(
                f"a plan for {task!r} is asked with a picture, and none came; render, or take sight='things'"
            )
        assert self.example.picture is not None  # check_example saw to it
        return [shown_frame(self.example.picture, self.max_side), shown_frame(view, self.max_side)]

    def _steps(self, prompts: list[str], pictures: list[list[Picture]] | None) -> list[tuple[str, ...] | Failure]:
        """What the model says, asked again where that is no plan; an answer that did not come is final."""
        said: list[tuple[str, ...] | Failure] = [Failure("not asked")] * len(prompts)
        rows = list(range(len(prompts)))
        for attempt in range(self.tries):
            if not rows:
                break
            self.counts.asked_again += len(rows) if attempt else 0
            answers = self.generator.generate(
                [prompts[i] for i in rows],
                system=SYSTEM,
                max_tokens=self.max_tokens,
                temperature=REWORDED_AT if attempt else 0.0,
                seed=self.seed + attempt,
                pictures=None if pictures is None else [pictures[i] for i in rows],
            )
            unread = []
            for i, answer in zip(rows, answers):
                steps = answer if isinstance(answer, Failure) else read_steps(answer, self.max_words)
                if isinstance(steps, str):
                    unread.append(i)
                    steps = Failure(steps)
                said[i] = steps
            rows = unread
        return said

    def _plan(self, steps: tuple[str, ...] | Failure, goal: Goal | str, task: str, scene: Scene, view: Any) -> Plan:
        self.counts.wanted += 1
        if not isinstance(steps, Failure):
            self.counts.read += 1
            return Plan(task, tuple(Subgoal(step) for step in steps), SOURCE)
        self.counts.failures[steps.cause] += 1
        if self.fallback is not None:
            try:
                plan = self.fallback(goal, scene, view)
            except InputError:  # it does not understand this goal either; that is what `alone` counts
                pass
            else:
                self.counts.fallback += 1
                return replace(plan, source=FALLBACK)
        self.counts.alone += 1
        return Plan(task, (), FALLBACK)


def _task(goal: Goal | str) -> str:
    task = " ".join((goal if isinstance(goal, str) else goal.text).split())
    if not task:
        raise InputError("an empty goal has no steps; say what is to be done")
    return task

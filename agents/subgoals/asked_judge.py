"""Whether a subgoal is done, asked of a model that sees.

As in VSC-RL (arXiv:2502.07949; env.py of its code) the model is asked at each step, by what is seen then, about all
finished subgoals together with the current one: a picture that shows the current step alone may be of a moment before
the others were done. Different here: one word is asked for and read strictly, an answer that does not come or is
another word counts by cause and means "not done", and pictures like earlier ones are asked about, too (the released
code takes them for failures unasked; the cache of vl/generator.py answers equal ones). Its worked examples are of
telephones and are left out.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.subgoals.types import Subgoal
from core.errors import InputError
from envs.state import SimState
from scene.render import Frame
from vl.generator import Failure, Generator
from vl.pixels import shown_frame

SYSTEM: Final = "You judge from a picture whether a task in a home has been done. You answer with yes or no alone."
ASKED: Final = """The task: {task}.
The picture shows what is seen now. Has all of the task been done?
Answer with one word, yes or no."""
UNREAD: Final = "neither yes nor no"
"""Why an answer that came says nothing; beside the causes of vl/generator.py for answers that did not come."""

_SAID: Final = re.compile(r"[*_\"'`\s]*(yes|no)[*_\"'`.!\s]*", re.IGNORECASE)


@dataclass
class JudgeCounts:
    """What was asked since the judge was made; asked = done + not_done + all failures."""

    asked: int = 0
    done: int = 0
    not_done: int = 0
    failures: Counter[str] = field(default_factory=Counter)  # taken for "not done", by cause

    def summary(self) -> dict[str, Any]:
        """Plain numbers for result.json; what the calls cost is in the generator's own counts."""
        return {**vars(self), "failures": dict(sorted(self.failures.items()))}


class AskedJudge:
    """A judge that shows a model what each agent sees.

    The same judge tells whether the goal itself is done: give Subgoal(goal) as the current one, with nothing finished.
    Where a call per step is too much, give None at the steps that should not be judged.

    Attributes:
        counts: answers by what they say; `generator.counts` has calls, tokens, seconds and money.
    """

    def __init__(
        self,
        generator: Generator,
        finished: Callable[[int], Sequence[Subgoal]] = lambda row: (),
        *,
        max_tokens: int = 16,
        max_side: int = 512,
    ) -> None:
        """
        Args:
            generator: any that reads a picture.
            finished: the subgoals that row b of the batch has done in its episode, in order. Whoever carries the
                subgoals knows them; the judge itself remembers nothing, so a resumed run needs nothing of it.
            max_tokens: longest answer. Models that reason first need more.
            max_side: pixels of the longer side of pictures; larger ones are reduced to it.

        Raises:
            InputError: a number out of its range.
        """
        if max_tokens < 1 or max_side < 1:
            raise InputError(f"max_tokens={max_tokens}, max_side={max_side}: give at least 1")
        self.generator, self.finished = generator, finished
        self.max_tokens, self.max_side = max_tokens, max_side
        self.counts = JudgeCounts()

    def __call__(self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None) -> Bool[Tensor, " B"]:
        """True where the model says yes; environments without a subgoal are not asked about.

        Raises:
            InputError: nothing is rendered, one count of subgoals and another of environments or pictures, or what the
                generator raises for a request that no answer could mend.
        """
        done = torch.zeros(len(state), dtype=torch.bool, device=state.env.device)
        if len(current) != len(state):
            raise InputError(f"{len(current)} subgoals for {len(state)} environments; give one each, None for none")
        under_way = [(row, subgoal) for row, subgoal in enumerate(current) if subgoal is not None]
        if not under_way:
            return done
        if frame is None or len(frame.rgb) != len(state):
            came = "nothing is rendered" if frame is None else f"{len(frame.rgb)} pictures of {len(state)} environments"
            raise InputError(f"this judge looks at pictures, and {came}; give the simulator sensors, or another judge")
        answers = self.generator.generate(
            [question([*self.finished(row), subgoal]) for row, subgoal in under_way],
            system=SYSTEM,
            max_tokens=self.max_tokens,
            pictures=[[shown_frame(frame.rgb[row], self.max_side)] for row, _ in under_way],
        )
        for (row, _), answer in zip(under_way, answers):
            done[row] = self._says_done(answer)
        return done

    def _says_done(self, answer: str | Failure) -> bool:
        said = answer if isinstance(answer, Failure) else read_verdict(answer)
        self.counts.asked += 1
        if isinstance(said, Failure):
            self.counts.failures[said.cause] += 1
            return False
        if said:
            self.counts.done += 1
        else:
            self.counts.not_done += 1
        return said


def question(steps: Sequence[Subgoal]) -> str:
    """What is asked about steps in order, the current one last.

    Raises:
        InputError: a step without words.
    """
    words = [" ".join(step.text.split()).rstrip(" .") for step in steps]
    if not all(words):
        raise InputError("a subgoal without words cannot be asked about; give it a text, or a judge that needs none")
    return ASKED.format(task=", then ".join(words))


def read_verdict(answer: str) -> bool | Failure:
    """Whether an answer is the one word yes, or no; a Failure where it is anything else."""
    said = _SAID.fullmatch(answer)
    return said[1].lower() == "yes" if said else Failure(UNREAD, answer[:80])

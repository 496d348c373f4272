"""Any senses, told besides which subgoal is under way: its words, the share of the plan that is done, what was reached.

    senses = SubgoalSenses(PixelSenses(...), SymbolicDecomposer("rooms"), TruthJudge, words)
    env = TaskEnv(simulator, senses)

After every step the judge is asked about each environment's subgoal; where it is done the next one is taken up, and
asked about in the same step, so several can be done at once. An agent that begins where a subgoal is already done
begins with the next. When all are done the goal itself is under way, until the episode ends. An observation is of
*after* that: what a step led to carries the subgoal that comes next.

The policy is shown, by name:

    subgoal     (D,) the words of the subgoal under way, as a bag over the vocabulary, and the share of the plan done;
                to senses of objects besides where the thing stands that it speaks of (agents/subgoals/pointed_thing.py)
    reached     () bool, whether with this step a subgoal was done; not part of `spec`, for the learner alone

The index of the subgoal under way is in the note, so wherever senses go (training, evaluation, films) subgoals go
along, and a resume needs nothing more. Plans belong to a goal in a home: each is made once for the homes attached, and
again for others; a decomposer that costs money keeps its own memory (agents/subgoals/plan_cache.py).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.object_features import ObjectSenses
from agents.pixels import bag_of_words, vocabulary_of
from agents.senses import Note, Senses, Sight
from agents.subgoals.first_views import first_views
from agents.subgoals.plan_cache import plans_of
from agents.subgoals.pointed_thing import SIZE, PointedThing
from agents.subgoals.types import MOST, Decomposer, Judge, Plan, Subgoal
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.render import Frame

INDEX = "subgoal_index"  # column of the note: number of the subgoal under way, the plan's length when all are done
SAMPLE = 256  # plans read for the vocabulary


class PlanTable:
    """Plans by number, laid out so that B environments look up their subgoals without a loop.

    Attributes:
        plans: those known, in order of their numbers.
        length: (P,) subgoals of each.
    """

    def __init__(self, vocabulary: Sequence[str], device: torch.device | str = "cpu") -> None:
        self.vocabulary, self.device = list(vocabulary), torch.device(device)
        self.plans: list[Plan] = []
        self.length = torch.zeros(0, dtype=torch.int64, device=device)
        self._steps = np.empty((0, MOST + 1), dtype=object)  # subgoals, None behind the last
        self._text = torch.zeros(0, MOST + 1, dtype=torch.int64, device=device)  # row of the words
        self._row: dict[str, int] = {}
        self._words = torch.zeros(0, len(self.vocabulary) + 1, device=device)

    def add(self, plan: Plan) -> int:
        """The number of a new plan; behind its last subgoal stands the goal."""
        steps = plan.subgoals
        row = np.full((1, MOST + 1), None, dtype=object)
        row[0, : len(steps)] = steps
        texts = [*(step.text for step in steps), *[plan.goal] * (MOST + 1 - len(steps))]
        new = [text for text in dict.fromkeys(texts) if text not in self._row]
        self._row |= {text: len(self._row) + k for k, text in enumerate(new)}
        self._words = torch.cat([self._words, bag_of_words(new, self.vocabulary).to(self.device)])
        numbers = torch.tensor([[self._row[text] for text in texts]], device=self.device)
        self._text = torch.cat([self._text, numbers])
        self._steps = np.concatenate([self._steps, row])
        self.length = torch.cat([self.length, torch.tensor([len(steps)], device=self.device)])
        self.plans.append(plan)
        return len(self.plans) - 1

    def current(self, plan: Int64[Tensor, " B"], index: Int64[Tensor, " B"]) -> list[Subgoal | None]:
        """The subgoals under way, None where all are done."""
        return self._steps[plan.cpu().numpy(), index.cpu().numpy()].tolist()

    def shown(self, plan: Int64[Tensor, " B"], index: Int64[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """What a policy is shown of them: words, and the share of the plan done."""
        share = index / self.length[plan]
        return torch.cat([self._words[self._text[plan, index]], share[:, None]], 1)


class SubgoalSenses:
    """Other senses and the subgoal under way.

    Args:
        inner: senses of the frame and the goal's sentence.
        decomposer: makes the plans. Where it raises InputError, so do these senses.
        make_judge: of the simulator attached; called again when other homes are.
        pictures: the decomposer is shown where an episode with the goal may begin (agents/subgoals/first_views.py).
        vocabulary: words that have a place of their own; empty = those of the plans and goals of the homes attached
            first (a sample of them). Words outside it share one place.
    """

    def __init__(
        self,
        inner: Senses,
        decomposer: Decomposer,
        make_judge: Callable[[Simulator], Judge],
        vocabulary: Sequence[str] = (),
        *,
        pictures: bool = False,
    ) -> None:
        self.inner, self.decomposer, self.make_judge, self.pictures = inner, decomposer, make_judge, pictures
        self.vocabulary = list(vocabulary)
        self.sensors: Sensors = inner.sensors
        self.simulator: Simulator | None = None
        self._asked = (torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))  # plans and indices

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """That of the inner senses, and subgoal."""
        pointed = SIZE if isinstance(self.inner, ObjectSenses) else 0
        return {**self.inner.spec, "subgoal": ObservationSpec((len(self.vocabulary) + 2 + pointed,))}

    def attach(self, simulator: Simulator) -> None:
        """Attaches the inner senses, makes the judge; plans are made when a home is entered."""
        self.inner.attach(simulator)
        self.simulator = simulator
        if not self.vocabulary:
            self.vocabulary = self._read_vocabulary(simulator)
        self.judge = self.make_judge(simulator)
        self.forget()

    def forget(self) -> None:
        """Drops the plans laid out so far; they are asked for again when their homes are met."""
        simulator = self.simulator
        if simulator is None:
            return
        self.table = PlanTable(self.vocabulary, simulator.device)
        self.pointed = PointedThing(self.inner.memory) if isinstance(self.inner, ObjectSenses) else None
        self._pointed = torch.zeros(0, MOST + 1, dtype=torch.int64)  # rows of `pointed`, by plan and subgoal
        most = max(len(goals) for goals in simulator.fields.goals)
        self._number = np.full((len(simulator.fields.goals), most), -1)  # of a plan, by home and goal

    def _read_vocabulary(self, simulator: Simulator) -> list[str]:
        goals = simulator.fields.goals
        every = [(home, k) for home, offered in enumerate(goals) for k in range(len(offered))]
        some = every[:: max(1, len(every) // SAMPLE)]
        plans = self._plans(simulator, some)
        said = [step.text for plan in plans for step in plan.subgoals]
        return vocabulary_of([*said, *(goal.text for offered in goals for goal in offered)])

    def _plans(self, simulator: Simulator, places: Sequence[tuple[int, int]]) -> list[Plan]:
        goals = [simulator.fields.goal(home, goal) for home, goal in places]
        scenes = [simulator.homes[home].scene for home, _ in places]
        views = first_views(simulator, places) if self.pictures else [None] * len(places)
        return plans_of(self.decomposer, goals, scenes, views)

    def carried(self, note: Note) -> Note:
        """The inner notes; which subgoal is under way stays so."""
        return {**self.inner.carried(note), INDEX: note[INDEX]}

    def begin(self, state: SimState) -> Note:
        """The first subgoal; what is done of it already is seen with the first picture."""
        return {**self.inner.begin(state), INDEX: torch.zeros_like(state.env)}

    def plan_of(self, state: SimState) -> Int64[Tensor, " B"]:
        """Numbers of the plans that belong to the homes and goals of some environments; new ones are made."""
        assert self.simulator is not None, "attach a simulator first"
        home, goal = state.home.cpu().numpy(), state.goal.cpu().numpy()
        missing = self._number[home, goal] < 0
        if missing.any():
            places = list(dict.fromkeys(zip(home[missing].tolist(), goal[missing].tolist())))
            for place, plan in zip(places, self._plans(self.simulator, places)):
                self._number[place] = self.table.add(plan)
                if self.pointed is not None:
                    rows = self.pointed.rows(self.simulator.homes[place[0]], plan)
                    self._pointed = torch.cat([self._pointed, torch.tensor([rows])])
        return torch.from_numpy(self._number[home, goal]).to(state.home.device)

    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """What the inner senses see, the subgoal that comes next, and whether one was reached."""
        sight = self.inner.observe(frame, state, note)
        plan = self.plan_of(state)
        index, reached = self._advanced(plan, note[INDEX], state, frame)
        shown = self.table.shown(plan, index)
        if self.pointed is not None:
            shown = torch.cat([shown, self.pointed(self._pointed[plan, index], state, sight.note)], 1)
        sight.observation |= {"subgoal": shown, "reached": reached}
        sight.note[INDEX] = index
        return sight

    def _advanced(
        self, plan: Int64[Tensor, " B"], index: Int64[Tensor, " B"], state: SimState, frame: Frame
    ) -> tuple[Int64[Tensor, " B"], Bool[Tensor, " B"]]:
        """Indices after judging, and where a subgoal was done."""
        done = self._judged(plan, index, state, frame)
        reached = done
        if not bool(done.any()):
            return index, reached
        index = index + done
        rows = done.nonzero()[:, 0]
        while len(rows):  # ends: an index that grows reaches the end of its plan
            here = Frame(frame.rgb[rows], frame.depth[rows], frame.instance[rows])
            again = self._judged(plan[rows], index[rows], state.rows(rows), here)
            rows = rows[again]
            index[rows] += 1
        return index, reached

    def finished(self, row: int) -> list[Subgoal]:
        """What row b of the batch that is being judged has done already, in order."""
        plan, index = self._asked
        return list(self.table.plans[int(plan[row])].subgoals[: int(index[row])])

    def _judged(
        self, plan: Int64[Tensor, " B"], index: Int64[Tensor, " B"], state: SimState, frame: Frame
    ) -> Bool[Tensor, " B"]:
        current, self._asked = self.table.current(plan, index), (plan, index)
        done = self.judge(current, state, frame)
        if done.shape != (len(current),) or done.dtype != torch.bool:
            raise InputError(f"the judge answered {done.dtype} {tuple(done.shape)} about {len(current)} environments")
        return done & torch.tensor([step is not None for step in current], dtype=torch.bool, device=done.device)

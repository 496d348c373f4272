"""The grounded reward: does the agent stand by the thing that the sentence means, as far as it has seen?

    score = max over the objects seen so far in the episode of   belief x nearness,   in [0, 1]
    belief   = how sure the grounder is that the sentence means this object: its softmax over the home's objects
    nearness = exp(-gap / NEAR_M), gap = metres from the agent to the object's footprint

A picture of a chair shows a chair. Which of two chairs "the chair next to the window" is, the home's layout tells, and
a grounder reads it; a model that compares a frame with a sentence cannot know. Belief comes from the sentence and the
mapped home (agents/object_memory.py), what is seen from the camera, the gap from the agent's own pose: nothing the
simulator knows of the goal enters.

`GroundedReward` is the reward model (vl/rewards.py, needs "state"); `GroundedWatcher` makes what it reads out of the
frames and poses of B environments, for any trainer; `BeliefReward` pays the tensor trainer by it (agents/task_env.py).
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.object_memory import ObjectMemory, SceneScores, ScoresObjects
from agents.senses import Note, Sight
from agents.shaping import Calibration, FrameReward
from core.errors import InputError
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame
from vl.rewards import StepBatch

NEAR_M = 1.0  # the score falls to 1/e this far from an object
SPREAD, ARRIVED = 0.25, 0.5  # one standard deviation, and the score that counts as having arrived: see BeliefReward


@dataclass
class SeenObjects:
    """What B agents know of the N objects of their homes; `StepBatch.state` of the grounded reward."""

    home: Int64[Tensor, " B"]  # index into the simulator's pool
    text: Int64[Tensor, " B"]  # the sentence that `belief` is about, a number of Simulator.texts
    belief: Float[Tensor, "B N"]  # that the sentence means the object, in [0, 1]; 0 beyond the home's objects
    seen: Bool[Tensor, "B N"]  # since the episode began
    gap: Float[Tensor, "B N"]  # metres from the agent to the footprint where it was last seen; any number if never

    def __len__(self) -> int:
        return len(self.home)


class GroundedReward:
    """Scores what was seen; a `RewardModel` whose goals are the simulator's sentences."""

    needs: frozenset[str] = frozenset({"state"})

    def score(self, steps: StepBatch, goals: Int64[Tensor, " B"]) -> Float[Tensor, " B"]:
        """In [0, 1], 0 where nothing was seen.

        Args:
            steps: `state` is a SeenObjects.
            goals: numbers of Simulator.texts, equal to `state.text`; GroundedWatcher.asking gives another sentence's.

        Raises:
            InputError: no SeenObjects, other goals than they are about, or a belief that is no number.
        """
        known = steps.state
        if not isinstance(known, SeenObjects):
            raise InputError(
                f"the grounded reward reads StepBatch.state, a SeenObjects; got {type(known).__name__}. "
                "GroundedWatcher(simulator, grounder).look(frame, state) makes it"
            )
        if goals.shape != known.text.shape or not torch.equal(goals.to(known.text.device), known.text):
            raise InputError(
                "goals differ from the sentences that state.belief is about; give goals=state.text, or ask for other "
                "sentences by GroundedWatcher.asking(state, text)"
            )
        score = belief_score(known.belief, known.seen, known.gap)
        if not bool(torch.isfinite(score).all()):
            raise InputError(f"{int((~torch.isfinite(score)).sum())} of {len(score)} beliefs or gaps are no numbers")
        return score


def belief_score(
    belief: Float[Tensor, "B N"], seen: Bool[Tensor, "B N"], gap: Float[Tensor, "B N"]
) -> Float[Tensor, " B"]:
    """Belief times nearness of the best object seen; 0 where none was. Fields as in SeenObjects."""
    return torch.where(seen, belief * (-gap / NEAR_M).exp(), 0.0).amax(1)


class GroundedWatcher:
    """Follows B environments and says what their agents know of their homes' objects.

    Frames and states are those of the step itself, before an auto-reset. Environments keep their order between calls.

    Args:
        grounder: a Grounder, or the SceneScores of one, shared with whoever else asks it.

    Attributes:
        note: what it remembers (agents/object_memory.py); with `key` all that a resume needs.
    """

    def __init__(self, simulator: Simulator, grounder: ScoresObjects | SceneScores) -> None:
        scores = grounder if isinstance(grounder, SceneScores) else SceneScores(grounder)
        self.memory = ObjectMemory(scores)
        self.memory.attach(simulator)
        self.note: Note = {}
        self.key = torch.zeros(0, dtype=torch.int64)  # of the episodes that the note is about

    def look(self, frame: Frame, state: SimState, fresh: Bool[Tensor, " B"] | None = None) -> SeenObjects:
        """What the agents know after this frame.

        Args:
            fresh: environments whose episode has just begun, or None = those whose episode is another one than at the
                last call.

        Raises:
            InputError: another number of environments than before, or of frames.
        """
        if len(frame.instance) != len(state):
            raise InputError(f"{len(frame.instance)} frames for a state of {len(state)} environments; give one each")
        if not self.note:
            self.note, self.key = self.memory.begin(state), state.key.clone()
            fresh = None
        if len(state) != len(self.key):
            raise InputError(f"{len(state)} environments, at the last call {len(self.key)}; make a watcher for each")
        begun = (state.key != self.key if fresh is None else fresh).nonzero()[:, 0]
        if len(begun):
            for name, column in self.memory.begin(state.rows(begun)).items():
                self.note[name] = self.note[name].index_copy(0, begun, column)
            self.key = state.key.clone()
        self.note = self.memory.look(frame, state, self.note)
        return known(self.memory, state, self.note)

    def asking(self, seen: SeenObjects, text: Int64[Tensor, " B"]) -> SeenObjects:
        """The same, for other sentences (numbers of Simulator.texts)."""
        return replace(seen, text=text, belief=self.memory.scores_of(seen.home, text)[:, :, 0])


def known(memory: ObjectMemory, state: SimState, note: Note) -> SeenObjects:
    """What the reward reads, from a note of the memory's objects after the frame of this state."""
    return SeenObjects(state.home, state.text, note["scores"][:, :, 0], note["last_seen"] >= 0, memory.gap(state, note))


class BeliefReward:
    """The grounded score as a reward: its progress, and what stopping is worth (FrameReward).

    The score has an absolute scale, so no frames calibrate it. SPREAD of it counts as one standard deviation, of which
    the whole way from nothing to 1 makes 4, about what a two-tower's score climbs from an ordinary frame to one of the
    goal; ARRIVED of it is where stopping pays half. The weights of a reward from frames then fit this one, too.

    Args:
        scores: of the grounder; where the senses have an ObjectMemory of their own, that one's.
        shaping: its `calibration` is replaced.
        shared: the senses' notes hold an ObjectMemory's columns already, and are read instead of kept once more.
    """

    def __init__(self, scores: SceneScores, shaping: FrameReward, *, shared: bool = False) -> None:
        self.memory, self.shared = ObjectMemory(scores), shared
        one = torch.ones(1)
        self.shaping = replace(shaping, calibration=Calibration(0 * one, SPREAD * one, ARRIVED / SPREAD * one))
        self.model = GroundedReward()

    def attach(self, simulator: Simulator) -> None:
        """Reads the boxes of the simulator's homes."""
        self.memory.attach(simulator)

    def begin(self, state: SimState) -> Note:
        """Nothing seen yet."""
        return {} if self.shared else self.memory.begin(state)

    def carried(self, note: Note) -> Note:
        """Notes from before the homes changed, for those attached now."""
        return {} if self.shared else self.memory.carried(note)

    def potential(self, frame: Frame, state: SimState, sight: Sight, note: Note) -> tuple[Float[Tensor, " B"], Note]:
        """Standardised scores after a frame, and the note after it."""
        if not self.shared:
            note = self.memory.look(frame, state, note)
        seen = known(self.memory, state, sight.note if self.shared else note)
        score = self.model.score(StepBatch(state=seen), state.text)
        return self.shaping.potential(score, torch.zeros_like(state.text)), note

    def __call__(
        self,
        potential: Float[Tensor, " B"],
        next_potential: Float[Tensor, " B"],
        text: Int64[Tensor, " B"],
        stopped: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Reward of a step; see FrameReward."""
        return self.shaping(potential, next_potential, torch.zeros_like(text), stopped)

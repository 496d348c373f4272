"""The grounded reward on walks: scored while they go on, since it is about what was seen so far."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from agents.grounded_reward import GroundedReward, SeenObjects, known
from agents.object_memory import ObjectMemory, SceneScores, ScoresObjects
from agents.senses import Note, with_rows
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame
from vl.rewards import StepBatch


class GroundedScores:
    """A `Watcher` (agents/reward_frames.py) that remembers what each environment's agent has seen in its episode."""

    def __init__(self, grounder: ScoresObjects) -> None:
        self.memory, self.model = ObjectMemory(SceneScores(grounder)), GroundedReward()
        self.note: Note = {}

    def begin(self, simulator: Simulator) -> None:
        """Other environments from here on: everything seen is forgotten."""
        self.memory.attach(simulator)
        self.note = {}

    def score(self, frame: Frame, state: SimState, goals: Sequence[ndarray]) -> list[Float[ndarray, " G"]]:
        """Scores for some goals of each environment; those at step 0 have seen nothing before."""
        rows = state.env
        self._grow(int(rows.max()) + 1, state)
        note = {name: column[rows] for name, column in self.note.items()}
        first = (state.step == 0).nonzero()[:, 0]
        if len(first):
            note = with_rows(note, first, self.memory.begin(state.rows(first)))
        note = self.memory.look(frame, state, note)
        self.note = with_rows(self.note, rows, note)
        seen = known(self.memory, state, note)
        counts = [len(asked) for asked in goals]
        row = torch.repeat_interleave(torch.arange(len(state)), torch.tensor(counts))
        text = torch.from_numpy(np.concatenate(goals))
        belief = self.memory.scores_of(state.home[row], text)[:, :, 0]
        many = SeenObjects(state.home[row], text, belief, seen.seen[row], seen.gap[row])
        scores = self.model.score(StepBatch(state=many), text).numpy()
        return np.split(scores, np.cumsum(counts)[:-1])

    def _grow(self, count: int, state: SimState) -> None:
        """Room for the environments 0 .. count - 1."""
        if not self.note:
            self.note = self.memory.begin(state.rows(torch.zeros(count, dtype=torch.int64)))
        have = len(self.note["last_seen"])
        if have < count:
            more = self.memory.begin(state.rows(torch.zeros(count - have, dtype=torch.int64)))
            self.note = {name: torch.cat([column, more[name]]) for name, column in self.note.items()}

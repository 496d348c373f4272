"""Judges of subgoals (agents/subgoals/types.py Judge): simulator truth, truth with errors, a reward model.
A model that is asked in words is agents/subgoals/asked_judge.py.

A judge answers for the picture and state it is shown and keeps no episode; whether a subgoal once done stays done is
the caller's to say. An environment whose subgoal is None is never done.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from numpy import ndarray
from torch import Tensor

from agents.subgoals.completion import NOTHING, Completion
from agents.subgoals.types import Judge, Subgoal
from core.errors import InputError
from envs.counter_random import episode_key, uniform
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame

_NOISE: Final = 1_000  # number of the draw, apart from those of episodes and policies

Score = Callable[[Frame, Sequence[str]], Float[Tensor, " K"]]


class TruthJudge:
    """What the simulator knows (agents/subgoals/completion.py).

    Args:
        sim: make a new judge for a simulator over another pool.
    """

    def __init__(self, sim: Simulator) -> None:
        self.sim, self.completion = sim, Completion(sim)
        self._current: list[Subgoal | None] = []  # by number of the environment, as all three
        self._place: Int64[ndarray, "E 2"] = np.zeros((0, 2), np.int64)  # home and sentence
        self._rows: Int64[ndarray, " E"] = np.zeros(0, np.int64)

    def __call__(
        self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None = None
    ) -> Bool[Tensor, " B"]:
        """Raises InputError for a subgoal in words alone, other than the goal itself, or about what is not there."""
        if len(current) != len(state):
            raise InputError(f"{len(current)} subgoals for {len(state)} environments; give one each, or None")
        env = state.env.cpu().numpy()
        self._grow(int(env.max(initial=-1)) + 1)
        place = np.stack([state.home.cpu().numpy(), state.text.cpu().numpy()], axis=1)
        moved = (place != self._place[env]).any(axis=1)
        same = [now is self._current[number] for now, number in zip(current, env.tolist())]
        for b in np.flatnonzero(moved | ~np.array(same, bool)).tolist():
            step, (home, text), number = current[b], place[b].tolist(), int(env[b])
            self._rows[number] = NOTHING  # should the next line refuse the subgoal
            self._rows[number] = NOTHING if step is None else self.completion.row(home, step, self.sim.texts[text])
            self._current[number], self._place[number] = step, place[b]
        return self.completion.done(self._rows[env], state)

    def _grow(self, count: int) -> None:
        """Room for the environments 0..count-1."""
        more = count - len(self._rows)
        if more > 0:
            self._current += [None] * more
            self._place = np.concatenate([self._place, np.full((more, 2), -1, np.int64)])
            self._rows = np.concatenate([self._rows, np.full(more, NOTHING, np.int64)])


class NoisyJudge:
    """Another judge with errors: what a wrong judge costs.

    Each judging errs on its own: a subgoal that stays undone over ten steps has ten chances of a false alarm. Which
    judgings err is a function of the seed, the environment's number, its episode and step and the subgoal's words,
    whatever the batch; so one false alarm does not bring the next subgoals down in the same step.

    Args:
        miss: chance that what is done is called not done.
        false: chance that what is not done is called done.
        seed: of the errors alone.

    Raises:
        InputError: a chance outside [0, 1], or a negative seed.
    """

    def __init__(self, judge: Judge, *, miss: float, false: float, seed: int) -> None:
        if not (0 <= miss <= 1 and 0 <= false <= 1):
            raise InputError(f"miss={miss} and false={false} are chances and lie between 0 and 1")
        if seed < 0:
            raise InputError(f"seed={seed} does not work; give a whole number from 0 on")
        self.judge, self.miss, self.false, self.seed = judge, miss, false, seed

    def __call__(
        self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None = None
    ) -> Bool[Tensor, " B"]:
        done = self.judge(current, state, frame)
        key = episode_key(self.seed, state.env.cpu().numpy(), state.episode.cpu().numpy())
        draw = torch.from_numpy(uniform(key, state.step.cpu().numpy(), _draws(current))).to(done.device)
        asked = torch.tensor([step is not None for step in current], dtype=torch.bool, device=done.device)
        return torch.where(done, draw >= self.miss, (draw < self.false) & asked)


def _draws(current: Sequence[Subgoal | None]) -> Int64[ndarray, " B"]:
    """Numbers of the draws that decide about subgoals: one for each text."""
    return np.array([_NOISE + zlib.crc32(step.text.encode()) if step else _NOISE for step in current], np.int64)


class RewardJudge:
    """Done where a reward model's score of the picture for the subgoal's words reaches a threshold.

    Args:
        score: from a frame of K pictures and K texts to K scores; asked about those environments alone that have a
            subgoal.
        threshold: of the scores' own scale.
    """

    def __init__(self, score: Score, threshold: float) -> None:
        self.score, self.threshold = score, threshold

    def __call__(
        self, current: Sequence[Subgoal | None], state: SimState, frame: Frame | None = None
    ) -> Bool[Tensor, " B"]:
        """Raises InputError without a frame, or when the model gives other than K numbers."""
        frame = _seen(frame, "a reward model")
        rows = [b for b, step in enumerate(current) if step is not None]
        done = torch.zeros(len(current), dtype=torch.bool, device=frame.rgb.device)
        if not rows:
            return done
        index = torch.tensor(rows, device=frame.rgb.device)
        texts = [step.text for step in current if step is not None]
        part = (
            frame if len(rows) == len(current) else Frame(frame.rgb[index], frame.depth[index], frame.instance[index])
        )
        score = self.score(part, texts)
        if score.shape != (len(rows),) or bool(torch.isnan(score).any()):
            bad = int(torch.isnan(score).sum())
            raise InputError(
                f"the reward model gave scores of shape {tuple(score.shape)}, {bad} of them NaN, for {len(rows)} "
                "pictures; expected one number each"
            )
        done[index] = (score >= self.threshold).to(done.device)
        return done


def _seen(frame: Frame | None, who: str) -> Frame:
    if frame is None:
        raise InputError(f"{who} judges pictures, and there are none; give the simulator Sensors()")
    return frame

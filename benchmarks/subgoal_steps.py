"""What carrying subgoals costs beside a PPO step of B = 1,024 homes; a part of benchmarks/rl.py."""

import time
from typing import Any

import numpy as np

from agents.pixels import PixelSenses, vocabulary_of
from agents.senses import Note, Senses, Sight
from agents.subgoals.home_subgoals import HomeSubgoals, SubgoalSettings
from agents.subgoals.subgoal_env import SubgoalEnv
from agents.task_env import TaskEnv
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame


class Clocked:
    """Senses whose looking is timed, in processor seconds."""

    def __init__(self, inner: Senses) -> None:
        self.inner, self.seconds = inner, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """What the inner senses see."""
        began = time.process_time()
        sight = self.inner.observe(frame, state, note)
        self.seconds += time.process_time() - began
        return sight


def subgoal_homes(num_envs: int, homes: int) -> tuple[SubgoalEnv, Clocked, Clocked]:
    """FollowInstruction from pixels with subgoals judged by truth; the senses with subgoals, and those within."""
    simulator = Simulator(HomePool.procedural(homes, seed=0), "follow_instruction", num_envs=num_envs, seed=0)
    assert simulator.sensors is not None
    within = Clocked(PixelSenses(vocabulary_of(simulator.texts), simulator.sensors, simulator.max_steps))
    outer = Clocked(HomeSubgoals(within, SubgoalSettings("rooms")))  # type: ignore[arg-type]
    return SubgoalEnv(TaskEnv(simulator, outer)), outer, within  # type: ignore[arg-type]


def bookkeeping(learner: Any, env: SubgoalEnv, outer: Clocked, within: Clocked, rounds: int) -> float:
    """Percent of a PPO step's processor time that subgoals take: looking up, judging, showing; a median over rounds.

    Args:
        learner: whose `whole()` is a rollout in `env` and its update.
    """
    shares = []
    for number in range(rounds + 1):
        before, began = outer.seconds - within.seconds, time.process_time()
        learner.whole()
        env.take()
        if number:  # the first meets homes and makes plans
            shares.append((outer.seconds - within.seconds - before) / (time.process_time() - began))
    return 100 * float(np.median(shares))

"""MiniGrid's door-key and multi-room tasks with programmatic subgoals, for the learner of homes.

    env = make_minigrid("doorkey-6x6", num_envs=16, seed=0)     # a GymTensorEnv

Observed: the partial view of 7 x 7 cells as categories (object, colour, state; one-hot) and the direction, all in
"vector"; "subgoal", the words of the one under way and the share done, as in agents/subgoals/subgoal_senses.py; and
"reached", for the learner alone. Actions: left, right, forward, pick up, toggle (dropping things and MiniGrid's "done"
are left out). Reward and time limit are MiniGrid's own. Subgoals are tests on the grid; one that is true is passed,
also several in a step, and those true at the start pay nothing. The control `shuffled` asks for them in another order.

Needs the extra "minigrid". Source: Chevalier-Boisvert et al., arXiv:2306.13831; VSC-RL's own MiniGrid tasks are not
published.
"""

import importlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy import ndarray
from torch import Tensor

from agents.gym_tensor_env import GymTensorEnv
from agents.pixels import bag_of_words, vocabulary_of
from core.errors import MissingLibraryError, check_choice

GRID_TASKS: Final = {
    "doorkey-5x5": "MiniGrid-DoorKey-5x5-v0",
    "doorkey-6x6": "MiniGrid-DoorKey-6x6-v0",
    "doorkey-8x8": "MiniGrid-DoorKey-8x8-v0",
    "multiroom-n2-s4": "MiniGrid-MultiRoom-N2-S4-v0",
    "multiroom-n4-s5": "MiniGrid-MultiRoom-N4-S5-v1",
    "multiroom-n6": "MiniGrid-MultiRoom-N6-v0",
}
LEFT, RIGHT, FORWARD, PICK_UP, TOGGLE = range(5)
_ACTIONS: Final = (0, 1, 2, 3, 5)  # MiniGrid's numbers of these
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth", "sixth")
_SIZES: Final = (11, 6, 4)  # objects, colours, states of a cell
_CELLS: Final = 49
KEY, DOOR, GOAL = "pick up the key", "open the door", "go to the goal"
VOCABULARY: Final = vocabulary_of([KEY, DOOR, GOAL, *_ORDINALS])

Step = tuple[str, Callable[[Any], bool]]  # words, and a test of MiniGrid's environment


def steps_of(grid: Any) -> list[Step]:
    """The subgoals of an episode that has just begun, in order. The goal itself is the last: it ends the episode."""
    doors = [tuple(room.exitDoorPos) for room in getattr(grid, "rooms", ())[:-1]]
    if doors:
        opened: list[Step] = [
            (f"open the {word} door", partial(_is_open, place)) for word, place in zip(_ORDINALS, doors)
        ]
        return [*opened, (GOAL, _never)]
    place = next(_places(grid, "door"))
    return [(KEY, lambda world: world.carrying is not None), (DOOR, partial(_is_open, place)), (GOAL, _never)]


def _is_open(place: tuple[int, int], world: Any) -> bool:
    return world.grid.get(*place).is_open


def _never(world: Any) -> bool:
    return False


def _places(grid: Any, kind: str) -> Iterator[tuple[int, int]]:
    """Where things of a kind are."""
    for x in range(grid.width):
        for y in range(grid.height):
            thing = grid.grid.get(x, y)
            if thing is not None and thing.type == kind:
                yield x, y


class GridSubgoals(gymnasium.Wrapper):
    """A MiniGrid environment that shows categories, subgoals and what was reached.

    Args:
        shuffled: the subgoals before the goal in reverse order, a control.
    """

    def __init__(self, env: gymnasium.Env, shuffled: bool = False) -> None:
        super().__init__(env)
        self.shuffled = shuffled
        self.action_space = spaces.Discrete(len(_ACTIONS))
        size = _CELLS * sum(_SIZES) + 4
        self.observation_space = spaces.Dict(
            {
                "vector": spaces.Box(0, 1, (size,), np.float32),
                "subgoal": spaces.Box(0, 1, (len(VOCABULARY) + 2,), np.float32),
                "reached": spaces.Box(0, 1, (1,), np.float32),
            }
        )
        self._words: dict[str, ndarray] = {}

    @property
    def grid(self) -> Any:
        """MiniGrid's own environment."""
        return self.env.unwrapped

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, ndarray], dict]:
        """A new episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        steps = steps_of(self.grid)
        self.steps = [*steps[-2::-1], steps[-1]] if self.shuffled else steps
        self.index = 0
        self._advance()
        return self._shown(observation, False), info

    def step(self, action: Any) -> tuple[dict[str, ndarray], float, bool, bool, dict]:
        """One action."""
        observation, reward, terminated, truncated, info = self.env.step(_ACTIONS[int(action)])
        return self._shown(observation, self._advance()), float(reward), terminated, truncated, info

    def _advance(self) -> bool:
        """Passes the subgoals that are done; whether there was one."""
        before = self.index
        while self.steps[self.index][1](self.grid):
            self.index += 1
        return self.index > before

    def _shown(self, observation: dict[str, Any], reached: bool) -> dict[str, ndarray]:
        view = observation["image"].reshape(_CELLS, 3)
        parts = [np.eye(size, dtype=np.float32)[view[:, k]].ravel() for k, size in enumerate(_SIZES)]
        direction = np.eye(4, dtype=np.float32)[observation["direction"]]
        text, share = self.steps[self.index][0], np.float32(self.index / len(self.steps))
        if text not in self._words:
            self._words[text] = bag_of_words([text], VOCABULARY)[0].numpy()
        return {
            "vector": np.concatenate([*parts, direction]),
            "subgoal": np.append(self._words[text], share),
            "reached": np.array([reached], np.float32),
        }


def make_minigrid(task: str, num_envs: int, seed: int = 0, *, first: int = 0, shuffled: bool = False) -> GymTensorEnv:
    """Environments of a task, one of GRID_TASKS, behind the adapter for Gymnasium.

    Raises:
        InputError: unknown task. MissingLibraryError: the library is not there.
    """
    check_choice("task", task, GRID_TASKS)
    try:
        importlib.import_module("minigrid")
    except ModuleNotFoundError as error:
        raise MissingLibraryError("MiniGrid's tasks need its library: pip install 'minigrid>=3,<4'") from error
    return GymTensorEnv.make(
        GRID_TASKS[task], num_envs, seed, first=first, wrappers=(lambda env: GridSubgoals(env, shuffled),)
    )


def oracle(env: GymTensorEnv) -> Tensor:
    """A good action for each environment, (B,) int64: what fetches a key that is needed, then leads to the goal.

    Shortest in moves and turns; that a shut door costs an action more is not weighed.
    """
    worlds = [one.unwrapped for one in env.envs.envs]  # type: ignore[attr-defined]  # of a SyncVectorEnv
    return torch.tensor([_action(world) for world in worlds])


def _action(world: Any) -> int:
    wants = "goal"
    if world.carrying is None and any(world.grid.get(*place).is_locked for place in _places(world, "door")):
        wants = "key"
    start = (int(world.agent_pos[0]), int(world.agent_pos[1]), int(world.agent_dir))
    first: dict[tuple[int, int, int], int] = {start: -1}  # the action a way begins with, by where it leads
    queue = deque([start])
    while queue:
        here = queue.popleft()
        x, y, direction = here
        ahead = _ahead(x, y, direction)
        thing = world.grid.get(*ahead)
        kind = "" if thing is None else thing.type
        if kind == wants:
            return first[here] if first[here] >= 0 else PICK_UP if wants == "key" else FORWARD
        ways = [(LEFT, (x, y, (direction - 1) % 4)), (RIGHT, (x, y, (direction + 1) % 4))]
        if kind == "door" and not thing.is_open and (not thing.is_locked or world.carrying is not None):
            ways.append((TOGGLE, (*ahead, direction)))
        elif thing is None or thing.can_overlap():
            ways.append((FORWARD, (*ahead, direction)))
        for action, there in ways:
            if there not in first:
                first[there] = action if first[here] < 0 else first[here]
                queue.append(there)
    return LEFT  # nothing leads there, which these tasks do not make


def _ahead(x: int, y: int, direction: int) -> tuple[int, int]:
    dx, dy = ((1, 0), (0, 1), (-1, 0), (0, -1))[direction]
    return x + dx, y + dy

"""Episodes of any Gymnasium task as functions of (seed, environment, episode), so that cut runs can go on in one.

Gymnasium tasks cannot be saved, but those that draw from their own `np_random` alone come out the same from the same
seed and actions. So each reset here is seeded, the episode's actions are kept, and going on means doing them again.
"""

from typing import TYPE_CHECKING, Any, SupportsFloat

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv

TRAINING, EVALUATION = 0, 1  # streams of episode seeds


def episode_seed(stream: int, seed: int, env: int, episode: int) -> int:
    """The seed of one episode's reset; streams, seeds, environments and episodes never share one but by chance."""
    return int(np.random.SeedSequence([stream, seed, env, episode]).generate_state(1)[0])


class SeededEpisodes(gymnasium.Wrapper):
    """Seeds every reset by the number of the episode, and keeps the episode's actions.

    A seed given to `reset` is not heeded: what comes next follows from `seed`, `env_index` and the episode's number.
    """

    def __init__(self, env: gymnasium.Env, seed: int, env_index: int) -> None:
        super().__init__(env)
        self.seed, self.env_index = seed, env_index
        self.episode = -1
        self.actions: list[Any] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """The next episode."""
        self.episode += 1
        self.actions = []
        return self.env.reset(seed=episode_seed(TRAINING, self.seed, self.env_index, self.episode), options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step of the task."""
        self.actions.append(np.array(action))
        return self.env.step(action)

    def episode_state(self) -> dict[str, Any]:
        """Where the task is: the number of its episode, and the actions since it began."""
        return {"episode": self.episode, "actions": np.stack(self.actions) if self.actions else None}

    def begin_at(self, episode: int) -> None:
        """Makes the next reset begin this episode."""
        self.episode = episode - 1

    def repeat(self, actions: np.ndarray) -> None:
        """Does actions again; what they lead to is seen by nobody."""
        for action in actions:
            self.step(action if action.ndim else action[()])


def episode_states(env: "VecEnv") -> list[dict[str, Any]]:
    """Where each environment is, for `go_on`."""
    return env.env_method("episode_state")


def go_on(env: "VecEnv", states: list[dict[str, Any]]) -> list[Any]:
    """Brings fresh environments, made like those of `episode_states`, to where they were.

    Returns:
        The observation of each.
    """
    found = []
    for index, state in enumerate(states):
        env.env_method("begin_at", state["episode"], indices=index)
        observation, _ = env.env_method("reset", indices=index)[0]
        actions = state["actions"]
        if actions is not None:
            env.env_method("repeat", actions[:-1], indices=index)
            # the last one through all wrappers: what they put in the first step's info has been given out
            last = actions[-1] if actions[-1].ndim else actions[-1][()]
            observation = env.env_method("step", last, indices=index)[0][0]
        found.append(observation)
    return found

import copy
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv

import envs  # noqa: F401  registers the ids
from agents.sb3_checkpoint import restore_sb3, sb3_state
from agents.seeded_episodes import SeededEpisodes
from core.checkpoint import Checkpoints
from core.errors import InputError

NET = {"policy_kwargs": {"net_arch": [8]}}
OFF = {"learning_starts": 40, "buffer_size": 100, "batch_size": 8, "train_freq": 10, "gradient_steps": 2, **NET}
NOISE = {"action_noise": NormalActionNoise(np.zeros(1), np.full(1, 0.1))}
LEARNERS: dict[str, tuple[type[BaseAlgorithm], str, dict[str, Any]]] = {
    "dqn": (DQN, "Sightline/VLMCartPole-v0", {**OFF, "target_update_interval": 30}),
    "sac": (SAC, "Sightline/VLMMountainCar-v0", OFF),
    "td3": (TD3, "Sightline/VLMMountainCar-v0", {**OFF, **NOISE}),
    "ppo": (PPO, "Sightline/VLMCartPole-v0", {"n_steps": 25, "batch_size": 25, "n_epochs": 2, **NET}),
}


def made(name: str, **changed: Any) -> BaseAlgorithm:
    kind, task, options = LEARNERS[name]
    env = DummyVecEnv([lambda k=k: SeededEpisodes(gymnasium.make(task), 5, k) for k in range(2)])
    # copies: stable-baselines3 writes into policy_kwargs
    return kind("MlpPolicy", env, seed=5, device="cpu", **copy.deepcopy({**options, **changed}))


class Keep(BaseCallback):
    """Saves at the first rollout that begins after `at` steps."""

    def __init__(self, checkpoints: Checkpoints, at: int) -> None:
        super().__init__()
        self.checkpoints, self.at = checkpoints, at

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.at and not self.checkpoints.steps():
            self.checkpoints.save(self.num_timesteps, sb3_state(self.model))


@pytest.mark.parametrize("name", LEARNERS)
def test_a_run_that_goes_on_from_a_checkpoint_ends_with_the_numbers_of_an_uncut_one(name, tmp_path):
    whole, checkpoints = made(name), Checkpoints(tmp_path)
    whole.learn(260, Keep(checkpoints, 140), log_interval=None)  # the replay buffer has wrapped at 100
    torch.rand(7), np.random.rand(7)  # a new process has other random states
    step, state = checkpoints.latest()
    rest = made(name)
    assert restore_sb3(rest, state)
    rest.learn(260 - step, log_interval=None, reset_num_timesteps=False)
    assert rest.num_timesteps == whole.num_timesteps
    ours, theirs = rest.policy.state_dict(), whole.policy.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    if name != "ppo":
        np.testing.assert_array_equal(rest.replay_buffer.rewards, whole.replay_buffer.rewards)
        np.testing.assert_array_equal(rest.replay_buffer.observations, whole.replay_buffer.observations)


def test_a_task_that_does_not_repeat_itself_is_told():
    class Wayward(gymnasium.Wrapper):
        def step(self, action):
            observation, *rest = self.env.step(action)
            return observation + np.random.default_rng().normal(size=4).astype(np.float32), *rest

    def learner():
        env = DummyVecEnv([lambda: SeededEpisodes(Wayward(gymnasium.make("Sightline/VLMCartPole-v0")), 0, 0)])
        return DQN("MlpPolicy", env, seed=0, device="cpu", **copy.deepcopy(LEARNERS["dqn"][2]))

    first = learner()
    first.learn(20, log_interval=None)
    again = learner()
    assert not restore_sb3(again, sb3_state(first))
    assert again._last_obs.shape == first._last_obs.shape


def test_a_checkpoint_of_other_networks_or_another_buffer_is_refused():
    state = sb3_state_of_a_start()
    with pytest.raises(InputError, match="does not fit"):
        restore_sb3(made("dqn", policy_kwargs={"net_arch": [4]}), state)
    with pytest.raises(InputError, match="50 rows, now it has 30"):
        restore_sb3(made("dqn", buffer_size=60), state)


def sb3_state_of_a_start() -> dict[str, Any]:
    learner = made("dqn")
    learner.learn(20, log_interval=None)
    return sb3_state(learner)

"""What benchmarks/rl.py learns on: environments that cost next to nothing, so that learning is timed; CartPole and
Acrobot with the settings of both learners.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.networks import Observation
from agents.rollout import EnvStep, TensorEnv

EPISODE = 100  # steps, then time is up


@dataclass(frozen=True)
class Settings:
    """What PPO is given on a small vector task; networks are 2x64, tanh, policy and value apart, always."""

    num_envs: int
    rollout: int  # steps of each environment between updates
    batch: int  # steps of a minibatch
    epochs: int  # passes over a rollout, at most
    lr: float
    gamma: float
    lam: float
    clip: float = 0.2
    falling: bool = False  # learning rate and clip fall linearly to 0 over the budget
    standardise: bool = False  # observations, by running statistics
    scale_rewards: bool = False  # by the running deviation of discounted returns
    max_kl: float = math.inf  # passes stop after one whose mean divergence from the old policy is above


@dataclass(frozen=True)
class Task:
    """A Gymnasium task."""

    name: str
    threshold: float  # mean return that counts as learned
    budget: int  # environment steps
    zoo: Settings  # of https://github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml
    own: Settings  # this project's


TASKS = {
    "cartpole": Task(
        "CartPole-v1",
        475,
        100_000,
        zoo=Settings(8, 32, 256, 20, 1e-3, 0.98, 0.8, falling=True),
        own=Settings(4, 128, 64, 10, 1e-3, 0.98, 0.9, max_kl=0.02),
    ),
    "acrobot": Task(
        "Acrobot-v1",
        -100,
        200_000,
        zoo=Settings(16, 256, 64, 4, 3e-4, 0.99, 0.94, standardise=True, scale_rewards=True),
        own=Settings(8, 128, 64, 10, 1e-3, 0.99, 0.95, standardise=True, scale_rewards=True, max_kl=0.02),
    ),
}


class Timed:
    """B environments whose episodes last EPISODE steps and begin at different times."""

    action_size = 0

    def __init__(self, num_envs: int, num_actions: int) -> None:
        self.num_envs, self.num_actions = num_envs, num_actions
        self.generator = torch.Generator().manual_seed(0)
        self.time = torch.arange(num_envs) % EPISODE
        self.ended = torch.zeros(num_envs, dtype=torch.bool)

    def answer(self, final: Tensor, observation: Tensor, reward: Tensor, over: Tensor, name: str) -> EnvStep:
        """The step's answer where `over` marks time limits."""
        return EnvStep({name: observation}, {name: final}, reward, self.ended, over, {})


class Drift(Timed):
    """A 32-d state that actions push about; paid for staying near the origin."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, 6)
        self.observation_spec = {"vector": ObservationSpec((32,))}
        self.push = torch.randn(6, 32, generator=self.generator) * 0.2
        self.state = torch.randn(num_envs, 32, generator=self.generator)

    def reset(self) -> Observation:
        return {"vector": self.state}

    def step(self, action: Tensor) -> EnvStep:
        final = self.state * 0.97 + self.push[action]
        reward: Float[Tensor, " B"] = -final.square().mean(1)
        self.time += 1
        over = self.time == EPISODE
        rows = over.nonzero()[:, 0]
        self.state = final
        if len(rows):
            self.time[rows] = 0
            self.state = final.clone()
            self.state[rows] = torch.randn(len(rows), 32, generator=self.generator)
        return self.answer(final, self.state, reward, over, "vector")


class Pictures(Timed):
    """64x64 colour frames out of a store; paid for the action whose number the frame carries."""

    FRAMES = 512

    def __init__(self, num_envs: int) -> None:
        super().__init__(num_envs, 6)
        self.observation_spec = {"image": ObservationSpec((64, 64, 3), "uint8")}
        self.frames = torch.randint(0, 256, (self.FRAMES, 64, 64, 3), generator=self.generator, dtype=torch.uint8)
        self.place = torch.arange(num_envs)

    def reset(self) -> Observation:
        return {"image": self.frames[self.place]}

    def step(self, action: Tensor) -> EnvStep:
        reward = (action == self.place % 6).float()
        self.place = (self.place * 5 + 1) % self.FRAMES
        self.time += 1
        over = self.time == EPISODE
        self.time[over] = 0
        frames = self.frames[self.place]
        return self.answer(frames, frames, reward, over, "image")


class Camera(Timed):
    """The simulator's FindObject at 64x64 colours, as a policy that learns from pixels sees it."""

    def __init__(self, num_envs: int, homes: int) -> None:
        from envs.pool import HomePool
        from envs.simulator import Simulator

        self.sim = Simulator(HomePool.procedural(homes, seed=0), num_envs=num_envs, seed=0)
        super().__init__(num_envs, len(self.sim.action_names))
        self.observation_spec = {"image": ObservationSpec((64, 64, 3), "uint8")}
        self.state = self.sim.reset()

    def reset(self) -> Observation:
        self.state = self.sim.reset()
        return {"image": self.sim.observe(self.state).rgb}

    def step(self, action: Tensor) -> EnvStep:
        self.state, step = self.sim.step(self.state, action)
        assert step.frame is not None
        final = observation = step.frame.rgb
        if step.done.any():
            self.state = self.sim.reset(self.state, step.done)
            first = self.sim.observe(self.state, step.done).rgb
            observation = torch.where(step.done[:, None, None, None], first, final)
        return EnvStep({"image": observation}, {"image": final}, step.reward, step.terminated, step.truncated, {})


def sb3_env(env: TensorEnv):
    """The same environment behind stable-baselines3's interface, with `terminal_observation` and time limits."""
    import numpy as np
    from gymnasium import spaces
    from stable_baselines3.common.vec_env import VecEnv

    ((name, spec),) = env.observation_spec.items()
    space = (
        spaces.Box(0, 255, spec.shape, np.uint8)
        if spec.dtype == "uint8"
        else spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
    )

    class Adapter(VecEnv):
        def reset(self):
            return env.reset()[name].numpy()

        def step_async(self, actions):
            self.actions = torch.from_numpy(actions)

        def step_wait(self):
            step = env.step(self.actions)
            done = (step.terminated | step.truncated).numpy()
            infos: list[dict] = [{} for _ in range(self.num_envs)]
            last = step.final_observation[name].numpy()
            for i in done.nonzero()[0]:
                infos[i] = {"terminal_observation": last[i], "TimeLimit.truncated": bool(step.truncated[i])}
            return step.observation[name].numpy(), step.reward.numpy(), done, infos

        def close(self):
            pass

        def get_attr(self, attr_name, indices=None):
            return [None] * self.num_envs  # nothing to show: it has no render mode

        def set_attr(self, attr_name, value, indices=None):
            pass

        def env_method(self, method_name, *args, indices=None, **kwargs):
            return [None] * self.num_envs

        def env_is_wrapped(self, wrapper_class, indices=None):
            return [False] * self.num_envs

    return Adapter(env.num_envs, space, spaces.Discrete(env.num_actions))

"""CartPole and Acrobot with our PPO and with stable-baselines3's, at the settings of SB3's zoo.

The same algorithm, so what is compared is how both learn, not how fast they compute. Counted is the number of
environment steps until the mean return of the last 20 finished episodes first reaches the threshold.

Settings: https://github.com/DLR-RM/rl-baselines3-zoo, hyperparams/ppo.yml.
"""

from collections import deque
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

LAST = 20  # episodes


@dataclass(frozen=True)
class Task:
    """A Gymnasium task and the zoo's settings for it."""

    name: str
    threshold: float  # mean return that counts as learned
    budget: int  # environment steps
    num_envs: int
    rollout: int
    batch: int  # minibatch
    epochs: int
    lr: float
    gamma: float
    lam: float
    clip: float = 0.2
    falling: bool = False  # learning rate and clip fall linearly to 0
    normalised: bool = False  # observations and rewards, by running statistics


TASKS = {
    "cartpole": Task("CartPole-v1", 475, 100_000, 8, 32, 256, 20, 1e-3, 0.98, 0.8, falling=True),
    "acrobot": Task("Acrobot-v1", -100, 200_000, 16, 256, 64, 4, 3e-4, 0.99, 0.94, normalised=True),
}


def quick(task: Task) -> Task:
    """The same task, held to have been learned long before it is: for a glance."""
    return replace(task, threshold={"CartPole-v1": 100, "Acrobot-v1": -350}[task.name])


@dataclass
class Curve:
    """Mean return of the last 20 episodes along a run."""

    threshold: float
    steps: list[int] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    reached: int | None = None  # steps at which the threshold was first reached
    latest: deque = field(default_factory=lambda: deque(maxlen=LAST))

    def add(self, step: int, episode_return: float) -> None:
        """An episode that ended after `step` environment steps."""
        self.latest.append(episode_return)
        if len(self.latest) == LAST:
            self.steps.append(step)
            self.returns.append(float(np.mean(self.latest)))
            if self.reached is None and self.returns[-1] >= self.threshold:
                self.reached = step


def ours(task: Task, seed: int, stop_early: bool) -> Curve:
    """Our PPO; with `stop_early` only until the threshold."""
    from agents.advantages import ReturnScale
    from agents.gym_tensor_env import GymTensorEnv
    from agents.networks import make_policy
    from agents.ppo import update
    from agents.rollout import EpisodeLog, Progress, collect

    env = GymTensorEnv.make(task.name, task.num_envs, seed=seed)
    policy = make_policy(
        "feedforward",
        env.observation_spec,
        num_actions=env.num_actions,
        seed=seed,
        width=64,
        standardise=task.normalised,
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=task.lr, eps=1e-5, fused=True)
    generator = torch.Generator().manual_seed(seed)
    curve, done = Curve(task.threshold), 0
    taken = 0

    def ended(returns: Tensor) -> None:
        for value in returns.tolist():
            curve.add(taken, value)

    log = EpisodeLog(env.num_envs, on_end=ended)
    step = env.step

    def counted(action: Tensor):
        nonlocal taken
        taken += env.num_envs
        return step(action)

    env.step = counted  # type: ignore[method-assign]
    progress, scale = Progress.begin(env, policy), ReturnScale(env.num_envs, task.gamma)
    batch, rollout = task.num_envs * task.rollout, None
    while done < task.budget and not (stop_early and curve.reached):
        rollout = collect(env, policy, progress, task.rollout, generator, log, rollout)
        done += batch
        left = max(1 - done / task.budget, 0.0) if task.falling else 1.0
        for group in optimizer.param_groups:
            group["lr"] = task.lr * left
        if task.normalised:
            rollout.reward.copy_(scale(rollout.reward, rollout.terminated | rollout.truncated))
        update(
            policy,
            optimizer,
            rollout,
            generator=generator,
            gamma=task.gamma,
            lam=task.lam,
            epochs=task.epochs,
            minibatches=batch // task.batch,
            clip=task.clip * left,
            entropy_coef=0.0,
            value_coef=1.0,  # SB3 counts twice our value loss, at 0.5
            max_grad_norm=0.5,
            max_kl=float("inf"),
        )
        policy.update_norms(rollout.observation)
        log.flush()
    return curve


def theirs(task: Task, seed: int, stop_early: bool) -> Curve:
    """The PPO of stable-baselines3; with `stop_early` only until the threshold."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

    curve = Curve(task.threshold)

    class Watch(BaseCallback):
        def _on_step(self) -> bool:
            for info in self.locals["infos"]:
                if "episode" in info:
                    curve.add(self.num_timesteps, float(info["episode"]["r"]))
            return not (stop_early and curve.reached)

    env: VecEnv = make_vec_env(task.name, task.num_envs, seed=seed)
    if task.normalised:
        env = VecNormalize(env, gamma=task.gamma)

    def falling(value: float):
        return (lambda left: value * left) if task.falling else value

    model = PPO(
        "MlpPolicy",
        env,
        n_steps=task.rollout,
        batch_size=task.batch,
        n_epochs=task.epochs,
        learning_rate=falling(task.lr),
        clip_range=falling(task.clip),
        gamma=task.gamma,
        gae_lambda=task.lam,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
    )
    model.learn(task.budget, callback=Watch())
    env.close()
    return curve


LEARNERS = {"ours": ours, "stable-baselines3": theirs}

"""CartPole and Acrobot with our PPO and with stable-baselines3's: how many steps it takes to learn, not how long.

Counted is the number of environment steps until the mean return of the last 20 finished episodes first reaches the
threshold. The settings, and where they come from, are in benchmarks/rl_tasks.py.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from benchmarks.rl_tasks import Settings, Task

LAST = 20  # episodes


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

    @property
    def last(self) -> float:
        """The latest mean return; NaN before there was one."""
        return self.returns[-1] if self.returns else float("nan")


def ours(task: Task, settings: Settings, seed: int, least: int, most: int) -> Curve:
    """Our PPO until the threshold is reached, or for `least` steps where that is more; `most` steps at most."""
    from agents.advantages import ReturnScale
    from agents.gym_tensor_env import GymTensorEnv
    from agents.networks import make_policy
    from agents.ppo import update
    from agents.rollout import EpisodeLog, Progress, collect

    env = GymTensorEnv.make(task.name, settings.num_envs, seed=seed)
    policy = make_policy(
        "feedforward",
        env.observation_spec,
        num_actions=env.num_actions,
        seed=seed,
        width=64,
        standardise=settings.standardise,
    )
    optimizer = torch.optim.Adam(policy.parameters(), lr=settings.lr, eps=1e-5, fused=True)
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
    progress, scale = Progress.begin(env, policy), ReturnScale(env.num_envs, settings.gamma)
    batch, rollout = settings.num_envs * settings.rollout, None
    while done < most and not (curve.reached and done >= least):
        rollout = collect(env, policy, progress, settings.rollout, generator, log, rollout)
        done += batch
        left = max(1 - done / task.budget, 0.0) if settings.falling else 1.0
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * left
        if settings.scale_rewards:
            rollout.reward.copy_(scale(rollout.reward, rollout.terminated | rollout.truncated))
        update(
            policy,
            optimizer,
            rollout,
            generator=generator,
            gamma=settings.gamma,
            lam=settings.lam,
            epochs=settings.epochs,
            minibatches=batch // settings.batch,
            clip=settings.clip * left,
            entropy_coef=0.0,
            value_coef=1.0,  # SB3 counts twice our value loss, at 0.5
            max_grad_norm=0.5,
            max_kl=settings.max_kl,
        )
        policy.update_norms(rollout.observation)
        log.flush()
    return curve


def theirs(task: Task, settings: Settings, seed: int, least: int, most: int) -> Curve:
    """The PPO of stable-baselines3, for as long."""
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
            return self.num_timesteps < most and not (curve.reached and self.num_timesteps >= least)

    env: VecEnv = make_vec_env(task.name, settings.num_envs, seed=seed)
    if settings.standardise or settings.scale_rewards:
        env = VecNormalize(env, norm_obs=settings.standardise, norm_reward=settings.scale_rewards, gamma=settings.gamma)

    def falling(value: float):
        return (lambda left: value * left) if settings.falling else value

    model = PPO(
        "MlpPolicy",
        env,
        n_steps=settings.rollout,
        batch_size=settings.batch,
        n_epochs=settings.epochs,
        learning_rate=falling(settings.lr),
        clip_range=falling(settings.clip),
        gamma=settings.gamma,
        gae_lambda=settings.lam,
        ent_coef=0.0,
        seed=seed,
        device="cpu",
    )
    model.learn(task.budget, callback=Watch())
    env.close()
    return curve


@dataclass(frozen=True)
class Learner:
    """A trainer with one of a task's two settings."""

    label: str
    run: Callable[[Task, Settings, int, int, int], Curve]
    settings: str  # "own" or "zoo"

    def __call__(self, task: Task, seed: int, least: int = 0, most: int | None = None) -> Curve:
        """A run of `task.budget` steps, or of `most`; it ends at the threshold once `least` steps are done."""
        return self.run(task, getattr(task, self.settings), seed, least, task.budget if most is None else most)


OURS = Learner("ours, own settings", ours, "own")
THEIRS = Learner("SB3, zoo settings", theirs, "zoo")
EQUAL = Learner("ours, zoo settings", ours, "zoo")

"""Trains an agent that a vision-language model pays, on any Gymnasium task: sightline train-vlm-rm reward_task=cartpole

The reward of a step is how well the picture it led to fits a sentence (VLM-RM, arXiv:2310.12921); the agent itself sees
the task's own observation. reward_task=NAME is a task of the paper with its prompts; a task of your own is env=ID with
goal= and baseline=, any Gymnasium id that renders. The learner is one of stable-baselines3's; keys below dqn., sac.,
td3. and ppo. are arguments of its class.

reward=task pays the task's own reward and reward=constant one that says nothing, for comparison. Leaves policy.zip
(stable_baselines3), metrics.jsonl, episode.mp4 and result.json with the truth of evaluation episodes. An interrupted
run goes on with resume=auto: on the CPU with the same numbers, if the task repeats itself from a seed, as Gymnasium's
do; otherwise the running episodes go on from where they led when repeated, and a note says so.
"""

import copy
import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BufferedIOBase
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from numpy import ndarray
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

import envs  # noqa: F401  registers the ids
from agents.paid import Payment
from agents.sb3_checkpoint import restore_sb3, sb3_state
from agents.sb3_rewards import RelabelCallback
from agents.seeded_episodes import SeededEpisodes
from agents.step_frames import StepFrame, picture_key
from agents.task_evaluation import EpisodeTruth, evaluate_policy, film_policy, summary
from core.errors import InputError, check_choice, nearest
from core.files import atomic_file
from core.job import JobConfig, job_main
from core.progress import Progress, track
from core.run import RunFolder
from envs.vlm_tasks import VLM_TASKS
from vl.embedder import Embedder, load_embedder
from vl.rewards import StepBatch, VLMReward

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"dqn": DQN, "sac": SAC, "td3": TD3, "ppo": PPO}
REWARDS = ("vlm", "task", "mixture", "constant")
OWN_ARGUMENTS = {"policy", "env", "seed", "device", "verbose", "tensorboard_log", "self"}
FILM_PIXELS = 320


@dataclass
class TrainVlmRmConfig(JobConfig):
    """Reward by a sentence: sightline train-vlm-rm reward_task=cartpole vl=FOLDER_OR_HUB_ID"""

    CUDA = True

    env: str = ""  # Gymnasium id; module:ID imports the module that registers it
    env_options: dict[str, Any] = field(default_factory=dict)  # arguments of gymnasium.make, e.g. .pose=lotus
    goal: list[str] = field(default_factory=list)  # sentences for what the agent should bring about
    baseline: list[str] = field(default_factory=list)  # sentences for the task without it; alpha > 0 needs one
    vl: str = ""  # what pays: a two-tower model, or a CLIP / SigLIP folder or hub id
    reward: str = "vlm"  # vlm, task (its own), mixture (vlm + task_weight * task) or constant (says nothing)
    alpha: float = 0.5  # 0 = similarity to the goal, 1 = only the direction from baseline to goal
    task_weight: float = 1.0  # of the task's own reward in a mixture
    calibration_frames: int = 500  # random steps whose scores get mean 0 and deviation 1; 0 = scores as they are
    reward_batch: int = 64  # frames that the image tower reads at once
    algorithm: str = "sac"  # dqn (discrete actions), sac, td3 (continuous) or ppo (both)
    dqn: dict[str, Any] = field(default_factory=dict)  # arguments of stable_baselines3.DQN
    sac: dict[str, Any] = field(default_factory=dict)  # arguments of SAC
    td3: dict[str, Any] = field(default_factory=dict)  # arguments of TD3; td3.action_noise=DEVIATION of normal noise
    ppo: dict[str, Any] = field(default_factory=dict)  # arguments of PPO
    total_steps: int = 100_000  # steps of all environments together
    num_envs: int = 1  # environments side by side
    processes: bool = False  # step each environment in a process of its own
    eval_episodes: int = 20  # episodes of the final policy
    video: bool = True  # film one of them
    log_every: int = 1000  # steps between rows of metrics.jsonl
    checkpoint_every: int = 10_000  # steps between checkpoints, which hold the replay buffer

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("reward", self.reward, REWARDS)
        for name in ("total_steps", "num_envs", "eval_episodes", "log_every", "checkpoint_every", "reward_batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.calibration_frames < 0 or self.calibration_frames == 1:
            raise InputError(f"calibration_frames={self.calibration_frames}: give 0, or at least 2")
        known = set(inspect.signature(ALGORITHMS[self.algorithm].__init__).parameters) - OWN_ARGUMENTS
        for key in self.learner:
            if key not in known:
                raise InputError(f"{self.algorithm}.{key}: the learner has no such argument; {nearest(key, known)}")

    @property
    def learner(self) -> dict[str, Any]:
        """Arguments of the chosen algorithm."""
        return getattr(self, self.algorithm)

    @property
    def unread(self) -> list[str]:
        """Keys given to algorithms that were not chosen, such as a task's own after algorithm=ppo."""
        return [f"{name}.{key}" for name in ALGORITHMS if name != self.algorithm for key in getattr(self, name)]

    @property
    def sees(self) -> bool:
        """Whether frames are scored."""
        return self.reward in ("vlm", "mixture")


CONFIG = TrainVlmRmConfig


class ConstantReward(gymnasium.Wrapper):
    """Pays 1 for every step; the task's own reward stays in `info["task_reward"]`."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One step of the task."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, 1.0, terminated, truncated, {**info, "task_reward": float(reward)}


def make_task(cfg: TrainVlmRmConfig, *, pixels: int | None = None) -> gymnasium.Env:
    """The task, drawing pictures where `pixels` asks for them.

    Raises:
        InputError: Gymnasium does not know the id or cannot make it with these options, or it renders no arrays.
    """
    options = dict(cfg.env_options)
    if pixels is not None:
        options["render_mode"] = "rgb_array"
        if cfg.env in VLM_TASKS:
            options.setdefault("render_size", pixels)
    try:
        return gymnasium.make(cfg.env, **options)
    except InputError:
        raise
    except gymnasium.error.Error as error:
        raise InputError(f"env={cfg.env}: {error}") from error
    except (TypeError, ModuleNotFoundError) as error:
        raise InputError(f"env={cfg.env} with env_options={cfg.env_options}: {error}") from error


def make_env(cfg: TrainVlmRmConfig, index: int, pixels: int | None) -> gymnasium.Env:
    """Environment number `index` of the run, with a frame of `pixels` in each step's info where these are given."""
    env: gymnasium.Env = SeededEpisodes(make_task(cfg, pixels=pixels), cfg.seed, index)
    if cfg.reward == "constant":
        env = ConstantReward(env)
    return env if pixels is None else StepFrame(env, pixels)


def frame_pixels(embedder: Embedder) -> int:
    """Side of the square that the image tower reads."""
    size = getattr(embedder, "image_size", None)
    return int(size if size is not None else embedder.config.image.image_size)  # type: ignore[attr-defined]


def make_learner(cfg: TrainVlmRmConfig, env: VecEnv) -> BaseAlgorithm:
    """The algorithm, with the policy that suits the task's observations.

    Raises:
        InputError: the algorithm does not fit the task or its arguments.
    """
    options = copy.deepcopy(cfg.learner)  # stable-baselines3 writes into policy_kwargs
    if "action_noise" in options:
        size = int(np.prod(env.action_space.shape or (1,)))
        options["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, float(options["action_noise"])))
    kind = "MultiInput" if isinstance(env.observation_space, gymnasium.spaces.Dict) else "Mlp"
    if picture_key(env.observation_space) == "":
        kind = "Cnn"
    try:
        return ALGORITHMS[cfg.algorithm](
            f"{kind}Policy", env, seed=cfg.seed, device=cfg.device, **options  # type: ignore[arg-type]
        )  # fmt: skip
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"algorithm={cfg.algorithm} with {cfg.learner} does not fit {cfg.env}: {error}") from error


def calibrated(cfg: TrainVlmRmConfig, model: VLMReward, pixels: int) -> Payment:
    """How scores are paid: standardised by those of random steps, which leaves the best policy as it is.

    Raises:
        InputError: all frames score alike.
    """
    weight = cfg.task_weight if cfg.reward == "mixture" else 0.0
    if not cfg.calibration_frames:
        return Payment(task_weight=weight)
    env = make_env(cfg, cfg.num_envs, pixels)  # an environment that no learner steps
    env.action_space.seed(cfg.seed)
    scores, frames, over = [], [], True
    for step in range(cfg.calibration_frames):
        if over:
            env.reset()
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        over = terminated or truncated
        frames.append(info["frame"])
        if len(frames) == cfg.reward_batch or step + 1 == cfg.calibration_frames:
            batch = torch.from_numpy(np.stack(frames))
            scores.append(model.score(StepBatch(frame=batch), torch.zeros(len(frames), dtype=torch.int64)).cpu())
            frames = []
    env.close()
    every = torch.cat(scores).double()
    deviation = float(every.std())
    if not deviation > 1e-6:
        raise InputError(
            f"{cfg.calibration_frames} random steps of {cfg.env} all score {float(every.mean()):.4f}: this model sees "
            "no difference, so there is nothing to learn from; use another vl or goal"
        )
    return Payment(scale=1 / deviation, offset=-float(every.mean()) / deviation, task_weight=weight)


class RunCallback(BaseCallback):
    """Counts what the task says, writes metrics, shows progress, saves checkpoints between rollouts.

    Args:
        relabel: what pays, placed before this callback; None where the task's reward is kept.
        saved: the checkpoint to go on from.
    """

    def __init__(
        self, cfg: TrainVlmRmConfig, folder: RunFolder, bar: Progress, relabel: RelabelCallback | None,
        saved: dict[str, Any] | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.cfg, self.folder, self.bar, self.relabel, self.saved = cfg, folder, bar, relabel, saved
        self.truth = EpisodeTruth(cfg.num_envs)
        self.ended: list[dict[str, float]] = []
        self.logged = self.checkpointed = self.shown = 0
        self.seconds, self._began = 0.0, 0.0

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()
        if self.saved is None:
            return
        self.truth.load_state_dict(self.saved["truth"])
        self.ended = self.saved["ended"]
        self.logged, self.seconds = self.saved["logged"], self.saved["seconds"]
        self.checkpointed = self.shown = self.num_timesteps
        self.logger.name_to_value.update(self.saved["learned"]["values"])
        self.logger.name_to_count.update(self.saved["learned"]["counts"])
        if self.relabel is not None:
            self.relabel.account.load_state_dict(self.saved["account"])

    def _on_step(self) -> bool:
        rewards, dones, infos = (self.locals[name] for name in ("rewards", "dones", "infos"))
        for env, info in enumerate(infos):
            self.truth.add(env, float(rewards[env]), info)
            if dones[env]:
                self.ended.append(self.truth.end(env, info))
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps - self.checkpointed >= self.cfg.checkpoint_every:
            self.save()

    def _on_rollout_end(self) -> None:
        self.bar.advance(self.num_timesteps - self.shown, **self._means(self.ended[-10:]))
        self.shown = self.num_timesteps
        if self.num_timesteps - self.logged >= self.cfg.log_every or self.num_timesteps >= self.cfg.total_steps:
            self.log()

    @staticmethod
    def _means(ended: list[dict[str, float]]) -> dict[str, float]:
        return {name: float(np.mean([episode[name] for episode in ended])) for name in (ended[0] if ended else ())}

    def log(self) -> None:
        """One row: means over the episodes that ended since the last one, and what the learner recorded."""
        learned = {name.replace("/", "_"): value for name, value in self.logger.name_to_value.items()}
        self.logger.dump(self.num_timesteps)  # clears the means
        self.folder.log(self.num_timesteps, episodes=len(self.ended), **self._means(self.ended), **learned)
        self.ended, self.logged = [], self.num_timesteps

    def spent(self) -> float:
        """Seconds of training, those of earlier parts of the run included."""
        return self.seconds + time.perf_counter() - self._began

    def save(self) -> None:
        """A checkpoint of everything; only between rollouts."""
        self.checkpointed = self.num_timesteps
        state = {
            "learner": sb3_state(self.model),
            "truth": self.truth.state_dict(),
            "ended": self.ended,
            "logged": self.logged,
            "learned": {"values": dict(self.logger.name_to_value), "counts": dict(self.logger.name_to_count)},
            "seconds": self.spent(),
        }
        if self.relabel is not None:
            state["account"] = self.relabel.account.state_dict()
        self.folder.checkpoints.save(self.num_timesteps, state)


def run(cfg: TrainVlmRmConfig) -> dict[str, Any]:
    """Train, evaluate, film."""
    if not cfg.env:
        raise InputError("name a task: reward_task=cartpole (--help lists them), or env=ID with goal=[...]")
    if cfg.sees and not cfg.vl:
        raise InputError("vl is required: vl=FOLDER, the model/ of a pretrain-vl run, or a CLIP / SigLIP hub id")
    model, pixels = None, None
    if cfg.sees:
        embedder = load_embedder(cfg.vl, cfg.device)
        if not cfg.goal:
            raise InputError("goal is required: goal=[a sentence for what the agent should bring about]")
        model, pixels = VLMReward(embedder, [cfg.goal], cfg.baseline, cfg.alpha), frame_pixels(embedder)
    if cfg.video:
        make_task(cfg, pixels=FILM_PIXELS).close()  # what cannot be drawn should be known before training
    if cfg.unread:
        print(f"note: algorithm={cfg.algorithm} does not read {', '.join(cfg.unread)}")
    folder = RunFolder.open(cfg, "train-vlm-rm")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    makers: list[Callable[[], gymnasium.Env]] = [partial(make_env, cfg, k, pixels) for k in range(cfg.num_envs)]
    env: VecEnv = SubprocVecEnv(makers) if cfg.processes else DummyVecEnv(makers)
    latest = folder.checkpoints.latest()
    first, saved = latest if latest else (0, None)
    folder.rewind(first)
    learner = make_learner(cfg, env)
    learner.set_logger(Logger(None, []))
    relabel = None
    if model is not None and pixels is not None:
        relabel = RelabelCallback(model, payment=calibrated(cfg, model, pixels), batch_size=cfg.reward_batch)
    if saved is not None and not restore_sb3(learner, saved["learner"]):
        print(f"note: {cfg.env} does not repeat its episodes from a seed; the numbers will differ from an uncut run's")
    with track(cfg.total_steps, f"agent ({cfg.algorithm}, {cfg.reward})") as bar:
        bar.advance(first)
        callback = RunCallback(cfg, folder, bar, relabel, saved)
        learner.learn(
            max(0, cfg.total_steps - first),
            CallbackList([c for c in (relabel, callback) if c is not None]),
            log_interval=None,  # type: ignore[arg-type]
            reset_num_timesteps=saved is None,
        )
    env.close()
    return conclude(cfg, folder, learner, callback, relabel)


def conclude(
    cfg: TrainVlmRmConfig,
    folder: RunFolder,
    learner: BaseAlgorithm,
    callback: RunCallback,
    relabel: RelabelCallback | None,
) -> dict[str, Any]:
    """Saves the policy, acts in evaluation episodes, and finishes the run."""
    with atomic_file(folder.file("policy.zip")) as file:
        learner.save(cast(BufferedIOBase, file))
    result: dict[str, Any] = {
        "env": cfg.env,
        "reward": cfg.reward,
        "algorithm": cfg.algorithm,
        "steps": learner.num_timesteps,
        "seconds": round(callback.spent(), 1),
    }
    if relabel is not None:
        result |= {
            "alpha": cfg.alpha,
            "scale": relabel.payment.scale,
            "offset": relabel.payment.offset,
            "reward_share_of_time": round(relabel.scorer.timing.share, 4),
            "unanswered": relabel.account.unanswered,
        }

    def act(observation: Any) -> ndarray:
        return learner.predict(observation, deterministic=True)[0]

    env = make_task(cfg)
    result |= summary(evaluate_policy(env, act, cfg.eval_episodes))
    env.close()
    if cfg.video:
        env = make_task(cfg, pixels=FILM_PIXELS)
        film_policy(folder.file("episode.mp4"), env, act)
        env.close()
    shown = ", ".join(
        f"{name} {result[name]:.3f}" for name in ("success", "held", "progress", "task_return") if name in result
    )
    print(f"{cfg.eval_episodes} episodes: {shown}")
    return folder.finish(result)


if __name__ == "__main__":
    job_main("train-vlm-rm")

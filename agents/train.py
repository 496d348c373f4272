"""Train an agent to find what a sentence names, by the task's reward or by a vision-language model's alone.

sightline train-agent scenes=SCENES vl=MODEL reward=task
sightline train-agent scenes=SCENES vl=MODEL reward=vlm

PPO on homes of the train split. The policy sees frozen features of the two towers (agents/features.py). With
reward=vlm nothing the simulator knows about the goal enters the reward: frames are scored against the goal's prompts,
standardised by unlabelled frames of train homes (agents/shaping.py). Success and SPL are logged either way, for us.

Leaves policy/, metrics.jsonl and result.json in its run folder; result.json holds the success on val homes.
"""

import math
import shutil
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agents.agent import Agent, goal_reward, make_encoder, save_agent, score_every_goal
from agents.features import FrameStatistics
from agents.networks import make_policy
from agents.ppo import update
from agents.rollout import EpisodeLog, Progress, collect
from agents.shaping import Calibration, FrameReward
from agents.task_env import REWARDS, TaskEnv
from core.checkpoint import generator_state, load_weights, restore
from core.errors import InputError, check_choice
from core.files import atomic_folder
from core.intervals import grouped_mean, grouped_rate
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from core.threads import one_torch_thread
from envs.episodes import EpisodeResults, make_episodes, run_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import STOP, Sensors
from envs.tasks import TASKS
from scene.io import SceneStore
from vl.two_tower import VLModel


@dataclass
class TrainAgentConfig(JobConfig):
    """PPO on frozen two-tower features: sightline train-agent scenes=SCENES vl=MODEL reward=task|vlm"""

    scenes: str = ""  # folder of homes made by build-scenes
    vl: str = ""  # folder of a trained two-tower model (model/ of pretrain-vl)
    task: str = "find_object"  # what to do in the homes
    reward: str = "task"  # task = the task's own; vlm = the two towers' score of each frame, nothing else
    homes: int = 0  # train homes used, 0 = all
    max_steps: int = 100  # actions after which an episode is cut off
    precision: str = "auto"  # of the frozen image tower: float32, bfloat16, or auto = bfloat16 where native

    total_steps: int = 200_000  # environment steps, summed over environments
    num_envs: int = 64  # environments stepped together
    rollout: int = 32  # steps of each environment per update
    epochs: int = 4  # passes over each rollout
    minibatches: int = 4  # parts of each pass
    lr: float = 1e-3  # learning rate at the start, falling linearly to a tenth
    gamma: float = 0.99  # discount per step
    lam: float = 0.95  # GAE's lambda
    clip: float = 0.2  # PPO's limit on the change of an action's probability ratio
    entropy_coef: float = 0.02  # worth of a nat of entropy, to keep exploring
    value_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # gradients are cut to this norm
    max_kl: float = 0.05  # mean KL to the old policy after which an update stops early
    width: int = 128  # units of each hidden layer
    memory: int = 96  # units of the GRU, 0 = none
    initial_stop_logit: float = -3.0  # of stopping, before training; the other actions start at 0

    alpha: float = 0.25  # VLM reward: strength of the goal-baseline projection, 0..1
    calibration_frames: int = 2048  # unlabelled frames of train homes that set the scale of scores
    quantile: float = 0.97  # stopping pays half where a frame scores like this quantile of those frames
    temperature: float = 0.3  # softness of that threshold, in standard deviations of the score
    shaping_scale: float = 0.1  # worth of one standard deviation of progress in the score
    stop_weight: float = 3.0  # worth of stopping in a frame far above the threshold
    stop_penalty: float = 0.25  # share of stop_weight lost by any stop
    step_cost: float = 0.01  # cost of each step under the VLM reward

    val_episodes: int = 100  # episodes on val homes after training, 0 = none
    checkpoint_every: int = 20  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("reward", self.reward, REWARDS)
        check_choice("task", self.task, tuple(TASKS))
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        for name in ("max_steps", "total_steps", "num_envs", "rollout", "epochs", "minibatches", "width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("homes", "memory", "val_episodes"):
            if getattr(self, name) < 0:
                raise InputError(f"{name}={getattr(self, name)} should not be negative")
        for name in ("lr", "clip", "max_grad_norm", "max_kl", "temperature"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("gamma", "lam", "alpha"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name}={getattr(self, name)} should be between 0 and 1")
        if not 0 < self.quantile < 1:
            raise InputError(f"quantile={self.quantile} should be between 0 and 1, e.g. 0.99")
        if self.calibration_frames < 2 or self.checkpoint_every < 1:
            raise InputError(
                f"calibration_frames={self.calibration_frames} should be at least 2 and "
                f"checkpoint_every={self.checkpoint_every} positive"
            )
        if self.minibatches > self.num_envs:
            raise InputError(
                f"minibatches={self.minibatches} is more than num_envs={self.num_envs}: some would be empty"
            )

    @property
    def updates(self) -> int:
        """Rollouts to collect."""
        return math.ceil(self.total_steps / (self.num_envs * self.rollout))


CONFIG = TrainAgentConfig


def unlabelled_maps(model: VLModel, homes: HomePool, task: Any, frames: int, seed: int) -> Tensor:
    """Local feature maps (M, h, w, D) of what agents see at the starts of M episodes; no labels, no goals."""
    simulator = Simulator(homes, task, num_envs=frames, seed=seed)
    return model.encode_image_map(simulator.observe(simulator.reset()).rgb)


def evaluate(agent: Agent, homes: HomePool, task: Any, episodes: int, max_steps: int, seed: int) -> EpisodeResults:
    """The agent on a fixed set of episodes."""
    simulator = Simulator(homes, task, num_envs=min(64, episodes), seed=seed, max_steps=max_steps)
    return run_episodes(simulator, agent, make_episodes(homes, simulator.task, episodes, seed, simulator.fields))


@one_torch_thread()
def run(cfg: TrainAgentConfig) -> dict[str, Any]:
    """Collect, update, log, checkpoint; then act on val homes."""
    for name, what in (("scenes", "made by build-scenes"), ("vl", "model/ of a pretrain-vl run")):
        if not getattr(cfg, name):
            raise InputError(f"{name} is required: {name}=FOLDER, {what}")
    model = VLModel.from_pretrained(cfg.vl)
    store = SceneStore(cfg.scenes)
    ids = store.split("train")
    homes = HomePool.from_store(store, ids[: cfg.homes] if cfg.homes else ids)
    task = TASKS[cfg.task].from_manifest(store.manifest)
    folder = RunFolder.open(cfg, "train-agent")
    finished = folder.result()
    if finished is not None:
        folder.close()
        return finished

    sensors = Sensors()
    simulator = Simulator(homes, task, num_envs=cfg.num_envs, seed=cfg.seed, sensors=sensors, max_steps=cfg.max_steps)
    reward_model = goal_reward(model, task.goals, cfg.alpha)
    maps = unlabelled_maps(model, homes, task, cfg.calibration_frames, seed=cfg.seed + 1)
    statistics = FrameStatistics.fit(maps)
    scores = score_every_goal(reward_model, maps.mean((1, 2)))
    frame_reward = FrameReward(
        Calibration.fit(scores, cfg.quantile),
        gamma=cfg.gamma,
        scale=cfg.shaping_scale,
        stop_weight=cfg.stop_weight,
        temperature=cfg.temperature,
        penalty=cfg.stop_penalty,
        step_cost=cfg.step_cost,
    )
    encoder = make_encoder(model, reward_model, task.goals, statistics, sensors, cfg.max_steps, cfg.precision)
    env = TaskEnv(simulator, encoder, cfg.reward, reward_model, frame_reward)

    policy = make_policy(
        "recurrent",
        env.observation_spec,
        num_actions=env.num_actions,
        seed=cfg.seed,
        width=cfg.width,
        memory=cfg.memory,
    )
    with torch.no_grad():  # an untrained agent that stops at every fourth step would never see how episodes go on
        policy.action_head.bias[STOP] = cfg.initial_stop_logit
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.lr, eps=1e-5, fused=True)
    generator = torch.Generator().manual_seed(cfg.seed)
    log = EpisodeLog(cfg.num_envs)
    progress = Progress.begin(env, policy)

    first, seconds = 0, 0.0
    latest = folder.checkpoints.latest()
    if latest is not None:
        first, saved = latest
        load_weights(policy, saved["policy"], f"the checkpoint in {folder.path}")
        optimizer.load_state_dict(saved["optimizer"])
        restore(generator, saved["generator"])
        env.load_state_dict(saved["env"])
        progress, seconds = Progress(**saved["progress"]), saved["seconds"]
        log.load_state_dict(saved["log"])
    folder.rewind(first)

    batch = cfg.num_envs * cfg.rollout
    with track(cfg.updates, f"agent ({cfg.reward} reward)") as bar:
        bar.advance(first)
        for index in range(first, cfg.updates):
            began = time.perf_counter()
            spent = dict(env.seconds)
            for group in optimizer.param_groups:
                group["lr"] = cfg.lr * (1 - 0.9 * index / cfg.updates)
            rollout = collect(env, policy, progress, cfg.rollout, generator, log)
            collected = time.perf_counter()
            losses = update(
                policy,
                optimizer,
                rollout,
                generator=generator,
                gamma=cfg.gamma,
                lam=cfg.lam,
                epochs=cfg.epochs,
                minibatches=cfg.minibatches,
                clip=cfg.clip,
                entropy_coef=cfg.entropy_coef,
                value_coef=cfg.value_coef,
                max_grad_norm=cfg.max_grad_norm,
                max_kl=cfg.max_kl,
            )
            policy.update_norms(rollout.observation)
            ended = time.perf_counter()
            seconds += ended - began
            done, episodes = index + 1, log.flush()
            folder.log(
                done,
                env_steps=done * batch,
                **episodes,
                **losses,
                **{f"seconds_{name}": round(env.seconds[name] - spent.get(name, 0.0), 3) for name in env.seconds},
                seconds_update=round(ended - collected, 3),
                steps_per_second=round(batch / (ended - began)),
            )
            bar.advance(1, success=episodes.get("success", 0.0), spl=episodes.get("spl", 0.0))
            if done % cfg.checkpoint_every == 0 and done < cfg.updates:
                folder.checkpoints.save(
                    done,
                    {
                        "policy": policy.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "generator": generator_state(generator),
                        "env": env.state_dict(),
                        "progress": progress.state_dict(),
                        "log": log.state_dict(),
                        "seconds": seconds,
                    },
                )

    policy.eval()
    target = folder.path / "policy"
    if target.exists():  # written by a run that was killed before its result
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        save_agent(
            temporary,
            policy,
            statistics,
            task=cfg.task,
            goals=task.goals,
            reward=cfg.reward,
            alpha=cfg.alpha,
            sensors=sensors,
            max_steps=cfg.max_steps,
            precision=cfg.precision,
            vl=cfg.vl,
        )
    result: dict[str, Any] = {
        "policy": "policy",
        "reward": cfg.reward,
        "env_steps": cfg.updates * batch,
        "seconds": round(seconds, 1),
        "steps_per_second": round(cfg.updates * batch / max(seconds, 1e-9)),
        "train_homes": len(homes),
        "parameters": sum(p.numel() for p in policy.parameters()),
    }
    if cfg.val_episodes:
        val_homes = HomePool.from_store(store, store.split("val"))
        agent = Agent(encoder, policy, seed=cfg.seed)
        found = evaluate(agent, val_homes, task, cfg.val_episodes, cfg.max_steps, seed=0)
        summary = found.summary()
        result |= {f"val_{name}": value for name, value in summary.items()}
        homes_of = found.episodes.scene_ids
        result["val_success_interval"] = grouped_rate(found.metrics["success"], homes_of)
        result["val_spl_interval"] = grouped_mean(found.metrics["spl"], homes_of)
        print(f"success on val homes {result['val_success']:.3f}, SPL {result['val_spl']:.3f}")
    print(f"the policy is in {folder.path / 'policy'}")
    return folder.finish(result)


if __name__ == "__main__":
    job_main("train-agent")

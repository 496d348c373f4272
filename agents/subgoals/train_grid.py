"""Train an agent on a MiniGrid task with subgoals, by VSC-RL or one of its controls.

sightline train-grid-agent task=doorkey-6x6 vsc.objective=vsc vsc.demonstration_steps=8192
sightline train-grid-agent task=multiroom-n4-s5 vsc.objective=ppo out=RUN
torchrun --nproc_per_node 2 -m agents.subgoals.train_grid task=doorkey-6x6 vsc.objective=ppo out=RUN

The same learner as of train-agent algorithm=vsc, on the tasks of agents/subgoals/minigrid_tasks.py: in the first
vsc.demonstration_steps an oracle acts, and the policy and its goal-only reference are cloned; after that the policy
acts. A policy of the controls is shown the same but its subgoal.

Leaves policy/, metrics.jsonl and result.json in its run folder; result.json holds the success over fresh episodes. A
killed run continues with resume=auto and makes the same weights.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.gym_tensor_env import GymTensorEnv
from agents.networks import Observation, Policy, make_policy
from agents.rollout import EpisodeLog, Progress
from agents.subgoals.learner import SubgoalLearner
from agents.subgoals.minigrid_tasks import GRID_TASKS, make_minigrid, oracle
from agents.subgoals.subgoal_env import SubgoalEnv
from agents.subgoals.update import PassSettings
from agents.subgoals.vsc_config import DEMONSTRATIONS, ObjectiveConfig, reference_of
from core import distributed
from core.checkpoint import Checkpoints, generator_state, load_checkpoint, load_weights, restore
from core.errors import InputError, check_choice, existing_file
from core.files import atomic_folder
from core.job import JobConfig, job_main
from core.progress import track
from core.run import RunFolder
from core.threads import one_torch_thread

EVALUATION_SEED = 1_000_003  # added to the run's: episodes that training does not meet


def _with_demonstrations() -> ObjectiveConfig:
    return ObjectiveConfig(demonstration_steps=8192)


@dataclass
class TrainGridConfig(JobConfig):
    """An agent with subgoals in MiniGrid: sightline train-grid-agent task=doorkey-6x6 vsc.objective=vsc"""

    task: str = "doorkey-6x6"  # doorkey-5x5, -6x6, -8x8; multiroom-n2-s4, -n4-s5, -n6
    vsc: ObjectiveConfig = field(default_factory=_with_demonstrations)  # objective, demonstrations, reference
    total_steps: int = 200_000  # environment steps, summed over environments
    num_envs: int = 16  # environments stepped together, summed over processes
    rollout: int = 64  # steps of each environment per update
    epochs: int = 4  # passes over each rollout
    minibatches: int = 4  # parts of each pass
    lr: float = 1e-3  # learning rate at the start, falling linearly to a tenth
    gamma: float = 0.99  # discount per step
    lam: float = 0.95  # GAE's lambda
    clip: float = 0.2  # limit on the change of an action's probability ratio
    entropy_coef: float = 0.01  # worth of a nat of entropy, to keep exploring
    value_coef: float = 0.5  # weight of the value loss
    max_grad_norm: float = 0.5  # gradients are cut to this norm
    max_kl: float = 0.05  # mean KL to the old policy after which an update stops early
    width: int = 64  # units of each hidden layer
    memory: int = 64  # units of the GRU, or width of the transformer; 0 = none
    window: int = 0  # steps that a transformer looks back on, in the GRU's place; 0 = the GRU
    eval_episodes: int = 100  # fresh episodes after training, 0 = none
    checkpoint_every: int = 20  # updates between checkpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("task", self.task, GRID_TASKS)
        self.vsc.check()
        for name in ("total_steps", "num_envs", "rollout", "epochs", "minibatches", "width", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        for name in ("lr", "clip", "max_grad_norm", "max_kl"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)} should be positive")
        if self.minibatches > self.num_envs or min(self.memory, self.window, self.eval_episodes) < 0:
            raise InputError(
                f"minibatches={self.minibatches} should be at most num_envs={self.num_envs}, memory={self.memory}, "
                f"window={self.window} and eval_episodes={self.eval_episodes} not negative"
            )
        if not (0 <= self.gamma <= 1 and 0 <= self.lam <= 1):
            raise InputError(f"gamma={self.gamma} and lam={self.lam} should be between 0 and 1")

    @property
    def updates(self) -> int:
        """Rollouts to collect."""
        return math.ceil(self.total_steps / (self.num_envs * self.rollout))

    @property
    def cloned_updates(self) -> int:
        """Of those the first, in which the oracle acts."""
        return min(self.updates, math.ceil(self.vsc.demonstration_steps / (self.num_envs * self.rollout)))


CONFIG = TrainGridConfig


def make_grid_policy(cfg: TrainGridConfig, env: SubgoalEnv, *, reads_subgoal: bool) -> Policy:
    """A fresh policy."""
    shown = {name: spec for name, spec in env.observation_spec.items() if reads_subgoal or name != "subgoal"}
    kind = {"num_actions": env.num_actions, "seed": cfg.seed, "width": cfg.width, "memory": cfg.memory}
    kind["window"] = cfg.window
    return make_policy("recurrent", shown, **kind)


def make_grid_learner(cfg: TrainGridConfig, env: GymTensorEnv, policy: Policy) -> SubgoalLearner:
    """The learner of a run; raises InputError for a reference that does not fit the policy."""
    shown, size = policy.config.observations, (env.num_actions, env.num_envs)
    goal_only = lambda: make_grid_policy(cfg, SubgoalEnv(env), reads_subgoal=False)  # noqa: E731
    return SubgoalLearner(
        env,
        policy,
        cfg.vsc.chosen,
        reference_of(cfg.vsc, shown, *size, goal_only),
        teacher=lambda: oracle(env),
        cloned=cfg.cloned_updates,
        clones_reference=cfg.vsc.reference == DEMONSTRATIONS,
        settings=PassSettings.of(cfg),
        lr=cfg.lr,
        seed=cfg.seed,
        replay=cfg.vsc.replay_of(cfg.updates - cfg.cloned_updates, distributed.world_size()),
    )


@one_torch_thread()
def run(cfg: TrainGridConfig) -> dict[str, Any]:
    """Trains in this process, or in all those that torchrun started; the main one returns the result."""
    with distributed.processes():
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        return train(cfg)


def train(cfg: TrainGridConfig) -> dict[str, Any]:
    """Collect, update, log, checkpoint; then act in fresh episodes."""
    main = distributed.is_main()
    folder = RunFolder.open(cfg, "train-grid-agent") if main else None
    finished = folder.result() if folder is not None else None
    if int(distributed.sum_over_ranks(torch.tensor(int(finished is not None)))):
        if folder is not None:
            folder.close()
        return finished or {}

    own = distributed.share(cfg.num_envs)
    env = make_minigrid(cfg.task, len(own), cfg.seed, first=own.start, shuffled=cfg.vsc.shuffled)
    policy = make_grid_policy(cfg, SubgoalEnv(env), reads_subgoal=cfg.vsc.chosen.reads_subgoal)
    optimizer = torch.optim.Adam(policy.parameters(), lr=cfg.lr, eps=1e-5)
    generator = torch.Generator().manual_seed(cfg.seed)
    log = EpisodeLog(len(own))
    progress = Progress.begin(env, policy)
    learner = make_grid_learner(cfg, env, policy)

    parts = (
        folder.checkpoints
        if folder is not None
        else Checkpoints(Path(cfg.out).expanduser() / "checkpoints" / f"process-{distributed.rank()}")
    )
    latest = folder.checkpoints.latest() if folder is not None else None
    first = int(distributed.sum_over_ranks(torch.tensor(latest[0] if latest else 0)))
    if first:
        saved = latest[1] if latest else load_checkpoint(existing_file(parts.path(first), "checkpoint of this process"))
        if saved["processes"] != distributed.world_size():
            raise InputError(
                f"the run was made by {saved['processes']} processes, now there are {distributed.world_size()}; "
                "continue it with as many"
            )
        load_weights(policy, saved["policy"], f"the checkpoint in {cfg.out}")
        restore(generator, saved["generator"])
        progress = Progress(**saved["progress"])
        for part, name in ((optimizer, "optimizer"), (env, "env"), (log, "log"), (learner, "learner")):
            part.load_state_dict(saved[name])  # type: ignore[attr-defined]
    if folder is not None:
        folder.rewind(first)

    batch = cfg.num_envs * cfg.rollout
    with track(cfg.updates, f"{cfg.task} ({cfg.vsc.objective})") as bar:
        bar.advance(first)
        for index in range(first, cfg.updates):
            for group in optimizer.param_groups:
                group["lr"] = cfg.lr * (1 - 0.9 * index / cfg.updates)
            losses = learner.update(index, policy, optimizer, progress, cfg.rollout, generator, log)
            done, episodes = index + 1, log.flush()
            if index < learner.cloned:  # the oracle drove: these are not the agent's
                episodes = {
                    name if name == "episodes" else f"teacher_{name}": value for name, value in episodes.items()
                }
            if folder is not None:
                folder.log(done, env_steps=done * batch, **episodes, **losses)
            bar.advance(1, success=episodes.get("success", 0.0))
            if done % cfg.checkpoint_every == 0 or done == cfg.updates:
                if main:  # last: what it says is there, the other processes have written
                    distributed.barrier()
                state = {name: x.state_dict() for name, x in (("policy", policy), ("optimizer", optimizer))}
                state |= {"env": env.state_dict(), "progress": progress.state_dict(), "log": log.state_dict()}
                state |= {"learner": learner.state_dict(), "generator": generator_state(generator)}
                parts.save(done, {**state, "processes": distributed.world_size()})
                if not main:
                    distributed.barrier()

    result: dict[str, Any] = {}
    if folder is not None:
        result = conclude(cfg, folder, policy)
    distributed.barrier()
    return result


def conclude(cfg: TrainGridConfig, folder: RunFolder, policy: Policy) -> dict[str, Any]:
    """Writes the policy, acts in fresh episodes, and finishes the run."""
    target = folder.path / "policy"
    if target.exists():  # written by a run that was killed before its result
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        policy.eval().save_pretrained(temporary, task=cfg.task)
    result: dict[str, Any] = {"policy": "policy", "task": cfg.task, "objective": cfg.vsc.objective}
    result["env_steps"] = cfg.updates * cfg.num_envs * cfg.rollout
    if cfg.eval_episodes:
        result |= {f"eval_{name}": value for name, value in act(cfg, policy).items()}
        print(f"success over {cfg.eval_episodes} fresh episodes {result['eval_success']:.3f}")
    print(f"the policy is in {target}")
    return folder.finish(result)


def act(cfg: TrainGridConfig, policy: Policy) -> dict[str, float]:
    """Means over fresh episodes, one in each of as many environments, every one acted to its end.

    Returns:
        success, spl (success times the oracle's actions over those taken, the oracle's at most), return, length.
    """
    seed, count = (cfg.seed + EVALUATION_SEED) % 2**32, cfg.eval_episodes

    def fresh() -> SubgoalEnv:
        return SubgoalEnv(make_minigrid(cfg.task, count, seed, shuffled=cfg.vsc.shuffled))

    shortest = first_episodes(env := fresh(), lambda observation, start: oracle(env.env))["length"]  # type: ignore[arg-type]
    generator, memory = torch.Generator().manual_seed(seed), policy.initial_memory(count)

    @torch.no_grad()
    def chosen(observation: Observation, start: Bool[Tensor, " B"]) -> Int64[Tensor, " B"]:
        nonlocal memory
        outputs, _, memory = policy(policy.normalise(observation), memory.masked_fill(start[:, None], 0.0))
        return policy.distribution(outputs).sample(policy.draw_noise((count,), generator))

    found = first_episodes(fresh(), chosen)
    found["spl"] = found["success"] * shortest / torch.maximum(found["length"], shortest)
    return {name: float(column.mean()) for name, column in found.items()}


def first_episodes(
    env: SubgoalEnv, choose: Callable[[Observation, Bool[Tensor, " B"]], Int64[Tensor, " B"]]
) -> dict[str, Float[Tensor, " B"]]:
    """Success, return and length of the first episode of each environment.

    Args:
        choose: actions for an observation; told which environments begin an episode with it.
    """
    columns = {name: torch.zeros(env.num_envs) for name in ("success", "return", "length")}
    going = start = torch.ones(env.num_envs, dtype=torch.bool)
    observation = env.reset()
    while bool(going.any()):
        step = env.step(choose(observation, start))
        observation, start = step.observation, step.terminated | step.truncated
        columns["length"] += going
        columns["return"] += step.reward * going
        columns["success"] += step.metrics["success"] * (going & start)
        going = going & ~start
        env.take()
    return columns


if __name__ == "__main__":
    job_main("train-grid-agent")

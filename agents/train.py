"""Train an agent to do what a sentence says, in any task, on any features, by reward or by imitation.

sightline train-agent scenes=SCENES vl=MODEL reward=task
sightline train-agent scenes=SCENES vl=MODEL reward=vlm
sightline train-agent scenes=SCENES grounder=MODEL features=grounder reward=vlm reward_vl=CLIP_DIR_OR_HUB_ID alpha=0
sightline train-agent scenes=SCENES grounder=MODEL features=grounder reward=grounded
sightline train-agent scenes=SCENES grounder=MODEL features=grounder task=find_referral
sightline train-agent scenes=SCENES features=pixels algorithm=bc
sightline train-agent scenes=SCENES features=pixels algorithm=vsc vsc.demonstration_steps=20000
sightline train-agent scenes=SCENES features=pixels device=cuda num_envs=1024
sightline train-agent scenes=procedural stream=64 stream_every=50000 features=grounder grounder=MODEL
torchrun --nproc_per_node 2 -m agents.train scenes=SCENES features=pixels out=RUN

PPO, behaviour cloning of the shortest-path oracle, or learning with subgoals (VSC-RL and its controls,
agents/subgoals/learner.py), on homes of the train split. `features` says through what the
policy sees: frozen two towers (agents/features.py), the objects a grounder has scored (agents/object_features.py), or
bare pixels and words, learning from scratch (agents/pixels.py).

`reward` says what is paid for. task: the task's own reward. vlm: frames are scored against the sentence by two towers,
standardised by unlabelled frames of train homes (agents/sentence_reward.py). grounded: what a grounder believes of the
objects seen so far (agents/grounded_reward.py). Nothing the simulator knows about the goal enters these two. mixture:
task_weight x task + model_weight x one of them; such a sum can have another best policy than the task alone (the
progress of a score, being potential-based, leaves it; what is paid for stopping does not). Success and SPL are logged
for all, for us, with the returns of the task and of the model.

With `stream` only a few of the homes are in memory at a time, and an eighth of them changes every `stream_every`
steps, the coming ones prepared meanwhile: thousands of homes in a run. What is fitted before training, the scale of
scores and the words that features=pixels knows, comes from the first few.

Leaves policy/, metrics.jsonl and result.json in its run folder; result.json holds the success on val homes. A killed
run continues with resume=auto and makes the same weights; under torchrun, with as many processes as before.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from agents.advantages import ReturnScale
from agents.agent import Agent, save_agent
from agents.homes import Homes, homes_met
from agents.imitation import clone
from agents.networks import Policy
from agents.ppo import update
from agents.rollout import EpisodeLog, Progress, Rollout, collect
from agents.subgoals.home_learner import make_learner
from agents.subgoals.home_subgoals import HomeSubgoals
from agents.subgoals.learner import SubgoalLearner
from agents.task_env import TaskEnv
from agents.train_config import TrainAgentConfig
from agents.train_parts import make_agent_policy, make_env
from agents.tuned import TunedPolicy
from core import distributed
from core.checkpoint import Checkpoints, generator_state, load_checkpoint, load_weights, on_device, restore
from core.errors import InputError, existing_file
from core.files import atomic_folder, atomic_write, read_json
from core.intervals import grouped_mean, grouped_rate
from core.job import job_main
from core.progress import track
from core.run import RunFolder
from core.threads import one_torch_thread
from envs.episodes import EpisodeResults, make_episodes, run_episodes
from envs.expert import Expert
from envs.goals import Task
from envs.home_stream import HomeStream
from envs.observation import noise_of
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks import TASKS

CONFIG = TrainAgentConfig
WORDS = "subgoal_words.json"


def evaluate(agent: Agent, simulator: Simulator, episodes: int, seed: int) -> EpisodeResults:
    """The agent on a fixed set of episodes in the simulator it is attached to."""
    drawn = make_episodes(simulator.homes, simulator.task, episodes, seed, simulator.fields)
    return run_episodes(simulator, agent, drawn)


@one_torch_thread()
def run(cfg: TrainAgentConfig) -> dict[str, Any]:
    """Trains in this process, or in all those that torchrun started; the main one returns the result."""
    for name, what, needed in (
        ("scenes", "made by build-scenes", True),
        ("vl", "model/ of a pretrain-vl run", cfg.uses_vl),
        ("grounder", "model/ of a pretrain-grounding run", cfg.uses_grounder),
    ):
        if needed and not getattr(cfg, name):
            raise InputError(f"{name} is required: {name}=FOLDER, {what}")
    with distributed.processes(cfg.device) as device:
        if distributed.world_size() > 1 and not cfg.out:
            raise InputError("several processes share one run folder; name it with out=FOLDER")
        homes = Homes(cfg.scenes, cfg.homes)
        task = TASKS[cfg.task].from_manifest(homes.manifest)
        interactive = task.interactive or cfg.shut_doors > 0
        if not cfg.stream:
            return train(cfg, homes, task, homes.pool(interactive), device)
        options = (cfg.stream, cfg.stream_every, cfg.stream_replace, cfg.stream_workers, cfg.seed, interactive)
        with homes.stream(*options) as stream:
            return train(cfg, homes, task, stream.pool_at(0), device, stream)


def train(
    cfg: TrainAgentConfig,
    homes: Homes,
    task: Task,
    pool: HomePool,
    device: torch.device,
    stream: HomeStream | None = None,
) -> dict[str, Any]:
    """Collect, update, log, checkpoint; then act on val homes.

    Args:
        pool: the train homes, or those that the stream begins with.
        device: where homes are walked, drawn and learned from.
    """
    main = distributed.is_main()
    folder = RunFolder.open(cfg, "train-agent") if main else None
    finished = folder.result() if folder is not None else None
    if int(distributed.sum_over_ranks(torch.tensor(int(finished is not None)))):
        if folder is not None:
            folder.close()
        return finished or {}

    sensors = Sensors(cfg.image_size, cfg.image_size)
    own = distributed.share(cfg.num_envs)
    options: dict[str, Any] = {
        "max_steps": cfg.max_steps,
        "control": cfg.control,
        "tilt": cfg.tilt,
        "noise": noise_of(cfg.noise),
        "shut_doors": cfg.shut_doors,
        "sensors": sensors,
        "device": device,
    }
    simulator = Simulator(pool, task, num_envs=len(own), env_ids=own, seed=cfg.seed, **options)
    words = Path(cfg.out).expanduser() / WORDS if cfg.out else None  # plans asked again could have others
    known = (
        read_json(words, "words of subgoals") if words is not None and cfg.resume == "auto" and words.exists() else []
    )
    env = make_env(cfg, simulator, stream, known)
    if folder is not None and isinstance(env.senses, HomeSubgoals):
        atomic_write(folder.path / WORDS, json.dumps(env.senses.vocabulary))
    policy = make_agent_policy(cfg, env).to(device)
    groups = policy.groups(cfg.lr, cfg.tune_share) if isinstance(policy, TunedPolicy) else policy.parameters()
    optimizer = torch.optim.Adam(groups, lr=cfg.lr, eps=1e-5, fused=True)
    generator = torch.Generator().manual_seed(cfg.seed)
    log = EpisodeLog(len(own), device)
    progress = Progress.begin(env, policy)
    learner: SubgoalLearner | None = None
    if cfg.algorithm == "vsc":
        learner = make_learner(cfg, env, policy, lambda: make_agent_policy(cfg, env, goal_only=True).to(device))
    scale = ReturnScale(len(own), cfg.gamma, device)

    shared = folder.checkpoints if folder is not None else None
    first, seconds, scoring = 0, 0.0, 0.0
    latest = shared.latest() if shared is not None else None
    first = int(distributed.sum_over_ranks(torch.tensor(latest[0] if latest else 0)))
    parts = shared or Checkpoints(Path(cfg.out).expanduser() / "checkpoints" / f"process-{distributed.rank()}")
    if first:
        saved = latest[1] if latest else load_checkpoint(existing_file(parts.path(first), "checkpoint of this process"))
        if saved["processes"] != distributed.world_size():
            raise InputError(
                f"the run was made by {saved['processes']} processes, now there are {distributed.world_size()}; "
                "continue it with as many"
            )
        load_weights(policy, saved["policy"], f"the checkpoint in {cfg.out}")
        optimizer.load_state_dict(saved["optimizer"])
        restore(generator, saved["generator"])
        if isinstance(env.senses, HomeSubgoals):
            env.senses.load_state_dict(saved["plans"])
        env.load_state_dict(saved["env"])
        there = {name: on_device(saved[name], device) for name in ("progress", "log", "scale", "learner")}
        progress, seconds, scoring = Progress(**there["progress"]), saved["seconds"], saved["seconds_score"]
        log.load_state_dict(there["log"])
        scale.load_state_dict(there["scale"])
        if learner is not None:
            learner.load_state_dict(there["learner"])
    if folder is not None:
        folder.rewind(first)

    batch = cfg.num_envs * cfg.rollout
    rollout: Rollout | None = None
    with track(cfg.updates, f"agent ({cfg.algorithm}, {cfg.features})") as bar:
        bar.advance(first)
        for index in range(first, cfg.updates):
            began = time.perf_counter()
            spent = dict(env.seconds)
            for group in optimizer.param_groups:
                group["lr"] = group.get("share", 1.0) * cfg.lr * (1 - 0.9 * index / cfg.updates)
            if learner is not None:
                losses = learner.update(index, policy, optimizer, progress, cfg.rollout, generator, log)
            elif cfg.algorithm == "bc":
                losses = clone(
                    policy,
                    env,
                    lambda: Expert(env.simulator)(env.state),
                    optimizer=optimizer,
                    progress=progress,
                    steps=cfg.rollout,
                    generator=generator,
                    log=log,
                    beta=cfg.beta,
                    value_coef=cfg.clone_value_coef,
                    gamma=cfg.gamma,
                    lam=cfg.lam,
                    epochs=cfg.epochs,
                    minibatches=cfg.minibatches,
                    max_grad_norm=cfg.max_grad_norm,
                )
            else:
                rollout = collect(env, policy, progress, cfg.rollout, generator, log, rollout)
                collected = time.perf_counter()
                if cfg.scale_rewards:
                    rollout.reward.copy_(scale(rollout.reward, rollout.terminated | rollout.truncated))
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
                losses["seconds_update"] = round(time.perf_counter() - collected, 3)
            ended = time.perf_counter()
            took = {name: env.seconds[name] - spent.get(name, 0.0) for name in env.seconds}
            seconds, scoring = seconds + ended - began, scoring + took.get("score", 0.0)
            done, episodes = index + 1, log.flush()
            teaches = learner is not None and index < learner.cloned
            if teaches or cfg.algorithm == "bc" and cfg.beta == 1:  # the oracle drove: these are not the agent's
                episodes = {
                    name if name == "episodes" else f"teacher_{name}": value for name, value in episodes.items()
                }
            if folder is not None:
                folder.log(
                    done,
                    env_steps=done * batch,
                    **episodes,
                    **losses,
                    **{f"seconds_{name}": round(value, 3) for name, value in took.items()},
                    steps_per_second=round(batch / (ended - began)),
                )
            shown = ("success", "spl") if "success" in episodes else ("agreement",)
            bar.advance(1, **{name: {**losses, **episodes}.get(name, 0.0) for name in shown})
            if done % cfg.checkpoint_every == 0 or done == cfg.updates:
                if main:  # last: what it says is there, the other processes have written
                    distributed.barrier()
                parts.save(
                    done,
                    {
                        "processes": distributed.world_size(),
                        "policy": policy.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "generator": generator_state(generator),
                        "env": env.state_dict(),
                        "progress": progress.state_dict(),
                        "log": log.state_dict(),
                        "scale": scale.state_dict(),
                        "seconds": seconds,
                        "seconds_score": scoring,
                        "plans": env.senses.state_dict() if isinstance(env.senses, HomeSubgoals) else {},
                        "learner": learner.state_dict() if learner is not None else {},
                    },
                )
                if not main:
                    distributed.barrier()

    result: dict[str, Any] = {}
    if folder is not None:
        asked = learner.reference.summary() if learner is not None and learner.reference is not None else {}
        result = conclude(cfg, folder, env, policy, homes, options, seconds, scoring, asked)
    distributed.barrier()
    return result


def conclude(
    cfg: TrainAgentConfig,
    folder: RunFolder,
    env: TaskEnv,
    policy: Policy,
    homes: Homes,
    options: dict[str, Any],
    seconds: float,
    scoring: float,
    asked: dict[str, Any],
) -> dict[str, Any]:
    """Writes the policy, acts on val homes, and finishes the run.

    Args:
        seconds: that training took.
        scoring: of those, spent by the model that pays.
        asked: what came of asking a language model as the reference.
    """
    policy.eval()
    target = folder.path / "policy"
    if target.exists():  # written by a run that was killed before its result
        shutil.rmtree(target)
    with atomic_folder(target) as temporary:
        save_agent(
            temporary,
            policy,
            env.senses,
            features=cfg.features,
            task=cfg.task,
            simulator=env.simulator,
            reward=cfg.reward,
            max_steps=cfg.max_steps,
            precision=cfg.precision,
            vl=cfg.vl,
            grounder=cfg.grounder,
        )
    steps = cfg.updates * cfg.num_envs * cfg.rollout
    result: dict[str, Any] = {
        "policy": "policy",
        "features": cfg.features,
        "algorithm": cfg.algorithm,
        "reward": cfg.reward,
        "env_steps": steps,
        "seconds": round(seconds, 1),
        "steps_per_second": round(steps / max(seconds, 1e-9)),
        "share_of_seconds_scoring": round(scoring / max(seconds, 1e-9), 4),
        "train_homes": len(env.simulator.homes) if env.stream is None else homes_met(env.stream, steps),
        "parameters": sum(p.numel() for p in policy.parameters()),
    }
    if isinstance(env.senses, HomeSubgoals) and env.senses.makers:
        result["subgoals"] = env.senses.summary()
    if asked:
        result["reference"] = asked
    if cfg.val_episodes:
        task = env.simulator.task
        simulator = Simulator(
            homes.val(task.interactive or cfg.shut_doors > 0),
            task,
            num_envs=min(64, cfg.val_episodes),
            seed=0,
            **options,
        )
        env.senses.attach(simulator)
        agent = Agent(env.senses, policy, seed=cfg.seed)
        found = evaluate(agent, simulator, cfg.val_episodes, seed=0)
        result |= {f"val_{name}": value for name, value in found.summary().items()}
        homes_of = found.episodes.scene_ids
        result["val_success_interval"] = grouped_rate(found.metrics["success"], homes_of)
        result["val_spl_interval"] = grouped_mean(found.metrics["spl"], homes_of)
        print(f"success on val homes {result['val_success']:.3f}, SPL {result['val_spl']:.3f}")
    print(f"the policy is in {target}")
    return folder.finish(result)


if __name__ == "__main__":
    job_main("train-agent")

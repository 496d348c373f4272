"""A reward model inside stable-baselines3: SAC, DQN, TD3, PPO, A2C, and what descends from them.

    env = StepFrame(gymnasium.make("Pendulum-v1", render_mode="rgb_array"), size=224)
    SAC("MlpPolicy", env).learn(100_000, callback=RelabelCallback(reward_model))

The steps of a rollout are paid together once it is over and before anything is learned from it: frames go to the model
in batches, and the environments' own rewards are replaced where the algorithm keeps them.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Float16, Float32, Int64
from numpy import ndarray
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.her import HerReplayBuffer
from torch import Tensor

from agents.paid import Account, Payment
from agents.reward_wrappers import EPISODE_SAYS, STEP_SAYS
from agents.step_frames import step_frames
from agents.step_pay import StepPay
from agents.step_scorer import FrameQueue, Goals, StepScorer, Watch, check_reads_steps, check_watched
from core.errors import InputError
from vl.rewards import RewardModel, StepBatch
from vl.scoring import Stopwatch

RESCORED_AT_ONCE = 16384
"""Rows of the replay buffer per call of the model when all are scored anew."""


@dataclass
class _Step:
    """What is kept of a step until its rollout is over."""

    task_reward: Float[ndarray, " B"]
    done: Bool[ndarray, " B"]
    cut: Bool[ndarray, " B"]  # by a time limit
    goals: Int64[Tensor, " B"]
    begun: list[int]  # environments whose episode began with it
    score: Float[Tensor, " B"] | None  # of models that read states: scored at once


@dataclass
class StoredRows:
    """What it takes to score a replay buffer anew, aligned with its rows (R, B)."""

    embedding: Float16[ndarray, "R B D"]  # of the frame the step led to; NaN where none is stored
    before: Float16[ndarray, "R B D"] | None  # of the frame acted on; for shaping only
    goal: Int64[ndarray, "R B"]
    task_reward: Float32[ndarray, "R B"]

    @classmethod
    def allocate(cls, rows: int, num_envs: int, dim: int, before: bool) -> "StoredRows":
        """Room for a buffer's rows."""
        embedding = np.full((rows, num_envs, dim), np.nan, np.float16)
        numbers = np.zeros((rows, num_envs))
        return cls(
            embedding, embedding.copy() if before else None, numbers.astype(np.int64), numbers.astype(np.float32)
        )


class RelabelCallback(BaseCallback):
    """Pays an algorithm by a reward model instead of the environment.

    Off policy (SAC, DQN, TD3 ...), the rewards in the replay rows of a rollout are overwritten before training. On
    policy (PPO, A2C ...), those in the rollout buffer are, and the advantages follow from them; the value that stands
    for the rest of an episode cut by a time limit stays in. Frames come from `StepFrame` inside the environments, or
    from Sightline's own SB3VecEnv.

    Logged: `reward/seconds_share` of the wall time spent in the model, `reward/model_return` beside
    `reward/task_return` per episode, and `reward/unanswered`, once a model left scores out.

    Args:
        reward_model: prepared with its goals; needs frames or states.
        goals: which of its goals each environment pursues: one number, one per environment, or a function of a step's
            info.
        payment: how scores become a reward.
        batch_size: frames per call of the encoder.
        keep_embeddings: keep those of the whole replay buffer (2 D bytes a row, twice that with shaping), so that
            `rescore` can pay all of it by other prompts or another alpha.
        watch: for models that read states.

    Attributes:
        scorer: the model and the seconds spent in it (`scorer.timing`).
        account: what was paid so far.
        stored: embeddings of the replay buffer.

    Raises:
        InputError: a model that reads clips, or reads states without `watch` or with shaping. When training starts:
            hindsight replay (its rewards are computed, not stored), VecNormalize with norm_reward, a replay buffer
            smaller than a rollout, shaping with another discount than the learner's, keep_embeddings where there are
            none.
    """

    def __init__(
        self,
        reward_model: RewardModel,
        goals: Goals = 0,
        payment: Payment | None = None,
        *,
        batch_size: int = 64,
        keep_embeddings: bool = False,
        watch: Watch | None = None,
    ) -> None:
        super().__init__()
        check_reads_steps(reward_model)
        self.payment = payment or Payment()
        if "state" in reward_model.needs:
            check_watched(watch, self.payment)
        self.reward_model, self.goals, self.batch_size = reward_model, goals, batch_size
        self.keep_embeddings, self.watch = keep_embeddings, watch
        self.scorer: StepScorer
        self.account: Account
        self.queue: FrameQueue
        self.stored: StoredRows | None = None
        self._num_envs = 0
        self._steps: list[_Step] = []
        self._start = 0  # row of the replay buffer where the rollout began
        self._standing: tuple[Tensor, Tensor] | None = None  # embeddings and goals of the last step

    def _on_training_start(self) -> None:
        algorithm, env = self.model, self.training_env
        normalise = algorithm.get_vec_normalize_env()
        if normalise is not None and normalise.norm_reward:
            raise InputError(
                "VecNormalize scales rewards by statistics of the task's own ones, which are replaced here; make it "
                "with norm_reward=False and set Payment.scale"
            )
        if self.payment.shaping and abs(float(algorithm.gamma) - self.payment.gamma) > 1e-9:  # type: ignore[attr-defined]
            raise InputError(
                f"Payment.gamma={self.payment.gamma}, but the learner's is {algorithm.gamma}; "  # type: ignore[attr-defined]
                "shaping leaves the best policy as it is only with the same discount"
            )
        if self._num_envs != env.num_envs:
            self._num_envs = env.num_envs
            self.scorer = StepScorer(self.reward_model, env.num_envs, self.goals)
            self.account = Account(self.payment, env.num_envs)
            self.queue = FrameQueue(self.scorer, self.batch_size)
        self.scorer.timing = Stopwatch()  # counts from now on
        self._off_policy = isinstance(algorithm, OffPolicyAlgorithm)
        if self._off_policy:
            self._check_replay(cast(OffPolicyAlgorithm, algorithm))
        elif self.keep_embeddings:
            raise InputError(f"{type(algorithm).__name__} has no replay buffer to keep embeddings for")

    def _check_replay(self, algorithm: OffPolicyAlgorithm) -> None:
        buffer, wait = algorithm.replay_buffer, algorithm.train_freq
        if isinstance(buffer, HerReplayBuffer) or not isinstance(buffer, ReplayBuffer):
            raise InputError(
                f"{type(buffer).__name__} computes rewards from goals when it is sampled, so there are none to "
                "overwrite; use ReplayBuffer or DictReplayBuffer, or VecEnvReward around the environments"
            )
        assert isinstance(wait, TrainFreq)
        if wait.unit == TrainFrequencyUnit.STEP and wait.frequency > buffer.buffer_size:
            raise InputError(
                f"the replay buffer holds {buffer.buffer_size} steps of each environment, fewer than the "
                f"{wait.frequency} between updates; raise buffer_size or lower train_freq"
            )
        if self.keep_embeddings and self.stored is None:
            if not self.scorer.embeds:
                raise InputError("keep_embeddings: this reward model makes none")
            dim = self.reward_model.dim  # type: ignore[attr-defined]
            self.stored = StoredRows.allocate(buffer.buffer_size, buffer.n_envs, dim, self.payment.shaping)

    def _on_rollout_start(self) -> None:
        self._steps.clear()
        self.queue.clear()
        if self._off_policy:
            self._start = self.model.replay_buffer.pos  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        infos, base = self.locals["infos"], self.training_env.unwrapped
        score, begun = None, []
        if self.watch is not None and "state" in self.reward_model.needs:
            state, goals = self.watch(base)
            frames = step_frames(base, infos).frame if self.scorer.needs_frames else None
            score = self.scorer.score_frames(frames, goals, state)
        else:
            goals, seen = self.scorer.goals(infos), step_frames(base, infos)
            begun = seen.begun
            if self.payment.shaping and seen.first is not None:
                self.queue.put(seen.first, goals[begun])
            self.queue.put(seen.frame, goals)
        done = np.array(self.locals["dones"], dtype=bool)
        cut = np.array([info.get("TimeLimit.truncated", False) for info in infos], dtype=bool)
        # a copy: stable-baselines3 adds the value at time limits to this very array
        self._steps.append(_Step(np.array(self.locals["rewards"]), done, done & cut, goals, begun, score))
        return True

    def _on_rollout_end(self) -> None:
        if self._off_policy:
            self._pay_replay()
        else:
            self._pay_rollout()

    def _on_training_end(self) -> None:
        if self._steps and self._off_policy:  # another callback ended training within a rollout
            self._pay_replay()
        self._steps.clear()

    def _pay_replay(self) -> None:
        buffer = cast(ReplayBuffer, self.model.replay_buffer)  # type: ignore[attr-defined]
        count = len(self._steps)
        if count > buffer.buffer_size:
            raise InputError(
                f"a rollout of {count} steps does not fit the replay buffer's {buffer.buffer_size} for each "
                "environment; raise buffer_size or train more often"
            )
        stored = count
        if (buffer.pos - self._start - count) % buffer.buffer_size:
            stored -= 1  # training that ends within a rollout leaves its last step out of the buffer
            if (buffer.pos - self._start - stored) % buffer.buffer_size:
                raise InputError(
                    f"the replay buffer moved on by {(buffer.pos - self._start) % buffer.buffer_size} rows in {count} "
                    "steps that the callback saw; let it see every step (not inside EveryNTimesteps)"
                )
        rows = (self._start + np.arange(stored)) % buffer.buffer_size
        # what the learner takes for an end, in its own words
        ends = buffer.dones[rows] * (1 - buffer.timeouts[rows]) > 0
        if stored < count:
            ends = np.concatenate([ends, (self._steps[-1].done & ~self._steps[-1].cut)[None]])
        paid, embedding, before = self._pay(ends)
        buffer.rewards[rows] = paid[:stored].numpy()
        if self.stored is not None and embedding is not None:
            self.stored.embedding[rows] = embedding[:stored].numpy()
            if self.stored.before is not None and before is not None:
                self.stored.before[rows] = before[:stored].numpy()
            self.stored.goal[rows] = torch.stack([step.goals for step in self._steps[:stored]]).numpy()
            self.stored.task_reward[rows] = np.stack([step.task_reward for step in self._steps[:stored]])
        self._steps.clear()
        self.account.check()

    def _pay_rollout(self) -> None:
        buffer = cast(OnPolicyAlgorithm, self.model).rollout_buffer
        paid, _, _ = self._pay(np.stack([step.done & ~step.cut for step in self._steps]))
        task = np.stack([step.task_reward for step in self._steps])
        buffer.rewards[:] = paid.numpy() + (buffer.rewards - task)  # keeps the value added where time ran out
        buffer.compute_returns_and_advantage(last_values=self.locals["values"], dones=self.locals["dones"])
        self._steps.clear()
        self.account.check()

    def _pay(self, terminated: Bool[ndarray, "T B"]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the waiting steps are paid (T, B); their embeddings (T, B, D), and those of what was acted on."""
        steps, size = self._steps, self._num_envs
        rows = None if steps[0].score is not None else self.queue.take()
        numbers = rows
        # in the queue: the first frames of episodes (for shaping), then the frames of the step
        lead = [len(step.begun) if self.payment.shaping and rows is not None else 0 for step in steps]
        if rows is not None and self.scorer.embeds:
            goals = [goal for step, k in zip(steps, lead) for goal in (step.goals[step.begun[:k]], step.goals)]
            numbers = self.scorer.score(StepBatch(embedding=rows), torch.cat(goals))
        at = (np.cumsum(lead) + size * np.arange(len(steps))).tolist()  # where a step's own frames are
        paid = []
        for t, step in enumerate(steps):
            first = None
            if numbers is None:
                score = cast(Tensor, step.score)
            else:
                score, first = numbers[at[t] : at[t] + size], numbers[at[t] - lead[t] : at[t]] if lead[t] else None
            task, done = torch.from_numpy(step.task_reward).float(), torch.from_numpy(step.done)
            end = torch.from_numpy(terminated[t])
            paid.append(self.account.pay(score, task, end, done, begun=step.begun, first=first)[0])
        self._log()
        if self.stored is None or rows is None:
            return torch.stack(paid), None, None
        embedding, before = torch.stack([rows[i : i + size] for i in at]), None
        if self.stored.before is not None:
            last = self._standing[0] if self._standing is not None else torch.full_like(embedding[0], torch.nan)
            before = torch.cat([last[None], embedding[:-1]])
            for t, step in enumerate(steps):
                before[t, step.begun] = rows[at[t] - lead[t] : at[t]]
        self._standing = (embedding[-1], steps[-1].goals)
        return torch.stack(paid), embedding, before

    def _log(self) -> None:
        self.logger.record("reward/seconds_share", self.scorer.timing.share)
        ended = self.account.flush()
        if ended["episodes"]:
            self.logger.record_mean("reward/model_return", ended["model_return"])
            self.logger.record_mean("reward/task_return", ended["task_return"])
        if self.account.unanswered:
            self.logger.record("reward/unanswered", self.account.unanswered)

    def rescore(self, reward_model: RewardModel | None = None, payment: Payment | None = None) -> int:
        """Pays the whole replay buffer by other prompts, another alpha or another payment, and goes on with them.

        No frame is encoded: the stored embeddings are scored, so the model has to read those of the same image tower.

        Returns:
            Rows scored, times environments.

        Raises:
            InputError: no stored embeddings, of other width, or not of all rows (the buffer was filled before).
        """
        if self.stored is None:
            raise InputError("nothing is stored; make the callback with keep_embeddings=True and train with it first")
        model, payment = reward_model or self.reward_model, payment or self.payment
        stored, buffer = self.stored, cast(ReplayBuffer, self.model.replay_buffer)  # type: ignore[attr-defined]
        if getattr(model, "dim", None) != stored.embedding.shape[-1]:
            raise InputError(
                f"the stored embeddings have {stored.embedding.shape[-1]} numbers, the new model reads "
                f"{getattr(model, 'dim', 'none')}; rescoring needs the same image tower"
            )
        if payment.shaping and stored.before is None:
            raise InputError("the frames acted on are kept only when training begins with Payment(shaping=True)")
        filled = buffer.size()
        unknown = int(np.isnan(stored.embedding[:filled, :, 0]).sum())
        if unknown:
            raise InputError(
                f"{unknown} of {filled * buffer.n_envs} replay rows have no stored embedding: they were there before "
                "the callback was"
            )

        def scores(embedding: ndarray, goal: ndarray) -> Tensor:
            flat = StepBatch(embedding=torch.from_numpy(embedding).flatten(0, 1))
            return self.scorer.score(flat, torch.from_numpy(goal).flatten()).reshape(goal.shape)

        self.scorer.model = self.reward_model = model
        self.payment = self.account.payment = payment
        block = max(1, RESCORED_AT_ONCE // buffer.n_envs)
        for begin in range(0, filled, block):
            rows = slice(begin, min(begin + block, filled))
            score = scores(stored.embedding[rows], stored.goal[rows])
            previous = score
            if payment.shaping and stored.before is not None:
                previous = scores(stored.before[rows], stored.goal[rows])
            ends = torch.from_numpy(buffer.dones[rows] * (1 - buffer.timeouts[rows]) > 0)
            task = torch.from_numpy(stored.task_reward[rows])
            buffer.rewards[rows] = payment(score, previous, task, ends).numpy()
        if self._standing is not None:
            now = self.scorer.score(StepBatch(embedding=self._standing[0]), self._standing[1])
            self.account.previous = torch.where(self.account.previous.isnan(), self.account.previous, now)
        return filled * buffer.n_envs


class VecEnvReward(VecEnvWrapper):
    """A stable-baselines3 vector environment paid by a reward model, for whatever reads its rewards step by step.

    Frames come from StepFrame inside the environments, or from Sightline's own SB3VecEnv. For SAC, DQN, TD3, PPO and
    A2C, RelabelCallback is quicker: it scores whole rollouts.

    Args:
        venv: with StepFrame inside.
        reward_model, goals, payment, watch: as for VectorRewardWrapper (agents/reward_wrappers.py).
    """

    def __init__(
        self,
        venv: VecEnv,
        reward_model: RewardModel,
        goals: Goals = 0,
        payment: Payment | None = None,
        watch: Watch | None = None,
    ) -> None:
        super().__init__(venv)
        self.pay = StepPay(reward_model, venv.num_envs, goals, payment, watch)

    @property
    def timing(self) -> Stopwatch:
        """Seconds spent in the model."""
        return self.pay.scorer.timing

    def reset(self) -> Any:
        """New episodes everywhere."""
        self.pay.account.begin(list(range(self.num_envs)))
        return self.venv.reset()

    def step_wait(self) -> tuple[Any, Float32[ndarray, " B"], Bool[ndarray, " B"], list[dict[str, Any]]]:
        """The step under way, paid by what it led to."""
        observation, task_reward, done, infos = self.venv.step_wait()
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        task = torch.from_numpy(np.asarray(task_reward)).float()
        paid = self.pay(self.venv.unwrapped, infos, task, torch.from_numpy(done & ~cut), torch.from_numpy(done))
        for index, info in enumerate(infos):
            for name in (*STEP_SAYS, *(EPISODE_SAYS if done[index] else ())):
                info[name] = float(paid[name][index])
        return observation, paid["reward"].numpy(), done, list(infos)

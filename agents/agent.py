"""A trained policy ready to act: tower, frame statistics and network behind one call."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from agents.features import FrameStatistics, Note, ObservationEncoder
from agents.networks import Policy
from core.errors import InputError
from core.files import folder_fingerprint
from envs import counter_random
from envs.goals import Goal
from envs.state import Sensors, SimState
from scene.captions import BASELINE_PROMPTS, goal_prompts, noun
from scene.render import Frame
from vl.embedder import Embedder
from vl.pretrain import uses_bfloat16
from vl.rewards import StepBatch, VLMReward
from vl.two_tower import VLModel

STATISTICS = "frame_statistics.safetensors"


def goal_reward(embedder: Embedder, goals: Sequence[Goal], alpha: float) -> VLMReward:
    """The reward model of a task's goals, with prompts in the language of the captions."""
    return VLMReward(embedder, [goal_prompts(goal.label, goal.color) for goal in goals], BASELINE_PROMPTS, alpha=alpha)


def make_encoder(
    model: VLModel,
    reward: VLMReward,
    goals: Sequence[Goal],
    statistics: FrameStatistics,
    sensors: Sensors,
    max_steps: int,
    precision: str,
) -> ObservationEncoder:
    """The observation encoder for a task's goals; `precision` as in TrainAgentConfig."""
    names = model.encode_texts([noun(goal.label, goal.color) for goal in goals])
    half = uses_bfloat16(precision, model.device.type)
    return ObservationEncoder(model, names, reward.goal_vectors, statistics, sensors, max_steps, half=half)


def score_every_goal(model: VLMReward, embedding: Float[Tensor, "M D"]) -> Float[Tensor, "M G"]:
    """Scores of M frames for each of the model's goals."""
    columns = [
        model.score(StepBatch(embedding=embedding), torch.full((len(embedding),), goal))
        for goal in range(len(model.goal_vectors))
    ]
    return torch.stack(columns, dim=1)


class Agent:
    """A policy on frozen tower features; a `PolicyFn` for envs.episodes.run_episodes.

    Actions are drawn by the policy's probabilities with numbers that depend on the seed, the episode and the step
    only, so an episode goes the same way whatever batch it runs in (up to the last bits of the network's sums).

    Args:
        seed: of the draws.
        greedy: take the most probable action instead of drawing.
    """

    def __init__(self, encoder: ObservationEncoder, policy: Policy, *, seed: int = 0, greedy: bool = False) -> None:
        if policy.config.size("vector") != encoder.size:
            raise InputError(
                f"the policy reads {policy.config.size('vector')} numbers, this tower and camera give {encoder.size}; "
                "use the tower the policy was trained with"
            )
        self.encoder, self.policy, self.seed, self.greedy = encoder, policy, seed, greedy
        self.note = Note.empty(0)
        self.memory = policy.initial_memory(0)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        vl: str | Path | None,
        goals: Sequence[Goal],
        *,
        seed: int = 0,
        greedy: bool = False,
    ) -> "Agent":
        """What `save_agent` wrote, for any goals.

        Args:
            vl: folder of the two-tower model it was trained with; None = where that model was at training time.

        Raises:
            MissingFileError, InputError: files are missing or damaged, or `vl` is another model.
        """
        policy, document = Policy.from_pretrained(folder)
        for key in ("alpha", "sensors", "max_steps", "precision", "vl"):
            if key not in document:
                raise InputError(f"{folder}/policy.json lacks {key!r}; train the policy again")
        vl = Path(vl or document["vl"]["path"])
        model = VLModel.from_pretrained(vl)
        if folder_fingerprint(vl) != document["vl"]["fingerprint"]:
            raise InputError(
                f"{vl} is not the two-tower model {folder} was trained with (contents differ); give vl= that one"
            )
        statistics = FrameStatistics.load(Path(folder) / STATISTICS, model.dim)
        encoder = make_encoder(
            model,
            goal_reward(model, goals, document["alpha"]),
            goals,
            statistics,
            Sensors(**document["sensors"]),
            document["max_steps"],
            document["precision"],
        )
        return cls(encoder, policy, seed=seed, greedy=greedy)

    @torch.no_grad()
    def __call__(self, state: SimState, frame: Frame | None) -> Int64[Tensor, " B"]:
        """An action for each environment; rows whose step is 0 begin an episode and forget the one before."""
        if frame is None:
            raise InputError("this policy looks at pictures; give the simulator sensors")
        rows = state.env
        missing = int(rows.max()) + 1 - len(self.memory)
        if missing > 0:
            fresh = Note.empty(missing)
            self.note = Note(
                **{f.name: torch.cat([getattr(self.note, f.name), getattr(fresh, f.name)]) for f in fields(Note)}
            )
            self.memory = torch.cat([self.memory, self.policy.initial_memory(missing)])
        start = state.step == 0
        note = self.note.rows(rows).where(start, Note.empty(len(rows)))
        memory = self.memory[rows].masked_fill(start[:, None], 0.0)
        seen = self.encoder.perceive(frame, state.goal)
        observation, note = self.encoder.observe(seen, state, note)
        logits, _, memory = self.policy(self.policy.normalise({"vector": observation}), memory)
        action = logits.argmax(-1) if self.greedy else self._draw(logits, state)
        note.action = action
        for field in fields(Note):
            getattr(self.note, field.name)[rows] = getattr(note, field.name)
        self.memory[rows] = memory
        return action

    def _draw(self, logits: Tensor, state: SimState) -> Int64[Tensor, " B"]:
        key = counter_random.episode_key(self.seed, state.key.numpy(), 1)
        share = torch.from_numpy(counter_random.uniform(key, state.step.numpy(), 0)).float()
        below = logits.softmax(-1).cumsum(-1) <= share[:, None]
        return below.sum(-1).clamp(max=logits.shape[-1] - 1)


def save_agent(
    folder: str | Path,
    policy: Policy,
    statistics: FrameStatistics,
    *,
    task: str,
    goals: Sequence[Goal],
    reward: str,
    alpha: float,
    sensors: Sensors,
    max_steps: int,
    precision: str,
    vl: str | Path,
) -> None:
    """Write all that `Agent.from_pretrained` needs but the tower, which is named by its fingerprint."""
    statistics.save(Path(folder) / STATISTICS)
    policy.save_pretrained(
        folder,
        task=task,
        goals=[goal.text for goal in goals],
        reward=reward,
        alpha=alpha,
        sensors=asdict(sensors),
        max_steps=max_steps,
        precision=precision,
        vl={"path": str(vl), "fingerprint": folder_fingerprint(vl)},
    )

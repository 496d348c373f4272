"""Steps of reinforcement learning for benchmarks/reason.py: the functions that train-reasoner calls."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from agents.reasoning.collection import Collected, Pay, collect
from agents.reasoning.data_flow import Questions
from agents.reasoning.generation import generate
from agents.reasoning.policy_losses import CLIPS
from agents.reasoning.rewards import RewardConfig
from agents.reasoning.trajectory import make_trajectory
from agents.reasoning.types import Prompts, Responses, Sample, Trajectory
from agents.reasoning.update import Descent, update_policy
from agents.reasoning.vgpo import VGPOConfig
from agents.reasoning.vlm import VLM
from benchmarks.reason_peer import Work, make_vlm, paid, questions


class Ours:
    """A policy that takes GRPO steps; each of the parts can be called alone."""

    def __init__(self, work: Work, vlm: VLM | None = None, *, micro_rows: int = 0, side: int = 64) -> None:
        """
        Args:
            vlm: the policy; None = the one that TRL is given.
            micro_rows: answers per forward and backward pass; 0 = all of an update.
            side: of the pictures, in pixels.
        """
        self.work = work
        self.vlm = make_vlm(work) if vlm is None else vlm
        self.rows = micro_rows or work.prompts * work.samples // work.updates
        samples, pictures = questions(work, side)
        self.asked = Questions(tuple(samples), tuple(map(tuple, pictures)), tuple(range(work.prompts)))
        self.descent = Descent.of(self.vlm.model, lr=1e-5, weight_decay=0.0, max_grad_norm=1.0, half=False)
        self.generator = torch.Generator().manual_seed(0)
        self.seconds: dict[str, list[float]] = {"generate": [], "trajectory": [], "update": []}

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.vlm.model.parameters())

    def step(self, *, vgpo: bool = False) -> None:
        """One step with all its updates."""
        began = time.perf_counter()
        collected = self.collected()
        drawn = time.perf_counter()
        trajectory = self.trajectory(collected, updates=self.work.updates, vgpo=vgpo)
        seen = time.perf_counter()
        self.update(trajectory)
        for name, took in (("generate", drawn - began), ("trajectory", seen - drawn)):
            self.seconds[name].append(took)
        self.seconds["update"].append(time.perf_counter() - seen)

    def collected(self) -> Collected:
        def answers(prompts: Prompts) -> Responses:
            drawn = generate(
                self.vlm,
                prompts,
                samples=self.work.samples,
                max_new_tokens=self.work.new_tokens,
                generator=self.generator,
            )
            assert drawn.mask.all() and drawn.ids.shape[1] == self.work.new_tokens
            return drawn

        pay = PaidAlike(RewardConfig(), self.work.new_tokens, 0, 0, self.vlm.device)
        return collect(self.vlm, self.asked, answers, pay, self.work.samples)

    def trajectory(self, collected: Collected, *, updates: int, vgpo: bool = False) -> Trajectory:
        """Args: updates: with more than one, old log-probs are needed."""
        made, _ = make_trajectory(
            self.vlm,
            None,
            collected,
            algorithm="grpo",
            temperature=1.0,
            updates=updates,
            kl_cost=0.0,
            kl_kind="k3",
            vgpo=VGPOConfig(enabled=True) if vgpo else None,
            mask_cut_off=False,
            rows=self.rows,
        )
        return made

    def update(self, trajectory: Trajectory) -> None:
        update_policy(
            self.vlm,
            self.descent,
            trajectory,
            groups=list(range(self.work.prompts)),
            algorithm="grpo",
            clip=CLIPS["grpo"],
            kl_coef=0.0,
            kl_kind="k3",
            temperature=1.0,
            longest_response=self.work.new_tokens,
            passes=1,
            minibatches=self.work.updates,
            micro_rows=self.rows,
            generator=self.generator,
        )


class PaidAlike(Pay):
    """Answers earn what they earn with TRL."""

    def __call__(self, samples: Sequence[Sample], responses: Responses) -> tuple[Tensor, dict[str, Tensor]]:
        reward = torch.tensor([paid(text) for text in responses.texts], device=self.device)
        return reward, {"accuracy": reward}

"""Where `train-reasoner` learns from in the simulator: episodes of the policy, as the rows of an update.

Several copies of an episode set out from the same start in the same home with the same goal; they are a group, as the
answers to one question are. Which starts a step takes is a function of (seed, step), so that a killed run goes on with
the episodes it would have played.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.homes import Homes
from agents.reasoning.action_text import HANDS, SIDES, GoalView, turn_prompt, worked_turn
from agents.reasoning.group_advantages import whitened
from agents.reasoning.oracle_turns import OracleTurns, oracle_turns
from agents.reasoning.sim_policy import VLMAgent
from agents.reasoning.turn_config import EnvironmentConfig
from agents.reasoning.turn_credit import gigpo, token_weights, turn_gae
from agents.reasoning.turn_critic import TurnCritic, prompt_states
from agents.reasoning.turns import TURN_SEEDS, Turns, collect_turns, on_action
from agents.reasoning.types import Prompts, Responses
from core import distributed
from core.errors import InputError
from envs.episodes import make_episodes, run_episodes
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.tasks import TASKS

TOLD = ("success", "spl", "soft_spl", "distance_to_goal_m", "return", "turns")  # means over episodes
TOGETHER = 64  # episodes outside of training that are played at once


class EpisodeRows(NamedTuple):
    """What a step learns from: one row a turn, of the episodes of this process."""

    prompts: Prompts
    responses: Responses
    reward: Float[Tensor, " B"]  # of the turn: the task's, less the cost of an answer that is not well formed
    group: Int64[Tensor, " B"]  # number of the start, unique over all processes
    advantage: Float[Tensor, "B T"]  # of each token; 0 where the mask is off
    metrics: dict[str, float]  # of all processes


class EpisodesSource:
    """Plays episodes with the policy it is given, and says what each turn earned.

    Raises:
        InputError: no homes, or no goal in them; `starts` does not split over the processes; fewer than two copies,
            where copies are compared.
    """

    def __init__(
        self,
        config: EnvironmentConfig,
        *,
        starts: int,
        copies: int,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        rows: int = 16,
        seed: int = 0,
    ) -> None:
        """
        Args:
            starts: per step, summed over processes.
            copies: episodes from each start.
            max_new_tokens: of an answer.
            rows: of a forward pass of the critic's.
            seed: of the starts, and of the critic's first weights.
        """
        if config.credit == "gigpo" and copies < 2:
            raise InputError(
                f"environment.credit=gigpo compares episodes from one start; give samples=2 or more, got {copies}"
            )
        self.config, self.style = config, config.style(max_new_tokens)
        self.starts, self.copies, self.seed, self.rows = starts, copies, seed, rows
        self.temperature, self.top_p = temperature, top_p
        self.homes = Homes(config.scenes, config.homes)
        task = TASKS[config.task].from_manifest(self.homes.manifest)
        own = distributed.share(starts, "prompts")
        self.numbers = [start * copies + copy for start in own for copy in range(copies)]
        self.simulator = Simulator(
            self.homes.pool(task.interactive),
            task,
            len(self.numbers),
            seed,
            sensors=self.style.sensors,
            max_steps=config.max_turns,
            env_ids=[number // copies for number in self.numbers],  # copies are one environment: they draw alike
        )
        self._first = self.simulator.reset()
        self.critic: TurnCritic | None = None

    def texts(self) -> list[str]:
        """Questions and worked answers, for a tokenizer made from them: every word that the task may need."""
        names = self.simulator.action_names
        asked = [turn_prompt(goal, names, names, hands=hands) for goal in self.simulator.texts for hands in HANDS]
        views = [GoalView(), *(GoalView(side, near) for side in SIDES for near in (False, True))]
        return asked + [worked_turn(name, view) for name in names for view in views]

    def collect(self, vlm: Any, step: int, generator: torch.Generator) -> EpisodeRows:
        """Plays the episodes of a step. Every process calls this.

        Args:
            generator: one number is drawn from it, the seed of all answers.
        """
        seed = int(torch.randint(TURN_SEEDS, (), generator=generator, device=generator.device))
        first = self.simulator.reset(replace(self._first, episode=torch.full_like(self._first.episode, step - 1)))
        turns = collect_turns(
            vlm, self.simulator, first, self.style, temperature=self.temperature, top_p=self.top_p, seed=seed,
            numbers=self.numbers, ahead=self.config.credit == "gae",
        )  # fmt: skip
        reward = turns.reward - self.config.malformed_cost * ~turns.well_formed
        group = torch.tensor(self.numbers, device=vlm.device)[turns.episode] // self.copies
        if self.config.credit == "gae":
            earned, found = self._by_critic(vlm, turns, reward)
        else:
            earned, found = self._by_group(turns, reward, group)
        mask = turns.responses.mask
        weight = mask.to(earned.dtype)
        if self.config.thought_weight != 1:
            weight = token_weights(mask, on_action(vlm, turns.responses), thought_weight=self.config.thought_weight)
        metrics = self._means(turns) | found
        return EpisodeRows(turns.prompts, turns.responses, reward, group, earned[:, None] * weight, metrics)

    def _means(self, turns: Turns) -> dict[str, float]:
        """Over all processes: figures of episodes, and shares of turns."""
        sums = [turns.metrics[name].sum() for name in TOLD] + [turns.named.sum().cpu(), turns.well_formed.sum().cpu()]
        counts = [torch.tensor(float(len(self.numbers))), torch.tensor(float(len(turns)))]
        *total, episodes, rows = distributed.sum_over_ranks(torch.stack([x.double() for x in sums + counts])).tolist()
        shares = {"named_share": total[-2] / rows, "well_formed_share": total[-1] / rows}
        return {name: value / episodes for name, value in zip(TOLD, total)} | shares

    def worked(self, episodes: int) -> OracleTurns:
        """Turns of the oracle in train homes, to imitate."""
        return oracle_turns(self._many(self.simulator), self.style, episodes, self.seed)

    def evaluate(self, vlm: Any, episodes: int) -> dict[str, float]:
        """How the policy does in val homes with its likeliest answers, on the same episodes each time."""
        val = self._val
        agent = VLMAgent(vlm, val, self.style, temperature=0.0)
        held = make_episodes(val.homes, val.task, episodes, self.seed, val.fields)
        return run_episodes(val, agent, held).summary() | {"unreadable_share": agent.unreadable_share}

    @cached_property
    def _val(self) -> Simulator:
        return self._many(self.simulator, self.homes.val(self.simulator.task.interactive))

    def _many(self, like: Simulator, homes: HomePool | None = None) -> Simulator:
        """The same task, there or in other homes, with environments that each draw for themselves."""
        return Simulator(
            homes or like.homes, like.task, TOGETHER, self.seed, sensors=like.sensors, max_steps=like.max_steps,
            fields=None if homes else like.fields,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """What a resume needs beside (seed, step): the critic, where there is one."""
        return {} if self.critic is None else {"critic": self.critic.state_dict()}

    def load_state_dict(self, saved: dict[str, Any], vlm: Any) -> None:
        """Go on where `state_dict` was taken."""
        if "critic" in saved:
            self.critic = self._new_critic(vlm)
            self.critic.load_state_dict(saved["critic"])

    def _new_critic(self, vlm: Any) -> TurnCritic:
        width = vlm.model.config.get_text_config().hidden_size
        return TurnCritic(width, seed=self.seed, device=vlm.device)

    def _by_group(self, turns: Turns, reward: Tensor, group: Tensor) -> tuple[Tensor, dict[str, float]]:
        """GiGPO's advantages."""
        config = self.config
        earned = gigpo(
            reward, turns.episode, turns.turn, group, turns.anchor, gamma=config.gamma, omega=config.omega,
            std=config.std,
        )  # fmt: skip
        return earned, {"met_share": _share(_met(group, turns.anchor))}

    def _by_critic(self, vlm: Any, turns: Turns, reward: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Estimates over turns, whitened over the turns of all processes; then the critic learns from them."""
        states = prompt_states(vlm, turns.prompts, rows=self.rows)
        if self.critic is None:
            self.critic = self._new_critic(vlm)
        value = self.critic.values(states)
        later = torch.zeros(len(self.numbers), int(turns.turn.max()) + 2, device=value.device)
        later[turns.episode, turns.turn] = value
        if turns.ahead is not None:
            end = torch.zeros(len(self.numbers), dtype=torch.int64, device=value.device)
            end = end.scatter_reduce_(0, turns.episode, turns.turn + 1, "amax")
            late = turns.ahead_episode.to(value.device)
            later[late, end[late]] = self.critic.values(prompt_states(vlm, turns.ahead, rows=self.rows))
        earned, target = turn_gae(
            reward, value, later[turns.episode, turns.turn + 1], turns.terminated, turns.episode, turns.turn,
            gamma=self.config.gamma, lam=self.config.lam,
        )  # fmt: skip
        error = self.critic.fit(states, target)
        return whitened(earned[:, None], torch.ones_like(earned, dtype=torch.bool)[:, None])[:, 0], {
            "critic_error": error
        }


def _met(group: Int64[Tensor, " B"], anchor: Int64[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Turns whose view another turn of the group met too."""
    _, place, count = torch.unique(torch.stack([group, anchor], 1), dim=0, return_inverse=True, return_counts=True)
    return count[place] > 1


def _share(true: Bool[Tensor, " B"]) -> float:
    sums = torch.tensor([float(true.sum()), float(len(true))], dtype=torch.float64)
    held, count = distributed.sum_over_ranks(sums).tolist()
    return held / count

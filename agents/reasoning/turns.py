"""Episodes of a language model in the simulator: it sees, thinks, names an action, and sees what that led to.

Each turn is a prompt of its own (goal, the last actions, the picture now), as in verl-agent and VAGEN's form without
concatenation: an episode's length is not limited by the model's context, and a row of an update is one turn.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.reasoning.action_text import HANDS, TurnAnswer, instead, read_action, turn_prompt
from agents.reasoning.answers import ANSWER
from agents.reasoning.generation import generate
from agents.reasoning.padding import join_prompts, join_responses
from agents.reasoning.turn_config import TurnStyle
from agents.reasoning.types import Prompts, Responses
from core.errors import InputError
from envs import counter_random
from envs.metrics import METRICS
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame

TURN_SEEDS: Final = 2**62
DRAWS: Final = 0  # seed of the noise of answers with `turn_numbers`, which are all that varies


@dataclass(frozen=True, eq=False)
class Taken:
    """One turn of B environments."""

    prompts: Prompts
    responses: Responses
    answers: tuple[TurnAnswer, ...]
    action: Int64[Tensor, " B"]  # numbers of simulator.action_names; where none was named, what is done instead


def questions(simulator: Simulator, style: TurnStyle, state: SimState, past: Sequence[Sequence[str]]) -> list[str]:
    """What is asked in each environment.

    Args:
        past: names of the actions taken so far in each environment's episode.
    """
    last = style.history
    goals = [simulator.texts[text] for text in state.text.tolist()]
    return [
        turn_prompt(goal, simulator.action_names, list(done)[-last:] if last else [], hands=hands)
        for goal, done, hands in zip(goals, past, hands_of(simulator, state))
    ]


def hands_of(simulator: Simulator, state: SimState) -> list[str]:
    """Whether each agent holds something, one of HANDS; empty text in tasks without hands."""
    if not simulator.task.interactive or state.world is None:
        return [""] * len(state)
    return [HANDS[int(held >= 0)] for held in state.world.held.tolist()]


def turn_numbers(seed: int, state: SimState) -> list[int]:
    """A number below 2**63 for each environment's turn, from seed, episode and step alone: for draws of any batch."""
    key = counter_random.episode_key(seed, state.key.cpu().numpy(), state.step.cpu().numpy())
    return (key.view(np.uint64) >> np.uint64(1)).tolist()


def ask(
    vlm: Any, simulator: Simulator, style: TurnStyle, state: SimState, frame: Frame, past: Sequence[Sequence[str]]
) -> Prompts:
    """The questions of a turn as the model's inputs; `past` as of `questions`.

    Raises:
        InputError: the question, its picture and an answer do not fit the model.
    """
    texts = questions(simulator, style, state, past)
    return vlm.encode(texts, [[picture] for picture in frame.rgb.cpu().numpy()], reserve=style.max_new_tokens)


def take_turn(
    vlm: Any,
    simulator: Simulator,
    style: TurnStyle,
    state: SimState,
    frame: Frame,
    past: Sequence[Sequence[str]],
    *,
    temperature: float,
    top_p: float,
    seed: int,
    numbers: Sequence[int],
) -> Taken:
    """Asks in every environment, and reads what is answered.

    Args:
        seed: of the answers' noise, with `numbers`, one for each environment: the draws of an environment do not depend
            on which others stand in the batch.
    """
    prompts = ask(vlm, simulator, style, state, frame, past)
    responses = generate(
        vlm,
        prompts,
        max_new_tokens=style.max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        generator=torch.Generator().manual_seed(seed),
        first_prompt=numbers,
    )
    names, other = simulator.action_names, instead(simulator.action_names)
    answers = tuple(read_action(text, names) for text in responses.texts)
    action = torch.tensor([other if answer.action is None else answer.action for answer in answers])
    return Taken(prompts, responses, answers, action.to(state.env.device))


@dataclass(frozen=True, eq=False)
class Turns:
    """All turns of E episodes, one row each."""

    prompts: Prompts
    responses: Responses
    reward: Float[Tensor, " B"]  # of the task, for the action
    episode: Int64[Tensor, " B"]  # row of the states that the episodes began in
    turn: Int64[Tensor, " B"]  # 0, 1, ... in each
    anchor: Int64[Tensor, " B"]  # hash of what was seen and asked for: equal where these are, to the last bit
    terminated: Bool[Tensor, " B"]  # the task ended with this turn
    named: Bool[Tensor, " B"]  # the answer named an action
    well_formed: Bool[Tensor, " B"]  # after one thought
    metrics: dict[str, Float[Tensor, " E"]]  # of the episodes: envs.metrics.METRICS, "return" and "turns"
    ahead: Prompts | None  # what episodes that were cut off would have been asked next; None: not made, or none was
    ahead_episode: Int64[Tensor, " C"]  # which episodes these are

    def __len__(self) -> int:
        return len(self.reward)


def collect_turns(
    vlm: Any,
    simulator: Simulator,
    state: SimState,
    style: TurnStyle,
    *,
    temperature: float,
    top_p: float,
    seed: int,
    numbers: Sequence[int],
    ahead: bool = False,
) -> Turns:
    """Plays the episodes that begin in `state` to their ends, all together; those that have ended leave the batch.

    Args:
        seed, numbers: see `take_turn`; every turn has a seed of its own.
        ahead: also make the prompts behind the last turn of episodes that were cut off, for a critic.

    Raises:
        InputError: the simulator has no sensors, or its actions have no names.
    """
    if simulator.sensors is None:
        raise InputError("a model that looks at pictures needs a simulator with sensors")
    episodes, pad = len(state), vlm.pad_id
    frame = simulator.observe(state)
    row = torch.arange(episodes)
    past: list[list[str]] = [[] for _ in range(episodes)]
    asked: list[Prompts] = []
    said: list[Responses] = []
    columns: dict[str, list[Tensor]] = {
        name: [] for name in ("reward", "episode", "turn", "anchor", "terminated", "named", "well_formed")
    }
    metrics = {name: torch.zeros(episodes) for name in (*METRICS, "return", "turns")}
    cut: list[tuple[Prompts, Tensor]] = []
    turn = 0
    while len(state):
        going = row.tolist()
        own = [past[number] for number in going]
        taken = take_turn(
            vlm, simulator, style, state, frame, own, temperature=temperature, top_p=top_p,
            seed=(seed + turn) % TURN_SEEDS, numbers=[numbers[number] for number in going],
        )  # fmt: skip
        goals = zip(state.text.tolist(), hands_of(simulator, state))
        anchor = torch.tensor([_anchor(view, f"{text} {hands}") for view, (text, hands) in zip(frame.rgb, goals)])
        for number, action in zip(going, taken.action.tolist()):
            past[number].append(simulator.action_names[action])
        state, step = simulator.step(state, taken.action)
        assert step.frame is not None
        done = step.done.cpu()

        asked.append(taken.prompts)
        said.append(taken.responses)
        found = {"reward": step.reward.cpu(), "episode": row, "turn": torch.full_like(row, turn), "anchor": anchor}
        found |= {"terminated": step.terminated.cpu()}
        found |= {"named": torch.tensor([answer.action is not None for answer in taken.answers])}
        found |= {"well_formed": torch.tensor([answer.well_formed for answer in taken.answers])}
        for name, values in found.items():
            columns[name].append(values)
        metrics["return"][row] += found["reward"]
        metrics["turns"][row] += 1
        for name in METRICS:
            metrics[name][row[done]] = step.metrics[name].cpu()[done]
        if ahead and bool(step.truncated.any()):
            late = step.truncated
            view = Frame(step.frame.rgb[late], step.frame.depth[late], step.frame.instance[late])
            late_row = row[late.cpu()]
            own = [past[number] for number in late_row.tolist()]
            cut.append((ask(vlm, simulator, style, state.rows(late), view, own), late_row))

        on = ~step.done
        state, row = state.rows(on), row[on.cpu()]
        frame = Frame(step.frame.rgb[on], step.frame.depth[on], step.frame.instance[on])
        turn += 1
    device = vlm.device
    return Turns(
        reduce(lambda one, other: join_prompts(one, other, pad), asked),
        reduce(lambda one, other: join_responses(one, other, pad), said),
        **{name: torch.cat(values).to(device) for name, values in columns.items()},
        metrics=metrics,
        ahead=reduce(lambda one, other: join_prompts(one, other, pad), [part for part, _ in cut]) if cut else None,
        ahead_episode=torch.cat([rows for _, rows in cut]) if cut else row,
    )


def _anchor(view: Tensor, goal: str) -> int:
    digest = hashlib.blake2b(view.cpu().numpy().tobytes() + goal.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def on_action(vlm: Any, responses: Responses) -> Bool[Tensor, "B T"]:
    """The tokens from the one that completes the answer's opening tag on; none where there is no such tag.

    Whatever the tokenizer makes of the tag: the shortest beginning whose text holds it is searched for by halving.
    """
    mask = responses.mask
    place = torch.arange(mask.shape[1], device=mask.device)
    low = torch.zeros(len(mask), dtype=torch.int64, device=mask.device)
    high = mask.sum(1)  # the first `high` tokens hold the tag, the first `low` do not
    holds = torch.tensor([ANSWER in text for text in responses.texts], device=mask.device)
    while bool((holds & (high - low > 1)).any()):
        middle = (low + high) // 2
        texts = vlm.decode(responses.ids, mask & (place < middle[:, None]))
        inside = torch.tensor([ANSWER in text for text in texts], device=mask.device)
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return mask & holds[:, None] & (place >= high[:, None] - 1)

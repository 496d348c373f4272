"""What the shortest-path oracle does, turn by turn, as worked answers: the warm start of a policy in the simulator.

The thought says what is true of the picture, read off its instance ids: whether a thing that is looked for is seen, in
which third, and how near. The oracle itself knows the way; where the thing is out of sight the picture does not say why
it turns, and the policy learns how often it does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int32
from numpy import ndarray
from torch import Tensor

from agents.reasoning.action_text import NEAR_M, SIDES, GoalView, worked_turn
from agents.reasoning.turn_config import TurnStyle
from agents.reasoning.turns import questions
from agents.reasoning.types import Picture, Sample
from core.errors import InputError
from envs.episodes import Episodes, make_episodes, run_episodes
from envs.expert import Expert
from envs.simulator import Simulator
from envs.state import SimState
from scene.render import Frame

LEAST_PIXELS = 4  # of a thing that counts as seen, of a picture of 64 x 64


@dataclass
class OracleTurns:
    """Turns as questions with worked answers, in the form of a set of questions (agents/reasoning/task_files.py)."""

    samples: list[Sample]
    pictures: dict[str, Picture] = field(repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    def pictures_of(self, index: int) -> list[Picture]:
        """What was seen in a turn."""
        return [self.pictures[name] for name in self.samples[index].pictures]


def oracle_turns(simulator: Simulator, style: TurnStyle, episodes: int | Episodes, seed: int = 0) -> OracleTurns:
    """Every turn of the oracle in some episodes.

    Args:
        simulator: with sensors, and discrete control.
        episodes: a set, or how many to draw.

    Raises:
        InputError: the simulator has no sensors, or its actions have no names.
    """
    if simulator.sensors is None or simulator.control != "discrete":
        raise InputError(
            "worked answers show a picture and name an action: give the simulator sensors, discrete control"
        )
    if not isinstance(episodes, Episodes):
        episodes = make_episodes(simulator.homes, simulator.task, episodes, seed, simulator.fields)
    expert, names = Expert(simulator), simulator.action_names
    past: dict[int, list[str]] = {}  # of each episode
    samples: dict[tuple[int, int], Sample] = {}
    pictures: dict[str, Picture] = {}

    def shown(state: SimState, frame: Frame | None) -> Tensor:
        assert frame is not None
        action = expert(state)
        views = goal_views(simulator, state, frame)
        rows = [past.setdefault(row, []) for row in state.episode.tolist()]
        asked = questions(simulator, style, state, rows)
        for k, (row, turn, chosen) in enumerate(zip(state.episode.tolist(), state.step.tolist(), action.tolist())):
            name, home = names[chosen], simulator.homes.ids[int(state.home[k])]
            number = f"{home}-{row}-{turn}"
            pictures[number] = frame.rgb[k].cpu().numpy().copy()
            samples[row, turn] = Sample(
                id=number,
                prompt=asked[k],
                pictures=(number,),
                answer=name,
                choices=names,
                kind="turn",
                group=home,
                worked=worked_turn(name, views[k]),
            )
            rows[k].append(name)
        return action

    run_episodes(simulator, shown, episodes)
    return OracleTurns([samples[key] for key in sorted(samples)], pictures)


def goal_views(simulator: Simulator, state: SimState, frame: Frame) -> list[GoalView]:
    """What each picture shows of the things that its agent is after now (its present stage's)."""
    pixels, nearest = simulator.goal_visibility(frame.instance, state)
    least = max(1, LEAST_PIXELS * frame.instance[0].numel() // 64**2)
    views = []
    for k, (count, away) in enumerate(zip(pixels.tolist(), nearest.tolist())):
        if count < least:
            views.append(GoalView())
            continue
        stages = simulator.goal(state, k).stages
        wanted = stages[min(int(state.stage[k]), len(stages) - 1)].objects
        views.append(GoalView(side_of(frame.instance[k].cpu().numpy(), wanted), away < NEAR_M))
    return views


def side_of(instance: Int32[ndarray, "H W"], things: Sequence[int]) -> str:
    """The third of the picture in which the middle of the things' pixels lies, one of SIDES."""
    columns = np.nonzero(np.isin(instance, things))[1]
    return SIDES[min(2, int(3 * (columns.mean() + 0.5) / instance.shape[1]))]

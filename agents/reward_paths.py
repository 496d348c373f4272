"""Walks that a good reward should not pay: staring at a wall, standing by a wrong thing, turning on the spot.

Each is a policy as in envs/expert.py, acts by a number of the discrete actions, and ends by stopping where stopping
does not succeed. None looks at a picture to act.

    StareAtWall     to the view of the home that shows least of any thing, a wall close by
    WrongThing      by the shortest way to another thing of the goal's class, else of another class, facing it
    Circling        one full turn where the episode begins
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt16
from numpy import ndarray
from torch import Tensor

from core.conventions import wrap_angle
from core.errors import InputError
from envs.episodes import PolicyFn
from envs.expert import Expert, turn_to_face
from envs.geodesic import UNREACHABLE, distance_field
from envs.motion import TURN_RAD
from envs.pool import STRUCTURE_LABELS
from envs.simulator import Simulator
from envs.state import STOP, TURN_LEFT, TURN_RIGHT, Sensors, SimState
from envs.tasks.common import home_draws, near_objects, worth_going_to
from scene.render import Frame

STAND_M = 1.0  # from a wrong thing's footprint, as FindObject counts for the right one
VIEWS = 96  # views of each home among which the barest is chosen
CLOSE_M = 1.5  # a wall this near fills a picture
SIDE = 32  # pixels of such a view, each way
SPOT_M = 0.3  # standing this near to the chosen place will do: a step is 0.25 m


@dataclass(eq=False)
class _Way:
    """Where a walk goes, in one home."""

    units: UInt16[ndarray, " C"]  # walking distance, in units of GoalFields.unit_m
    yaw: float = 0.0  # where to look in the end
    thing: int = -1  # or the object to look at


class _Walk(ABC):
    """Follows a way to its end, turns to what it is about, and stops there."""

    def __init__(self, simulator: Simulator) -> None:
        if simulator.control != "discrete":
            raise InputError("adversarial walks act by discrete actions; use a simulator with control='discrete'")
        self.simulator, self.expert = simulator, Expert(simulator)
        self._known: dict[tuple[int, int], list[_Way]] = {}

    def ways(self, home: int, goal: int) -> Sequence[_Way]:
        """Where a walk may go, the best first."""
        if (home, goal) not in self._known:
            self._known[home, goal] = self._find(home, goal)
        return self._known[home, goal]

    @abstractmethod
    def _find(self, home: int, goal: int) -> list[_Way]:
        """Where this kind of walk may go for a goal of a home, the best first."""

    def way(self, home: int, goal: int, cell: int) -> _Way | None:
        """The first that leads somewhere from a cell; the same all along a walk, since floors hang together."""
        return next((way for way in self.ways(home, goal) if way.units[cell] < UNREACHABLE), None)

    def possible(self, state: SimState) -> Bool[ndarray, " B"]:
        """Whether there is such a walk from where each agent stands."""
        return np.array([way is not None for way in self._chosen(state)], dtype=bool)

    def prepare(self, state: SimState) -> None:  # noqa: B027  most walks need nothing
        """Whatever has to be known of the homes first."""

    def _chosen(self, state: SimState) -> list[_Way | None]:
        self.prepare(state)
        home, goal = state.home.cpu().numpy(), state.goal.cpu().numpy()
        cell = self.simulator.homes.grids.cell(home, state.position.cpu().numpy())
        return [self.way(int(h), int(g), int(c)) for h, g, c in zip(home, goal, cell)]

    def __call__(self, state: SimState, frame: Frame | None = None) -> Tensor:
        """An action for each environment; `stop` where there is no such walk."""
        position, yaw, home = (column.cpu().numpy() for column in (state.position, state.yaw, state.home))
        code = np.full(len(state), STOP, np.int64)
        for b, way in enumerate(self._chosen(state)):
            if way is None:
                continue
            one = slice(b, b + 1)
            nowhere = np.zeros((1, 0), bool)
            row = np.zeros(1, np.int64)
            code[b] = self.expert.follow(home[one], position[one], yaw[one], row, way.units[None], nowhere)[0]
            if code[b] == STOP:
                code[b] = self._look(way, int(home[b]), position[b], float(yaw[b]))
        return torch.from_numpy(code).to(state.home.device)  # the first four actions' numbers are their codes

    def _look(self, way: _Way, home: int, position: Float64[ndarray, "2"], yaw: float) -> int:
        if way.thing >= 0:
            return turn_to_face(position, yaw, [self.simulator.homes[home].scene.objects[way.thing].box], STOP)
        away = float(wrap_angle(np.array(way.yaw - yaw)))
        return STOP if abs(away) <= TURN_RAD / 2 else TURN_LEFT if away > 0 else TURN_RIGHT

    def _lost(self, home: int, goal: int) -> Bool[ndarray, "H W"]:
        """Free cells where stopping does not succeed."""
        fields, place = self.simulator.fields, self.simulator.homes[home]
        stage = fields.goal(home, goal).stages[-1]
        won = fields.region(place, stage)
        return place.grid.free if won is None else place.grid.free & ~won


class WrongThing(_Walk):
    """Walks to another thing than the goal, faces it and stops.

    Things of the goal's class come first, in an order drawn for the home; those that measure 40 cm and stand on the
    agent's storey. Raises InputError where control is continuous.
    """

    def same_class(self, state: SimState) -> Bool[ndarray, " B"]:
        """Whether the thing walked to is of the goal's class."""
        found = []
        for b, way in enumerate(self._chosen(state)):
            items = self.simulator.homes[int(state.home[b])].scene.objects
            found.append(way is not None and items[way.thing].label == self.simulator.goal(state, b).label)
        return np.array(found, dtype=bool)

    def _find(self, home: int, goal: int) -> list[_Way]:
        place, wanted = self.simulator.homes[home], self.simulator.fields.goal(home, goal)
        items, lost, found = place.scene.objects, self._lost(home, goal), []
        meant = {thing for stage in wanted.stages for thing in stage.objects}
        others = [k for k in home_draws(place).permutation(len(items)).tolist() if k not in meant]
        for alike in (True, False):
            for k in others:
                fits = (items[k].label == wanted.label) == alike and items[k].label not in STRUCTURE_LABELS
                if not fits or not worth_going_to(place, k):
                    continue
                region = near_objects(place, (k,), STAND_M) & lost
                if region.any():
                    found.append(_Way(distance_field(place.grid.free, region).ravel(), thing=k))
                    if not alike:
                        return found  # one of another class will do
        return found


class StareAtWall(_Walk):
    """Walks to the barest view of the home, from where stopping does not succeed, and stops there.

    The view is the one of VIEWS drawn ones, with a wall within CLOSE_M in its middle, that shows fewest pixels of any
    thing. Raises InputError where control is continuous.
    """

    def __init__(self, simulator: Simulator) -> None:
        super().__init__(simulator)
        self._views: dict[int, tuple[ndarray, ndarray, ndarray]] = {}

    def _find(self, home: int, goal: int) -> list[_Way]:
        place, (position, yaw, shown) = self.simulator.homes[home], self._views[home]
        lost = self._lost(home, goal)
        cells = np.argwhere(lost)
        for k in np.argsort(shown, kind="stable").tolist():
            near = np.hypot(*(place.grid.centers(cells) - position[k]).T) <= SPOT_M
            if near.any():
                region = np.zeros_like(lost)
                region[tuple(cells[near].T)] = True
                return [_Way(distance_field(place.grid.free, region).ravel(), yaw=float(yaw[k]))]
        return []

    def prepare(self, state: SimState) -> None:
        """Draws views of homes not met before, and notes how many pixels of things each shows."""
        new, first = np.unique(state.home.cpu().numpy(), return_index=True)
        for home, row in zip(new.tolist(), first.tolist()):
            if home not in self._views:
                self._views[home] = self._look_around(home, state.rows(torch.full((VIEWS,), row)))

    def _look_around(self, home: int, many: SimState) -> tuple[ndarray, ndarray, ndarray]:
        """Positions, yaws, and pixels of things; those without a wall close by count as full of things."""
        place = self.simulator.homes[home]
        rng = home_draws(place)
        cells = rng.choice(place.free_cells, VIEWS)
        position = place.grid.centers(np.stack(np.unravel_index(cells, place.grid.free.shape), axis=1))
        yaw = rng.uniform(-np.pi, np.pi, VIEWS)
        many = replace(many, position=torch.from_numpy(position), yaw=torch.from_numpy(yaw))
        frame = self.simulator.observe(many, sensors=Sensors(SIDE, SIDE))
        middle = (slice(None), SIDE // 2, SIDE // 2)
        depth = frame.depth[middle].cpu().numpy()
        wall = (frame.instance[middle].cpu().numpy() < 0) & (depth > 0) & (depth <= CLOSE_M)
        return position, yaw, (frame.instance >= 0).sum((1, 2)).cpu().numpy() + np.where(wall, 0, SIDE * SIDE)


class Circling:
    """A full turn to the left where the episode begins, then a stop."""

    def __init__(self, simulator: Simulator) -> None:
        if simulator.control != "discrete":
            raise InputError("adversarial walks act by discrete actions; use a simulator with control='discrete'")
        self.turns = round(2 * np.pi / TURN_RAD)

    def possible(self, state: SimState) -> Bool[ndarray, " B"]:
        """Everywhere."""
        return np.ones(len(state), dtype=bool)

    def __call__(self, state: SimState, frame: Frame | None = None) -> Int64[Tensor, " B"]:
        """An action for each environment."""
        return torch.where(state.step < self.turns, TURN_LEFT, STOP)


ADVERSARIES: dict[str, Callable[[Simulator], PolicyFn]] = {
    "stare": StareAtWall,
    "wrong_thing": WrongThing,
    "circling": Circling,
}

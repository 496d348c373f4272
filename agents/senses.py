"""What every kind of features shares: the agent's own body, free distances from depth, sentences, and notes.

`Senses` turn frames into what a policy reads. There is one file per kind: frozen two-tower features
(agents/features.py), the grounder's objects (agents/object_features.py), bare pictures (agents/pixels.py). They read
the picture, the sentence and what a body knows of itself; of the simulator's state they read the agent's pose relative
to its start (GPS and compass, as in Habitat's ObjectNav), its bumps, its steps and whether its hand is full, no more.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from agents.encoders import ObservationSpec
from agents.networks import Observation
from envs.motion import MAX_PITCH_RAD
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from envs.tasks.point_goal import PointGoal
from scene.query import PREDICATES
from scene.render import Frame

RANGE_M = 5.0  # distances are cut here and divided by it
SECTORS = 16  # directions of the free-distance scan, left to right
OBSTACLE_M = (0.1, 1.5)  # heights that stop the agent
_ERRAND = re.compile(r"^(?:please )?(?:find|go to|walk to|pick up|put|bring) ", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:the|an?) ", re.IGNORECASE)
_RELATING = sorted({word for predicate in PREDICATES.values() for word in predicate.words} | {"that is", "with"})
_RELATION = re.compile(rf" (?:{'|'.join(map(re.escape, reversed(_RELATING)))})\b.*", re.IGNORECASE)

Note = dict[str, Tensor]
"""What an agent remembers of its episode, by name, one row per environment."""


@dataclass
class Sight:
    """What became of one frame per environment."""

    observation: Observation
    note: Note  # after this frame
    embedding: Float[Tensor, "B D"] | None = None  # of the whole image, where a two-tower model looked at it


class Senses(Protocol):
    """From frames and sentences to observations."""

    sensors: Sensors

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """What `observe` gives; known once attached."""
        ...

    def attach(self, simulator: Simulator) -> None:
        """Learns a simulator's sentences, homes and actions; again whenever its homes change."""
        ...

    def carried(self, note: Note) -> Note:
        """Notes from before the homes changed, for those attached now; of agents whose home stays."""
        ...

    def begin(self, state: SimState) -> Note:
        """Notes of agents at their episodes' starts."""
        ...

    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """What the agents see, with the note that the last frame left and `note["action"]` the action taken since."""
        ...


def asked_for(text: str) -> str:
    """The thing a sentence asks for, without errand and article: "go to the chair by the bed" -> "chair by the bed"."""
    return _ARTICLE.sub("", _ERRAND.sub("", text.strip(), count=1), count=1)


def head_of(thing: str) -> str:
    """The thing without what it stands in relation to: "chair that is next to the bed" -> "chair".

    What a model is asked for that was trained on captions, which name things and their colours alone.
    """
    return _RELATION.sub("", thing, count=1)


def with_rows(note: Note, rows: Int64[Tensor, " K"], new: Note) -> Note:
    """A copy of the note in which some rows are the new ones."""
    merged = {name: column.clone() for name, column in note.items()}
    for name, column in new.items():
        merged[name][rows] = column
    return merged


class SentenceTable:
    """Tensors that depend on a sentence alone, computed once per distinct sentence.

    Kept are the sentences of the homes attached first and of those attached now. Those attached first are computed
    together, every later one by itself: a network's last bits depend on what else is in its batch, and a run that
    resumes in other homes than it began in should find the same numbers as one that met them one after the other.

    Args:
        compute: sentences to named tensors of one row each.
    """

    def __init__(self, compute: Callable[[list[str]], dict[str, Tensor]]) -> None:
        self.compute = compute
        self.columns: dict[str, Tensor] = {}
        self._row: dict[str, int] = {}
        self._first: frozenset[str] | None = None
        self._texts: Sequence[str] = ()
        self._of_text = torch.zeros(0, dtype=torch.int64)  # row of each of the simulator's sentences, -1 = none yet
        self._device = torch.device("cpu")  # the simulator's; columns lie there

    def __len__(self) -> int:
        return len(self._row)

    def attach(self, simulator: Simulator) -> None:
        """Computes what is missing of the sentences that this simulator's homes offer."""
        self._texts, self._device = simulator.texts, simulator.device
        self.columns = {name: column.to(self._device) for name, column in self.columns.items()}
        offered = list(dict.fromkeys(goal.text for home in simulator.fields.goals for goal in home))
        if self._first is None:
            self._first = frozenset(offered)
            self._append(offered)
        else:
            self._keep(self._first.union(offered))
            self._add(offered)
        self._number()

    def _keep(self, wanted: Set[str]) -> None:
        if self._row.keys() <= wanted:
            return
        kept = {text: row for text, row in self._row.items() if text in wanted}
        rows = torch.tensor(list(kept.values()), dtype=torch.int64, device=self._device)
        self.columns = {name: column[rows] for name, column in self.columns.items()}
        self._row = {text: number for number, text in enumerate(kept)}

    def _add(self, texts: Iterable[str]) -> None:
        for text in dict.fromkeys(texts):
            if text not in self._row:
                self._append([text])

    def _append(self, texts: list[str]) -> None:
        if not texts:
            return
        made = {name: column.to(self._device) for name, column in self.compute(texts).items()}
        for name, column in made.items():
            assert len(column) == len(texts), f"{name}: {len(column)} rows for {len(texts)} sentences"
            self.columns[name] = torch.cat([self.columns[name], column]) if name in self.columns else column
        self._row |= {text: len(self._row) + index for index, text in enumerate(texts)}

    def _number(self) -> None:
        rows = [self._row.get(text, -1) for text in self._texts]
        self._of_text = torch.tensor(rows, dtype=torch.int64, device=self._device)

    def rows(self, text: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
        """Rows of `columns` for the sentences that `state.text` names."""
        row = self._of_text[text]
        if len(row) and int(row.min()) < 0:  # a sentence no home offers: put in by hand
            self._add([self._texts[int(number)] for number in text[row < 0]])
            self._number()
            row = self._of_text[text]
        return row


class Body:
    """What an agent knows of itself, as one vector: last action, bump, time, way since the start, head and hand.

    Args:
        simulator: whose actions and task it has. In PointGoal the place to go to is sensed relative to the agent.
        max_steps: actions of an episode in training.
    """

    def __init__(self, simulator: Simulator, max_steps: int) -> None:
        self.simulator, self.max_steps = simulator, max_steps
        self.continuous = simulator.action_size if simulator.control == "continuous" else 0
        self.actions = self.continuous or len(simulator.action_names)
        self.tilt, self.hand = simulator.tilt, simulator.hands is not None
        self.point = isinstance(simulator.task, PointGoal)

    @property
    def size(self) -> int:
        """Length of the vector."""
        return self.actions + 6 + self.tilt + self.hand + 3 * self.point

    def begin(self, state: SimState) -> Note:
        """The part of a note that the body keeps."""
        batch, device = len(state), state.env.device
        action = torch.full((batch,), -1, device=device)
        if self.continuous:
            action = torch.zeros(batch, self.continuous, device=device)
        return {
            "action": action,
            "collisions": state.collisions.float(),
            "start": torch.cat([state.position.float(), state.yaw.float()[:, None]], 1),
        }

    def sense(self, state: SimState, note: Note) -> tuple[Float[Tensor, "B S"], Note]:
        """The vector, and the note after it."""
        action = note["action"] if self.continuous else F.one_hot(note["action"] + 1, self.actions + 1)[:, 1:].float()
        collisions = state.collisions.float()
        ahead, aside = relative(state.position.float()[:, None], note["start"][:, :2], note["start"][:, 2])
        turned = state.yaw.float() - note["start"][:, 2]
        columns = [
            (collisions > note["collisions"]).float(),
            state.step / self.max_steps,
            (ahead[:, 0] / RANGE_M).clamp(-2, 2),
            (aside[:, 0] / RANGE_M).clamp(-2, 2),
            turned.cos(),
            turned.sin(),
        ]
        if self.tilt:
            columns.append(state.pitch / MAX_PITCH_RAD)
        if self.hand:
            assert state.world is not None
            columns.append((state.world.held >= 0).float())
        if self.point:
            ahead, aside = relative(self._points(state)[:, None], state.position.float(), state.yaw.float())
            distance = torch.hypot(ahead, aside).clamp(min=1e-3)[:, 0]
            columns += [(distance / RANGE_M).clamp(max=2), ahead[:, 0] / distance, aside[:, 0] / distance]
        vector = torch.cat([action, torch.stack([column.float() for column in columns], 1)], 1)
        return vector, {**note, "collisions": collisions}

    def _points(self, state: SimState) -> Float[Tensor, "B 2"]:
        places = []
        for row in range(len(state)):
            place = self.simulator.goal(state, row).stages[0].place
            assert place is not None, "goals of PointGoal are places"
            places.append(place)
        return torch.tensor(places, device=state.env.device)


def relative(
    points: Float[Tensor, "B N 2"], position: Float[Tensor, "B 2"], yaw: Float[Tensor, " B"]
) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B N"]]:
    """How far points lie ahead of an agent and to its right, metres."""
    offset = points - position[:, None]
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    return offset[..., 0] * cos + offset[..., 1] * sin, offset[..., 0] * sin - offset[..., 1] * cos


class Scan:
    """Metres to the nearest obstacle in each of SECTORS directions of the picture, cut at RANGE_M."""

    def __init__(self, sensors: Sensors) -> None:
        self.sensors = sensors
        extent = math.tan(math.radians(sensors.fov_deg) / 2)
        self.across = ((torch.arange(sensors.width) + 0.5) / sensors.width * 2 - 1) * extent
        self.down = ((torch.arange(sensors.height) + 0.5) / sensors.width * 2 - sensors.height / sensors.width) * extent

    def slopes(self, pitch: Float[Tensor, " B"]) -> tuple[Float[Tensor, "B H"], Float[Tensor, "B H"]]:
        """Per metre of depth and row of the picture: how far a point is ahead, and above the eye."""
        angle = math.radians(self.sensors.pitch_deg) + pitch.float()[:, None]
        return angle.cos() + angle.sin() * self.down, angle.sin() - angle.cos() * self.down

    def __call__(self, depth: Float[Tensor, "B H W"], pitch: Float[Tensor, " B"]) -> Float[Tensor, "B S"]:
        """From depth in metres, 0 where nothing was hit, and the tilt of the agents' heads."""
        ahead, rise = self.slopes(pitch)
        depth = torch.where(depth > 0, depth, 2 * RANGE_M)
        height = self.sensors.eye_height_m + depth * rise[:, :, None]
        blocks = (height > OBSTACLE_M[0]) & (height < OBSTACLE_M[1])
        # (B, H, W) distances on the floor: hypot of the way ahead and the way aside, both proportional to depth
        reach = depth * torch.hypot(ahead[:, :, None], self.across)
        nearest = torch.where(blocks, reach, RANGE_M).amin(1).clamp(max=RANGE_M)
        return -F.adaptive_max_pool1d(-nearest[:, None], SECTORS)[:, 0]  # the nearest within each sector

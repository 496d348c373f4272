"""The grounder's objects: what the agent has seen so far, where it stands, and how well the sentence fits it.

Assumed: the home has been mapped before, so its objects are known as points in space (what a `Grounder` reads), and the
agent's camera tells which object each pixel belongs to. The grounder scores every object of the home for the sentence
once, at the episode's start; no knowledge of the goal enters. The agent is shown an object's place and score only from
the moment it has seen it. From then on it remembers where it stood, so it need not find it again.

Every object is a token: its geometry relative to the agent and its score. The tokens with the highest scores are
shown, in an order without meaning. The best of them, the free distance in 16 directions and the body make the vector.
In large homes each room is scored apart, as the grounder is trained, and the rooms' logits are put side by side.
"""

import weakref

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.encoders import ObservationSpec
from agents.senses import RANGE_M, SECTORS, Body, Note, Scan, Sight, asked_for, relative
from core.errors import InputError
from envs.object_view import object_pixels
from envs.pool import Home
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.graph import spoken_room_by_room
from scene.grounder import Grounder
from scene.render import Frame
from scene.support import room_of_objects

TOKENS = 8  # objects shown
TOKEN_SIZE = 15
SCORES = 3  # numbers of a score: see SceneScores
MIN_PIXELS = 6  # of a picture 64 pixels wide: an object that covers fewer has not been seen
LOW = -12.0  # logits further below the best are cut here
STALE_STEPS = 24.0  # two turns on the spot


class SceneScores:
    """How well sentences fit the objects of homes, by a grounder; each home and sentence is scored once.

    Three numbers an object: the softmax over the home's objects, the logit below the best one's (over 6, from -2), and
    1 / (1 + rank). Objects that no sentence may mean get 0, -2, 0.
    """

    def __init__(self, grounder: Grounder, seed: int = 0) -> None:
        self.grounder, self.seed = grounder, seed
        self._known: weakref.WeakKeyDictionary[Home, dict[str, Tensor]] = weakref.WeakKeyDictionary()

    def prepare(self, home: Home, texts: list[str]) -> None:
        """Scores the sentences that were not scored before in a home."""
        known = self._known.setdefault(home, {})
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, self._score(home, new)))

    def __call__(self, home: Home, text: str) -> Float[Tensor, "N 3"]:
        """Scores of the home's objects, in the order of scene.objects."""
        self.prepare(home, [text])
        return self._known[home][text]

    def _score(self, home: Home, texts: list[str]) -> Float[Tensor, "S N 3"]:
        scene, count = home.scene, len(home.scene.objects)
        rooms = [-1]
        if spoken_room_by_room(scene):
            rooms = sorted({int(room) for room in room_of_objects(scene) if room >= 0})
        logits = torch.full((len(texts), count), -torch.inf)
        sentences = [f"the {asked_for(text)}" for text in texts]
        for sentence in sentences:
            self.grounder.check_sentence(sentence)
        for room in rooms:
            objects = self.grounder.objects(scene, room=room, seed=self.seed)
            logits[:, objects.ids] = self.grounder.score(objects, sentences)
        if not bool(torch.isfinite(logits).any(1).all()):
            raise InputError(f"home {home.name} has no object that a sentence could mean; leave it out")
        below = (logits - logits.amax(1, keepdim=True)).clamp(min=LOW)
        rank = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        share = torch.where(torch.isfinite(logits), 1 / (1 + rank), 0.0)
        return torch.stack([logits.softmax(1), below / 6, share], 2)


class ObjectSenses:
    """Tokens of the objects seen so far, and a vector.

    Args:
        max_steps: length of an episode in training.
    """

    def __init__(self, grounder: Grounder, sensors: Sensors, max_steps: int) -> None:
        self.scores, self.sensors, self.max_steps = SceneScores(grounder), sensors, max_steps
        self.scan = Scan(sensors)
        self.min_pixels = MIN_PIXELS * (sensors.width / 64) ** 2
        self.simulator: Simulator | None = None
        self.body: Body | None = None

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """tokens, token_mask, vector."""
        assert self.body is not None, "attach a simulator first"
        return {
            "tokens": ObservationSpec((TOKENS, TOKEN_SIZE)),
            "token_mask": ObservationSpec((TOKENS,), "bool"),
            "vector": ObservationSpec((TOKEN_SIZE + 3 + SECTORS + self.body.size,)),
        }

    def attach(self, simulator: Simulator) -> None:
        """Reads the boxes of the simulator's homes; sentences are scored when a home is first entered."""
        self.simulator, self.body = simulator, Body(simulator, self.max_steps)
        homes = simulator.homes.homes
        self.most = max(1, max(len(home.scene.objects) for home in homes))
        boxes = np.zeros((len(homes), self.most, 7), dtype=np.float32)
        slots = np.full((len(homes), self.most), -1)
        for index, home in enumerate(homes):
            for number, item in enumerate(home.scene.objects):
                boxes[index, number] = item.box
            if simulator.hands is not None:
                slots[index, home.things] = np.arange(len(home.things))
        self.boxes, self.slots = torch.from_numpy(boxes), torch.from_numpy(slots)
        self.floor = torch.from_numpy(np.array(simulator.homes.floor_z, dtype=np.float32))

    def carried(self, note: Note) -> Note:
        """With room for as many objects as the homes attached now have."""
        blank = self._unseen(len(note["last_seen"]))
        keep = min(self.most, note["last_seen"].shape[1])  # what is cut off belongs to homes that are gone
        for name, column in blank.items():
            column[:, :keep] = note[name][:, :keep]
        return {**note, **blank}

    def _unseen(self, batch: int) -> Note:
        scores = torch.zeros(batch, self.most, SCORES)
        scores[:, :, 1] = LOW / 6
        return {
            "scores": scores,
            "pixels": torch.zeros(batch, self.most),  # share of the picture each covers now
            "last_seen": torch.full((batch, self.most), -1),  # step of the episode, -1 = never
            "place": torch.zeros(batch, self.most, 3),  # where it stood when last seen, world, metres
        }

    def begin(self, state: SimState) -> Note:
        """Nothing seen yet; the sentence is scored."""
        assert self.simulator is not None and self.body is not None, "attach a simulator first"
        texts, unseen = self.simulator.texts, self._unseen(len(state))
        for row, (index, number) in enumerate(zip(state.home.tolist(), state.text.tolist())):
            home = self.simulator.homes[index]
            self.scores.prepare(home, [goal.text for goal in self.simulator.fields.goals[index]])
            found = self.scores(home, texts[number])
            unseen["scores"][row, : len(found)] = found
        return {**self.body.begin(state), **unseen}

    @torch.no_grad()
    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """What is seen joins what is remembered; the best-scored of both are shown."""
        assert self.body is not None, "attach a simulator first"
        body, note = self.body.sense(state, note)
        note = self._look(frame, state, note)
        seen = note["last_seen"] >= 0
        described = self._describe(state, note)  # (B, N, F)
        order = note["scores"][:, :, 1].masked_fill(~seen, -torch.inf)
        count = min(TOKENS, self.most)
        chosen = order.topk(count, dim=1).indices
        tokens = torch.zeros(len(state), TOKENS, TOKEN_SIZE)
        mask = torch.zeros(len(state), TOKENS, dtype=torch.bool)
        mask[:, :count] = seen.gather(1, chosen)
        picked = described.gather(1, chosen[:, :, None].expand(-1, -1, TOKEN_SIZE))
        tokens[:, :count] = picked * mask[:, :count, None]
        share = note["scores"][:, :, 0] * seen
        gathered = [mask[:, 0].float(), seen.sum(1) / 10, share.sum(1)]
        free = self.scan(frame.depth, state.pitch) / RANGE_M
        vector = torch.cat([tokens[:, 0], torch.stack(gathered, 1), free, body], 1)
        return Sight({"tokens": tokens, "token_mask": mask, "vector": vector}, note)

    def _look(self, frame: Frame, state: SimState, note: Note) -> Note:
        """The note with the objects that the picture shows."""
        counts = torch.from_numpy(object_pixels(frame.instance, self.most)[0])
        visible = counts >= self.min_pixels
        return {
            **note,
            "pixels": counts / frame.instance[0].numel(),
            "last_seen": torch.where(visible, state.step[:, None], note["last_seen"]),
            "place": torch.where(visible[:, :, None], self._centres(state), note["place"]),
        }

    def _centres(self, state: SimState) -> Float[Tensor, "B N 3"]:
        """Where objects are now."""
        boxes = self.boxes[state.home]
        centres = boxes[..., :3]
        if state.world is None or state.world.pose.shape[1] == 0:
            return centres
        slot = self.slots[state.home]
        moved = state.world.pose.float().gather(1, slot.clamp(min=0)[:, :, None].expand(-1, -1, 4))[..., :3]
        moved = moved + torch.cat([torch.zeros_like(moved[..., :2]), boxes[..., 5:6] / 2], -1)  # bottom -> centre
        return torch.where((slot >= 0)[:, :, None], moved, centres)

    def _describe(self, state: SimState, note: Note) -> Float[Tensor, "B N F"]:
        position, yaw = state.position.float(), state.yaw.float()
        place, boxes = note["place"], self.boxes[state.home]
        ahead, aside = relative(place[..., :2], position, yaw)
        distance = torch.hypot(ahead, aside)
        gap = self._gap(place, boxes, position)
        eye = self.floor[state.home] + self.sensors.eye_height_m
        visible = note["last_seen"] == state.step[:, None]
        columns = [
            *note["scores"].unbind(-1),
            (ahead / RANGE_M).clamp(-2, 2),
            (aside / RANGE_M).clamp(-2, 2),
            (distance / RANGE_M).clamp(max=2),
            ahead / distance.clamp(min=0.05),
            aside / distance.clamp(min=0.05),
            (gap / 2).clamp(max=2),
            (gap < 1.0).float(),
            place[..., 2] - eye[:, None],
            boxes[..., 3:5].amax(-1) / 2,
            visible.float(),
            note["pixels"].sqrt(),
            ((state.step[:, None] - note["last_seen"]) / STALE_STEPS).clamp(max=2.0),
        ]
        described = torch.stack(columns, -1)
        assert described.shape[-1] == TOKEN_SIZE, described.shape
        return described

    def _gap(
        self, place: Float[Tensor, "B N 3"], boxes: Float[Tensor, "B N 7"], position: Float[Tensor, "B 2"]
    ) -> Float[Tensor, "B N"]:
        """Metres from the agent to each object's footprint, 0 inside it."""
        offset = position[:, None] - place[..., :2]
        cos, sin = boxes[..., 6].cos(), boxes[..., 6].sin()
        along = (offset[..., 0] * cos + offset[..., 1] * sin).abs() - boxes[..., 3] / 2
        across = (offset[..., 1] * cos - offset[..., 0] * sin).abs() - boxes[..., 4] / 2
        return torch.hypot(along.clamp(min=0), across.clamp(min=0))

"""What an agent knows of the objects of its home: which it has seen, where they stood, how well the sentence fits them.

Assumed: the home has been mapped before, so its objects are known as points in space (what a `Grounder` reads), and the
agent's camera tells which object each pixel belongs to. The grounder scores every object of the home for the sentence
once, at the episode's start; no knowledge of the goal enters. In large homes each room is scored apart, as the grounder
is trained, and the rooms' logits are put side by side.
"""

import weakref
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.senses import Note, asked_for
from core.errors import InputError
from envs.object_view import object_pixels
from envs.pool import Home
from envs.simulator import Simulator
from envs.state import SimState
from scene.batch import ObjectSet
from scene.graph import spoken_room_by_room
from scene.render import Frame
from scene.support import room_of_objects
from scene.types import Scene

SCORES = 3  # numbers of a score: see SceneScores
MIN_PIXELS = 6  # of a picture 64 pixels wide: an object that covers fewer has not been seen
LOW = -12.0  # logits further below the best are cut here


class ScoresObjects(Protocol):
    """What is asked of a grounder (scene/grounder.py)."""

    def check_sentence(self, sentence: str) -> tuple[str, ...]:
        """Raises InputError where it knows no word of a sentence."""
        ...

    def objects(self, scene: Scene, *, room: int = -1, seed: int = 0) -> ObjectSet:
        """Candidates of a home or of one of its rooms."""
        ...

    def score(self, objects: ObjectSet, sentences: list[str]) -> Float[Tensor, "S N"]:
        """Logits of every candidate for every sentence."""
        ...


class SceneScores:
    """How well sentences fit the objects of homes, by a grounder; each home and sentence is scored once.

    Three numbers an object: the softmax over the home's objects, the logit below the best one's (over 6, from -2), and
    1 / (1 + rank). Objects that no sentence may mean get 0, -2, 0.
    """

    def __init__(self, grounder: ScoresObjects, seed: int = 0) -> None:
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


class ObjectMemory:
    """Notes of the objects that agents have seen in their episodes.

    A note's columns, for N objects of the largest home: scores (B, N, 3), of all objects from the start; pixels (B, N),
    share of the picture each covers now; last_seen (B, N), step of the episode, -1 = never; place (B, N, 3), where its
    middle stood when last seen, world, metres.
    """

    def __init__(self, scores: SceneScores) -> None:
        self.scores = scores
        self.simulator: Simulator | None = None

    def attach(self, simulator: Simulator) -> None:
        """Reads the boxes of the simulator's homes; sentences are scored when a home is first entered."""
        self.simulator = simulator
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

    def carried(self, note: Note) -> Note:
        """Notes from before the homes changed, with room for as many objects as the homes attached now have."""
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
            "pixels": torch.zeros(batch, self.most),
            "last_seen": torch.full((batch, self.most), -1),
            "place": torch.zeros(batch, self.most, 3),
        }

    def begin(self, state: SimState) -> Note:
        """Nothing seen yet; the sentence is scored."""
        unseen = self._unseen(len(state))
        unseen["scores"] = self.scores_of(state.home, state.text)
        return unseen

    def scores_of(self, home: Tensor, text: Tensor) -> Float[Tensor, "B N 3"]:
        """Scores of the objects of homes (B,) for sentences (B,), numbers of Simulator.texts."""
        assert self.simulator is not None, "attach a simulator first"
        scores = self._unseen(len(home))["scores"]
        for row, (index, number) in enumerate(zip(home.tolist(), text.tolist())):
            place = self.simulator.homes[index]
            self.scores.prepare(place, [goal.text for goal in self.simulator.fields.goals[index]])
            found = self.scores(place, self.simulator.texts[number])
            scores[row, : len(found)] = found
        return scores

    def look(self, frame: Frame, state: SimState, note: Note) -> Note:
        """The note with the objects that the picture shows."""
        counts = torch.from_numpy(object_pixels(frame.instance, self.most)[0])
        visible = counts >= MIN_PIXELS * (frame.instance.shape[2] / 64) ** 2
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

    def gap(self, state: SimState, note: Note) -> Float[Tensor, "B N"]:
        """Metres from the agent to each object's footprint where it was last seen, 0 inside it."""
        boxes = self.boxes[state.home]
        offset = state.position.float()[:, None] - note["place"][..., :2]
        cos, sin = boxes[..., 6].cos(), boxes[..., 6].sin()
        along = (offset[..., 0] * cos + offset[..., 1] * sin).abs() - boxes[..., 3] / 2
        across = (offset[..., 1] * cos - offset[..., 0] * sin).abs() - boxes[..., 4] / 2
        return torch.hypot(along.clamp(min=0), across.clamp(min=0))

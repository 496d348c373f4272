"""Frozen two-tower features: what lights up for the sentence, where, and where it was seen best so far.

For every frame the image tower gives a local map in the space of sentences. Its cells are compared with the sentence,
so the network below never sees which words or colours there are: it learns to search and approach whatever lights up,
which is why goals it was never trained on work as well. Beside this "where does it look like the goal" go the free
distance in 16 directions (from depth), what the body knows of itself, and a note of where the best match so far was
seen.

Scores are standardised by `FrameStatistics`: mean and covariance of features over unlabelled frames of the training
homes, which give the mean and spread of any sentence's scores in closed form.
"""

import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from agents.encoders import ObservationSpec
from agents.senses import RANGE_M, SECTORS, Body, Note, Scan, SentenceTable, Sight, asked_for, head_of, relative
from core.errors import InputError, existing_file
from core.files import atomic_write
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from scene.captions import goal_prompts, noun
from scene.render import Frame
from vl.model import VLModel

STALE_PER_STEP = 0.99  # a remembered match fades, so that a fresh one of nearly the same score replaces it
SCALARS = 13


@dataclass
class FrameStatistics:
    """First and second moments of a tower's features over frames."""

    cell_mean: Float[Tensor, " D"]
    cell_cov: Float[Tensor, "D D"]
    image_mean: Float[Tensor, " D"]
    image_cov: Float[Tensor, "D D"]

    @classmethod
    def fit(cls, maps: Float[Tensor, "M h w D"]) -> "FrameStatistics":
        """From the local maps of M frames."""
        cells, images = maps.flatten(0, 2), maps.mean((1, 2))
        return cls(cells.mean(0), torch.cov(cells.T), images.mean(0), torch.cov(images.T))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file."""
        atomic_write(path, save({f.name: getattr(self, f.name).contiguous() for f in fields(self)}))

    @classmethod
    def load(cls, path: str | Path, dim: int) -> "FrameStatistics":
        """Read what `save` wrote. Raises InputError for a damaged file or one of a tower of another width."""
        path = existing_file(path, "frame statistics")
        try:
            statistics = cls(**load(path.read_bytes()))
        except (SafetensorError, TypeError) as error:
            raise InputError(f"{path} is not a readable statistics file ({error}); train the policy again") from error
        if statistics.cell_mean.shape != (dim,):
            raise InputError(
                f"the policy was trained on a tower of width {len(statistics.cell_mean)}, vl= has width {dim}; "
                "give the tower it was trained with"
            )
        return statistics


@dataclass
class Perception:
    """One frame per environment, as the tower and the depth camera see it."""

    embedding: Float[Tensor, "B D"]  # unit image embedding
    image_score: Float[Tensor, " B"]  # how much the whole image looks like having arrived, standardised
    arrival_score: Float[Tensor, " B"]  # the same for the best single cell
    score: Float[Tensor, "B h w"]  # how much each cell looks like the goal, standardised
    cell_depth: Float[Tensor, "B h w"]  # metres
    free: Float[Tensor, "B S"]  # metres to the nearest obstacle in each sector, cut at RANGE_M


class TwoTowerSenses:
    """Frames and sentences to observation vectors, through a frozen two-tower model.

    Cells are compared with the embedding of the bare name ("a red armchair"); the whole image and its best cell with
    the mean embedding of captions of views that show it within reach. What the sentence relates the thing to ("... next
    to the window") is left out: the captions that such a model reads do not say it.

    Args:
        statistics: of frames from the training homes.
        sensors: the agent's camera.
        max_steps: length of an episode in training.
        half: run the image tower in bfloat16; twice as fast where the processor has it.
        tune: show the picture, too, to a policy that trains the tower (agents/tuned.py).
    """

    def __init__(
        self,
        model: VLModel,
        statistics: FrameStatistics,
        sensors: Sensors,
        max_steps: int,
        *,
        half: bool = False,
        tune: bool = False,
    ) -> None:
        self.model, self.statistics, self.sensors = model, statistics, sensors
        self.max_steps, self.half, self.tune = max_steps, half, tune
        self.table = SentenceTable(self._filters)
        self.scan = Scan(sensors)
        probe = model.encode_image_map(torch.zeros(1, sensors.height, sensors.width, 3, dtype=torch.uint8))
        self.rows, self.columns = probe.shape[1:3]
        self.body: Body | None = None

    def _filters(self, texts: list[str]) -> dict[str, Tensor]:
        things = [head_of(asked_for(text)) for text in texts]
        names = self.model.encode_texts([noun(thing) for thing in things])
        prompts = [goal_prompts(thing) for thing in things]
        vectors = self.model.encode_texts([prompt for each in prompts for prompt in each])
        arrivals = vectors.view(len(texts), len(prompts[0]), -1).mean(1)
        found = {}
        cells, images = (
            (self.statistics.cell_mean, self.statistics.cell_cov),
            (self.statistics.image_mean, self.statistics.image_cov),
        )
        for name, direction, moments in (
            ("name", names, cells),
            ("arrival", arrivals, cells),
            ("image", arrivals, images),
        ):
            found[f"{name}_filter"], found[f"{name}_offset"] = _standardised(direction, *moments)
        return found

    @property
    def spec(self) -> dict[str, ObservationSpec]:
        """One vector of features; image, depth and text (the sentence's filter) where the tower is tuned."""
        assert self.body is not None, "attach a simulator first"
        spec = {"vector": ObservationSpec((2 * self.columns + self.rows + SECTORS + SCALARS + self.body.size,))}
        if self.tune:
            height, width = self.sensors.height, self.sensors.width
            spec["image"] = ObservationSpec((height, width, 3), "uint8")
            spec["depth"] = ObservationSpec((height, width))
            spec["text"] = ObservationSpec((self.model.dim + 1,))
        return spec

    def attach(self, simulator: Simulator) -> None:
        """Embeds the sentences that the simulator's homes offer."""
        self.table.attach(simulator)
        self.body = Body(simulator, self.max_steps)

    def carried(self, note: Note) -> Note:
        """Unchanged: nothing in it depends on the homes."""
        return note

    def begin(self, state: SimState) -> Note:
        """Nothing seen yet."""
        assert self.body is not None, "attach a simulator first"
        batch = len(state)
        return {
            **self.body.begin(state),
            "score": torch.full((batch,), -10.0),  # of the best match so far, faded
            "spot": torch.zeros(batch, 2),  # where that match stood, world xy as the agent estimates it
            "age": torch.zeros(batch),  # steps since
        }

    def observe(self, frame: Frame, state: SimState, note: Note) -> Sight:
        """The observation vector, the note after this frame, and the image's embedding."""
        seen = self.perceive(frame, state.text, state.pitch)
        vector, note = self.describe(seen, state, note)
        observation = {"vector": vector}
        if self.tune:
            row, column = self.table.rows(state.text), self.table.columns
            text = torch.cat([column["name_filter"][row], column["name_offset"][row, None]], 1)
            observation |= {"image": frame.rgb, "depth": frame.depth, "text": text}
        return Sight(observation, note, seen.embedding)

    @torch.no_grad()
    def perceive(self, frame: Frame, text: Int64[Tensor, " B"], pitch: Float[Tensor, " B"]) -> Perception:
        """Run the tower's image side on a frame and compare it with the sentences."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half):
            maps = self.model.encode_image_map(frame.rgb)
        row = self.table.rows(text)
        column = {name: values[row] for name, values in self.table.columns.items()}
        score = torch.einsum("bhwd,bd->bhw", maps, column["name_filter"]) - column["name_offset"][:, None, None]
        arrival = torch.einsum("bhwd,bd->bhw", maps, column["arrival_filter"]).flatten(1)
        embedding = maps.mean((1, 2))
        image_score = (embedding * column["image_filter"]).sum(-1) - column["image_offset"]
        depth = torch.where(frame.depth > 0, frame.depth, 2 * RANGE_M)
        cell_depth = F.adaptive_avg_pool2d(depth[:, None], (self.rows, self.columns))[:, 0]
        arrival_score = arrival.amax(1) - column["arrival_offset"]
        return Perception(embedding, image_score, arrival_score, score, cell_depth, self.scan(frame.depth, pitch))

    def describe(self, seen: Perception, state: SimState, note: Note) -> tuple[Float[Tensor, "B F"], Note]:
        """The observation vector, and the note after this frame.

        Args:
            state: read as agents/senses.py says.
            note: as left by the previous frame of the episode, with the action taken since.
        """
        assert self.body is not None, "attach a simulator first"
        best, cell = seen.score.flatten(1).max(1)
        row, column = cell // self.columns, cell % self.columns
        depth = seen.cell_depth.flatten(1).gather(1, cell[:, None])[:, 0]
        right = ((column + 0.5) / self.columns * 2 - 1) * math.tan(math.radians(self.sensors.fov_deg) / 2) * depth

        position, yaw = state.position.float(), state.yaw.float()
        forward = torch.stack([yaw.cos(), yaw.sin()], 1)
        sideways = torch.stack([yaw.sin(), -yaw.cos()], 1)  # to the right
        spot = position + forward * depth[:, None] + sideways * right[:, None]
        faded = note["score"] * torch.where(note["score"] > 0, STALE_PER_STEP, 1.0)
        better = best >= faded
        body, note = self.body.sense(state, note)
        note = {
            **note,
            "score": torch.where(better, best, faded),
            "spot": torch.where(better[:, None], spot, note["spot"]),
            "age": torch.where(better, 0.0, note["age"] + 1),
        }
        ahead, aside = (part[:, 0] for part in relative(note["spot"][:, None], position, yaw))
        distance = torch.hypot(ahead, aside)

        column_best, column_row = seen.score.max(1)
        column_depth = seen.cell_depth.gather(1, column_row[:, None, :])[:, 0]
        scalars = [
            best,
            (column + 0.5) / self.columns * 2 - 1,
            (row + 0.5) / self.rows * 2 - 1,
            depth.clamp(max=RANGE_M) / RANGE_M,
            seen.image_score,
            seen.arrival_score,
            note["score"],
            ahead.clamp(-RANGE_M, RANGE_M) / RANGE_M,
            aside.clamp(-RANGE_M, RANGE_M) / RANGE_M,
            distance.clamp(max=RANGE_M) / RANGE_M,
            ahead / distance.clamp(min=0.05),
            aside / distance.clamp(min=0.05),
            (note["age"] / 12).clamp(max=2.0),  # one turn on the spot = 1
        ]
        parts = [
            column_best,
            column_depth.clamp(max=RANGE_M) / RANGE_M,
            seen.score.amax(2),
            seen.free / RANGE_M,
            torch.stack([part.float() for part in scalars], 1),
            body,
        ]
        observation = torch.cat(parts, 1)
        assert observation.shape[1:] == self.spec["vector"].shape, observation.shape
        return observation, note


def _standardised(
    direction: Float[Tensor, "G D"], mean: Float[Tensor, " D"], cov: Float[Tensor, "D D"]
) -> tuple[Float[Tensor, "G D"], Float[Tensor, " G"]]:
    """Filters along `direction`, and offsets, so that `feature @ filter - offset` has mean 0 and variance 1."""
    spread = torch.einsum("gd,de,ge->g", direction, cov, direction).clamp(min=1e-12).sqrt()
    filters = direction / spread[:, None]
    return filters, filters @ mean

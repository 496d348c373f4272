"""What the agent perceives: frozen features of a two-tower model and a depth picture, as one vector per environment.

For every frame the image tower gives a local map in the space of sentences. Its cells are compared with the goal's
sentence, so the network below never sees which words or colours there are: it learns to search and approach whatever
lights up, which is why goals it was never trained on work as well. Beside this "where does it look like the goal" go
the free distance in 16 directions (from depth), the last action, and a note of where the best match so far was seen.
Pose relative to the start is known to the agent (GPS + compass, as in Habitat's ObjectNav).

Scores are standardised by `FrameStatistics`: mean and covariance of features over unlabelled frames of the training
homes, which give the mean and spread of any sentence's scores in closed form.
"""

import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from core.errors import InputError, existing_file
from core.files import atomic_write
from envs.state import ACTION_NAMES, Sensors, SimState
from scene.render import Frame
from vl.two_tower import VLModel

RANGE_M = 5.0  # distances are cut here and divided by it
SECTORS = 16  # directions of the free-distance scan, left to right
OBSTACLE_M = (0.1, 1.5)  # heights that stop the agent
STALE_PER_STEP = 0.99  # a remembered match fades, so that a fresh one of nearly the same score replaces it


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


@dataclass
class Note:
    """What the agent remembers of its episode, one row per environment."""

    score: Float[Tensor, " B"]  # of the best match so far, faded
    spot: Float[Tensor, "B 2"]  # where that match stood, world xy as the agent estimates it
    age: Float[Tensor, " B"]  # steps since
    action: Int64[Tensor, " B"]  # last action, -1 at the start
    collisions: Float[Tensor, " B"]  # bumps so far

    @classmethod
    def empty(cls, batch: int) -> "Note":
        """At an episode's start."""
        zero = torch.zeros(batch)
        return cls(zero - 10.0, torch.zeros(batch, 2), zero, torch.full((batch,), -1), zero)

    def where(self, mask: Bool[Tensor, " B"], other: "Note") -> "Note":
        """Rows of `other` where the mask is set, own rows elsewhere."""

        def pick(name: str) -> Tensor:
            new, old = getattr(other, name), getattr(self, name)
            return torch.where(mask.view(-1, *[1] * (new.ndim - 1)), new, old)

        return Note(**{f.name: pick(f.name) for f in fields(self)})

    def rows(self, index: Tensor) -> "Note":
        """The environments picked by an index."""
        return Note(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def state_dict(self) -> dict[str, Tensor]:
        """Its tensors by name: `Note(**saved)` brings it back."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


class ObservationEncoder:
    """Frames and goals to observation vectors.

    Args:
        model: the two towers, frozen.
        names: per goal the embedding of its bare name ("a red armchair"), which cells are compared with.
        arrivals: per goal the mean embedding of its prompts ("a red armchair within reach ..."), which the whole image
            and its best cell are compared with.
        statistics: of frames from the training homes.
        sensors: the agent's camera.
        max_steps: length of an episode.
        half: run the image tower in bfloat16; twice as fast where the processor has it.
    """

    def __init__(
        self,
        model: VLModel,
        names: Float[Tensor, "G D"],
        arrivals: Float[Tensor, "G D"],
        statistics: FrameStatistics,
        sensors: Sensors,
        max_steps: int,
        *,
        half: bool = False,
    ) -> None:
        self.model, self.sensors, self.max_steps, self.half = model, sensors, max_steps, half
        cells, images = (statistics.cell_mean, statistics.cell_cov), (statistics.image_mean, statistics.image_cov)
        self.name_filter, self.name_offset = _standardised(names, *cells)
        self.arrival_filter, self.arrival_offset = _standardised(arrivals, *cells)
        self.image_filter, self.image_offset = _standardised(arrivals, *images)
        extent = math.tan(math.radians(sensors.fov_deg) / 2)
        across = ((torch.arange(sensors.width) + 0.5) / sensors.width * 2 - 1) * extent
        down = ((torch.arange(sensors.height) + 0.5) / sensors.width * 2 - sensors.height / sensors.width) * extent
        pitch = math.radians(sensors.pitch_deg)
        # per metre of depth: how far a pixel's point is ahead, to the right, and above the eye
        self.ahead = math.cos(pitch) + math.sin(pitch) * down
        self.rise = math.sin(pitch) - math.cos(pitch) * down
        self.across = across
        probe = model.encode_image_map(torch.zeros(1, sensors.height, sensors.width, 3, dtype=torch.uint8))
        self.rows, self.columns = probe.shape[1:3]

    @property
    def size(self) -> int:
        """Length of an observation."""
        return 2 * self.columns + self.rows + SECTORS + len(ACTION_NAMES) + 15

    def perceive(self, frame: Frame, goal: Int64[Tensor, " B"]) -> Perception:
        """Run the towers' image side on a frame and compare it with the goals."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.half):
            maps = self.model.encode_image_map(frame.rgb)
        score = torch.einsum("bhwd,bd->bhw", maps, self.name_filter[goal]) - self.name_offset[goal][:, None, None]
        arrival = torch.einsum("bhwd,bd->bhw", maps, self.arrival_filter[goal]).flatten(1)
        embedding = maps.mean((1, 2))
        image_score = (embedding * self.image_filter[goal]).sum(-1) - self.image_offset[goal]
        depth = torch.where(frame.depth > 0, frame.depth, 2 * RANGE_M)
        cell_depth = F.adaptive_avg_pool2d(depth[:, None], (self.rows, self.columns))[:, 0]
        arrival_score = arrival.amax(1) - self.arrival_offset[goal]
        return Perception(embedding, image_score, arrival_score, score, cell_depth, self._free_distance(depth))

    def _free_distance(self, depth: Float[Tensor, "B H W"]) -> Float[Tensor, "B S"]:
        height = self.sensors.eye_height_m + depth * self.rise[:, None]
        blocks = (height > OBSTACLE_M[0]) & (height < OBSTACLE_M[1])
        reach = depth * torch.hypot(self.ahead[:, None], self.across[None, :])
        nearest = torch.where(blocks, reach, RANGE_M).amin(1).clamp(max=RANGE_M)
        return -F.adaptive_max_pool1d(-nearest[:, None], SECTORS)[:, 0]  # the nearest within each sector

    def observe(self, seen: Perception, state: SimState, note: Note) -> tuple[Float[Tensor, "B F"], Note]:
        """The observation vector, and the note after this frame.

        Args:
            state: the agent's pose, step count and bumps are read, nothing else.
            note: as left by the previous frame of the episode, with the action taken since.
        """
        batch = len(seen.embedding)
        flat = seen.score.flatten(1)
        best, cell = flat.max(1)
        row, column = cell // self.columns, cell % self.columns
        depth = seen.cell_depth.flatten(1).gather(1, cell[:, None])[:, 0]
        right = ((column + 0.5) / self.columns * 2 - 1) * math.tan(math.radians(self.sensors.fov_deg) / 2) * depth

        position, yaw = state.position.float(), state.yaw.float()
        forward = torch.stack([yaw.cos(), yaw.sin()], 1)
        sideways = torch.stack([yaw.sin(), -yaw.cos()], 1)  # to the right
        spot = position + forward * depth[:, None] + sideways * right[:, None]
        faded = note.score * torch.where(note.score > 0, STALE_PER_STEP, 1.0)
        better = best >= faded
        note = replace(
            note,
            score=torch.where(better, best, faded),
            spot=torch.where(better[:, None], spot, note.spot),
            age=torch.where(better, 0.0, note.age + 1),
        )
        to_spot = note.spot - position
        ahead, aside = (to_spot * forward).sum(1), (to_spot * sideways).sum(1)
        distance = torch.hypot(ahead, aside)
        collisions = state.collisions.float()
        bumped = (collisions > note.collisions).float()
        note = replace(note, collisions=collisions)

        column_best, column_row = seen.score.max(1)
        column_depth = seen.cell_depth.gather(1, column_row[:, None, :])[:, 0]
        scalars = [
            best,
            (column + 0.5) / self.columns * 2 - 1,
            (row + 0.5) / self.rows * 2 - 1,
            depth.clamp(max=RANGE_M) / RANGE_M,
            seen.image_score,
            seen.arrival_score,
            note.score,
            ahead.clamp(-RANGE_M, RANGE_M) / RANGE_M,
            aside.clamp(-RANGE_M, RANGE_M) / RANGE_M,
            distance.clamp(max=RANGE_M) / RANGE_M,
            ahead / distance.clamp(min=0.05),
            aside / distance.clamp(min=0.05),
            (note.age / 12).clamp(max=2.0),  # one turn on the spot = 1
            bumped,
            state.step / self.max_steps,
        ]
        parts = [
            column_best,
            column_depth.clamp(max=RANGE_M) / RANGE_M,
            seen.score.amax(2),
            seen.free / RANGE_M,
            F.one_hot(note.action + 1, len(ACTION_NAMES) + 1)[:, 1:].float(),
            torch.stack([part.float() for part in scalars], 1),
        ]
        observation = torch.cat(parts, 1)
        assert observation.shape == (batch, self.size), observation.shape
        return observation, note


def _standardised(
    direction: Float[Tensor, "G D"], mean: Float[Tensor, " D"], cov: Float[Tensor, "D D"]
) -> tuple[Float[Tensor, "G D"], Float[Tensor, " G"]]:
    """Filters along `direction`, and offsets, so that `feature @ filter - offset` has mean 0 and variance 1."""
    spread = torch.einsum("gd,de,ge->g", direction, cov, direction).clamp(min=1e-12).sqrt()
    filters = direction / spread[:, None]
    return filters, filters @ mean

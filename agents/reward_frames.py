"""Pictures of homes to try rewards on, and what the simulator knows of each.

Cameras are placed as for captioned views; walks follow policies. Every picture is asked for goals: those of cameras,
random and oracle walks for all that their home offers, the others for the one their walk is after. What is known of
such a pair is how much of the goal the picture shows, and how far the agent is from success:

    progress    exp(-d), d the walking distance to where stopping succeeds, in metres: 1 there, a function of the
                state alone, so that states of different episodes compare
    success     stopping in this state succeeds

Pictures go to a file that is deleted with the object, so memory does not grow with their number.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from agents.reward_metrics import Rows
from core.errors import InputError
from core.progress import track
from envs import episodes as episode_sets
from envs.episodes import Episodes, PolicyFn, run_episodes
from envs.goals import Goal
from envs.simulator import Simulator
from envs.state import SimState
from scene.geometry import distance_to_footprint
from scene.render import Frame
from scene.views import sample_camera
from vl.embedder import Embedder
from vl.embedding_store import EmbeddingStore

MIN_PIXELS = 25
NEAR_M = 2.0
KINDS = ("near", "far", "absent", "sliver")
ASKED_FOR_ALL = ("camera", "random", "oracle")  # paths whose pictures are asked for every goal of their home
BLOCK = 256  # pictures read, or encoded, at a time


class Pictures:
    """Pictures of one size, on disk."""

    def __init__(self, folder: str | Path | None = None) -> None:
        self._file = tempfile.TemporaryFile(dir=folder, prefix="pictures-")  # noqa: SIM115  lives as long as this
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; known once there is a picture."""
        return self._shape[0], self._shape[1]

    def add(self, rgb: UInt8[Tensor, "B H W 3"]) -> None:
        """Appends some; raises InputError for another size than the first."""
        pictures = rgb.cpu().contiguous().numpy()
        if self._shape not in ((), pictures.shape[1:]):
            raise InputError(f"pictures of {pictures.shape[1:]} after others of {self._shape}")
        self._shape = pictures.shape[1:]
        self._file.write(pictures.data)
        self._count += len(pictures)

    def _mapped(self) -> UInt8[ndarray, "M H W 3"]:
        self._file.flush()
        return np.memmap(self._file, np.uint8, "r", shape=(self._count, *self._shape))

    def blocks(self, size: int = BLOCK) -> Iterator[UInt8[Tensor, "b H W 3"]]:
        """All in order, `size` at a time."""
        for start in range(0, self._count, size):
            yield torch.from_numpy(np.array(self._mapped()[start : start + size]))

    def pick(self, rows: Sequence[int] | ndarray) -> UInt8[ndarray, "K H W 3"]:
        """Some of them, by number."""
        return np.array(self._mapped()[np.asarray(rows, dtype=np.int64)])


def embed(embedder: Embedder, pictures: Pictures) -> EmbeddingStore:
    """Image embeddings of all pictures in order; in full precision, since scores close to one another are ranked."""
    store = EmbeddingStore(embedder.dim, dtype=torch.float32)
    with track(len(pictures), "pictures encoded") as bar:
        for block in pictures.blocks():
            store.append(embedder.encode_images(block))
            bar.advance(len(block))
    return store


class Watcher(Protocol):
    """A reward that reads more than a picture, scored while walks go on."""

    def begin(self, simulator: Simulator) -> None:
        """Other environments from here on."""
        ...

    def score(self, frame: Frame, state: SimState, goals: Sequence[ndarray]) -> list[ndarray]:
        """Scores of what the agents see now, for some goals of each (numbers of Simulator.texts)."""
        ...


@dataclass(eq=False)
class Pairs:
    """Pictures asked for goals, a row each."""

    frame: ndarray  # number of the picture
    goal: ndarray  # index into `goals_of` the simulator
    home: ndarray  # index into the pool
    path: ndarray  # str, one of reward_metrics.PATHS
    trajectory: ndarray  # of a walk; a camera's picture is one of its own for each goal
    step: ndarray
    own: ndarray  # bool: the goal the walk is after, or a camera's picture: the rows of the metrics
    x: ndarray  # metres
    y: ndarray
    pixels: ndarray  # of the goal
    distance_m: ndarray  # in a straight line to the nearest matching object in view; inf where none is
    walk_m: ndarray  # walking distance to success; NaN where it was not looked up or no way leads there
    watched: ndarray  # the watcher's score; NaN without one

    def __len__(self) -> int:
        return len(self.frame)

    def chosen(self, rows: ndarray) -> "Pairs":
        """The rows of an index or mask."""
        return Pairs(**{item.name: getattr(self, item.name)[rows] for item in fields(self)})

    @property
    def kind(self) -> ndarray:
        """Index into KINDS."""
        shown = self.pixels >= MIN_PIXELS
        return np.select([shown & (self.distance_m <= NEAR_M), shown, self.pixels == 0], [0, 1, 2], 3)

    @property
    def progress(self) -> ndarray:
        """True progress; NaN where the walking distance is."""
        return np.exp(-self.walk_m)

    def rows(self, ids: Sequence[str]) -> tuple[Rows, ndarray]:
        """The rows of the metrics, not yet scored, and where they are among the pairs; `ids` name the homes."""
        at = np.flatnonzero(self.own)
        own = self.chosen(at)
        home = np.array(ids)[own.home] if len(at) else np.array([], dtype=str)
        return Rows(
            score=np.full(len(at), np.nan),
            progress=own.progress,
            success=(own.walk_m <= 0).astype(float),
            trajectory=own.trajectory,
            step=own.step,
            path=own.path,
            group=home,
            goal=own.goal,
            frame=own.frame,
        ), at


def goals_of(simulator: Simulator) -> list[Goal]:
    """One goal for each sentence that some home of the pool offers, in the order of their numbers.

    Raises:
        InputError: a goal is a place and no thing, so there is nothing to see.
    """
    known = {goal.text: goal for offered in simulator.fields.goals for goal in offered}
    blind = [goal.text for goal in known.values() if not goal.stages[0].objects]
    if blind:
        raise InputError(
            f"{len(blind)} goals name no thing that a picture could show, first {blind[0]!r}; choose another task"
        )
    return [known[text] for text in simulator.texts if text in known]


@dataclass(eq=False)
class Collector:
    """Keeps pictures and pairs; an `on_state` of envs.episodes.run_episodes."""

    simulator: Simulator
    pictures: Pictures
    watcher: Watcher | None = None
    path: str = "camera"  # of what comes now
    first: int = 0  # number of its first trajectory
    parts: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.number = {goal.text: k for k, goal in enumerate(goals_of(self.simulator))}

    def __call__(self, state: SimState, frame: Frame | None) -> None:
        """One picture of each environment; not of those that have just stopped, whose picture is there already."""
        assert frame is not None, "pictures need sensors"
        texts = self._asked(state)
        scores: Sequence[Any] = [np.full(len(asked), np.nan) for asked in texts]
        if self.watcher is not None:
            scores = self.watcher.score(frame, state, texts)
        new = np.flatnonzero(~state.terminated.cpu().numpy())
        for place, b in enumerate(new.tolist()):
            self._add(state, frame, b, len(self.pictures) + place, texts[b], scores[b])
        self.pictures.add(frame.rgb[torch.from_numpy(new)])

    def _asked(self, state: SimState) -> list[ndarray]:
        """The sentences each picture is asked for, its own first."""
        sim, asked = self.simulator, []
        for home, goal in zip(state.home.tolist(), state.goal.tolist()):
            every = [goal]
            if self.path in ASKED_FOR_ALL:
                every += [k for k in range(len(sim.fields.goals[home])) if k != goal]
            asked.append(sim.fields.text(np.full(len(every), home), np.array(every)))
        return asked

    def _add(self, state: SimState, frame: Frame, b: int, number: int, texts: ndarray, scores: ndarray) -> None:
        sim, home, count = self.simulator, int(state.home[b]), len(texts)
        position, camera = state.position[b].cpu().numpy(), self.path == "camera"
        objects, offered = sim.homes[home].scene.objects, {goal.text: goal for goal in sim.fields.goals[home]}
        seen = np.bincount(frame.instance[b].cpu().numpy().ravel() + 1, minlength=len(objects) + 1)[1:]
        shown = [visible(offered[sim.texts[text]], seen, position, objects) for text in texts]
        walk = np.full(count, np.nan)
        walk[0] = float(state.distance[b])
        if camera:
            walk = self._walks(state, b, texts)
        trajectory = np.full(count, self.first + (0 if camera else int(state.episode[b])))
        self.parts.append(
            {
                "frame": np.full(count, number),
                "goal": np.array([self.number[sim.texts[text]] for text in texts]),
                "home": np.full(count, home),
                "path": np.full(count, self.path),
                "trajectory": trajectory + np.arange(count) if camera else trajectory,
                "step": np.full(count, int(state.step[b])),
                "own": np.full(count, True) if camera else np.arange(count) == 0,
                "x": np.full(count, position[0]),
                "y": np.full(count, position[1]),
                "pixels": np.array([pixels for pixels, _ in shown]),
                "distance_m": np.array([away for _, away in shown]),
                "walk_m": np.where(np.isinf(walk), np.nan, walk),
                "watched": np.asarray(scores, dtype=float),
            }
        )
        if camera:
            self.first += count

    def _walks(self, state: SimState, b: int, texts: ndarray) -> ndarray:
        """Walking distances from one environment to success of several goals of its home, from the first stage on."""
        sim, home = self.simulator, int(state.home[b])
        number = {sim.texts[text]: k for k, text in enumerate(texts.tolist())}
        distance = np.full(len(texts), np.nan)
        position = state.position[b : b + 1].cpu().numpy()
        one, zero = np.full(1, home), np.zeros(1, np.int64)
        cell = sim.homes.grids.cell(one, position)
        for k, goal in enumerate(sim.fields.goals[home]):
            if goal.text in number:
                distance[number[goal.text]] = float(sim.fields.distance(one, np.full(1, k), zero, cell)[0])
        return distance

    def pairs(self) -> Pairs:
        """All that was kept."""
        return Pairs(**{item.name: np.concatenate([part[item.name] for part in self.parts]) for item in fields(Pairs)})


def visible(goal: Goal, seen: ndarray, position: ndarray, objects: Sequence[Any]) -> tuple[int, float]:
    """Pixels and distance of what a picture shows of a goal: its nearest member in full view, else what there is.

    Args:
        seen: (N,) pixels of each object.
    """
    matching = [k for k in goal.stages[0].objects if seen[k]]
    clear = [k for k in matching if seen[k] >= MIN_PIXELS] or matching
    away = min((float(distance_to_footprint(position, objects[k].box)) for k in clear), default=np.inf)
    return max((int(seen[k]) for k in clear), default=0), away


def collect_cameras(collector: Collector, per_home: int, seed: int) -> None:
    """Pictures of sampled cameras in every playable home: states of agents that stand there and look that way."""
    sim, collector.path = collector.simulator, "camera"
    homes = sim.fields.playable
    drawn = episode_sets.make_episodes(sim.homes, sim.task, len(homes), seed, sim.fields)
    first = episode_sets.place(sim, drawn, range(len(drawn)))
    rng = np.random.default_rng(seed)
    with track(len(homes), "cameras") as bar:
        for row in np.argsort(first.home.cpu().numpy(), kind="stable").tolist():
            home = sim.homes[int(first.home[row])]
            poses = np.stack([sample_camera(home.scene, home.grid, rng) for _ in range(per_home)])
            ahead = poses[:, :3, 2]  # the camera's z axis: where it looks
            state = replace(
                first.rows(torch.full((per_home,), row)),
                env=torch.arange(per_home),
                position=torch.from_numpy(poses[:, :2, 3]),
                yaw=torch.from_numpy(np.arctan2(ahead[:, 1], ahead[:, 0])),
                pitch=torch.from_numpy(np.arcsin(np.clip(ahead[:, 2], -1, 1))),
            )
            if collector.watcher is not None:
                collector.watcher.begin(sim)
            collector(state, sim.observe(state))
            bar.advance()


def collect_walks(collector: Collector, path: str, policy: PolicyFn, episodes: Episodes) -> int:
    """Pictures along a policy's walks; the number of episodes left out because the policy has no such walk there."""
    sim, collector.path = collector.simulator, path
    possible = getattr(policy, "possible", None)
    rows = np.arange(len(episodes))
    if possible is not None:
        rows = rows[possible(episode_sets.place(sim, episodes, rows))]
    if len(rows):
        if collector.watcher is not None:
            collector.watcher.begin(sim)
        with track(len(rows), f"{path} walks") as bar:
            run_episodes(sim, policy, some_of(episodes, rows), on_episode=bar.advance, on_state=collector)
        collector.first += len(rows)
    return len(episodes) - len(rows)


def some_of(episodes: Episodes, rows: ndarray) -> Episodes:
    """Chosen episodes of a set, in the given order."""
    return Episodes(
        [episodes.scene_ids[k] for k in rows],
        episodes.start[rows],
        episodes.yaw[rows],
        [episodes.goals[k] for k in rows],
        episodes.shortest_m[rows],
    )

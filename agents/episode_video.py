"""Films of episodes: the sentence, what the agent sees, where it walks, what it moves, how it ends; H.264, as browsers
play it.

The states come from doing the episode's actions again (envs/replay.py), so any results can be filmed, also those that
were run without pictures; the agent's view is drawn larger than what its policy gets.
"""

import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray

from core.files import atomic_file
from envs.episodes import EpisodeResults
from envs.goals import Goal, Stage
from envs.layout import AT_REST
from envs.pool import Home
from envs.replay import retrace
from envs.simulator import Simulator
from envs.state import ACTION_NAMES, Sensors, SimState
from scene.draw import ACCENT, INK, PAPER, PATH, draw_map, object_color
from scene.geometry import footprint
from scene.storeys import door_foot, doorway_ends, openable_doors, storey_of, storeys
from scene.types import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT, DPI = 1120, 630, 100  # pixels, pixels, pixels per inch
VIEW = 440  # pixels the agent's view is drawn with
FRAMES_PER_S = 6
HOLD_S = 2.0  # the last picture stays
GOOD, BAD, SOFT, LEAF = "#1a7f37", "#b42318", "#6b6f78", "#a9805a"
SENTENCE_PT, LINES = (19, 16, 13), 3  # the largest size in which the sentence fits into so many lines
ROW = 105  # characters of 12 points side by side
CONE_M = 0.9  # length of the drawn field of view


def film(path: Path, sim: Simulator, results: EpisodeResults, row: int) -> Path:
    """Write the film of one episode.

    Args:
        sim: whose homes, task and options the episode was run with.
        results: of a run, or of a replay.
    """
    pictures = draw_episode(sim, results, row)
    pictures += [pictures[-1]] * round(HOLD_S * FRAMES_PER_S)
    return write_mp4(path, pictures, FRAMES_PER_S)


def views(sim: Simulator, states: list[SimState]) -> UInt8[ndarray, "T H W 3"]:
    """What an agent sees in each state, with the shape and angle of its own camera."""
    sensors = sim.sensors or Sensors()
    scale = VIEW / max(sensors.width, sensors.height)
    camera = replace(sensors, width=round(sensors.width * scale), height=round(sensors.height * scale))
    return np.concatenate([sim.observe(state, sensors=camera).rgb.cpu().numpy() for state in states])


def draw_episode(sim: Simulator, results: EpisodeResults, row: int) -> list[UInt8[ndarray, "H W 3"]]:
    """One picture per step of an episode, the last one with its outcome."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    states = retrace(sim, results, row)
    seen = views(sim, states)
    goal = results.episodes.goals[row]
    home = sim.homes[int(states[0].home[0])]
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    size, lines = fitted(goal.text, most=LINES - (len(goal.stages) > 1))
    figure.text(0.025, 0.965, "\n".join(lines), fontsize=size, color=INK, weight="bold", va="top", linespacing=1.25)
    left = figure.add_axes((0.025, 0.115, VIEW / WIDTH, VIEW / HEIGHT))
    right = figure.add_axes((0.45, 0.115, 0.535, VIEW / HEIGHT))
    left.set(xticks=[], yticks=[])
    left.spines[:].set_color("#c8ccd2")
    scene_map = Map(right, sim, home, goal)
    view = left.imshow(seen[0], interpolation="nearest", animated=True)
    status = figure.text(0.025, 0.05, "", fontsize=12.5, color=INK, va="center", animated=True)
    outcome = figure.text(0.985, 0.05, "", fontsize=15, weight="bold", ha="right", va="center", animated=True)
    chips = []
    if len(goal.stages) > 1:
        words = [stage_words(home.scene, stage) for stage in goal.stages]
        points = min(12.0, 12.0 * ROW / sum(len(text) + 5 for text in words))  # several fit beside each other
        chips = [figure.text(0.025, 0.84, "", fontsize=points, va="center", animated=True) for _ in words]
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)  # type: ignore[attr-defined]

    pictures = []
    for t, state in enumerate(states):
        view.set_data(seen[t])
        status.set_text(_status(sim, state, results.actions[row][t - 1] if t else None))
        if t == len(states) - 1:
            text, good = _outcome(results, row)
            outcome.set_text(text)
            outcome.set_color(GOOD if good else BAD)
        done = len(chips) if t == len(states) - 1 and results.metrics["success"][row] else int(state.stage[0])
        x = 0.025
        for k, chip in enumerate(chips):
            chip.set_text(("\u2713 " if k < done else f"{k + 1}  ") + words[k])
            chip.set_color(GOOD if k < done else ACCENT if k == done else SOFT)
            chip.set_fontweight("bold" if k == done else "normal")
            chip.set_x(x)
            x += (chip.get_window_extent().width + 26) / WIDTH
        canvas.restore_region(background)  # type: ignore[attr-defined]
        left.draw_artist(view)
        for mark in scene_map.marks(states[: t + 1]):
            right.draw_artist(mark)
        for note in (*chips, status, outcome):
            figure.draw_artist(note)
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return pictures


def fitted(sentence: str, most: int = LINES) -> tuple[float, list[str]]:
    """The font size, in points, and the at most `most` lines a sentence is written with.

    A sentence too long for even the smallest size is cut.
    """
    for size in SENTENCE_PT:
        columns = int(0.95 * WIDTH / (0.64 * size * DPI / 72))
        lines = textwrap.wrap(f"\u201c{sentence}\u201d", columns)
        if len(lines) <= most:
            return size, lines
    rest = textwrap.shorten(" ".join(lines[most - 1 :]), columns, placeholder=" ...\u201d")
    return size, [*lines[: most - 1], rest]


class Map:
    """The home from above: what stays is drawn once, what changes is handed out for each step."""

    def __init__(self, ax: "Axes", sim: Simulator, home: Home, goal: Goal) -> None:
        self.ax, self.sim, self.home, self.goal = ax, sim, home, goal
        self.scene = home.scene
        floors = storeys(self.scene)
        level = floors.index(home.floor_z)
        self.moving = list(home.things) if home.interactive else []
        items = [k.id for k in self.scene.objects if storey_of(k.box[2] - k.box[5] / 2, floors) == level]
        fixed = [k for k in items if k not in self.moving]
        self.targets = sorted({k for stage in goal.stages for k in (*stage.objects, *stage.on)})
        shown = replace(
            self.scene,
            rooms=[room for room in self.scene.rooms if storey_of(room.floor_z, floors) == level],
            doors=[
                replace(door, open=door.open or k in openable_doors(self.scene)) if home.interactive else door
                for k, door in enumerate(self.scene.doors)
                if storey_of(door_foot(self.scene, k), floors) == level
            ],
        )
        named = {k: "#d9dce1" for k in self.targets if k in fixed}
        draw_map(ax, shown, highlight=named, viewer=False, objects=fixed)
        ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
        ax.set_anchor("N")  # level with the view beside it
        self.labels = list(ax.texts)
        for label in self.labels:  # drawn anew in each picture, over outlines and things
            label.set_animated(True)

    def marks(self, states: list[SimState]) -> list[Any]:
        """What is drawn over the map in the last of some states, in order: doors, things, names, path, agent."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Polygon
        from matplotlib.text import Text

        state = states[-1]
        path = np.concatenate([s.position.cpu().numpy() for s in states])
        x, y, yaw = float(path[-1, 0]), float(path[-1, 1]), float(state.yaw[0])
        boxes = {k: self.scene.objects[k].box for k in range(len(self.scene.objects))} | self._moved(state)
        found: list[Any] = [self._leaf(k) for k in self._shut(state)]
        for k in self.moving:
            face = object_color(self.scene.objects[k], self.scene)
            found.append(Polygon(_corners(boxes[k]), facecolor=face, edgecolor=INK, linewidth=0.9))
        now = self.goal.stages[min(int(state.stage[0]), len(self.goal.stages) - 1)]
        wanted = now.on if now.kind == "rest" else now.objects
        for k in wanted:
            corners = _corners(boxes[k])
            for width, color in ((5.0, PAPER), (2.6, ACCENT)):
                found.append(Polygon(corners, fill=False, edgecolor=color, linewidth=width))
        if now.place is not None:
            star = {"marker": "*", "markersize": 20, "color": ACCENT, "markeredgecolor": PAPER}
            found.append(Line2D([now.place[0]], [now.place[1]], **star))  # type: ignore[arg-type]
        later = len(found)
        found.append(Line2D(path[:, 0], path[:, 1], color=PAPER, linewidth=4.5))
        found.append(Line2D(path[:, 0], path[:, 1], color=PATH, linewidth=2.4))
        start = {"marker": "o", "markersize": 7, "color": PAPER, "markeredgecolor": PATH, "markeredgewidth": 2}
        found.append(Line2D(path[:1, 0], path[:1, 1], **start))  # type: ignore[arg-type]
        half = np.deg2rad((self.sim.sensors or Sensors()).fov_deg) / 2
        fan = yaw + np.linspace(-half, half, 13)
        cone = np.array([[x, y], *zip(x + CONE_M * np.cos(fan), y + CONE_M * np.sin(fan))])
        found.append(Polygon(cone, facecolor=PATH, alpha=0.22))
        found.append(Line2D([x], [y], marker="o", markersize=10, color=PATH, markeredgecolor=PAPER))
        for k in self.moving:
            if k in self.targets:
                found.append(self._name(k, boxes[k], k in wanted))
        if self._held(state) >= 0:
            item = self.scene.objects[self.home.things[self._held(state)]]
            hand = {"marker": "s", "markersize": 7, "color": object_color(item, self.scene), "markeredgecolor": INK}
            found.append(
                Line2D([x + 0.22 * np.cos(yaw)], [y + 0.22 * np.sin(yaw)], **hand)  # type: ignore[arg-type]
            )
        for mark in found:
            mark.set_figure(self.ax.figure)
            mark.axes = self.ax
            mark.set_transform(self.ax.transData)
            mark.set_clip_path(self.ax.patch)
        names = [mark.get_window_extent() for mark in found if isinstance(mark, Text)]
        clear = [
            label
            for label in self.labels
            if label.get_fontweight() == "bold" or not any(label.get_window_extent().overlaps(box) for box in names)
        ]  # small names give way to those of moving things
        return [*found[:later], *clear, *found[later:]]

    def _name(self, k: int, box: Float64[ndarray, "7"], wanted: bool) -> Any:
        from matplotlib import patheffects
        from matplotlib.text import Text

        halo = [patheffects.withStroke(linewidth=2.4, foreground=PAPER)]
        top = float(_corners(box)[:, 1].max())
        return Text(
            float(box[0]), top + 0.05, self.scene.objects[k].label, ha="center", va="bottom", fontsize=9,
            color=ACCENT if wanted else INK, fontweight="bold", path_effects=halo,
        )  # fmt: skip

    def _held(self, state: SimState) -> int:
        return -1 if state.world is None else int(state.world.held[0])

    def _moved(self, state: SimState) -> dict[int, Float64[ndarray, "7"]]:
        """Boxes of the things that lie, or are held, elsewhere than the scene has them."""
        if state.world is None or self.sim.hands is None:
            return {}
        found = {}
        for slot, item in enumerate(self.home.things):
            if slot == self._held(state):
                box = self.scene.objects[item].box.copy()
                box[:2] = state.position[0].cpu().numpy() + 0.22 * np.array(
                    [np.cos(float(state.yaw[0])), np.sin(float(state.yaw[0]))]
                )
                found[item] = box
            elif int(state.world.support[0, slot]) != AT_REST:
                found[item] = self.sim.hands.box(state.world, int(state.home[0]), 0, slot)
        return found

    def _shut(self, state: SimState) -> list[int]:
        """Indices of the doors that stand shut now and could be opened."""
        if state.world is None:
            return []
        floors, here = storeys(self.scene), []
        for bit, k in enumerate(openable_doors(self.scene)):
            level = storey_of(door_foot(self.scene, k), floors)
            if floors[level] == self.home.floor_z and not int(state.world.doors[0]) >> bit & 1:
                here.append(k)
        return here

    def _leaf(self, door: int) -> Any:
        from matplotlib.lines import Line2D

        ends = doorway_ends(self.scene.doors[door])
        return Line2D(ends[:, 0], ends[:, 1], color=LEAF, linewidth=5, solid_capstyle="butt")


def _corners(box: Float64[ndarray, "7"]) -> Float64[ndarray, "4 2"]:
    return np.asarray(footprint(np.asarray(box)[None])[0])


def stage_words(scene: Scene, stage: Stage) -> str:
    """A stage in a few words: "go to the bed"."""

    def name(k: int) -> str:
        item = scene.objects[k]
        return f"{item.attributes.get('color', '')} {item.label}".strip()

    if stage.place is not None:
        return f"go to ({stage.place[0]:.1f}, {stage.place[1]:.1f})"
    if stage.kind == "rest":
        return f"put it on the {name(stage.on[0])}"
    return f"{'pick up' if stage.kind == 'hold' else 'go to'} the {name(stage.objects[0])}"


def _status(sim: Simulator, state: SimState, action: Any) -> str:
    parts = [f"step {int(state.step[0])}", f"walked {float(state.path_length[0]):.1f} m"]
    parts.append(f"{float(state.distance[0]):.1f} m to go")
    if int(state.collisions[0]):
        parts.append(f"bumped {int(state.collisions[0])}")
    if action is not None and sim.control == "continuous":
        names = ("speed", "turn", "tilt")
        parts.append("  ".join(f"{name} {value:+.2f}" for name, value in zip(names, np.clip(action, -1, 1))))
    elif action is not None:
        parts.append(ACTION_NAMES[sim.action_codes[int(action)]])
    return "   \u00b7   ".join(parts)


def _outcome(results: EpisodeResults, row: int) -> tuple[str, bool]:
    metrics = {name: float(values[row]) for name, values in results.metrics.items()}
    if metrics["success"]:
        return f"done, SPL {metrics['spl']:.2f}", True
    end = "stopped" if results.stopped[row] else "time is up"
    return f"{end} {metrics['distance_to_goal_m']:.1f} m from the goal", False


def write_mp4(path: Path, pictures: list[UInt8[ndarray, "H W 3"]], frames_per_s: int) -> Path:
    """Encode pictures of one even size as H.264 (yuv420p, index in front, so that a page can play it at once)."""
    import av

    height, width = pictures[0].shape[:2]
    with atomic_file(path) as file, av.open(file, "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=frames_per_s, options={"crf": "26", "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
    return path

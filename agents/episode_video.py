"""Films of episodes: the sentence, what the agent sees, where it walks, how it ends; H.264, as browsers play it."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray

from core.files import atomic_file
from envs.episodes import EpisodeResults
from envs.goals import Task
from envs.pool import Home
from envs.state import ACTION_NAMES
from scene.draw import INK, PAPER, PATH, draw_map

WIDTH, HEIGHT, DPI = 960, 560, 100  # pixels, pixels, pixels per inch
FRAMES_PER_S = 6
HOLD_S = 2.0  # the last picture stays
GOOD, BAD = "#1a7f37", "#b42318"


def film(path: Path, home: Home, results: EpisodeResults, row: int, task: Task) -> Path:
    """Write the film of one recorded episode.

    Args:
        home: where it took place.
        results: of a run that recorded `row`.
        task: whose objects are outlined on the map.
    """
    pictures = draw_episode(home, results, row, task)
    pictures += [pictures[-1]] * round(HOLD_S * FRAMES_PER_S)
    return write_mp4(path, pictures, FRAMES_PER_S)


def draw_episode(home: Home, results: EpisodeResults, row: int, task: Task) -> list[UInt8[ndarray, "H W 3"]]:
    """One picture per step of an episode, the last one with its outcome."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    goal = results.episodes.goals[row]
    poses, actions, views = results.trajectories[row], results.actions[row], results.frames[row]
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.03, 0.94, f"“{goal.text}”", fontsize=19, color=INK, weight="bold", va="center")
    left = figure.add_axes((0.03, 0.13, 0.43, 0.43 * WIDTH / HEIGHT))
    left.set(xticks=[], yticks=[])
    left.spines[:].set_color("#c8ccd2")
    right = figure.add_axes((0.54, 0.13, 0.44, 0.75))
    draw_map(right, home.scene, highlight=goal.stages[0].objects, viewer=False)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)  # type: ignore[attr-defined]

    view = left.imshow(views[0], interpolation="nearest", animated=True)
    (under,) = right.plot([], [], color=PAPER, linewidth=4.5, zorder=9, animated=True)
    (line,) = right.plot([], [], color=PATH, linewidth=2.4, zorder=9.1, animated=True)
    (cone,) = right.fill([0], [0], color=PATH, alpha=0.25, zorder=9.2, animated=True)
    (dot,) = right.plot([], [], "o", markersize=9, color=PATH, markeredgecolor=PAPER, zorder=9.3, animated=True)
    status = figure.text(0.03, 0.055, "", fontsize=14, color=INK, va="center", animated=True)
    outcome = figure.text(0.98, 0.94, "", fontsize=16, weight="bold", ha="right", va="center", animated=True)

    walked = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(poses[:, :2], axis=0), axis=1))])
    pictures = []
    for t, (x, y, yaw) in enumerate(poses):
        view.set_data(views[t])
        under.set_data(poses[: t + 1, 0], poses[: t + 1, 1])
        line.set_data(poses[: t + 1, 0], poses[: t + 1, 1])
        dot.set_data([x], [y])
        edges = yaw + np.deg2rad([-45, 45])  # the camera's field of view
        cone.set_xy(np.array([[x, y], *([x + 0.9 * np.cos(e), y + 0.9 * np.sin(e)] for e in edges)]))
        last = f"   last action: {ACTION_NAMES[actions[t - 1]]}" if t else ""
        status.set_text(f"step {t}   walked {walked[t]:.1f} m{last}")
        if t == len(poses) - 1:
            text, good = _outcome(results, row)
            outcome.set_text(text)
            outcome.set_color(GOOD if good else BAD)
        canvas.restore_region(background)  # type: ignore[attr-defined]
        left.draw_artist(view)
        for mark in (under, line, cone, dot):
            right.draw_artist(mark)
        for words in (status, outcome):
            figure.draw_artist(words)
        pictures.append(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    return pictures


def _outcome(results: EpisodeResults, row: int) -> tuple[str, bool]:
    metrics = {name: float(values[row]) for name, values in results.metrics.items()}
    if metrics["success"]:
        return f"found, SPL {metrics['spl']:.2f}", True
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

"""What score-rewards makes of scored moments: figures, paths, worst errors, the page, a table in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from agents.reward_metrics import Rows, paths_table, table, worst_rows
from agents.score_page import WorstFrame, score_page
from core.files import atomic_file, atomic_write
from core.progress import track
from core.run import RunFolder

SHOWN = {
    "epic": "EPIC", "pearson": "Pearson", "spearman": "Spearman", "voc_expert": "order+", "voc_failed": "order-",
    "auc": "AUC", "false_positives": "false+", "false_positives_adversarial": "fooled",
}  # fmt: skip
LEGEND = (
    "order+, order-: value order on expert and on failed walks. false+, fooled: failed ends of a policy, and of walks "
    "made to fool it, that score like successes. Intervals are on the page."
)

Pictures = Sequence[UInt8[ndarray, "H W 3"]] | UInt8[ndarray, "K H W 3"]
Pick = Callable[[ndarray], Pictures]
"""Frame numbers (K,) to their pictures."""


def report(
    folder: RunFolder,
    title: str,
    rows: Rows,
    scores: Mapping[str, ndarray],
    headline: str,
    *,
    about: Mapping[str, Any],
    goals: Sequence[str],
    pick: Pick,
    sweep: Mapping[str, Any],
    resamples: int,
    worst: int,
) -> dict[str, Any]:
    """Measures every reward on the same rows, writes page.html and worst.npz (frame_0, frame_1, ...), prints the table.

    Args:
        scores: of the rows, by the name of the reward.
        headline: whose worst errors are kept, and what the page is about.
        about: what else the page lists.
        goals: sentences that `rows.goal` numbers.
        pick: pictures by their numbers in `rows.frame`, in that order.
        sweep: prompt -> alpha -> metric -> value; may be empty.
        worst: errors kept, each way.

    Returns:
        rewards, paths, sweep and worst of result.json.
    """
    measured = {}
    with track(len(scores), "figures") as bar:
        for name, score in scores.items():
            measured[name] = table(rows.scored(score), resamples=resamples)
            bar.advance()
    paths = {name: _plain(paths_table(rows.scored(score))) for name, score in scores.items()}
    result = {"rewards": measured, "paths": paths, "sweep": sweep}
    led = rows.scored(scores[headline])
    errors, frames = worst_errors(led, goals, pick, worst)
    with atomic_file(folder.file("worst.npz")) as file:
        named: dict[str, Any] = {f"frame_{place}": frame for place, frame in enumerate(frames)}
        np.savez_compressed(file, **named)
    shown = [
        WorstFrame(frames[item["frame"]], item["score"], item["progress"], item["goal"], item["path"], item["too_high"])
        for item in errors
    ]
    atomic_write(folder.file("page.html"), score_page(title, {**about, **result}, headline, led, shown))
    show(measured, f"Rewards against the truth: {title}")
    Console().print(f"Page: {folder.path / 'page.html'}", highlight=False, soft_wrap=True)
    return {**result, "headline": headline, "worst": errors}


def worst_errors(rows: Rows, goals: Sequence[str], pick: Pick, count: int) -> tuple[list[dict[str, Any]], Pictures]:
    """Where score and truth rank moments most differently, worst first, and their pictures; `frame` numbers these."""
    both = worst_rows(rows, count)
    kept = np.concatenate(both)
    kept = kept[rows.frame[kept] >= 0]
    frames: Pictures = pick(rows.frame[kept]) if len(kept) else []
    errors = [
        {
            "frame": place,
            "too_high": bool(row in both[0]),
            "score": float(rows.score[row]),
            "progress": float(rows.progress[row]),
            "goal": goals[int(rows.goal[row])],
            "path": str(rows.path[row]),
            "group": str(rows.group[row]),
            "trajectory": int(rows.trajectory[row]),
            "step": int(rows.step[row]),
        }
        for place, row in enumerate(kept.tolist())
    ]
    return errors, frames


def show(measured: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """Print the figures of every reward that any has."""
    metrics = [name for name in SHOWN if any(row[name]["value"] is not None for row in measured.values())]
    printed = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)  # narrow: all columns in 80 characters
    printed.add_column("reward")
    for name in metrics:
        printed.add_column(SHOWN[name], justify="right", no_wrap=True)
    for name, row in measured.items():
        values = [row[metric]["value"] for metric in metrics]
        printed.add_row(name, *("-" if value is None else f"{value:.2f}" for value in values))
    console = Console()
    console.print(title, printed, LEGEND, sep="\n", highlight=False)


def _plain(paths: Mapping[str, Sequence[float]]) -> dict[str, list[float | None]]:
    """NaN as None: JSON has no other word for what is unknown."""
    return {path: [None if np.isnan(value) else value for value in line] for path, line in paths.items()}

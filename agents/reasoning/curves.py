"""Learning curves of reasoning models over seeds: runs of train-reasoner read, sorted into arms, and put on one axis.

An arm is a set of runs whose configurations differ in nothing but the seed; it is named by what sets it apart from the
other arms. A curve is the mean over an arm's seeds, its band one standard deviation to each side, as in MAYE (Ma et
al., arXiv:2504.02587, section 3), which asks for at least three seeds and for the mean and the best over epochs.
"""

import glob
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from core.errors import InputError, MissingFileError
from core.intervals import t_interval
from core.run import UNCOMPARED, read_config, read_metrics

JOB: Final = "train-reasoner"
SEEDS: Final = 3  # MAYE's least number of seeds under a curve


@dataclass(frozen=True)
class TrainingRun:
    """What a training run left of its course."""

    folder: Path
    config: dict[str, Any]  # flat: "kl.coef" -> 0.001; without what may differ between parts of one run
    rows: list[dict[str, Any]]  # of metrics.jsonl, in order

    @property
    def seed(self) -> int:
        return int(self.config["seed"])


@dataclass(frozen=True, eq=False)
class Curve:
    """One quantity of one arm."""

    x: Float[ndarray, " E"]  # rising
    values: Float[ndarray, "S E"]  # a line a seed

    @property
    def mean(self) -> Float[ndarray, " E"]:
        return self.values.mean(0)

    @property
    def band(self) -> tuple[Float[ndarray, " E"], Float[ndarray, " E"]]:
        """One standard deviation over seeds (of S - 1) to each side; no width for one seed."""
        spread = self.values.std(0, ddof=1) if len(self.values) > 1 else np.zeros(len(self.x))
        return self.mean - spread, self.mean + spread


def read_run(folder: str | Path) -> TrainingRun:
    """A run of train-reasoner, finished or not.

    Raises:
        InputError: no run folder, of another job, or with nothing logged.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise MissingFileError(f"run folder not found: {folder} (working folder: {Path.cwd()})")
    config = read_config(folder)
    if config.get("job") != JOB:
        raise InputError(f"{folder} holds a run of {config.get('job')}, not of {JOB}; curves are of training runs")
    rows = read_metrics(folder)
    if not rows:
        raise InputError(f"{folder} has logged nothing yet (metrics.jsonl); let it run, or leave it out")
    kept = {key: value for key, value in flat(config).items() if key not in {*UNCOMPARED, "job"}}
    return TrainingRun(folder, kept, rows)


def read_runs(names: Sequence[str]) -> list[TrainingRun]:
    """The runs of folders or patterns (runs/grpo-*), each once, by name.

    Raises:
        InputError: a name or pattern that fits no folder; and as `read_run`.
    """
    folders: dict[Path, Path] = {}
    for name in names:
        found = sorted(glob.glob(str(Path(name).expanduser())))
        if not found:
            raise MissingFileError(f"compare: no run folder fits {name} (working folder: {Path.cwd()})")
        folders.update({Path(item).resolve(): Path(item) for item in found if Path(item).is_dir()})
    return [read_run(folder) for folder in folders.values()]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as one: {"kl": {"coef": 0}} -> {"kl.coef": 0}; lists stay values."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found.update(flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value})
    return found


def arms_of(
    runs: Sequence[TrainingRun], apart: Sequence[str] = ("seed", "init", "model", "val_ood")
) -> dict[str, list[TrainingRun]]:
    """Runs by arm, an arm's runs by seed.

    Args:
        apart: keys in which the seeds of one arm may differ: each seed has a warm start of its own, and what a run is
            looked at with out of distribution changes nothing that it learns.

    Returns:
        Arms named by the keys in which arms differ ("algorithm=grpo"), or by the algorithm if there is one arm only.

    Raises:
        InputError: two runs of an arm have the same seed.
    """
    plain = [{key: repr(value) for key, value in run.config.items() if key not in apart} for run in runs]
    differing = [
        key for key in dict.fromkeys(key for row in plain for key in row) if len({row.get(key) for row in plain}) > 1
    ]
    arms: dict[str, list[TrainingRun]] = {}
    for run in runs:
        words = [f"{key}={run.config.get(key, 'absent')}" for key in differing]
        arms.setdefault(", ".join(words) or str(run.config.get("algorithm", "trained")), []).append(run)
    for name, members in arms.items():
        seed, times = Counter(run.seed for run in members).most_common(1)[0]
        if times > 1:
            same = " and ".join(str(run.folder) for run in members if run.seed == seed)
            raise InputError(f"{same} are one configuration with one seed ({seed}, arm {name}); give each run once")
        members.sort(key=lambda run: run.seed)
    return arms


def curve(runs: Sequence[TrainingRun], metric: str, x: str = "epoch") -> Curve | None:
    """A metric of an arm over `x`, as far as every seed has come; None where a seed lacks it or no stretch is common.

    Places are those of all seeds together, values between a seed's own places lie on a line: seeds that ask on until
    their groups teach (dynamic sampling) meet the end of an epoch at different steps. Step 0 is at place 0 of every
    axis. Of two rows at one place the later counts; a value that is not a finite number is passed over.
    """
    series: list[dict[float, float]] = []
    for run in runs:
        points = {}
        for row in run.rows:
            value, place = row.get(metric), row.get(x) if row["step"] else 0
            if isinstance(value, int | float) and isinstance(place, int | float) and math.isfinite(value):
                points[float(place)] = float(value)
        series.append(dict(sorted(points.items())))
    if not all(series):
        return None
    first, last = max(min(points) for points in series), min(max(points) for points in series)
    places = sorted({place for points in series for place in points if first <= place <= last})
    if not places:
        return None
    values = [np.interp(places, list(points), list(points.values())) for points in series]
    return Curve(np.array(places), np.array(values))


def over_epochs(found: Curve, by: Curve | None = None) -> dict[str, Any]:
    """Mean, best and last of a curve: each seed's own, then mean and 95 % interval over seeds (Student's t; None: one).

    The best is chosen on the curve itself: it flatters, and stands beside the mean for comparison with MAYE's tables.

    Args:
        by: accuracy on val of the same seeds; with it also `chosen`, the value where that is highest (first of equals).
    """
    each = {"mean": found.values.mean(1), "max": found.values.max(1), "last": found.values[:, -1]}
    if by is not None:
        places = by.x[by.values.argmax(1)]
        each["chosen"] = np.array([np.interp(place, found.x, line) for place, line in zip(places, found.values)])
    return {
        "seeds": len(found.values),
        "points": len(found.x),
        **{
            name: {
                "value": float(values.mean()),
                "interval": list(t_interval(values.tolist())) if len(values) > 1 else None,
            }
            for name, values in each.items()
        },
    }

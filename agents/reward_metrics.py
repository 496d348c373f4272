"""Is a reward any good? Figures of a score against the truth, as pure functions, and the table of them all.

`Rows` are scored moments of trajectories: what the reward said, how far the task really was, whether stopping there
would have succeeded. Scores that were never given (NaN: a generative model did not answer) are left out and counted,
never read as 0; so is truth that nobody knows. Intervals resample whole groups (homes, episodes), since the moments
of one are alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy import ndarray

from agents.agreement import (
    draws_of,
    ends_of,
    epic_of,
    grouped_auc,
    grouped_pearson,
    grouped_spearman,
    pearson,
    ranks,
    roc_auc,
    spearman,
)
from core.errors import InputError, check_choice
from core.intervals import grouped_mean

EXPERT = ("oracle", "expert")  # paths that do it right
OWN = ("policy",)  # states of an agent that somebody trained: kept out of figures that should not depend on one
ADVERSARIAL = ("stare", "wrong_thing", "circling")
PATHS = (*EXPERT, "random", *ADVERSARIAL, *OWN, "failed", "recording", "camera")
KEPT = 0.9  # share of the experts' successes that the threshold of false positives lets pass
STEPS = 11  # points of a path by normalised step: 0, 0.1 ... 1


@dataclass(eq=False)
class Rows:
    """M scored moments; raises InputError where columns differ in length or hold impossible values."""

    score: Float[ndarray, " M"]  # NaN = the model did not answer
    progress: Float[ndarray, " M"]  # true, in [0, 1]; NaN = unknown
    success: Float[ndarray, " M"]  # 1 = stopping here succeeds, 0 = it does not, NaN = unknown; bool will do
    trajectory: Int64[ndarray, " M"]  # number of the walk or recording; a single picture is one of its own
    step: Int64[ndarray, " M"]  # within the trajectory
    path: ndarray  # (M,) str, one of PATHS
    group: ndarray  # (M,) str, the home or episode: what intervals resample
    goal: Int64[ndarray, " M"]  # what was asked for
    frame: Int64[ndarray, " M"]  # index into the frames kept, -1 = none

    def __post_init__(self) -> None:
        self.score, self.progress, self.success = (
            np.asarray(column, dtype=float) for column in (self.score, self.progress, self.success)
        )
        lengths = {item.name: len(getattr(self, item.name)) for item in fields(self)}
        if len(set(lengths.values())) > 1:
            raise InputError(f"columns of scored rows differ in length: {lengths}")
        if np.isinf(self.score).any():
            raise InputError(f"{int(np.isinf(self.score).sum())} scores are infinite; NaN stands for one not given")
        known = self.progress[~np.isnan(self.progress)]
        if len(known) and not 0 <= known.min() <= known.max() <= 1:
            raise InputError(f"true progress runs from {known.min():g} to {known.max():g}; expected 0 to 1, or NaN")
        if not (np.isnan(self.success) | np.isin(self.success, (0, 1))).all():
            raise InputError(f"success is 0, 1 or NaN, got {np.unique(self.success)[:5].tolist()}")
        for path in np.unique(self.path):
            check_choice("path", str(path), PATHS)

    def __len__(self) -> int:
        return len(self.score)

    def chosen(self, index: ndarray) -> "Rows":
        """The rows of an index or mask."""
        return Rows(**{item.name: getattr(self, item.name)[index] for item in fields(self)})

    def scored(self, score: Float[ndarray, " M"]) -> "Rows":
        """The same rows with another reward's scores."""
        return replace(self, score=np.asarray(score, dtype=float))


def within(rows: Rows, statistic: Callable[[ndarray, ndarray], float], against: str) -> dict[int, float]:
    """A statistic of the scores and another column, trajectory by trajectory; unanswered and unknown rows left out."""
    other = getattr(rows, against).astype(float)
    usable = ~np.isnan(rows.score) & ~np.isnan(other)
    found = {}
    for number, members in _trajectories(rows):
        kept = members[usable[members]]
        found[number] = statistic(rows.score[kept], other[kept])
    return found


def value_order_correlation(rows: Rows) -> dict[int, float]:
    """Spearman(score, time) of each trajectory; NaN where it is undefined: constant, or fewer than two answers.

    Above 0: the score rises. On expert trajectories it should; on failed ones it says nothing good.

    Source: Ma et al., "Vision Language Models are In-Context Value Learners", ICLR 2025, arXiv:2411.04549, section 4.
    """
    return within(rows, spearman, "step")


def failed_ends(rows: Rows, paths: Sequence[str]) -> Int64[ndarray, " K"]:
    """Last rows of the trajectories of some paths that are known not to end in success."""
    chosen = np.flatnonzero(np.isin(rows.path, paths))
    order = chosen[np.lexsort((rows.step[chosen], rows.trajectory[chosen]))]
    last = order[np.append(np.diff(rows.trajectory[order]) != 0, np.ones(min(1, len(order)), bool))]
    return last[rows.success[last] == 0]


def threshold_of(scores: ndarray, kept: float = KEPT, weight: ndarray | None = None) -> float:
    """The highest score that at least a share `kept` of these scores reach; NaN for none.

    Args:
        weight: how often each counts, once if left out.
    """
    scores = np.asarray(scores, dtype=float)
    weight = np.ones(len(scores)) if weight is None else np.asarray(weight, dtype=float)
    order = np.argsort(-scores)
    reached = np.cumsum(weight[order])
    if not len(scores) or reached[-1] <= 0:
        return math.nan
    # a hair below: 0.9 of 10 in binary is not quite 9
    return float(scores[order][np.searchsorted(reached, kept * reached[-1] - 1e-9)])


def false_positives(rows: Rows, paths: Sequence[str]) -> float:
    """Share of failed ends of some paths that score at or above the threshold that keeps 90 % of experts' successes.

    NaN without failed ends or without an expert's success. The threshold comes from expert paths alone.
    """
    ends, wins = _false_positive_rows(rows, paths)
    threshold = threshold_of(rows.score[wins])
    return float((rows.score[ends] >= threshold).mean()) if len(ends) and not math.isnan(threshold) else math.nan


def mean_along(rows: Rows, path: str, steps: int = STEPS) -> list[float]:
    """Mean score along a path's trajectories at `steps` even points from its start to its end, linear between steps.

    Unanswered rows are bridged by their answered neighbours; trajectories without an answer are left out; NaN for none.
    """
    points = np.linspace(0, 1, steps)
    lines = []
    for _, members in _trajectories(rows):
        answered = members[~np.isnan(rows.score[members])]
        if rows.path[members[0]] == path and len(answered):
            first, last = rows.step[members[0]], rows.step[members[-1]]
            at = (rows.step[answered] - first) / max(int(last - first), 1)
            lines.append(np.interp(points, at, rows.score[answered]))
    return np.mean(lines, axis=0).tolist() if lines else [math.nan] * steps


def paths_table(rows: Rows) -> dict[str, list[float]]:
    """`mean_along` for every kind of path that walks."""
    return {path: mean_along(rows, path) for path in PATHS if path != "camera" and (rows.path == path).any()}


def worst_rows(rows: Rows, count: int) -> tuple[Int64[ndarray, " K"], Int64[ndarray, " K"]]:
    """Where score and truth rank a row most differently: scored too high, and too low; worst first.

    At most one row of each trajectory, so that one long stare does not fill the list.
    """
    usable = np.flatnonzero(~np.isnan(rows.score) & ~np.isnan(rows.progress))
    gap = np.zeros(len(rows))
    gap[usable] = (ranks(rows.score[usable]) - ranks(rows.progress[usable])) / max(len(usable), 1)

    def first(sign: int) -> ndarray:
        order = usable[np.argsort(-sign * gap[usable], kind="stable")]
        order = order[sign * gap[order] > 0]
        _, once = np.unique(rows.trajectory[order], return_index=True)
        return order[np.sort(once)][:count]

    return first(1), first(-1)


def table(rows: Rows, *, seed: int = 0, resamples: int = 1000) -> dict[str, dict[str, Any]]:
    """Every figure of one reward: name -> value, 95 % interval over groups, n, undefined; None where undefined.

    epic, pearson, spearman     to true progress, all rows pooled but the policy's own
    pearson_within, spearman_within     the mean of those within trajectories
    voc_expert, voc_failed      value order on expert trajectories, and on those that end without success
    auc                         of success, over the pooled rows
    false_positives             of the policy's failed ends ("policy" and "failed"); false_positives_adversarial: of
                                stares, wrong things and circles
    unanswered                  share of rows without a score

    `n` counts rows, or trajectories for means over these; `undefined` the trajectories without a value.

    Args:
        resamples: 0 for no intervals.
    """
    if len(np.unique(rows.group)) < 2:
        resamples = 0  # one home or episode says nothing about others
    pooled = rows.chosen(~np.isin(rows.path, OWN) & ~np.isnan(rows.score))
    known = pooled.chosen(~np.isnan(pooled.progress))
    rho, rho_interval = grouped_pearson(known.score, known.progress, known.group, seed=seed, resamples=resamples)
    order = grouped_spearman(known.score, known.progress, known.group, seed=seed, resamples=resamples)
    epics = None if math.isnan(rho_interval[0]) else (epic_of(rho_interval[1]), epic_of(rho_interval[0]))
    judged = pooled.chosen(~np.isnan(pooled.success))
    won = judged.success == 1
    auc, auc_interval = (
        grouped_auc(judged.score, won, judged.group, seed=seed, resamples=resamples)
        if resamples
        else (roc_auc(judged.score, won), (math.nan, math.nan))
    )
    found = {
        "epic": _entry(epic_of(rho) if len(known) > 1 else math.nan, epics, len(known)),
        "pearson": _entry(rho, rho_interval, len(known)),
        "spearman": _entry(*order, len(known)),
    }
    walks = rows.chosen(~np.isin(rows.path, (*OWN, "camera")))
    for name, statistic in (("pearson_within", pearson), ("spearman_within", spearman)):
        found[name] = _mean_entry(rows, within(walks, statistic, "progress"), seed, resamples)
    orders, lost = value_order_correlation(rows.chosen(rows.path != "camera")), _lost(rows)
    for name, members in (("voc_expert", _of_paths(rows, EXPERT)), ("voc_failed", lost)):
        found[name] = _mean_entry(rows, {k: value for k, value in orders.items() if k in members}, seed, resamples)
    found["auc"] = _entry(auc, auc_interval, len(judged))
    for name, paths in (("false_positives", (*OWN, "failed")), ("false_positives_adversarial", ADVERSARIAL)):
        ends, _ = _false_positive_rows(rows, paths)
        interval = _false_positive_interval(rows, paths, seed, resamples)
        found[name] = _entry(false_positives(rows, paths), interval, len(ends))
    found["unanswered"] = _entry(float(np.isnan(rows.score).mean()) if len(rows) else math.nan, None, len(rows))
    return found


def tables(rows: Rows, scores: Mapping[str, ndarray], *, seed: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """`table` for several rewards of the same rows."""
    return {name: table(rows.scored(score), seed=seed, resamples=resamples) for name, score in scores.items()}


def _trajectories(rows: Rows) -> list[tuple[int, ndarray]]:
    """The rows of each trajectory in the order of their steps."""
    order = np.lexsort((rows.step, rows.trajectory))
    numbers, first = np.unique(rows.trajectory[order], return_index=True)
    return [(int(number), part) for number, part in zip(numbers, np.split(order, first[1:]))]


def _of_paths(rows: Rows, paths: Sequence[str]) -> set[int]:
    return set(rows.trajectory[np.isin(rows.path, paths)].tolist())


def _lost(rows: Rows) -> set[int]:
    """Trajectories that end without success, of every path but experts' and single pictures."""
    others = [path for path in PATHS if path not in (*EXPERT, "camera")]
    return set(rows.trajectory[failed_ends(rows, others)].tolist())


def _false_positive_rows(rows: Rows, paths: Sequence[str]) -> tuple[ndarray, ndarray]:
    """Answered failed ends of some paths, and answered successes on expert paths."""
    ends, answered = failed_ends(rows, paths), ~np.isnan(rows.score)
    return ends[answered[ends]], np.flatnonzero(np.isin(rows.path, EXPERT) & (rows.success == 1) & answered)


def _false_positive_interval(rows: Rows, paths: Sequence[str], seed: int, resamples: int) -> tuple[float, float] | None:
    """Bootstrap over groups of both the threshold and the share above it."""
    ends, wins = _false_positive_rows(rows, paths)
    if not len(ends) or not len(wins) or not resamples:
        return None
    _, group = np.unique(np.concatenate([rows.group[ends], rows.group[wins]]), return_inverse=True)
    of_end, of_win, values = group[: len(ends)], group[len(ends) :], []
    for draw in draws_of(int(group.max()) + 1, seed, resamples):
        threshold, weight = threshold_of(rows.score[wins], weight=draw[of_win]), draw[of_end]
        if not math.isnan(threshold) and weight.sum():
            values.append(float(weight @ (rows.score[ends] >= threshold) / weight.sum()))
    return ends_of(np.array(values))


def _entry(value: float, interval: tuple[float, float] | None, n: int, undefined: int = 0) -> dict[str, Any]:
    known = interval is not None and not any(math.isnan(end) for end in interval)
    return {
        "value": None if math.isnan(value) else float(value),
        "interval": interval if known and not math.isnan(value) else None,
        "n": n,
        "undefined": undefined,
    }


def _mean_entry(rows: Rows, values: Mapping[int, float], seed: int, resamples: int) -> dict[str, Any]:
    """Mean over the trajectories whose value is defined; their groups are resampled."""
    defined = {number: value for number, value in values.items() if not math.isnan(value)}
    if not defined:
        return _entry(math.nan, None, 0, len(values))
    first = dict(zip(rows.trajectory.tolist(), rows.group.tolist()))
    numbers = np.array(list(defined.values()))
    groups = [first[k] for k in defined]
    several = resamples > 0 and len(set(groups)) > 1
    interval = grouped_mean(numbers, groups, seed=seed, resamples=resamples) if several else None
    return _entry(float(numbers.mean()), interval, len(defined), len(values) - len(defined))

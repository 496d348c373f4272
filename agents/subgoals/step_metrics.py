"""How near a row of steps is to the true one: exact, in its actions alone, in part."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final

from agents.subgoals.step_sequences import GOTO, Steps

METRICS: Final = ("exact", "interactions", "actions", "prefix", "edit", "f1")


def compare(said: Steps, truth: Steps) -> dict[str, float]:
    """Every figure of `METRICS` for one plan, each in [0, 1], 1 where it equals the truth.

    exact: all steps alike. interactions: alike once ways to places are left out (goals seldom say where a thing lies).
    actions: the kinds of steps alike, whatever they are about. prefix: share of the longer row that is right from its
    start on. edit: 1 - edit distance over the longer row's length. f1: of steps, each counted as often as it occurs,
    whatever their order.
    """
    longer = max(len(said), len(truth))
    if not longer:
        return dict.fromkeys(METRICS, 1.0)
    shared = sum((Counter(said) & Counter(truth)).values())
    return {
        "exact": float(said == truth),
        "interactions": float(_without_ways(said) == _without_ways(truth)),
        "actions": float([step.action for step in said] == [step.action for step in truth]),
        "prefix": common_prefix(said, truth) / longer,
        "edit": 1 - edit_distance(said, truth) / longer,
        "f1": 2 * shared / (len(said) + len(truth)),
    }


def common_prefix(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """How many items are alike from the start on."""
    return next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Fewest insertions, deletions and exchanges that turn one row into the other (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        corner, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (x != y))
    return row[-1]


def _without_ways(steps: Steps) -> list:
    return [step for step in steps if step.action != GOTO]

"""Sets of objects that hold the meant one with a stated probability, and are empty where nothing fits.

A threshold is calibrated on held-out homes so that a sentence's target reaches it with probability `level`; the set of
a new sentence is every object that reaches it, and an empty set says "not there". How the threshold is found, and what
it promises of homes not seen before: core/conformal.py, with homes as groups.

Which probability: of each object for itself, never a softmax over all, whose shares must sum to 1 and so name something
even where nothing fits. `member` is the model's belief that an object is one of those meant; `score` the logistic
function of the score that ranks objects, for models whose member head has not been trained. That score is not a
calibrated probability, which a threshold does not need.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from core.conformal import group_means, threshold
from core.errors import InputError, check_choice
from core.intervals import grouped_mean

SCORES = ("member", "score")


@dataclass(frozen=True)
class Conformal:
    """A calibrated threshold."""

    level: float  # stated coverage of targets, in (0, 1)
    threshold: float  # on the probability; 0 = every object, where there were too few homes for the level
    n: int  # sentences calibrated on
    homes: int  # homes they came from
    score: str = "member"  # which probability: one of SCORES

    def __post_init__(self) -> None:
        check_choice("conformal score", self.score, SCORES)
        if not 0 < self.level < 1 or not 0 <= self.threshold <= 1:
            raise InputError(
                f"conformal level={self.level}, threshold={self.threshold}: expected a level between 0 and 1 and a "
                "probability; calibrate the model again"
            )

    def present(self, probabilities: Float[ndarray, "*s N"]) -> Bool[ndarray, "*s N"]:
        """Which objects are in the set; padding has probability 0 and is in it only if the threshold is 0."""
        return np.asarray(probabilities) >= self.threshold


def calibrate(
    probabilities: Float[ndarray, " S"] | Sequence[float],
    homes: Shaped[ndarray, " S"] | Sequence[object],
    level: float = 0.9,
    score: str = "member",
) -> Conformal:
    """The largest threshold that the targets of a new home reach with probability `level`.

    Args:
        probabilities: of each sentence's target; of a sentence with several, the smallest of theirs.
        homes: the home of each sentence; `range(S)` where sentences are independent.

    Raises:
        InputError: no sentence, other lengths, or numbers that are no probabilities.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    names = [str(home) for home in homes]
    if not len(values) or values.shape != (len(names),) or not ((values >= 0) & (values <= 1)).all():
        raise InputError(
            f"calibrate() got probabilities of shape {values.shape} for {len(names)} homes; expected one in [0, 1] per "
            "sentence, and at least one sentence"
        )
    return Conformal(level, max(0.0, threshold(values, names, level)), len(values), len(set(names)), score)


@dataclass(frozen=True)
class Coverage:
    """What a threshold does on homes it was not calibrated on."""

    level: float  # stated
    covered: float  # share of sentences whose targets are all in the set; mean over homes, as the level promises
    interval: tuple[float, float]  # 95 %, over homes
    size: float  # mean number of objects in the set
    single: float  # share of sentences whose set is one object
    empty: float  # share of sentences with a target whose set is empty: wrongly "not there"
    sentences: int
    homes: int
    empty_of_none: float | None = None  # share of sentences without a target whose set is empty: rightly "not there"
    sentences_of_none: int = 0


def measure(
    conformal: Conformal,
    probabilities: Sequence[Float[ndarray, " _"]],
    targets: Sequence[Sequence[int]],
    homes: Sequence[object],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Coverage:
    """Coverage of the sets, beside the stated one.

    Args:
        probabilities: per sentence, of each candidate.
        targets: per sentence, indices of its targets among the candidates; none = a sentence that means nothing there,
            -1 = a target that is no candidate, which no set can hold.

    Raises:
        InputError: no sentence with a target.
    """
    sets = [conformal.present(row) for row in probabilities]
    meant = [s for s, of in enumerate(targets) if len(of)]
    if not meant:
        raise InputError("coverage needs sentences with a target; this split has none")
    covered = np.array([min(targets[s]) >= 0 and sets[s][list(targets[s])].all() for s in meant], float)
    by_home = group_means(covered, [str(homes[s]) for s in meant])
    sizes = np.array([sets[s].sum() for s in meant])
    none = [not sets[s].any() for s, of in enumerate(targets) if not len(of)]
    return Coverage(
        level=conformal.level,
        covered=float(by_home.mean()),
        interval=grouped_mean(by_home, range(len(by_home)), seed=seed, resamples=resamples),
        size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        empty=float((sizes == 0).mean()),
        sentences=len(meant),
        homes=len(by_home),
        empty_of_none=float(np.mean(none)) if none else None,
        sentences_of_none=len(none),
    )

"""How often responses look back at themselves, and whether that goes with being right.

Source: MAYE (Ma et al., arXiv:2504.02587), its 15 words and five ratios. MAYE looks for the words as substrings, so
that "eyetest" holds "yet" and "waiting" holds "wait"; here words begin and end where words do, and MAYE's count stays
at hand.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jaxtyping import Bool
from torch import Tensor

REFLECTION_WORDS: Final = (
    "re-check",
    "re-evaluate",
    "re-examine",
    "re-think",
    "recheck",
    "reevaluate",
    "reexamine",
    "reevaluation",
    "rethink",
    "check again",
    "think again",
    "try again",
    "verify",
    "wait",
    "yet",
)

_AS_WORDS: Final = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, REFLECTION_WORDS))})(?!\w)")
_HYPHEN: Final = re.compile(r"\s*-\s*")  # a word tokenizer writes "re - check"


def reflects(response: str, *, as_maye: bool = False) -> bool:
    """Whether a response has a reflection word; `as_maye`: also inside other words."""
    text = _HYPHEN.sub("-", " ".join(response.lower().split()))
    if as_maye:
        return any(word in text for word in REFLECTION_WORDS)
    return _AS_WORDS.search(text) is not None


@dataclass(frozen=True)
class Reflection:
    """MAYE's ratios; N responses, N+ right, Nr reflective, Nr+ both. 0 where a denominator is 0."""

    ratio: float  # Nr / N
    in_correct: float  # Nr+ / N+
    in_incorrect: float  # (Nr - Nr+) / (N - N+)
    correct_in_reflection: float  # Nr+ / Nr
    correct_in_no_reflection: float  # (N+ - Nr+) / (N - Nr)


def reflection(responses: Sequence[str], right: Bool[Tensor, " B"], *, as_maye: bool = False) -> Reflection:
    """The ratios over responses, of which `right` says which are."""
    looks_back = [reflects(response, as_maye=as_maye) for response in responses]
    correct = right.tolist()
    number, good, reflective = len(responses), sum(correct), sum(looks_back)
    both = sum(a and b for a, b in zip(looks_back, correct, strict=True))
    return Reflection(
        ratio=_share(reflective, number),
        in_correct=_share(both, good),
        in_incorrect=_share(reflective - both, number - good),
        correct_in_reflection=_share(both, reflective),
        correct_in_no_reflection=_share(good - both, number - reflective),
    )


def _share(part: int, of: int) -> float:
    return part / of if of else 0.0

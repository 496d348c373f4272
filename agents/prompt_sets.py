"""Ways to ask a dual encoder for a thing, and what to call a view of nothing in particular.

Prompt sets by name: "captions" (three captions of views within reach of it, one per side: what the reward is paid by
in training), "label" ("red armchair"), "photo" ("a photo of a red armchair"); or a sentence with {thing} in it.
Baselines by name: "wall" (captions of bare walls), "room", "nothing"; or a sentence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import InputError
from scene.captions import BASELINE_PROMPTS, goal_prompts, noun

PROMPTS: Final[dict[str, Callable[[str], list[str]]]] = {
    "captions": goal_prompts,
    "label": lambda thing: [thing],
    "photo": lambda thing: [f"a photo of {noun(thing)}"],
}
BASELINES: Final[dict[str, tuple[str, ...]]] = {
    "wall": BASELINE_PROMPTS,
    "room": ("a photo of a room",),
    "nothing": ("a photo of nothing in particular",),
}
SLOT = "{thing}"


@dataclass(frozen=True)
class PromptSet:
    """A way to ask for things, with its baseline; raises InputError for what is neither a name nor a sentence."""

    asked: str  # a key of PROMPTS, or a sentence with {thing}
    against: str = "wall"  # a key of BASELINES, or a sentence

    def __post_init__(self) -> None:
        if self.asked not in PROMPTS and self.asked.count(SLOT) != 1:
            raise InputError(
                f"prompts={self.asked!r} is none of {', '.join(PROMPTS)} and has no {SLOT} to put the thing in; "
                f'e.g. "a {SLOT} in front of me"'
            )
        if not self.against.strip() or SLOT in self.against:
            raise InputError(
                f"baselines={self.against!r} should be one of {', '.join(BASELINES)}, or a sentence about nothing in "
                f"particular, without {SLOT}"
            )

    def goal(self, thing: str) -> list[str]:
        """Prompts for one thing, e.g. "red armchair"."""
        return PROMPTS[self.asked](thing) if self.asked in PROMPTS else [self.asked.replace(SLOT, thing)]

    @property
    def baseline(self) -> tuple[str, ...]:
        """Prompts for a view without it."""
        return BASELINES.get(self.against, (self.against,))


def prompt_sets(asked: Sequence[str], against: Sequence[str]) -> dict[str, PromptSet]:
    """Every way to ask against every baseline, by a name that tells the baseline only where there are several.

    Raises:
        InputError: none, or one that PromptSet refuses.
    """
    if not asked or not against:
        raise InputError("prompts and baselines need at least one entry each")
    several = len(dict.fromkeys(against)) > 1
    return {
        f"{one} against {other}" if several else one: PromptSet(one, other)
        for one in dict.fromkeys(asked)
        for other in dict.fromkeys(against)
    }

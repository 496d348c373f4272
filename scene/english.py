"""Number and article: how a class of things is called when there are none, one or several of it."""

from collections.abc import Sequence
from typing import Final

PAIRS: Final = frozenset(
    {"keys", "scissors", "glasses", "pants", "trousers", "jeans", "clothes", "blinds", "stairs", "headphones"}
)
"""Head nouns that are plural even of one thing."""
MASS: Final = frozenset({"bread", "toilet paper", "furniture", "lettuce", "paper", "clothing", "bedding"})
"""Labels that nobody counts: "some bread"."""
IRREGULAR: Final = {
    "shelf": "shelves",
    "bookshelf": "bookshelves",
    "knife": "knives",
    "loaf": "loaves",
    "leaf": "leaves",
    "person": "people",
    "mouse": "mice",
    "foot": "feet",
    "child": "children",
    "potato": "potatoes",
    "tomato": "tomatoes",
}
NUMBERS: Final = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def is_plural(label: str) -> bool:
    """Whether one such thing takes "are": "the keys are"."""
    return label.split()[-1] in PAIRS if label else False


def is_countable(label: str) -> bool:
    """Whether "two" and "how many" can be said of it."""
    return label not in MASS and not is_plural(label)


def with_article(noun: object) -> str:
    """ "a chair", "an armchair", "some keys", "some bread"; the noun may begin with a colour."""
    text = str(noun)
    if is_plural(text) or any(text == label or text.endswith(f" {label}") for label in MASS):
        return f"some {text}"
    vowel = text[:1].lower() in "aeiou" and not text.startswith(("uni", "use", "euro", "one"))
    return f"{'an' if vowel else 'a'} {text}"


def plural(label: str) -> str:
    """ "chairs", "shelves", "boxes", "butter knives": the last word takes the number."""
    head, _, last = label.rpartition(" ")
    if is_plural(label) or label in MASS:
        return label
    if last in IRREGULAR:
        many = IRREGULAR[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        many = last + "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        many = last[:-1] + "ies"
    else:
        many = last + "s"
    return f"{head} {many}" if head else many


def number(count: int) -> str:
    """ "two"; digits from 13 on."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def counted(label: str, count: int) -> str:
    """ "a chair", "two chairs"."""
    if not is_countable(label):
        return with_article(label)
    return with_article(label) if count == 1 else f"{number(count)} {plural(label)}"


def listed(parts: Sequence[str]) -> str:
    """ "a bed, two chairs and a lamp"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"

"""English stems, by the Snowball algorithm that METEOR matches words with ("chairs" and "chair" have one stem).

Porter's second English stemmer (Porter, 2001, snowballstem.org/algorithms/english), in the form it had when METEOR
took it up: longest suffix of a step first, R1 and R2 being what follows the first and the second vowel-consonant pair.
"""

import re
from functools import lru_cache
from typing import Final

_SPECIAL: Final = (
    {"skis": "ski", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "idly": "idl"}
    | {"gently": "gentl", "ugly": "ugli", "early": "earli", "only": "onli", "singly": "singl"}
    | {word: word for word in ("sky", "news", "howe", "atlas", "cosmos", "bias", "andes")}
)
_KEPT: Final = frozenset({"inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed"})
_STEP_2: Final = (
    {"tional": "tion", "enci": "ence", "anci": "ance", "abli": "able", "entli": "ent", "izer": "ize"}
    | {"ization": "ize", "ational": "ate", "ation": "ate", "ator": "ate", "alism": "al", "aliti": "al", "alli": "al"}
    | {"fulness": "ful", "ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive", "biliti": "ble"}
    | {"bli": "ble", "ogi": "og", "fulli": "ful", "lessli": "less", "li": ""}
)
_STEP_3: Final = {"tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic"} | {
    "ful": "",
    "ness": "",
    "ative": "",
}
_STEP_4: Final = dict.fromkeys(
    ("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ism", "ate", "iti", "ous", "ive")
    + ("ize", "ion"),
    "",
)

_VOWELS: Final = "aeiouy"
_REGION: Final = re.compile(f"[{_VOWELS}][^{_VOWELS}]")
_SHORT_SYLLABLE: Final = re.compile(f"(?:[^{_VOWELS}][{_VOWELS}][^{_VOWELS}wxY]|^[{_VOWELS}][^{_VOWELS}])$")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters are their own."""
    if len(word) <= 2 or word in _SPECIAL:
        return _SPECIAL.get(word, word)
    word = word.removeprefix("'")
    word = re.sub(f"(^|[{_VOWELS}])y", r"\1Y", word)  # a y that is no vowel
    r1, r2 = _regions(word)
    word = _plural(re.sub(r"'(s'?)?$", "", word))
    if word in _KEPT:
        return word
    word = _participle(word, r1)
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in _VOWELS:
        word = word[:-1] + "i"
    word = _replaced(word, _STEP_2, r1, r2)
    word = _replaced(word, _STEP_3, r1, r2)
    word = _replaced(word, _STEP_4, r2, r2)
    if word.endswith("e"):
        in_r2, in_r1 = len(word) > r2, len(word) > r1
        if in_r2 or (in_r1 and not _SHORT_SYLLABLE.search(word[:-1])):
            word = word[:-1]
    elif word.endswith("ll") and len(word) > r2:
        word = word[:-1]
    return word.lower()


def _regions(word: str) -> tuple[int, int]:
    """Where R1 and R2 start; the length of the word where it has none."""
    starts = []
    start = next((len(head) for head in ("gener", "commun", "arsen") if word.startswith(head)), 0)
    if start:
        starts.append(start)
    while len(starts) < 2:
        pair = _REGION.search(word, starts[-1] if starts else 0)
        starts.append(pair.end() if pair else len(word))
    return starts[0], starts[1]


def _has_vowel(word: str) -> bool:
    return any(letter in _VOWELS for letter in word)


def _plural(word: str) -> str:
    """Step 1a."""
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _has_vowel(word[:-2]):
        return word[:-1]
    return word


def _participle(word: str, r1: int) -> str:
    """Step 1b."""
    suffix = next((s for s in ("eedly", "ingly", "edly", "eed", "ing", "ed") if word.endswith(s)), "")
    if not suffix:
        return word
    head = word.removesuffix(suffix)
    if suffix in ("eed", "eedly"):
        return head + "ee" if len(head) >= r1 else word
    if not _has_vowel(head):
        return word
    if head.endswith(("at", "bl", "iz")):
        return head + "e"
    if head.endswith(("bb", "dd", "ff", "gg", "mm", "nn", "pp", "rr", "tt")):
        return head[:-1]
    return head + "e" if len(head) <= r1 and _SHORT_SYLLABLE.search(head) else head


def _replaced(word: str, endings: dict[str, str], region: int, r2: int) -> str:
    """Steps 2 to 4: the longest ending, when it lies in its region and what stands before it allows."""
    suffix = max((ending for ending in endings if word.endswith(ending)), key=len, default="")
    head = word.removesuffix(suffix)
    allowed = {"ogi": "l", "li": "cdeghkmnrt", "ion": "st"}.get(suffix)
    if not suffix or len(head) < (r2 if suffix == "ative" else region):
        return word
    if allowed is not None and (not head or head[-1] not in allowed):
        return word
    return head + endings[suffix]

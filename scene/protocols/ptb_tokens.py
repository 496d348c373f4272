"""Words as the caption metrics count them: Penn Treebank tokens without punctuation, in lower case.

BLEU, ROUGE-L, METEOR and CIDEr of ScanQA are computed on the tokens of Stanford's PTBTokenizer (COCO caption code,
Chen et al., arXiv:1504.00325, section 3). That is a Java program; the rules here give the same tokens for answers:
clitics are split ("it's" -> it 's, "don't" -> do n't, "cannot" -> can not), hyphenated words and decimals stay whole,
punctuation goes. Differences: brackets go, too (lower-casing hides them from the released filter), and abbreviations
with stops ("u.s.") lose their last one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

Words = tuple[str, ...]

_APOSTROPHES: Final = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"'})
_JOINED: Final = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "gimme": "gim me"}
_WHOLE: Final = frozenset({"o'clock"})
_CLITIC: Final = re.compile(r"(?<=[a-z])(n't|'(?:s|m|d|ll|re|ve))$")
_WORD: Final = re.compile(
    r"\d+(?:[.,:/]\d+)+"  # 2.5, 1,000, 3:30, 1/2
    r"|[^\W_]+(?:[-'./&_][^\W_]+)*"  # l-shaped, o'clock, black/white
    r"|[%$#&+=@°/]",
)


def words_of(text: str) -> Words:
    """The tokens of a text; none for a text of punctuation alone."""
    found: list[str] = []
    for word in _WORD.findall(text.lower().translate(_APOSTROPHES)):
        clitic = None if word in _WHOLE else _CLITIC.search(word)
        if clitic and clitic.start():
            found += [word[: clitic.start()], clitic.group()]
        else:
            found += _JOINED.get(word, word).split()
    return tuple(found)


def ngram_counts(words: Sequence[str], longest: int = 4) -> Counter[Words]:
    """How often each run of 1 to `longest` words occurs."""
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, longest + 1)
        for start in range(len(words) - length + 1)
    )

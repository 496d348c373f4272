"""VQA's accuracy: how answers are made comparable, and what one is worth beside the ten that people gave.

Written from the evaluation page of visualqa.org; where it leaves a detail open (when punctuation becomes nothing
instead of a space, which contractions are mended), the released script's rule is taken. Two things differ from it:

- people's answers are always made comparable, words and all, as the page says. The script only treats their
  punctuation, and that only where the ten are not all the same, so that a unanimous "t-shirt" is out of any reach;
- "somebodyd" becomes "somebody'd"; the script has this one the wrong way round.

Source: Antol et al., VQA, arXiv:1505.00468, section 3; Goyal et al., arXiv:1612.00837 (VQA v2).
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence

ANSWERS = 10  # people per question
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # apostrophe and colon stay: girl's, 2:50
COMMA_IN_NUMBER = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")  # all but those before a digit
ARTICLES = frozenset({"a", "an", "the"})
DIGITS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't "
    "needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've "
    "something'll that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas "
    "wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've "
    "who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll you'd "
    "you'd've you'll you're you've"
)


def _mended() -> dict[str, str]:
    """Contractions by each form that lacks exactly one of their apostrophes."""
    forms: dict[str, str] = {}
    for word in CONTRACTIONS.split():
        for place, letter in enumerate(word):
            if letter == "'":
                forms[word[:place] + word[place + 1 :]] = word
    return forms


MENDED = _mended()


@functools.lru_cache(maxsize=1 << 16)  # a few thousand answers make up most of the millions given
def normalise(answer: str) -> str:
    """The comparable form: lower case, digits for number words, no articles, apostrophes in, punctuation out.

    Punctuation becomes a space; it becomes nothing where it stands beside a space somewhere in the answer, or where
    the answer holds a number with a comma (100,978).
    """
    text = answer.replace("\n", " ").replace("\t", " ").strip()
    result = text
    number = COMMA_IN_NUMBER.search(text) is not None
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        result = result.replace(mark, "" if beside_space or number else " ")
    words = [DIGITS.get(word, word) for word in PERIOD.sub("", result).lower().split()]
    return " ".join(MENDED.get(word, word) for word in words if word not in ARTICLES)


def worth(said_by: int, people: int = ANSWERS) -> float:
    """Accuracy of an answer that `said_by` of the people gave: min(n / 3, 1), averaged over leaving each of them out.

    Of ten: 0, 0.3, 0.6, 0.9 for none to three, 1 for four and more.
    """
    with_it = min(said_by / 3, 1.0)
    without = min(max(said_by - 1, 0) / 3, 1.0)
    return (said_by * without + (people - said_by) * with_it) / people


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """What each answer that somebody gave is worth, by its comparable form; any other is worth 0."""
    counts = Counter(normalise(answer) for answer in answers)
    scores = {answer: worth(count, len(answers)) for answer, count in counts.items()}
    return {answer: score for answer, score in scores.items() if score > 0}


def answer_vocabulary(most_common: Sequence[str], least: int) -> tuple[str, ...]:
    """Answers that are the most common one of at least `least` questions; frequent ones first, equal ones by letter.

    The literature takes 9, which gives it 3,129 answers on VQA v2; its code counts training and validation questions.

    Source: Teney et al., Tips and Tricks for Visual Question Answering, arXiv:1708.02711.
    """
    counts = Counter(normalise(answer) for answer in most_common)
    kept = [answer for answer, count in counts.items() if count >= least and answer]
    return tuple(sorted(kept, key=lambda answer: (-counts[answer], answer)))

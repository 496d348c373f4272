"""What a response earns: its answer checked against the exact one, its form, its language and its length.

    reward = accuracy a + format f - language c - length l,   or `not_ended` alone where the response was cut off

with f = 1 for the asked form, c = share of CJK characters, l = tokens / length_limit. The defaults are those of MAYE's
paper (Ma et al., arXiv:2504.02587): accuracy, language and the override, no format (its code adds 1 for the format).
Curr-ReFT (arXiv:2503.07065) and Med-R1 (arXiv:2503.13939) weigh accuracy and format alike.
"""

import functools
import importlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from agents.reasoning.answers import STYLES, extract, plain
from agents.reasoning.detection_reward import EARLY, LATE, BoxRule, box_iou, detection_reward, read_boxes
from agents.reasoning.symbolic import equal_answers
from agents.reasoning.types import Sample
from core.errors import InputError, check_choice, nearest

Check = Callable[[str, Sample], float]
"""Scores an answer (the text between the answer tags) to a sample in 0..1, or anything finite in a user's own."""

_CJK: Final = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_LETTERED: Final = re.compile(r"\(?\s*([a-z])\s*[).]?")
_ARTICLES: Final = frozenset({"a", "an", "the"})
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class AnswerCheck:
    """One way to decide whether an answer is right."""

    score: Check  # 1 for the exact answer
    late: Check | None = None  # a harder score that takes over at RewardConfig.late_from
    right_from: float = 1.0  # an answer that scores this much counts as right in accuracies


def exact(answer: str, sample: Sample) -> float:
    """1 when the texts are the same but for case, spacing and one full stop at the end."""
    return float(plain(answer) == plain(sample.answer))


def number(answer: str, sample: Sample) -> float:
    """1 when both mean the same number or formula; see agents/reasoning/symbolic.py."""
    return float(equal_answers(answer, sample.answer))


def choice(answer: str, sample: Sample) -> float:
    """1 when the answer names the same options in the same order, by letter ("b", "(b)", "b.") or by their text.

    Several options are separated by commas (Curr-ReFT's ordered list); an option named twice is no answer.
    """
    named, true = _options(answer, sample.choices), _options(sample.answer, sample.choices)
    return float(named is not None and named == true)


def _options(text: str, choices: Sequence[str]) -> tuple[int, ...] | None:
    """Numbers of the options that a text names; None where a part of it names none, or one comes twice."""
    texts = [plain(option) for option in choices]
    if plain(text) in texts:  # an option may have a comma of its own
        return (texts.index(plain(text)),)
    named = []
    for part in text.split(","):
        if plain(part) in texts:
            named.append(texts.index(plain(part)))
            continue
        letter = _LETTERED.fullmatch(part.strip().lower())
        place = ord(letter[1]) - ord("a") if letter else len(texts)
        if place >= len(texts):
            return None
        named.append(place)
    return tuple(named) if len(set(named)) == len(named) else None


_TRUTH_VALUES: Final = {"yes": True, "true": True, "no": False, "false": False}


def yes_no(answer: str, sample: Sample) -> float:
    """1 when the answer is one word, yes (or true) or no (or false), and the right one."""
    said, true = _TRUTH_VALUES.get(plain(answer)), _TRUTH_VALUES.get(plain(sample.answer))
    return float(said is not None and said is true)


def words(answer: str, sample: Sample) -> float:
    """|P n G| / |P u G| of the label sets P (answer) and G (truth), separated by commas (Curr-ReFT)."""
    named, true = _labels(answer), _labels(sample.answer)
    return len(named & true) / len(named | true) if named | true else 0.0


def _labels(text: str) -> set[str]:
    return {plain(part) for part in text.split(",")} - {""}


def text(answer: str, sample: Sample) -> float:
    """F1 of the words of both texts, without articles and marks; a word counts as often as both have it.

    The order of words does not count: where it decides ("the bed is left of the lamp"), "exact" is the check.

    Source: SQuAD (Rajpurkar et al., 2016), section 6.1.
    """
    said, true = _bag(answer), _bag(sample.answer)
    shared = (said & true).total()
    return 2 * shared / (said.total() + true.total()) if shared else 0.0


def _bag(of: str) -> Counter[str]:
    return Counter(word for word in _WORD.findall(of.casefold()) if word not in _ARTICLES)


def box(answer: str, sample: Sample) -> float:
    """IoU of the one box asked for; see agents/reasoning/detection_reward.py."""
    return box_iou(answer, sample.answer)


def box_hit(answer: str, sample: Sample) -> float:
    """1 when the IoU of the one box asked for is above a half (Curr-ReFT's open stage)."""
    return float(box_iou(answer, sample.answer) > 0.5)


def boxes(answer: str, sample: Sample, rule: BoxRule = EARLY) -> float:
    """Vision-R1's format, recall and precision of a list of boxes, averaged."""
    truth = read_boxes(sample.answer)
    if truth is None:
        raise ValueError(f"expected boxes as JSON, got {sample.answer!r}")
    return detection_reward(read_boxes(answer), truth, rule).mean


ANSWER_CHECKS: Final[dict[str, AnswerCheck]] = {
    "exact": AnswerCheck(exact),
    "number": AnswerCheck(number),
    "choice": AnswerCheck(choice),
    "yes-no": AnswerCheck(yes_no),
    "words": AnswerCheck(words),
    "text": AnswerCheck(text),
    "box": AnswerCheck(box, right_from=0.5),
    "box-hit": AnswerCheck(box_hit),
    "boxes": AnswerCheck(boxes, late=functools.partial(boxes, rule=LATE)),
}


@functools.cache
def answer_check(name: str) -> AnswerCheck:
    """The check called `name`: one of ANSWER_CHECKS, or a user's function as "module:function".

    Raises:
        InputError: neither; the module does not load, or has no such function.
    """
    if ":" not in name:
        if name not in ANSWER_CHECKS:
            hint = nearest(name, ANSWER_CHECKS)
            raise InputError(f"reward {name!r} is unknown; {hint} (a function of your own is named module:function)")
        return ANSWER_CHECKS[name]
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # whatever the user's module raises while it loads
        raise InputError(
            f"reward {name!r}: module {module!r} does not load ({type(error).__name__}: {error}). "
            "It must be installed or lie in a folder of PYTHONPATH"
        ) from error
    if not callable(found):
        raise InputError(f"reward {name!r}: module {module!r} has no function {function!r}")
    return AnswerCheck(found)


def check_samples(samples: Sequence[Sample]) -> None:
    """Raises InputError, naming the sample, where a reward is unknown or the exact answer would not earn it.

    The exact answer of a built-in check must score 1: so an answer that its check cannot read (a word as "number",
    an option that is not among the choices, a box without area) is noticed before training, not paid 0 for ever.
    """
    for sample in samples:
        try:
            check = answer_check(sample.reward)
        except InputError as error:
            raise InputError(f"sample {sample.id!r}: {error}") from error
        if not sample.answer.strip():
            raise InputError(f"sample {sample.id!r} has no answer")
        if sample.reward in ANSWER_CHECKS and not _full(check, sample):
            given = f"; choices: {', '.join(sample.choices) or 'none'}" if sample.reward == "choice" else ""
            raise InputError(
                f"sample {sample.id!r}: its answer {sample.answer!r} is not one that reward {sample.reward!r} can "
                f"check{given}. Mend the answer, or name another reward ({', '.join(ANSWER_CHECKS)})"
            )


def _full(check: AnswerCheck, sample: Sample) -> bool:
    try:
        return check.score(sample.answer, sample) == 1.0
    except ValueError:
        return False


@dataclass
class RewardConfig:
    """Weights of the parts of a reward."""

    style: str = "tags"  # where an answer stands, one of agents/reasoning/answers.py STYLES
    accuracy: float = 1.0  # for what the sample's own check gives, 0 to 1
    format: float = 0.0  # for the asked form
    language: float = 0.1  # taken off times the share of CJK characters
    length: float = 0.0  # taken off times tokens / length_limit (at most 1)
    length_limit: int = 1024  # tokens
    min_length: int = 0  # tokens; a shorter response gets `not_ended` too (MAYE)
    not_ended: float | None = -0.1  # all that a response cut off earns; null: its parts as they are
    late_from: int = 1500  # step from which the harder rule of "boxes" holds (Vision-R1)

    def __post_init__(self) -> None:
        check_choice("reward.style", self.style, STYLES)
        numbers = (self.accuracy, self.format, self.language, self.length, self.not_ended or 0.0)
        if not all(math.isfinite(number) for number in numbers):
            raise InputError(f"weights of a reward must be finite numbers, got {numbers}")
        if self.min_length < 0 or (self.min_length and self.not_ended is None):
            raise InputError(
                f"reward.min_length={self.min_length}: a shorter one earns reward.not_ended={self.not_ended}; give a "
                "length from 0 on, and a number that it earns"
            )
        if self.length_limit < 1:
            raise InputError(f"reward.length_limit={self.length_limit}, expected at least 1 token")


def reward_of(
    samples: Sequence[Sample],
    texts: Sequence[str],
    ended: Bool[Tensor, " B"],
    lengths: Int64[Tensor, " B"],
    config: RewardConfig,
    *,
    step: int = 0,
) -> tuple[Float[Tensor, " B"], dict[str, Float[Tensor, " B"]]]:
    """What each response earns.

    Args:
        samples: the sample that row b answers; repeated G times for G responses.
        texts: responses, decoded without end and padding tokens.
        ended: False where the response was cut off. Its answer counts for nothing.
        lengths: tokens of each response, its end token included.
        step: of training; from config.late_from on the harder rules hold.

    Returns:
        The reward, and its parts before weighing: "accuracy" (the check's score), "right" (1 where accuracies count the
        answer as right), "format" (1 or 0), "language" (share of CJK characters), "length" (tokens / length_limit, at
        most 1). All on the CPU.

    Raises:
        InputError: rows of different number; a check raises or gives no finite number (names the sample and the
            answer).
    """
    numbers = {len(samples), len(texts), len(ended), len(lengths)}
    if len(numbers) != 1:
        raise InputError(f"samples, texts, ended and lengths differ in rows: {sorted(numbers)}")
    rows = zip(samples, texts, ended.tolist(), lengths.tolist())
    paid = [_Paid.of(sample, response, over, tokens, config, step) for sample, response, over, tokens in rows]
    parts = {
        name: torch.tensor([getattr(one, name) for one in paid], dtype=torch.float32)
        for name in ("accuracy", "right", "format", "language", "length")
    }
    reward = config.accuracy * parts["accuracy"] + config.format * parts["format"]
    reward = reward - config.language * parts["language"] - config.length * parts["length"]
    if config.not_ended is not None:
        refused = ~ended.cpu() | (lengths.cpu() < config.min_length)
        reward = torch.where(refused, torch.tensor(config.not_ended), reward)
    return reward, parts


@dataclass(frozen=True)
class _Paid:
    """Parts of one response's reward; see `reward_of`."""

    accuracy: float
    right: float
    format: float
    language: float
    length: float

    @classmethod
    def of(cls, sample: Sample, response: str, ended: bool, tokens: int, config: RewardConfig, step: int) -> "_Paid":
        answer = extract(response, config.style)
        score, right = 0.0, False
        if ended and answer.text is not None:
            check = answer_check(sample.reward)
            score = _score(check.score, sample, answer.text)
            right = score >= check.right_from
            if check.late is not None and step >= config.late_from:
                score = _score(check.late, sample, answer.text)
        return cls(
            accuracy=score,
            right=float(right),
            format=float(ended and answer.well_formed),
            language=cjk_share(response),
            length=min(1.0, tokens / config.length_limit),
        )


def is_right(sample: Sample, answer: str) -> bool:
    """Whether accuracies count an answer (without its tags) as right.

    Raises:
        InputError: the check is unknown, raises, or gives no finite number.
    """
    check = answer_check(sample.reward)
    return _score(check.score, sample, answer) >= check.right_from


def _score(check: Check, sample: Sample, answer: str) -> float:
    """A check's score of an answer, as a finite number.

    Raises:
        InputError: it raises, or gives something else.
    """
    try:
        score = check(answer, sample)
    except Exception as error:  # a user's function may raise anything
        raise InputError(
            f"reward {sample.reward!r} failed on sample {sample.id!r} ({type(error).__name__}: {error}); "
            f"its answer was {_short(answer)}"
        ) from error
    if isinstance(score, Tensor) and score.numel() == 1:
        score = score.item()
    if not isinstance(score, int | float) or not math.isfinite(score):
        raise InputError(
            f"reward {sample.reward!r} gave {score!r} for sample {sample.id!r}, expected a finite number; "
            f"its answer was {_short(answer)}"
        )
    return float(score)


def _short(answer: str) -> str:
    return repr(answer if len(answer) <= 200 else f"{answer[:200]} ...")


def cjk_share(response: str) -> float:
    """Share of Chinese, Japanese and Korean characters in a text, 0..1 (MAYE's language reward)."""
    return len(_CJK.findall(response)) / len(response) if response else 0.0

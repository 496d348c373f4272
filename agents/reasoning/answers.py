"""Where a response states its answer, and nowhere else: no answer is ever looked for inside other text.

Three styles: "tags" (<think> ... </think> <answer> ... </answer>, as DeepSeek-R1, Vision-R1, Med-R1 and Curr-ReFT ask),
"boxed" (one \\boxed{...}, as MAYE asks) and "whole" (the response is the answer). Released checks search for a tag, a
letter or the last box anywhere in the text, which a model learns to game by stating several answers; here a response
that states more than one has none.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.errors import check_choice

THINK, END_THINK, ANSWER, END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"

# Looser than the tags that count, so that a tag in disguise ("< Answer >", "<answer x>") spoils the form. One class
# before the name and none of <> after it keep matching linear in the text.
_TAG_LIKE: Final = re.compile(r"<[\s/\\]*(?:think|answer)\b[^<>]*>", re.IGNORECASE)
_BOX: Final = "\\boxed"
_AFTER_BOX: Final = re.compile(r"(?:[\s.$]|\\\)|\\\])*")
_TOKEN: Final = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Answer:
    """What a response answers."""

    text: str | None  # the answer, stripped and not empty; None: the response states none, or more than one
    thought: str | None  # what stands before it: between the think tags, or before the box
    well_formed: bool  # exactly the asked form; what a format reward pays


NO_ANSWER: Final = Answer(None, None, False)


def extract(text: str, style: str = "tags") -> Answer:
    """The one answer of a response.

    Args:
        text: the response, decoded without its end and padding tokens.
        style: one of STYLES. "tags": the response ends with its only answer block; well formed with one think block
            before it and nothing but white space around the two. "boxed": the response has one \\boxed{...} with
            balanced braces; well formed when only closing marks of mathematics follow. "whole": all of the response.

    Raises:
        InputError: an unknown style.
    """
    check_choice("answer style", style, STYLES)
    return STYLES[style](text)


def between_tags(text: str) -> Answer:
    """The answer block that ends a response; see `extract`."""
    tags = list(_TAG_LIKE.finditer(text))
    names = [tag.group() for tag in tags]
    thinks = names == [THINK, END_THINK, ANSWER, END_ANSWER]
    if not thinks and names != [ANSWER, END_ANSWER]:
        return NO_ANSWER
    start, end = tags[-2:]
    answer = text[start.end() : end.start()].strip()
    if not answer or text[end.end() :].strip():
        return NO_ANSWER
    if not thinks:
        return Answer(answer, None, False)
    thought = text[tags[0].end() : tags[1].start()].strip()
    outside = text[: tags[0].start()] + text[tags[1].end() : start.start()]
    return Answer(answer, thought, not outside.strip())


def in_box(text: str) -> Answer:
    """The content of the only box of a response; see `extract`."""
    if text.count(_BOX) != 1:
        return NO_ANSWER
    before, _, after = text.partition(_BOX)
    after = after.lstrip()
    if not after.startswith("{"):
        return NO_ANSWER
    end = _closing(after)
    answer = after[1:end].strip()
    if not answer:
        return NO_ANSWER
    return Answer(answer, before.strip(), _AFTER_BOX.fullmatch(after[end + 1 :]) is not None)


def _closing(text: str) -> int:
    """Place of the brace that closes the first one; 0 where none does."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return place
    return 0


def whole(text: str) -> Answer:
    """All of a response as its answer."""
    answer = text.strip()
    return Answer(answer or None, None, bool(answer))


STYLES: Final[dict[str, Callable[[str], Answer]]] = {"tags": between_tags, "boxed": in_box, "whole": whole}


def worked(thought: str, answer: str) -> str:
    """A thought and the answer it leads to, in tags: what is imitated."""
    return f"{THINK} {thought} {END_THINK} {ANSWER} {answer} {END_ANSWER}"


def stated(answer: str, style: str) -> str:
    """An answer without a way to it, where `extract` reads it."""
    if style == "tags":
        return f"{THINK} {END_THINK} {ANSWER} {answer} {END_ANSWER}"
    return f"{_BOX}{{{answer}}}" if style == "boxed" else answer


def plain(text: str) -> str:
    """Text for comparing: lower case, words and marks one space apart, without one full stop at the end.

    Spacing must not matter, because word tokenizers set marks apart ("turn - left"). Nothing else is folded: a digit
    or letter of another script is another character.
    """
    tokens = _TOKEN.findall(text.casefold())
    if len(tokens) > 1 and tokens[-1] == ".":
        tokens.pop()
    return " ".join(tokens)

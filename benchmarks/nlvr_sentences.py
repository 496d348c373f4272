"""Sentences about NLVR-style pictures: constructions with their exact meaning, worded at random and read back.

A construction is a list of templates and a function from a picture and the values of the template's phrases to the
truth. In a template, {name} stands for a phrase (PHRASES says of which kind; a digit at the end makes another one of
that kind), [a|b] for one of some wordings, and <is>, <has> for the verb that agrees with the sentence's first phrase.
Constructions and vocabulary are those of people in the corpus' public `test` file; `read` gives the construction and
the values of a sentence of theirs, where it is one of these.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from random import Random
from typing import Any, Final

from benchmarks.nlvr_phrases import (
    Amount,
    Choice,
    Colour,
    Counted,
    CountedItems,
    Height,
    Items,
    Look,
    Number,
    Phrase,
    Place,
)
from benchmarks.nlvr_pictures import SHAPES, Kind, Picture
from benchmarks.nlvr_truth import (
    alike,
    all_touching,
    between,
    block_as_end,
    block_over,
    box_touching,
    counted,
    distinct_colours,
    each_other,
    end_is,
    group_alike,
    has,
    middle_is,
    next_to,
    none_touching,
    nth_is,
    of_which,
    one_over,
    only_colours,
    pure_tower,
    rows_at,
    same_end,
    same_number,
    tall,
    tall_with,
    together,
    touching,
    tower_with,
)

PHRASES: Final[dict[str, Phrase]] = {
    "boxes": Counted(("box", "grey box"), 2),
    "towers": Counted(("tower",), 2),
    "many": CountedItems(),
    "looks": Items(),
    "look": Items(plural=False),
    "height": Height("block"),
    "total": Height("item"),
    "place": Place(),
    "colour": Colour(),
    "number": Number(3),
    "count": Number(4, least=2),
    "end": Choice({"top": "top", "base": "base", "bottom": "base"}),
    "over": Choice({"over": "over", "above": "over", "on": "over", "below": "under", "under": "under"}),
    "nth": Choice({"second": 2, "third": 3}),
    "trait": Choice({"color": "colour", "colour": "colour", "size": "size"}),
    "shapes": Choice({f"{shape}s": Look(None, shape) for shape in SHAPES}),
    "edge": Choice(dict.fromkeys(("any edge", "the edge", "the wall", "any wall"), "edge")),
}
REPAIRS: Final = (  # people's slips, undone before a sentence is read
    (r"^t least", "at least"), (r"\batleast\b", "at least"), (r"\btraingle", "triangle"), (r"\bbellow\b", "below"),
    (r"\bbule\b", "blue"), (r"\ba sthe\b", "as the"), (r"\s+", " "), (r"[. ]+$", ""), (r" ,", ","),
    (r"\bgrey square contain", "grey box contain"),
    (r"^there is one tower with yellow", "there is one tower with a yellow"),
)  # fmt: skip


def plain(sentence: str) -> str:
    """Lower case, single spaces, without slips or the point at the end."""
    text = sentence.strip().lower()
    for slip, meant in REPAIRS:
        text = re.sub(slip, meant, text)
    return text


@dataclass(frozen=True)
class Construction:
    """A way to say something, and when it is true."""

    name: str
    kinds: tuple[Kind, ...]  # of pictures it is drawn for
    templates: tuple[str, ...]
    truth: Callable[..., bool]  # of a picture and the phrases' values by name
    apart: tuple[str, str] | None = field(default=None)  # phrases whose values should differ when drawn

    @cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(as_pattern(template)) for template in self.templates]


@dataclass(frozen=True)
class Statement:
    """A construction with its values."""

    construction: Construction
    values: dict[str, Any]
    text: str

    def true_of(self, picture: Picture) -> bool:
        return self.construction.truth(picture, **self.values)

    def exactly(self) -> "Statement":
        """The same, numbers that stand alone meant exactly."""
        return replace(self, values={name: exactly(value) for name, value in self.values.items()})


def exactly(value: Any) -> Any:
    """A phrase's value, numbers that stand alone meant exactly."""
    if isinstance(value, Amount):
        return value.exactly()
    return tuple(exactly(part) for part in value) if isinstance(value, tuple) else value


def phrase(name: str) -> Phrase:
    return PHRASES[name.rstrip("0123456789")]


def as_pattern(template: str) -> str:
    """A regular expression of all a template can become."""
    text = template.replace("[", "(?:").replace("]", ")")
    text = text.replace("<is>", "(?:is|are)").replace("<has>", "(?:has|have)")
    return re.sub(r"\{(\w+)\}", lambda found: f"(?P<{found[1]}>{phrase(found[1]).pattern})", text)


def draw(construction: Construction, kind: Kind, rng: Random) -> Statement:
    """A sentence of a construction at random, about pictures of this kind."""
    template = rng.choice(construction.templates)
    while "[" in template:
        template = re.sub(r"\[([^\[\]]*)\]", lambda found: rng.choice(found[1].split("|")), template)
    names = re.findall(r"\{(\w+)\}", template)
    while True:
        values = {name: phrase(name).draw(rng, kind) for name in names}
        if construction.apart is None or len({str(values.get(name, name)) for name in construction.apart}) == 2:
            break
    said = {name: phrase(name).say(value, rng) for name, value in values.items()}
    plural = bool(names) and said[names[0]][1]
    text = template.replace("<is>", "are" if plural else "is").replace("<has>", "have" if plural else "has")
    text = re.sub(r"\{(\w+)\}", lambda found: said[found[1]][0], text)
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    if rng.random() < 0.7:
        text = text[0].upper() + text[1:]
    return Statement(construction, values, text + "." * (rng.random() < 0.5))


def read(sentence: str) -> Statement | None:
    """What a sentence says; None where it is none of the constructions."""
    text = plain(sentence)
    for construction in CONSTRUCTIONS:
        for pattern in construction.patterns:
            if found := pattern.fullmatch(text):
                values = {name: phrase(name).read(said) for name, said in found.groupdict().items() if said}
                return Statement(construction, values, text)
    return None


BOTH: Final[tuple[Kind, ...]] = ("scatter", "tower")
TOWER: Final[tuple[Kind, ...]] = ("tower",)
SCATTER: Final[tuple[Kind, ...]] = ("scatter",)
WITH: Final = "[with|that has|which has|containing|that contains|which contains]"
CONSTRUCTIONS: Final = (
    Construction(
        "count",
        BOTH,
        ("there <is> {many}", "there <is> {many} in the [picture|boxes]"),
        lambda p, many: counted(p.items, many),
    ),
    Construction(
        "box has",
        BOTH,
        (f"there <is> {{boxes}} {WITH} {{many}}", "{boxes} <has> {many}", "one of the grey boxes contains {many}"),
        has,
    ),
    Construction("box has two", BOTH, (f"there <is> {{boxes}} {WITH} {{many}} and {{many2}}",), has, ("many", "many2")),
    Construction("box has three", SCATTER, (f"there <is> {{boxes}} {WITH} {{many}}, {{many2}} and {{many3}}",), has),
    Construction(
        "box total",
        BOTH,
        (f"there <is> {{boxes}} {WITH} {{total}}", "{boxes} <has> {total}"),
        lambda p, boxes, total: tall(p, total, boxes),
    ),
    Construction(
        "of which",
        BOTH,
        (
            "there <is> {boxes} with {count} items of which {number} [is|are] {colour}",
            "there <is> {boxes} with {count} items of which {number} [is|are] {colour} and "
            "{number2} [is|are] {colour2}",
            "there <is> {boxes} with {count} items of which {number} [is|are] {colour}, "
            "{number2} [is|are] {colour2} and {number3} [is|are] {colour3}",
        ),
        of_which,
        ("colour", "colour2"),
    ),
    Construction(
        "only colours",
        BOTH,
        (
            "there <is> {boxes} with only {colour} [items|objects]",
            "there <is> {boxes} with only {colour} and {colour2} [items|objects]",
            "there <is> {boxes} with items of only {colour} color",
        ),
        only_colours,
        ("colour", "colour2"),
    ),
    Construction(
        "number of colours",
        BOTH,
        (
            "there <is> {boxes} with items of all [3|three] different colors",
            "there <is> {boxes} with items of {count} different colors",
            "there <is> {boxes} with {number} items of {count} different colors",
            "there <is> {boxes} with {number} items of all [3|three] different colors",
        ),
        distinct_colours,
    ),
    Construction(
        "alike",
        BOTH,
        (
            "there <is> {boxes} with [|all |only ]items of the same {trait}",
            "there <is> {boxes} where all items have the same {trait}",
        ),
        alike,
    ),
    Construction(
        "some alike",
        SCATTER,
        (
            "there are {count} {shapes} of the same {trait} in one box",
            "there is a box with {count} {shapes} of the same {trait}",
        ),
        lambda p, count, shapes, trait: group_alike(p, count, shapes, trait),
    ),
    Construction(
        "each box",
        BOTH,
        ("[each|every] [|grey ]box [has|contains] {many}", "there <is> {many} in [each|every] box"),
        lambda p, many: all(counted(box, many) for box in p.boxes),
    ),
    Construction(
        "same number",
        BOTH,
        ("there are [two|2] boxes [with|that have|that has] the same number of {looks}",),
        same_number,
    ),
    Construction(
        "more",
        BOTH,
        ("there are more {looks} than {looks2}",),
        lambda p, looks, looks2: sum(map(looks.holds, p.items)) > sum(map(looks2.holds, p.items)),
        ("looks", "looks2"),
    ),
    Construction("touching a side", BOTH, ("there <is> {many} [|that <is> ]{place}", "{many} <is> {place}"), touching),
    Construction("none touching", SCATTER, ("none of the {looks} [is|are] touching {edge}",), none_touching),
    Construction("all touching", SCATTER, ("all [|of ]the {looks} are {place}",), all_touching),
    Construction("box with touching", SCATTER, (f"there <is> {{boxes}} {WITH} {{many}} {{place}}",), box_touching),
    Construction(
        "each other",
        SCATTER,
        ("there <is> {boxes} with {count} {looks} [|closely ]touching each other",),
        lambda p, boxes, count, looks: each_other(p, boxes, count, looks),
    ),
    Construction("next to", SCATTER, ("there <is> {many} [|closely ]touching a {look}",), next_to),
    Construction("tower height", TOWER, ("there <is> {towers} [with|that has|which has] {height}",), tall),
    Construction(
        "tower has",
        TOWER,
        (
            "there <is> {towers} [with|that has|which has] {many}[| in it]",
            "{towers} <has> {many}",
            "there <is> {towers} [with|that has] {many} and {many2}",
        ),
        has,
        ("many", "many2"),
    ),
    Construction("tall tower has", TOWER, ("there <is> {towers} with {height}, and it has {many}",), tall_with),
    Construction(
        "many at the end", TOWER, ("there <is> {towers} with {number} {colour} block[|s] at the {end}",), rows_at
    ),
    Construction(
        "tower end",
        TOWER,
        (
            "there <is> {towers} [with|which has] a {colour} block [at|on] the {end}",
            "{towers} <has> a {colour} block at the {end}",
            "there <is> {towers} [with|which has] a {colour} {end}",
            "the {end} of a tower is {colour}",
            "there <is> {towers} that the {end} [is|are] {colour}",
            "there <is> {towers} with {height} [having|with] a {colour} block at the {end}",
            "{towers} with {height} <has> a {colour} block at the {end}",
            "there <is> {towers} with a {colour} block at the {end} and a {colour2} block at the {end2}",
            "the tower with {number} blocks has a {colour} block at the {end}",
            "the {end} of a {number} blocks tower is {colour}",
        ),
        end_is,
        ("end", "end2"),
    ),
    Construction(
        "block as end",
        TOWER,
        ("there <is> {many} as the {end} of a tower", "there <is> {many} as the {end} of a tower with {height}"),
        block_as_end,
    ),
    Construction(
        "tower one over",
        TOWER,
        (
            "there <is> {towers} [with|which has] a {colour} block {over} a {colour2} block",
            "{towers} <has> a {colour} block {over} a {colour2} block",
            "there <is> {towers} with {height} having a {colour} block {over} a {colour2} block",
        ),
        one_over,
    ),
    Construction("one over", TOWER, ("there <is> {many} {over} a {colour} block",), block_over),
    Construction(
        "tower only",
        TOWER,
        (
            "there <is> {towers} [with|which has] only {colour} blocks",
            "there <is> {towers} which has blocks of {colour} color only",
        ),
        only_colours,
    ),
    Construction(
        "pure tower", TOWER, ("there is a {colour} tower", "there is a {colour} tower with {height}"), pure_tower
    ),
    Construction(
        "tower colours",
        TOWER,
        (
            "there <is> {towers} [with|which has] blocks of all three colors",
            "there <is> {towers} with {height} having blocks of all three colors",
            "there <is> {towers} with blocks of {count} different colors",
        ),
        distinct_colours,
    ),
    Construction(
        "together",
        TOWER,
        (
            "there <is> {towers} with {count} {colour} blocks stacked together",
            "there <is> {towers} with {count} blocks [|stacked together ]of the same [color|colour]",
        ),
        together,
    ),
    Construction(
        "nth from the base",
        TOWER,
        (
            "there <is> {towers} with a {colour} {nth} block",
            "there <is> {towers} with {height} with a {colour} block as {nth} block",
        ),
        lambda p, nth, colour, **more: nth_is(p, nth, "base", colour, **more),
    ),
    Construction(
        "nth block",
        TOWER,
        (
            "the {nth} block of a tower from the {end} is {colour}",
            "there <is> {towers} with a {colour} block as {nth} block from the {end}",
        ),
        nth_is,
    ),
    Construction(
        "middle",
        TOWER,
        (
            "there <is> {towers} with a {colour} block in the middle",
            "{towers} with {height} <has> a {colour} block in the middle",
        ),
        middle_is,
    ),
    Construction("tower of height has", TOWER, ("the tower with {number} blocks has {many}",), tower_with),
    Construction(
        "each tower",
        TOWER,
        ("[each|every] tower has {many}",),
        lambda p, many: all(counted(box, many) for box in p.boxes),
    ),
    Construction(
        "same end",
        TOWER,
        ("there are two towers that [has|have] the same {end} color", "two towers have the same {end} color"),
        same_end,
    ),
    Construction(
        "ends differ",
        TOWER,
        ("the {end} of the three towers are not the same",),
        lambda p, end: not same_end(p, end, 3),
    ),
    Construction(
        "ends agree", TOWER, ("the {end} of the three towers are the same",), lambda p, end: same_end(p, end, 3)
    ),
    Construction(
        "same height",
        TOWER,
        ("there are two towers that are the same in height", "there are two towers with the same number of blocks"),
        lambda p: len({len(box) for box in p.boxes}) < 3,
    ),
    Construction("between", TOWER, ("there is a {colour} block between two {colour2} blocks",), between),
)

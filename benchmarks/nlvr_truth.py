"""When a statement about an NLVR-style picture is true: a function per construction of benchmarks.nlvr_sentences.

Each takes the picture and the values of the sentence's phrases by their names there. `boxes` and `towers` are how many
boxes, or towers, the rest is to be true of; at least one where none is given.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from benchmarks.nlvr_phrases import Amount, Look, Touch
from benchmarks.nlvr_pictures import COLOURS, Box, Item, Picture

CLOSE: Final = 2  # pixels between items that people call touching: there is one at least


def counted(items: Box | list[Item], many: tuple[Amount, Look]) -> bool:
    """So many items are of a look. "A box with 2 items" has no third one; "with 2 black items" it may have."""
    amount, look = many
    if amount.words == "" and look.any_item:
        amount = amount.exactly()
    return amount.holds(sum(look.holds(item) for item in items))


def boxes_where(picture: Picture, amount: Amount | None, fits: Callable[[Box], bool]) -> bool:
    """So many boxes do; at least one where no amount is given."""
    found = sum(fits(box) for box in picture.boxes)
    return found > 0 if amount is None else amount.holds(found)


def traits(items: Box, trait: str) -> list[Any]:
    return [getattr(item, trait) for item in items]


def at(box: Box, end: str) -> Item:
    """The uppermost or lowest item."""
    return (min if end == "top" else max)(box, key=lambda item: item.y)


def stacked(box: Box, colour: str, over: str, colour2: str) -> int:
    """Places of a tower where a block of one colour stands right on, or under, one of the other."""
    upper, lower = (colour, colour2) if over == "over" else (colour2, colour)
    return sum((b.colour, a.colour) == (upper, lower) for a, b in zip(box, box[1:]))


def run_of(box: Box, colour: str | None) -> int:
    """The most neighbouring blocks of one colour."""
    best = now = 0
    before = None
    for item in box:
        now = now + 1 if item.colour == before else 1
        before = item.colour
        if colour in (None, item.colour):
            best = max(best, now)
    return best


def has(p: Picture, many: Any, boxes: Any = None, towers: Any = None, many2: Any = None, many3: Any = None) -> bool:
    wanted = [one for one in (many, many2, many3) if one]
    return boxes_where(p, boxes or towers, lambda box: all(counted(box, one) for one in wanted))


def tall(p: Picture, height: Amount, towers: Amount) -> bool:
    return boxes_where(p, towers, lambda box: height.holds(len(box)))


def of_which(p: Picture, boxes: Amount, count: int, number: int, colour: str, **more: Any) -> bool:
    wanted = [(colour, number)] + [
        (more[f"colour{row}"], more[f"number{row}"]) for row in (2, 3) if f"colour{row}" in more
    ]

    def fits(box: Box) -> bool:
        seen = Counter(traits(box, "colour"))
        return len(box) == count and all(seen[colour] == number for colour, number in wanted)

    return boxes_where(p, boxes, fits)


def only_colours(p: Picture, boxes: Any = None, towers: Any = None, colour: str = "", colour2: str = "") -> bool:
    allowed = {colour, colour2} - {""}
    return boxes_where(p, boxes or towers, lambda box: set(traits(box, "colour")) == allowed)


def distinct_colours(
    p: Picture, boxes: Any = None, towers: Any = None, count: int = len(COLOURS), number: Any = None, height: Any = None
) -> bool:
    def fits(box: Box) -> bool:
        fitting = number in (None, len(box)) and (height is None or height.holds(len(box)))
        return fitting and len(set(traits(box, "colour"))) == count

    return boxes_where(p, boxes or towers, fits)


def alike(p: Picture, boxes: Amount, trait: str, many: Any = None) -> bool:
    return boxes_where(
        p, boxes, lambda box: len(box) > 1 and len(set(traits(box, trait))) == 1 and (not many or counted(box, many))
    )


def group_alike(p: Picture, number: int, look: Look, trait: str) -> bool:
    """Somewhere in one box so many items of a look share a trait."""

    def fits(box: Box) -> bool:
        chosen = tuple(item for item in box if look.holds(item))
        return max(Counter(traits(chosen, trait)).values(), default=0) >= number

    return boxes_where(p, None, fits)


def same_number(p: Picture, looks: Look) -> bool:
    return max(Counter(sum(looks.holds(item) for item in box) for box in p.boxes).values()) >= 2


def touching(p: Picture, many: tuple[Amount, Look], place: Touch) -> bool:
    return counted([item for item in p.items if place.holds(item)], many)


def all_touching(p: Picture, looks: Look, place: Touch) -> bool:
    meant = [item for item in p.items if looks.holds(item)]
    return bool(meant) and all(place.holds(item) for item in meant)


def none_touching(p: Picture, looks: Look, edge: str) -> bool:
    return all(min(item.wall_gaps().values()) > 0 for item in p.items if looks.holds(item))


def box_touching(p: Picture, boxes: Amount, many: Any, place: Touch) -> bool:
    return boxes_where(p, boxes, lambda box: counted([item for item in box if place.holds(item)], many))


def each_other(p: Picture, boxes: Amount, count: int, look: Look) -> bool:
    """So many items of a look in a chain of touching ones."""

    def fits(box: Box) -> bool:
        left = [item for item in box if look.holds(item)]
        while left:
            chain = [left.pop()]
            for one in chain:
                near = [item for item in left if item.gap(one) <= CLOSE]
                chain += near
                left = [item for item in left if item not in near]
            if len(chain) >= count:
                return True
        return False

    return boxes_where(p, boxes, fits)


def next_to(p: Picture, many: tuple[Amount, Look], look: Look) -> bool:
    amount, first = many
    found = [
        any(look.holds(other) and other is not item and item.gap(other) <= CLOSE for other in box)
        for box in p.boxes for item in box if first.holds(item)
    ]  # fmt: skip
    return amount.holds(sum(found))


def end_is(
    p: Picture, colour: str, end: str, towers: Any = None, height: Any = None, colour2: str = "", end2: str = "",
    number: int | None = None,
) -> bool:  # fmt: skip
    def fits(box: Box) -> bool:
        return (
            at(box, end).colour == colour
            and (height is None or height.holds(len(box)))
            and number in (None, len(box))
            and (not colour2 or at(box, end2).colour == colour2)
        )

    return boxes_where(p, towers, fits)


def block_as_end(p: Picture, many: tuple[Amount, Look], end: str, height: Any = None) -> bool:
    ends = [at(box, end) for box in p.boxes if height is None or height.holds(len(box))]
    return counted(ends, many)


def one_over(p: Picture, colour: str, over: str, colour2: str, towers: Any = None, height: Any = None) -> bool:
    def fits(box: Box) -> bool:
        return stacked(box, colour, over, colour2) > 0 and (height is None or height.holds(len(box)))

    return boxes_where(p, towers, fits)


def block_over(p: Picture, many: tuple[Amount, Look], over: str, colour: str) -> bool:
    amount, look = many
    return amount.holds(sum(stacked(box, look.colour or "", over, colour) for box in p.boxes))


def together(p: Picture, towers: Amount, count: int, colour: str | None = None) -> bool:
    return boxes_where(p, towers, lambda box: run_of(box, colour) >= count)


def nth_is(p: Picture, nth: int, end: str, colour: str, towers: Any = None, height: Any = None) -> bool:
    def fits(box: Box) -> bool:
        tall = len(box) >= nth and (height is None or height.holds(len(box)))
        return tall and (box[nth - 1] if end == "base" else box[-nth]).colour == colour

    return boxes_where(p, towers, fits)


def middle_is(p: Picture, colour: str, towers: Any = None, height: Any = None) -> bool:
    def fits(box: Box) -> bool:
        inner = box[(len(box) - 1) // 2 : len(box) // 2 + 1]
        return len(box) > 2 and any(item.colour == colour for item in inner) and (not height or height.holds(len(box)))

    return boxes_where(p, towers, fits)


def tall_with(p: Picture, towers: Amount, height: Amount, many: Any) -> bool:
    return boxes_where(p, towers, lambda box: height.holds(len(box)) and counted(box, many))


def rows_at(p: Picture, towers: Amount, number: int, colour: str, end: str) -> bool:
    """The blocks next to the end are of a colour, so many at least."""

    def fits(box: Box) -> bool:
        rows = box[:number] if end == "base" else box[-number:]
        return len(rows) == number and all(item.colour == colour for item in rows)

    return boxes_where(p, towers, fits)


def tower_with(p: Picture, number: int, many: Any) -> bool:
    return any(len(box) == number and counted(box, many) for box in p.boxes)


def same_end(p: Picture, end: str, number: int = 2) -> bool:
    return max(Counter(at(box, end).colour for box in p.boxes).values()) >= number


def between(p: Picture, colour: str, colour2: str) -> bool:
    return any(
        b.colour == colour and a.colour == c.colour == colour2
        for box in p.boxes
        for a, b, c in zip(box, box[1:], box[2:])
    )


def pure_tower(p: Picture, colour: str, height: Any = None) -> bool:
    return any(set(traits(box, "colour")) == {colour} and (not height or height.holds(len(box))) for box in p.boxes)

"""From an errand in words to its steps, each with the things of the scene it is about.

Reads what the tasks say ("go to the bed, then take the mug and put it on the desk, and stop at the window") and the
common ways to say the same. A sentence falls into clauses; a clause is a verb and the name of a thing, which
scene/parse.py and the scene graph turn into objects ("the chair next to the window"), or of a room. Of the readings of
a name the first one that fits something counts. Words of the verb that are not known, and things and rooms that are
not there, are errors: nothing is guessed.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agents.subgoals.room_map import RoomMap
from agents.subgoals.types import Subgoal, Test
from core.errors import InputError
from scene.graph import SceneGraph, build_graph, spoken_room_by_room
from scene.parse import parse
from scene.query import PREDICATES, Noun, Query, resolve, resolve_among
from scene.storeys import openable_doors

ANCHOR_SIZE_M: Final = 0.4
"""Smaller things that a sentence measures from are no place to go to first."""

_GO: Final = r"(?:go|walk|move|head|drive|navigate|proceed|travel|run|continue)(?: over| back| on)?(?: to| towards?)"
_FIND: Final = r"(?:find|locate|reach|visit|approach|search for|look for)"
_STOP: Final = r"(?:stop|wait|end|halt|stay)(?: at| by| near| beside| next to| in front of| in)"
_TAKE: Final = r"(?:pick up|take|grab|get|fetch|lift|collect)"
_PUT: Final = r"(?:put down|set down|put|place|set|lay|drop|leave)"
_ENTER: Final = r"(?:enter|(?:go|walk|step|move) into)"
_OPEN: Final = r"open"
_VERBS: Final = {
    "enter": _ENTER,
    "go": f"{_GO}|{_FIND}|{_STOP}|to",
    "hold": _TAKE,
    "rest": _PUT,
    "open": _OPEN,
}
_ANY_VERB: Final = "|".join((_ENTER, _GO, _FIND, _STOP, _TAKE, _PUT, _OPEN))
_BREAK: Final = re.compile(
    rf"\s*[.;]\s+|,?\s*\b(?:and )?(?:then|finally|afterwards|after that)\b,?\s+|,?\s*\band (?=(?:{_ANY_VERB})\b)"
    rf"|,\s*(?=(?:{_ANY_VERB})\b)"
)
_POINT: Final = re.compile(r"^the point (-?\d+(?:\.\d+)?) m east and (-?\d+(?:\.\d+)?) m north$")
_ON: Final = re.compile(r"\s(?:on top of|onto|upon|on)\s")
_FROM: Final = re.compile(r"(?<!furthest)(?<!farthest)(?<!far)(?<!away)\sfrom\s")  # "the book from the shelf"
_PRONOUNS: Final = ("it", "them")
_ARTICLE: Final = re.compile(r"^(?:the|a|an)\s+")


@dataclass(frozen=True)
class Said:
    """A step, and the things its name is measured from: of "the chair next to the window" the window."""

    step: Subgoal
    anchors: tuple[tuple[int, ...], ...] = ()  # ids, any of which will do, in the order of the sentence


def read_sentence(sentence: str, rooms: RoomMap) -> list[Said]:
    """The steps of an errand, in order.

    Raises:
        InputError: a clause with no known verb, a thing or room that the scene does not have, a room that several
            could be, a thing put down that nothing says was picked up.
    """
    reader = _Reader(sentence, rooms)
    text = " ".join(sentence.lower().split()).rstrip(" .!")
    clauses = [clause for clause in _BREAK.split(text) if clause]
    if not clauses:
        raise InputError("an errand without words says nothing to do; expected e.g. 'go to the bed'")
    steps = [step for clause in clauses for step in reader.clause(clause)]
    return [replace(said, step=step) for said, step in zip(steps, linked([said.step for said in steps]))]


def linked(steps: Sequence[Subgoal]) -> list[Subgoal]:
    """The steps, with every taking up told where its thing goes next: lying there already, it need not be taken."""
    found = list(steps)
    for k, step in enumerate(steps):
        if step.test is not None and step.test.kind == "hold":
            later = (after.test for after in steps[k + 1 :] if after.test is not None and after.test.kind == "rest")
            goes = next((test for test in later if test.objects == step.test.objects), None)
            if goes is not None:
                found[k] = replace(step, test=replace(step.test, on=goes.on))
    return found


def words(test: Test, rooms: RoomMap) -> str:
    """A test in words: "go to the bed", "pick up the book from the shelf", "put the book on the desk".

    Raises:
        InputError: it is about what the scene does not have.
    """
    if test.kind == "enter":
        return f"enter the {rooms.room_name(test.room)}"
    if test.kind == "hold":
        return f"pick up the {rooms.thing_name(test.objects, where=True)}"
    if test.kind == "rest":
        return f"put the {rooms.thing_name(test.objects)} on the {rooms.thing_name(test.on)}"
    if test.kind == "open":
        return "open the door"
    if test.objects:
        return f"go to the {rooms.thing_name(test.objects)}"
    assert test.place is not None, "a reach test has objects or a place"
    return f"go to the point {test.place[0]:.2f} m east and {test.place[1]:.2f} m north"


class _Reader:
    """The clauses of one sentence, read in order."""

    def __init__(self, sentence: str, rooms: RoomMap) -> None:
        self.sentence, self.rooms, self.scene = sentence, rooms, rooms.scene
        self.labels = frozenset(self.scene.labels)
        self._graph: SceneGraph | None = None
        self.it: tuple[int, ...] = ()  # the thing spoken of last
        self.held: tuple[int, ...] = ()

    @property
    def graph(self) -> SceneGraph:
        if self._graph is None:
            self._graph = build_graph(self.scene)
        return self._graph

    def clause(self, clause: str) -> list[Said]:
        for kind, verbs in _VERBS.items():
            if match := re.match(rf"(?:{verbs})\s+", clause):
                return getattr(self, f"_{kind}")(clause[match.end() :])
        if _ARTICLE.match(clause):
            return self._go(clause)  # a thing alone: to be gone to
        raise InputError(
            f"cannot read {clause!r} of {self.sentence!r}; expected clauses such as 'go to the bed', 'find the red "
            "mug', 'stop at the door', 'pick up the mug', 'put it on the desk', 'enter the kitchen', 'open the door'"
        )

    def _go(self, phrase: str) -> list[Said]:
        if match := _POINT.match(phrase):
            place = float(match[1]), float(match[2])
            return [Said(Subgoal(f"go to {phrase}", Test("reach", place=place)))]
        if self.room_ids(phrase):
            return self._enter(phrase)
        objects, query = self.things(phrase)
        return [Said(Subgoal(f"go to {phrase}", Test("reach", objects)), self.anchors(objects, query))]

    def _enter(self, phrase: str) -> list[Said]:
        room = self.room(phrase)
        return [Said(Subgoal(f"enter the {self.rooms.room_name(room)}", Test("enter", room=room)))]

    def _open(self, phrase: str) -> list[Said]:
        match = re.match(r"^the door(?: (?:to|of|into) (.+))?$", phrase)
        inner = openable_doors(self.scene)
        if not match or not inner:
            raise InputError(
                f"{self.sentence!r}: cannot open {phrase!r}; "
                + ("expected 'the door' or 'the door to the kitchen'" if inner else "the scene has no inner door")
            )
        doors = inner
        if match[1]:
            room = self.room(match[1])
            doors = [k for k in inner if room in self.scene.doors[k].rooms]
            if not doors:
                raise InputError(f"{self.sentence!r}: no door leads to the {self.rooms.room_name(room)}")
        return [Said(Subgoal(f"open {phrase}", Test("open", tuple(doors))))]

    def _hold(self, phrase: str) -> list[Said]:
        if phrase in _PRONOUNS:
            objects = self._named(phrase)
            said = Said(Subgoal(f"pick up the {self.rooms.thing_name(objects)}", Test("hold", objects)))
        else:
            objects, query = self.things(phrase)
            said = Said(Subgoal(f"pick up {phrase}", Test("hold", objects)), self.anchors(objects, query))
        self.it = self.held = objects
        return [said]

    def _rest(self, phrase: str) -> list[Said]:
        cuts = [(phrase[: match.start()], phrase[match.end() :]) for match in _ON.finditer(phrase)]
        if not cuts:
            raise InputError(f"{self.sentence!r} does not say what {phrase!r} goes on; expected 'put the mug on ...'")
        faults = []
        for thing, place in cuts:  # "the book on the shelf on the desk": the first cut whose sides both exist
            try:
                objects = self._named(thing) if thing in _PRONOUNS else self.things(thing)[0]
                surface, _ = self.things(place)
            except InputError as error:
                faults.append(error)
                continue
            taking = [] if objects == self.held else self._hold(thing)
            name = f"the {self.rooms.thing_name(objects)}" if thing in _PRONOUNS else thing
            self.it, self.held = objects, ()
            return [*taking, Said(Subgoal(f"put {name} on {place}", Test("rest", objects, on=surface)))]
        raise faults[-1]

    def _named(self, pronoun: str) -> tuple[int, ...]:
        """What "it" is: the thing taken or put down last."""
        if not self.it:
            raise InputError(f"{self.sentence!r} does not say what {pronoun!r} is; name the thing")
        return self.it

    def room_ids(self, phrase: str) -> list[int]:
        """Rooms that a name may mean; none where the scene has things called so."""
        name = _ARTICLE.sub("", phrase)
        if name in self.labels:
            return []
        return [room.id for room in self.scene.rooms if name in ((room.kind or "room"), self.rooms.room_name(room.id))]

    def room(self, phrase: str) -> int:
        found = self.room_ids(phrase)
        if not found:
            there = ", ".join(self.rooms.room_name(room.id) for room in self.scene.rooms) or "none"
            raise InputError(f"{self.sentence!r}: scene {self.scene.id} has no room {phrase!r}; its rooms: {there}")
        if len(found) > 1:
            ways = ", ".join(self.rooms.room_name(room) for room in found)
            raise InputError(f"{self.sentence!r}: {phrase!r} may be any of {len(found)} rooms; say which: {ways}")
        return found[0]

    def things(self, phrase: str) -> tuple[tuple[int, ...], Query]:
        """Ids of what a name fits in the whole home, and how it was read."""
        meant = [_FROM.sub(f" {word} ", phrase) for word in ("on", "in")]
        for query in (query for words in dict.fromkeys(meant) for query in parse(words, self.labels)):
            if found := self.fitting(query):
                return found, query
        there = ", ".join(sorted(self.labels)[:12]) or "no things"
        raise InputError(
            f"{self.sentence!r}: nothing in scene {self.scene.id} is {phrase!r}; it has {there}"
            + (", ..." if len(self.labels) > 12 else "")
        )

    def fitting(self, query: Query) -> tuple[int, ...]:
        if not self.scene.objects:
            return ()
        if not spoken_room_by_room(self.scene):
            return tuple(sorted(k for k in resolve(query, self.scene, self.graph) if k >= 0))
        rooms = sorted({int(room) for room in self.graph.room if room >= 0})
        return tuple(sorted({k for room in rooms for k in resolve(query, self.scene, self.graph, room)}))

    def anchors(self, targets: tuple[int, ...], query: Query) -> tuple[tuple[int, ...], ...]:
        """The large things a name is measured from; of several that fit, those that the relation holds with."""
        found = []
        for clause in query.clauses:
            for anchor in clause.anchors:
                fits = self.fitting(anchor if isinstance(anchor, Query) else Query(anchor))
                if PREDICATES[clause.predicate].kind in ("relation", "support"):
                    noun = anchor.noun if isinstance(anchor, Query) else anchor
                    fits = tuple(k for k in fits if self._holds(query.noun, clause.predicate, noun, targets, k))
                fits = tuple(
                    k for k in fits if k not in targets and self.scene.objects[k].box[3:6].max() >= ANCHOR_SIZE_M
                )
                if fits:
                    found.append(fits)
        return tuple(dict.fromkeys(found))

    def _holds(self, noun: Noun, predicate: str, anchor: Noun, targets: tuple[int, ...], k: int) -> bool:
        said = Query(noun, predicate, (anchor,))
        return any(target in resolve_among(said, [target, k], self.scene, self.graph) for target in targets)

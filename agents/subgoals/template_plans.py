"""Plans by rule: key words say what kind of task a goal is, the things it names fill the kind's template.

What a sentence does not say (where things lie, which knife) is what training has most often. Things are found by their
own names alone ("alarm clock", "butter knife", plurals); "couch" for sofa is not understood.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from agents.subgoals.retrieval_plans import words_of
from agents.subgoals.step_sequences import GOTO, PICK, PUT, SLICE, TOGGLE, Step, Steps
from core.errors import InputError

KEYS: Final = {
    TOGGLE: {"lamp", "light", "lamplight", "examine", "inspect", "look"},
    "HeatObject": {"heat", "heated", "cook", "cooked", "warm", "warmed", "hot", "microwave", "microwaved"},
    "CoolObject": {"cool", "cooled", "chill", "chilled", "cold", "refrigerated"},
    "CleanObject": {"clean", "cleaned", "wash", "washed", "rinse", "rinsed", "wet"},
}
"""Words that tell what is to be done with a thing, looked for in this order."""
SLICING: Final = {"slice", "sliced", "slices", "cut"}
TWICE: Final = {"two", "both", "2", "pair"}
CHANGED_AT: Final = {"HeatObject": "microwave", "CoolObject": "fridge", "CleanObject": "sinkbasin"}


class Template:
    """The template of a goal's kind, filled."""

    def __init__(self, plans: Sequence[Steps]) -> None:
        if not plans:
            raise InputError("templates need plans to learn from where things usually are")
        steps = [step for plan in plans for step in plan]
        self._names = {name for step in steps for name in (step.object, step.receptacle) if name}
        self._taken = Counter(step.object for step in steps if step.action == PICK)
        self._put_on = Counter(step.receptacle for step in steps if step.action == PUT)
        self._lamps = Counter(step.object for step in steps if step.action == TOGGLE)
        self._knives = Counter(
            before.object for plan in plans for before, step in _held_at(plan) if step.action == SLICE
        )
        self._lies: dict[str, Counter[str]] = {}
        for plan in plans:
            for way, step in zip(plan, plan[1:]):
                if way.action == GOTO and step.action == PICK:
                    self._lies.setdefault(step.object, Counter())[way.object] += 1

    def plans(self, goals: Sequence[str]) -> list[Steps]:
        return [self._plan(goal) for goal in goals]

    def named(self, goal: str) -> list[str]:
        """The things that a sentence names, in its order; the longest name at a place wins."""
        words, found, at = words_of(goal), [], 0
        while at < len(words):
            for length in (3, 2, 1):
                joined = "".join(words[at : at + length])
                names = [form for form in (joined, joined[:-1] * joined.endswith("s")) if form in self._names]
                if names:
                    found.append(names[0])
                    at += length - 1
                    break
            at += 1
        return list(dict.fromkeys(found))

    def _plan(self, goal: str) -> Steps:
        words, named = set(words_of(goal)), self.named(goal)
        change = next((action for action, keys in KEYS.items() if words & keys), "")
        thing = next((name for name in named if name in self._taken), _commonest(self._taken))
        places = [name for name in named if name in self._put_on and name != thing]
        place = places[-1] if places else _commonest(self._put_on, without=thing)
        start = self._slice(thing) if words & SLICING else []
        if change == TOGGLE and self._lamps:
            lamp = next((name for name in named if name in self._lamps), _commonest(self._lamps))
            return (*start, *self._take(thing), Step(GOTO, lamp), Step(TOGGLE, lamp))
        if change in CHANGED_AT:
            changed = [Step(GOTO, CHANGED_AT[change]), Step(change, thing)]
            return (*start, *self._take(thing), *changed, *_put(thing, place))
        if words & TWICE:
            return (*start, *(self._take(thing) + _put(thing, place)) * 2)
        carrier = next((name for name in places[:-1] if name in self._taken), "")
        if carrier:
            moved = [*_put(thing, carrier), Step(PICK, carrier), *_put(carrier, place)]
            return (*start, *self._take(thing), *moved)
        return (*start, *self._take(thing), *_put(thing, place))

    def _take(self, thing: str) -> list[Step]:
        return [Step(GOTO, self._place(thing)), Step(PICK, thing)]

    def _place(self, thing: str) -> str:
        return _commonest(self._lies[thing]) if thing in self._lies else thing

    def _slice(self, thing: str) -> list[Step]:
        knife = _commonest(self._knives) if self._knives else "knife"
        away = _commonest(self._put_on, without=knife)
        return [*self._take(knife), Step(GOTO, self._place(thing)), Step(SLICE, thing), *_put(knife, away)]


def _held_at(plan: Steps) -> list[tuple[Step, Step]]:
    """Each step with the last picking up before it."""
    pairs, taken = [], None
    for step in plan:
        if taken is not None:
            pairs.append((taken, step))
        taken = step if step.action == PICK else taken
    return pairs


def _put(thing: str, place: str) -> list[Step]:
    return [Step(GOTO, place), Step(PUT, thing, place)]


def _commonest(counts: Counter[str], without: str = "") -> str:
    names = [name for name in counts if name != without]
    if not names:
        raise InputError("templates need plans that pick something up and put something down")
    return min(names, key=lambda name: (-counts[name], name))

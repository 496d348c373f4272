"""Rows of steps as rows of tokens, and which token may come next.

A row reads start, then of each step its action and the names it is about, then END. Start says what was read: a whole
goal, or the instruction of one step. The rules are those of one hand: pick up with an empty hand, put down, clean, heat
or cool what is in it, slice with a knife in it, never walk twice in a row, never end by walking. A name may stand where
training has it: lamps are turned on, apples are not. 1,049 of the 1,051 demonstrations of ALFRED's sample keep to them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import torch
from jaxtyping import Bool
from torch import Tensor

from agents.subgoals.step_sequences import ACTIONS, CHANGES, GOTO, PICK, PUT, SLICE, Step, Steps
from core.errors import InputError

PAD, GOAL, ONE, END = range(4)
"""Filling; starts of a plan for a goal and of a single step for its instruction; the end of both."""
FIRST_ACTION: Final = 4
FIRST_NAME: Final = FIRST_ACTION + len(ACTIONS)
KNIVES: Final = ("knife", "butterknife")
MOST_STEPS: Final = 24
"""Of a plan; the longest of ALFRED's sample has 18."""


@dataclass(frozen=True)
class Position:
    """What decides the next token."""

    held: str = ""  # the thing in the hand
    action: str = ""  # the one that still needs names; "" between steps
    object: str = ""  # its first name, where the second is due
    last: str = ""  # action of the last whole step
    steps: int = 0  # whole ones so far


class Grammar:
    """Tokens of actions and names, and their order.

    Args:
        roles: for "<action>" the names it may be about, for "<action> on" those that things may go on.
    """

    def __init__(self, roles: dict[str, Sequence[str]]) -> None:
        self.roles = {role: tuple(sorted(names)) for role, names in sorted(roles.items())}
        self.names = tuple(sorted({name for names in roles.values() for name in names}))
        self.tokens = {action: FIRST_ACTION + k for k, action in enumerate(ACTIONS)}
        self._names = {name: FIRST_NAME + k for k, name in enumerate(self.names)}
        self._actions = {token: action for action, token in self.tokens.items()}
        self._mask = lru_cache(maxsize=None)(self._fresh_mask)

    @classmethod
    def of(cls, plans: Iterable[Steps]) -> "Grammar":
        """The grammar with the names that some plans have, each where they have it."""
        roles: dict[str, set[str]] = {}
        for step in {step for steps in plans for step in steps}:
            roles.setdefault(step.action, set()).add(step.object)
            if step.receptacle:
                roles.setdefault(f"{step.action} on", set()).add(step.receptacle)
        if not roles:
            raise InputError("a grammar needs at least one plan with a step")
        return cls({role: tuple(names) for role, names in roles.items()})

    def __len__(self) -> int:
        """How many tokens there are."""
        return FIRST_NAME + len(self.names)

    def encode(self, steps: Iterable[Step], start: int = GOAL) -> list[int] | None:
        """The tokens of steps, start and END included; None where a name is unknown."""
        tokens = [start]
        for step in steps:
            names = [self._names.get(name) for name in (step.object, step.receptacle) if name]
            if None in names:
                return None
            tokens += [self.tokens[step.action], *(name for name in names if name is not None)]
        return [*tokens, END]

    def decode(self, tokens: Sequence[int]) -> Steps:
        """The whole steps of a row of tokens, up to END or to where it makes no sense any more."""
        steps: list[Step] = []
        rest = [token for token in tokens if token not in (PAD, GOAL, ONE)]
        while rest and (action := self._actions.get(rest[0])):
            count = 2 if action == PUT else 1
            words = [self.names[t - FIRST_NAME] for t in rest[1 : 1 + count] if t >= FIRST_NAME]
            if len(words) < count:
                break
            steps.append(Step(action, *words))
            rest = rest[1 + count :]
        return tuple(steps)

    def keeps(self, steps: Steps) -> bool:
        """Whether a plan follows the rules and has known names where they belong."""
        tokens, at = self.encode(steps), Position()
        if tokens is None:
            return False
        for token in tokens[1:]:
            if not self.allowed(at)[token]:
                return False
            at = self.after(at, token)
        return True

    def allowed(self, at: Position) -> Bool[Tensor, " V"]:
        """Which tokens may come next; never none, unless training has no step that could follow."""
        steps = at.steps if at.steps >= MOST_STEPS - 1 else min(at.steps, 1)  # what is the same for all counts between
        return self._mask(replace(at, steps=steps))

    def after(self, at: Position, token: int) -> Position:
        """The position behind a token; END changes nothing."""
        if token in self._actions:
            return replace(at, action=self._actions[token])
        if token < FIRST_NAME:
            return at
        name = self.names[token - FIRST_NAME]
        if at.action == PUT and not at.object:
            return replace(at, object=name)
        held = name if at.action == PICK else "" if at.action == PUT else at.held
        return Position(held, last=at.action, steps=at.steps + 1)

    def _fresh_mask(self, at: Position) -> Bool[Tensor, " V"]:
        mask = torch.zeros(len(self), dtype=torch.bool)
        if at.action:
            mask[[self._names[name] for name in self._names_at(at)]] = True
            return mask
        if at.steps and at.last != GOTO:
            mask[END] = True
        if at.steps < MOST_STEPS:
            mask[[self.tokens[action] for action in self.roles if action in ACTIONS and self._possible(action, at)]] = (
                True
            )
        return mask

    def _possible(self, action: str, at: Position) -> bool:
        if action == GOTO:
            return at.last != GOTO and at.steps < MOST_STEPS - 1
        if action == PICK:
            return not at.held
        if action == PUT:
            return bool(at.held) and any(name != at.held for name in self.roles[f"{PUT} on"])
        if action == SLICE:
            return at.held in KNIVES
        return bool(at.held) if action in CHANGES else True

    def _names_at(self, at: Position) -> list[str]:
        if at.action == PUT and at.object:
            return [name for name in self.roles[f"{PUT} on"] if name != at.object]
        if at.action == PUT or at.action in CHANGES:
            return [at.held]
        return list(self.roles[at.action])

    def to_json(self) -> dict[str, Any]:
        """What `Grammar(**...)` takes."""
        return {"roles": {role: list(names) for role, names in self.roles.items()}}

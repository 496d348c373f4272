"""Rows of steps as tokens, and what may come next."""

import pytest
import torch

from agents.subgoals.step_grammar import END, GOAL, MOST_STEPS, ONE, Grammar, Position
from agents.subgoals.step_sequences import Step
from core.errors import InputError
from tests.agents.subgoals.test_step_metrics import moved

KNIFE = (Step("GotoLocation", "table"), Step("PickupObject", "knife"), Step("SliceObject", "bread"))
LAMP = (Step("GotoLocation", "lamp"), Step("ToggleObject", "lamp"))
HOT = (*moved("mug", "shelf")[:2], Step("GotoLocation", "microwave"), Step("HeatObject", "mug"))
PLANS = [moved("mug", "bed"), moved("pan", "shelf"), moved("mug", "pan"), KNIFE, LAMP, HOT]


@pytest.fixture
def grammar() -> Grammar:
    return Grammar.of(PLANS)


def walked(grammar: Grammar, steps) -> Position:
    at = Position()
    for token in grammar.encode(steps)[1:-1]:
        at = grammar.after(at, token)
    return at


def possible(grammar: Grammar, at: Position) -> set[str]:
    names = {token: action for action, token in grammar.tokens.items()} | {END: "end"}
    allowed = grammar.allowed(at).nonzero().flatten().tolist()
    return {names.get(token) or grammar.names[token - 4 - len(grammar.tokens)] for token in allowed}


def test_tokens_and_steps_are_two_forms_of_one_thing(grammar):
    for steps in PLANS:
        assert grammar.decode(grammar.encode(steps)) == steps
        assert grammar.keeps(steps)
    assert grammar.encode(LAMP)[0] == GOAL
    assert grammar.encode(LAMP, ONE)[0] == ONE
    assert grammar.encode([Step("PickupObject", "unicorn")]) is None
    assert Grammar(**grammar.to_json()).encode(HOT) == grammar.encode(HOT)


def test_a_row_that_breaks_off_gives_its_whole_steps(grammar):
    tokens = grammar.encode(moved("mug", "bed"))
    assert grammar.decode(tokens[:-2]) == moved("mug", "bed")[:3]  # "put the mug on ..." is not whole
    assert grammar.decode([GOAL, tokens[2], tokens[1]]) == ()


def test_one_hand_holds_one_thing(grammar):
    start = possible(grammar, Position())
    assert "PutObject" not in start and "HeatObject" not in start and "SliceObject" not in start and "end" not in start
    holding = possible(grammar, walked(grammar, moved("mug", "bed")[:2]))
    assert {"GotoLocation", "PutObject", "HeatObject", "end"} <= holding
    assert "PickupObject" not in holding and "SliceObject" not in holding
    assert "SliceObject" in possible(grammar, walked(grammar, KNIFE[:2]))


def test_what_is_put_down_is_what_is_held_and_not_onto_itself(grammar):
    at = grammar.after(walked(grammar, moved("pan", "shelf")[:3]), grammar.tokens["PutObject"])
    assert possible(grammar, at) == {"pan"}
    at = grammar.after(at, grammar.encode([Step("PickupObject", "pan")])[2])
    assert possible(grammar, at) == {"bed", "shelf"}


def test_names_stand_where_training_has_them_and_nobody_walks_twice(grammar):
    at = Position(action="ToggleObject")
    assert possible(grammar, at) == {"lamp"}
    after_walk = possible(grammar, walked(grammar, moved("mug", "bed")[:1]))
    assert "GotoLocation" not in after_walk and "end" not in after_walk
    assert not grammar.keeps((*moved("mug", "bed"), Step("GotoLocation", "bed")))
    assert not grammar.keeps(moved("bed", "mug"))


def test_any_way_through_the_grammar_ends_within_the_most_steps(grammar):
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        at, tokens = Position(), [GOAL]
        while tokens[-1] != END:
            allowed = grammar.allowed(at).clone()
            if allowed.sum() > 1:
                allowed[END] = False  # go on as long as one may
            tokens.append(int(torch.multinomial(allowed.float(), 1, generator=draw)))
            at = grammar.after(at, tokens[-1])
        assert len(grammar.decode(tokens)) == MOST_STEPS
        assert grammar.keeps(grammar.decode(tokens))


def test_no_plans_make_no_grammar():
    with pytest.raises(InputError, match="at least one plan"):
        Grammar.of([])

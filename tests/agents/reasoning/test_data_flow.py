from pathlib import Path

import pytest

from agents.reasoning.data_flow import Order, data_flow
from core import distributed
from core.errors import InputError
from tests.agents.reasoning.colour_questions import questions


@pytest.fixture(scope="module")
def order(tmp_path_factory) -> Order:
    found = questions(Path(tmp_path_factory.mktemp("flow")))
    return Order(found.samples[:6], found.pictures_of, seed=3)


def test_every_epoch_asks_everything_once_in_an_order_of_its_own(order):
    epochs = [[order.at(6 * epoch + k) for k in range(6)] for epoch in range(3)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(6))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_a_place_has_its_question_whatever_was_asked_before(order):
    again = Order(order.samples, order.pictures_of, seed=3)
    assert [order.at(place) for place in range(20)] == [again.at(place) for place in reversed(range(20))][::-1]


def test_questions_come_with_their_pictures_and_places(order):
    asked = data_flow(order, 4, 4)
    assert asked.places == (4, 5, 6, 7) and len(asked) == 4
    assert [len(shown) for shown in asked.pictures] == [len(sample.pictures) for sample in asked.samples]


def test_processes_ask_together_what_one_asks(order, monkeypatch):
    whole = data_flow(order, 2, 4)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(data_flow(order, 2, 4))
    assert parts[0].samples + parts[1].samples == whole.samples and parts[1].places == (4, 5)
    with pytest.raises(InputError, match="prompts=3 does not split over 2"):
        data_flow(order, 0, 3)


def test_no_questions_are_an_error():
    with pytest.raises(InputError, match="training split is empty"):
        Order([], lambda number: [], seed=0)

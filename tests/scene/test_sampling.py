"""Batches as functions of seed and step: who is drawn, how they are sorted, how they are turned."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.batch import ObjectSet
from scene.rooms import Ragged, Room
from scene.sampling import Drawing, Drawn, Sampler, assemble, kept, padding, placed, whole_rooms


class Features:
    """Stands for a feature cache: the encoding number k of every object is filled with k."""

    class spec:
        encodings = 4

    def draw(self, key: str, k: int, count: int) -> torch.Tensor:
        return torch.full((count, 3), float(k))


def room_of(number: int, objects: int, lengths: list[int], viewed: list[bool] | None = None) -> Room:
    """Sentence s is made of token 10 + s and means object s modulo the count; its anchor is the next object."""
    place = torch.arange(objects * 6.0).view(objects, 6) + 100 * number
    labels = ["chair" if i % 2 else "table" for i in range(objects)]
    found = ObjectSet(f"room-{number}", -1, torch.arange(objects), labels, labels, torch.zeros(objects, 0, 6), place)
    count = len(lengths)
    return Room(
        found,
        Ragged.of([[10 + s] * length for s, length in enumerate(lengths)]),
        Ragged.of([[s % objects] for s in range(count)]),
        Ragged.of([[(s + 1) % objects] for s in range(count)]),
        Ragged.of([[]] * count),
        np.array(viewed or [False] * count),
        Ragged.of([[2, 7, 8, 3]]),
        cache=Features(),  # type: ignore[arg-type]
    )


def rooms_of(count: int = 24) -> list[Room]:
    rng = np.random.default_rng(0)
    sizes = rng.permutation(np.arange(count)) % 12 + 4
    return [room_of(n, int(size), rng.integers(3, 20, size=16).tolist()) for n, size in enumerate(sizes)]


def test_a_batch_is_a_function_of_seed_and_step_alone():
    rooms, drawing = rooms_of(), Drawing(4, 3, window=3, mirror=True)
    forth = [repr(Sampler(rooms, drawing, 1).batch(step)) for step in range(7)]
    sampler = Sampler(rooms, drawing, 1)
    assert [repr(sampler.batch(step)) for step in reversed(range(7))] == forth[::-1]
    assert repr(Sampler(rooms, drawing, 2).batch(0)) != forth[0]


@pytest.mark.parametrize("window", [1, 4])
def test_rooms_are_drawn_in_proportion_to_their_sentences_and_none_of_those_twice(window: int):
    rooms = [room_of(n, 5, [4] * count) for n, count in enumerate((4, 8, 12, 16, 40))]
    sampler = Sampler(rooms, Drawing(4, 4, window), 0)
    drawn = [d for step in range(100) for d in sampler.batch(step)]
    counts = Counter(d.room for d in drawn)
    assert [counts[n] for n in range(5)] == pytest.approx([400 * s / 80 for s in (4, 8, 12, 16, 40)], abs=12)
    assert all(len(set(d.sentences.tolist())) == 4 for d in drawn)


def test_sorting_a_window_draws_every_sentence_as_often_and_pads_less():
    rooms = rooms_of()
    sampler = Sampler(rooms, Drawing(8, 2, window=8), 0)
    batches = [sampler.batch(step) for step in range(600)]
    counts = Counter((d.room, int(s)) for drawn in batches for d in drawn for s in d.sentences)
    expected = 600 * 16 / (24 * 16)
    assert len(counts) == 24 * 16
    assert abs(np.mean(list(counts.values())) - expected) < 1e-9 and max(counts.values()) < 2.2 * expected
    length = [rooms[d.room].tokens.lengths[d.sentences].mean() for drawn in batches for d in drawn]
    assert np.mean(length) == pytest.approx(np.mean([room.tokens.lengths.mean() for room in rooms]), abs=0.08)
    alone = Sampler(rooms, Drawing(8, 2, window=1), 0)
    assert padding(rooms, batches) < 0.75 * padding(rooms, [alone.batch(step) for step in range(100)])


def test_padding_is_the_share_of_empty_places():
    rooms = [room_of(0, 4, [2]), room_of(1, 2, [3])]  # 2 rows of 3 words and 4 objects; 1 word and 2 objects are empty
    drawn = [Drawn(n, np.array([0]), 0.0, False, 0) for n in range(2)]
    assert padding(rooms, [drawn]) == pytest.approx(3 / 14)


def test_quarter_turns_go_counter_clockwise_and_the_mirror_comes_last():
    place = torch.tensor([[1.0, 0, 5, 2, 3, 4]])
    turned = placed(place, Drawn(0, np.array([0]), 0.0, mirror=False, turns=1))
    assert turned.tolist() == [[0, 1, 5, 3, 2, 4]]  # what was ahead is on the left; extents change places
    assert placed(place, Drawn(0, np.array([0]), 0.0, mirror=True, turns=1)).tolist() == [[0, -1, 5, 3, 2, 4]]
    assert torch.equal(placed(place, Drawn(0, np.array([0]), 0.0, mirror=False, turns=4)), place)


def test_only_rooms_whose_sentences_name_no_side_are_turned():
    viewed = [True] * 4 + [False] * 12
    rooms = [room_of(n, 5, [4] * 16, viewed) for n in range(6)]
    sampler = Sampler(rooms, Drawing(4, 4, window=2, rotate="sentences"), 0)
    drawn = [d for step in range(200) for d in sampler.batch(step)]
    sided = [d for d in drawn if any(viewed[s] for s in d.sentences)]
    assert all(all(viewed[s] for s in d.sentences) and d.turns == 0 for d in sided)
    assert len(sided) / len(drawn) == pytest.approx(1 / 4, abs=0.06)  # as often as there are such sentences
    assert set(Counter(d.turns for d in drawn if not viewed[d.sentences[0]])) == {0, 1, 2, 3}


def test_a_balanced_room_gives_none_one_and_several_equally_often():
    room = room_of(0, 5, [4] * 20)
    room.members = Ragged.of([[0]] * 18 + [[]] + [[1, 2]])
    sampler = Sampler([room], Drawing(1, 1, window=1, balance=True), 0)
    sizes = Counter(len(room.members[int(sampler.batch(step)[0].sentences[0])]) for step in range(600))
    assert all(size == pytest.approx(200, abs=45) for size in sizes.values()) and set(sizes) == {0, 1, 2}


def test_a_batch_pairs_each_sentence_with_its_room_its_target_and_its_anchors():
    rooms = [room_of(0, 3, [2, 4]), room_of(1, 5, [3, 1])]
    drawn = [Drawn(1, np.array([1, 0]), 0.99, False, 0), Drawn(0, np.array([1]), 0.3, True, 0)]
    batch = assemble(rooms, drawn, pad_id=0, swap={11: 21, 21: 11, 8: 9, 9: 8})
    assert batch.scene.tolist() == [0, 0, 1] and batch.scenes.valid.sum(1).tolist() == [5, 3]
    assert batch.tokens.tolist() == [[11, 0, 0, 0], [10, 10, 10, 0], [21, 21, 21, 21]]
    assert batch.target.tolist() == [1, 0, 1]
    assert [row.nonzero().flatten().tolist() for row in batch.anchors] == [[2], [1], [2]]
    assert batch.scenes.features[0, 0].tolist() == [3.0] * 3 and batch.scenes.features[1, 0].tolist() == [1.0] * 3
    assert torch.equal(batch.scenes.locations[1, :3, 1], -rooms[0].objects.locations[:, 1])
    assert batch.captions == [[2, 7, 8, 3], [2, 7, 9, 3]]


def test_of_more_objects_than_slots_those_that_are_meant_stay_and_then_their_class():
    room = room_of(0, 12, [3, 3])  # even objects are tables; sentences mean 0 and 1
    stay = kept(room, np.array([0]), 6, np.random.default_rng(0))
    assert stay.tolist() == [0, 2, 4, 6, 8, 10]
    assert 0 in kept(room, np.array([0]), 3, np.random.default_rng(5))
    with pytest.raises(InputError, match="slots=1"):
        kept(room, np.array([0, 1]), 1, np.random.default_rng(0))
    drawn = [Drawn(0, np.array([0, 1]), 0.0, False, 0)]
    batch = assemble([room], drawn, 0, slots=5, seeds=[(0,)])
    place = batch.scenes.locations[0, batch.target]
    assert torch.equal(place, room.objects.locations[:2])


def test_where_features_are_not_cached_points_come_along():
    room = room_of(0, 3, [2])
    batch = assemble([room], [Drawn(0, np.array([0]), 0.0, False, 0)], 0, cloud=lambda room: torch.ones(3, 7, 6))
    assert batch.scenes.features.shape == (1, 3, 0) and batch.points[0].shape == (3, 7, 6)


def test_whole_rooms_hold_every_sentence_once():
    rooms = rooms_of(5)
    batches = whole_rooms(rooms, 40)
    seen = Counter((d.room, int(s)) for drawn in batches for d in drawn for s in d.sentences)
    assert len(seen) == 5 * 16 and set(seen.values()) == {1}
    assert all(sum(len(d.sentences) for d in drawn) <= 40 for drawn in batches)


def test_edges_are_mirrored_and_follow_the_objects_that_stay():
    from scene.edges import CODE
    from scene.relations import Relation

    left, right, on = (CODE[r] for r in (Relation.LEFT_OF, Relation.RIGHT_OF, Relation.SUPPORTED_BY))
    room = room_of(0, 3, [2])
    room.objects = replace(room.objects, edges=torch.tensor([[0, 1, left], [2, 0, on]]))
    batch = assemble([room], [Drawn(0, np.array([0]), 0.0, True, 0)], 0, edges=True)
    assert batch.scenes.edges is not None and batch.scenes.edges.tolist() == [[0, 0, 1, right], [0, 2, 0, on]]
    fewer = assemble([room], [Drawn(0, np.array([0]), 0.0, False, 0)], 0, slots=2, seeds=[(0,)], edges=True)
    assert fewer.scenes.edges is not None and fewer.scenes.edges.tolist() == [[0, 1, 0, on]]

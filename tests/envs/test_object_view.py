"""What agents see, object by object, on homes where it can be worked out by hand."""

import math

import numpy as np
import pytest
import torch

from core.errors import InputError
from envs.expert import Expert
from envs.object_view import ObjectScores, object_pixels, visible_objects
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from scene.render import Frame
from tests.envs.homes import lively_home, make_home

SOFA = ("sofa", "blue", 5.5, 1.5, 0.8, 0.8, 0.8)  # footprint x 5.1..5.9, y 1.1..1.9
LAMP = ("lamp", "red", 2.0, 2.7, 0.2, 0.2, 1.6)


@pytest.fixture(scope="module")
def sim():
    return Simulator(HomePool([make_home("room", 6.0, 3.0, [LAMP, SOFA])]), num_envs=2, sensors=Sensors(32, 32))


def standing(sim, *places):
    """Agents at (x, y, yaw), on their way to the sofa."""
    zero = np.zeros(len(places), np.int64)
    goals = [goal.label for goal in sim.fields.goals[0]]
    at = np.array(places, float)
    return sim.placed(zero, zero, zero, zero, zero + goals.index("sofa"), at[:, :2], at[:, 2])


def drawn(*pictures):
    """Frames that hold nothing but ids."""
    ids = torch.tensor(pictures, dtype=torch.int32)
    return Frame(torch.zeros(*ids.shape, 3, dtype=torch.uint8), torch.zeros(ids.shape), ids)


def test_objects_come_by_their_pixels_with_rectangles_around_them(sim):
    state = standing(sim, (2.6, 1.5, 0.0), (2.6, 1.5, 0.0))
    view = visible_objects(sim, state, drawn([[-1, 1, -1], [1, -1, 0], [-1, 1, -1]], [[-1] * 3] * 3), limit=3)
    assert view.ids.tolist() == [[1, 0, -1], [-1, -1, -1]] and view.pixels.tolist() == [[3, 1, 0], [0, 0, 0]]
    assert view.box_2d[0].tolist() == [[0, 0, 2, 3], [2, 1, 3, 2], [0, 0, 0, 0]]
    assert view.mask.tolist() == [[True, True, False], [False] * 3]
    few = visible_objects(sim, state, drawn([[-1, 1, 1]], [[0, 1, 1]]), limit=1)
    assert few.ids.tolist() == [[1], [1]]
    large = visible_objects(sim, state, drawn([[0, 1, 1]], [[0, 0, 1]]), least_pixels=2)
    assert large.ids[:, :2].tolist() == [[1, -1], [0, -1]]


def test_places_are_told_from_the_agent(sim):
    state = standing(sim, (3.0, 1.5, 0.0), (3.5, 0.5, math.pi / 2))
    view = visible_objects(sim, state, drawn([[1]], [[1]]), limit=2)
    # 2.5 m ahead; for the agent that looks north 1 m ahead and 2 m to the right
    np.testing.assert_allclose(view.box_3d[0, 0], [2.5, 0, 0.4, 0.8, 0.8, 0.8, 0], atol=1e-6)
    np.testing.assert_allclose(view.box_3d[1, 0], [1, -2, 0.4, 0.8, 0.8, 0.8, -math.pi / 2], atol=1e-6)
    np.testing.assert_allclose(view.distance[:, 0], [2.1, math.hypot(1.6, 0.6)], atol=1e-6)
    np.testing.assert_allclose(view.bearing[:, 0], [0, math.atan2(-2, 1)], atol=1e-6)
    assert not view.box_3d[:, 1].any() and not view.distance[:, 1].any() and not view.bearing[:, 1].any()


def test_the_rectangle_holds_every_pixel_of_the_simulators_own_picture(sim):
    state = standing(sim, (3.0, 1.5, 0.0), (3.0, 1.5, math.pi))
    frame = sim.observe(state)
    view = visible_objects(sim, state, frame)
    rows, columns = torch.nonzero(frame.instance[0] == 1, as_tuple=True)
    at = view.ids[0].tolist().index(1)
    edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert view.box_2d[0, at].tolist() == [int(edge) for edge in edges] and view.pixels[0, at] == len(rows)
    assert 1 not in view.ids[1].tolist()


def test_labels_colours_and_scores_are_those_of_the_objects(sim):
    asked = []

    def scorer(scene, sentence):
        asked.append((scene.id, sentence))
        return torch.tensor([0.25, 0.75])

    state = standing(sim, (3.0, 1.5, 0.0), (3.0, 1.5, 0.0))
    scores, words = ObjectScores(scorer), {"labels": ["sofa"], "colors": ["blue", "red"]}
    for _ in range(2):
        view = visible_objects(sim, state, drawn([[1, 0, 1]], [[0, -1, -1]]), 2, scores=scores, **words)
    assert view.label.tolist() == [[1, 0], [0, 0]] and view.color.tolist() == [[1, 2], [2, 0]]
    assert view.score.tolist() == [[0.75, 0.25], [0.25, 0.0]] and asked == [("room", "find the blue sofa")]


def test_only_the_pairs_used_last_keep_their_scores(sim):
    asked = []
    scores = ObjectScores(lambda scene, sentence: (asked.append(sentence), np.zeros(2))[1], size=2)
    for sentence in "abacabb":  # c pushes b out, b then c
        scores(sim.homes[0], sentence)
    assert "".join(asked) == "abcb"
    with pytest.raises(InputError, match=r"expected \(2,\) finite"):
        ObjectScores(lambda scene, sentence: np.zeros(3))(sim.homes[0], "a")
    with pytest.raises(InputError, match="finite"):
        ObjectScores(lambda scene, sentence: np.array([0, np.nan]))(sim.homes[0], "a")


def test_a_thing_is_where_it_was_carried():
    sim = Simulator(HomePool([lively_home()], interactive=True), "rearrange", 1, sensors=Sensors(8, 8), max_steps=200)
    expert, state = Expert(sim), sim.reset()
    everything = drawn([[0, 1, 2]])
    ahead = []
    while not bool(state.done):
        state, _ = sim.step(state, expert(state))
        if int(state.world.held[0]) >= 0:
            ahead.append(visible_objects(sim, state, everything).box_3d[0, 0])
    view = visible_objects(sim, state, everything)
    mug = [view.box_3d[0, k] for k in range(3) if view.ids[0, k] == 0][0]
    shelf = [view.box_3d[0, k] for k in range(3) if view.ids[0, k] == 2][0]
    # held: 40 cm ahead, foot 30 cm below the eye at 1.2 m; then on the shelf, 1 m high
    np.testing.assert_allclose(torch.stack(ahead)[:, :3], [[0.4, 0.0, 0.95]] * len(ahead), atol=1e-6)
    assert len(ahead) > 5 and mug[2] == pytest.approx(1.05)
    assert (mug[:2] - shelf[:2]).abs().max() < 0.45


def test_wrong_limits_and_batches_are_refused(sim):
    state = standing(sim, (3.0, 1.5, 0.0), (3.0, 1.5, 0.0))
    with pytest.raises(InputError, match="limit"):
        visible_objects(sim, state, drawn([[0]], [[0]]), 0)
    with pytest.raises(InputError, match="1 frames for a state of 2"):
        visible_objects(sim, state, drawn([[0]]))


def test_pixels_of_all_objects_are_counted_as_a_slow_count_does():
    instance = torch.randint(-1, 5, (3, 9, 7), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    pixels, box = object_pixels(instance, 6)
    for b in range(3):
        for item in range(6):
            rows, columns = torch.nonzero(instance[b] == item, as_tuple=True)
            assert pixels[b, item] == len(rows)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0] * 4
            assert box[b, item].tolist() == [int(edge) for edge in edges]
    with pytest.raises(InputError, match="object 4, but their homes have 4"):
        object_pixels(instance, 4)

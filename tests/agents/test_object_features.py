import math

import pytest
import torch

from agents.object_features import TOKEN_SIZE, TOKENS, ObjectSenses
from agents.object_memory import SceneScores
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors, SimState
from envs.tasks.find_object import FindObject
from scene.grounder import Grounder
from scene.render import Frame
from tests.agents.tiny import COLORS, LABELS, make_grounder
from tests.envs.homes import make_home

TASK = FindObject(tuple((label, color) for label in LABELS for color in COLORS))
# names of a token's numbers, as in ObjectSenses._describe
SHARE, BELOW, RANK, AHEAD, ASIDE, DISTANCE, COS, SIN, GAP, NEAR, HEIGHT, SIZE, VISIBLE, PIXELS, AGE = range(TOKEN_SIZE)


@pytest.fixture(scope="module")
def grounder(tmp_path_factory) -> Grounder:
    return Grounder.from_pretrained(make_grounder(tmp_path_factory.mktemp("grounder")))


@pytest.fixture
def room(grounder) -> tuple[Simulator, ObjectSenses]:
    """A red sofa in the east of a room, a blue table in its west; the agent can see one of them at a time."""
    things = [("sofa", "red", 5.0, 3.0, 0.6, 0.6, 0.8), ("table", "blue", 1.0, 3.0, 0.6, 0.6, 0.8)]
    pool = HomePool([make_home("room", 6.0, 6.0, things)], goal_labels=["sofa", "table"])
    simulator = Simulator(pool, TASK, num_envs=1, seed=0)
    senses = ObjectSenses(SceneScores(grounder), Sensors(), 50)
    senses.attach(simulator)
    return simulator, senses


def standing(simulator: Simulator, x: float, y: float, yaw: float) -> SimState:
    state = simulator.reset()
    state.position[:], state.yaw[:] = torch.tensor([x, y]), yaw
    return state


def test_an_object_is_unknown_until_it_is_seen_and_remembered_where_it_stood(room):
    simulator, senses = room
    state = standing(simulator, 3.0, 3.0, 0.0)
    sight = senses.observe(simulator.observe(state), state, senses.begin(state))
    assert sight.observation["token_mask"].sum() == 1  # the sofa; the table is behind the agent
    token = sight.observation["tokens"][0, 0]
    assert token[[AHEAD, ASIDE, DISTANCE]].tolist() == pytest.approx([2 / 5, 0, 2 / 5], abs=1e-5)
    assert token[GAP].item() == pytest.approx(1.7 / 2, abs=1e-5)  # the footprint begins 30 cm before the middle
    assert token[VISIBLE] == 1 and token[PIXELS] > 0
    assert token[HEIGHT].item() == pytest.approx(0.4 - 1.2, abs=1e-5)

    state = standing(simulator, 3.0, 4.0, math.pi)  # turned round and one metre north: the sofa is behind, on the left
    state.step.fill_(6)
    sight = senses.observe(simulator.observe(state), state, sight.note)
    tokens = sight.observation["tokens"][0, :2]
    assert sight.observation["token_mask"].sum() == 2
    sofa, table = sorted(tokens, key=lambda row: float(row[VISIBLE]))
    assert sofa[[AHEAD, ASIDE]].tolist() == pytest.approx([-2 / 5, -1 / 5], abs=1e-5)
    assert table[[AHEAD, ASIDE]].tolist() == pytest.approx([2 / 5, -1 / 5], abs=1e-5)
    assert sofa[AGE].item() == pytest.approx(6 / 24) and table[AGE] == 0


def test_near_means_within_reach_of_the_footprint(room):
    simulator, senses = room
    state = standing(simulator, 3.8, 3.0, 0.0)
    sight = senses.observe(simulator.observe(state), state, senses.begin(state))
    assert sight.observation["tokens"][0, 0, NEAR] == 1  # 0.9 m before the footprint


def test_nothing_of_the_simulators_knowledge_of_the_goal_reaches_the_observation(room):
    simulator, senses = room
    state = standing(simulator, 3.0, 3.0, 0.0)
    frame, note = simulator.observe(state), senses.begin(state)
    before = senses.observe(frame, state, note).observation
    for name in ("distance", "start_distance", "goal", "stage", "key", "path_length"):
        getattr(state, name).add_(1)
    frame = Frame(torch.zeros_like(frame.rgb), frame.depth, frame.instance)
    after = senses.observe(frame, state, note).observation
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_where_nothing_was_seen_there_is_no_token(room):
    simulator, senses = room
    state = standing(simulator, 3.0, 3.0, math.pi / 2)
    frame = simulator.observe(state)
    frame.instance.fill_(-1)
    seen = senses.observe(frame, state, senses.begin(state)).observation
    assert not seen["token_mask"].any() and not seen["tokens"].any()
    assert seen["tokens"].shape == (1, TOKENS, TOKEN_SIZE)

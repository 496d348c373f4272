import math

import numpy as np
import pytest
import torch

from agents.features import FrameStatistics, TwoTowerSenses
from agents.senses import RANGE_M, asked_for, head_of
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from scene.render import Frame
from tests.agents.tiny import COLORS, LABELS, make_towers
from tests.envs.homes import make_home
from vl.model import VLModel

TASK = FindObject(tuple((label, color) for label in LABELS for color in COLORS))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> VLModel:
    return VLModel.from_pretrained(make_towers(tmp_path_factory.mktemp("vl")))


def one_room(width: float = 6.0, depth: float = 6.0, num_envs: int = 1) -> Simulator:
    home = make_home("room", width, depth, [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8)])
    return Simulator(HomePool([home], goal_labels=["sofa"]), TASK, num_envs=num_envs, seed=0)


def make_senses(model: VLModel, simulator: Simulator, maps: torch.Tensor | None = None) -> TwoTowerSenses:
    if maps is None:
        maps = torch.randn(40, 4, 4, model.dim, generator=torch.Generator().manual_seed(0))
    senses = TwoTowerSenses(model, FrameStatistics.fit(maps), Sensors(), 50)
    senses.attach(simulator)
    return senses


def some_frames(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 64, 64, 3), generator=generator, dtype=torch.uint8)


def blank(rgb: torch.Tensor, depth: float = 3.0) -> Frame:
    shape = rgb.shape[:3]
    return Frame(rgb, torch.full(shape, depth), torch.full(shape, -1, dtype=torch.int32))


LEVEL = torch.zeros(1, dtype=torch.float64)


def test_scores_have_mean_zero_and_spread_one_over_the_frames_they_were_fitted_on(model):
    rgb = some_frames(60)
    senses = make_senses(model, one_room(), model.encode_image_map(rgb))
    for text in (0, 5):
        seen = senses.perceive(blank(rgb), torch.full((60,), text), LEVEL.expand(60))
        for score in (seen.score, seen.image_score):
            assert score.mean().item() == pytest.approx(0.0, abs=1e-3)
            assert score.std().item() == pytest.approx(1.0, abs=0.02)


def test_free_distance_is_that_of_walls_around_the_agent(model):
    simulator = one_room(4.0, 6.0)
    state = simulator.reset()
    state.position[:], state.yaw[:] = torch.tensor([2.0, 3.0]), 0.0  # in the middle, looking along +x
    seen = make_senses(model, simulator).perceive(simulator.observe(state), state.text, state.pitch)
    middle = seen.free[0, 7:9]
    assert middle.tolist() == pytest.approx([2.0 - 0.05, 2.0 - 0.05], abs=0.03)  # the wall is 10 cm thick
    sideways = seen.free[0, [0, -1]]  # the outermost sectors look 45 degrees to the sides, so farther along the wall
    assert sideways.tolist() == pytest.approx([1.95 / math.cos(math.pi / 4)] * 2, abs=0.2)


def test_floor_and_ceiling_do_not_count_as_obstacles(model):
    senses = make_senses(model, one_room())
    seen = senses.perceive(blank(some_frames(1), depth=0.0), torch.tensor([0]), LEVEL)  # nothing hit anywhere
    assert (seen.free == RANGE_M).all()


def put_match(senses: TwoTowerSenses, seen, row: int, column: int, depth: float) -> None:
    seen.score[:] = -1.0
    seen.score[:, row, column] = 6.0
    seen.cell_depth[:, row, column] = depth


def test_a_match_is_remembered_where_it_stood_while_the_agent_turns_and_walks(model):
    simulator = one_room()
    state = simulator.reset()
    state.position[:], state.yaw[:] = torch.tensor([3.0, 3.0]), 0.0
    senses = make_senses(model, simulator)
    seen = senses.perceive(blank(some_frames(1)), state.text, state.pitch)
    put_match(senses, seen, row=1, column=2, depth=2.0)
    _, note = senses.describe(seen, state, senses.begin(state))
    right = ((2 + 0.5) / senses.columns * 2 - 1) * 2.0
    assert note["spot"][0].tolist() == pytest.approx([5.0, 3.0 - right], abs=1e-5)  # right of +x is -y

    seen.score[:] = -1.0  # out of view
    state.yaw[:], state.position[:] = math.pi / 2, torch.tensor([3.0, 4.0])
    observation, later = senses.describe(seen, state, note)
    assert torch.equal(later["spot"], note["spot"]) and later["age"].item() == 1
    ahead, aside = observation[0, -senses.body.size - 6 :][:2] * RANGE_M
    assert ahead.item() == pytest.approx(3.0 - right - 4.0, abs=1e-4)
    assert aside.item() == pytest.approx(2.0, abs=1e-4)


def test_nothing_of_the_simulators_knowledge_of_the_goal_reaches_the_observation(model):
    simulator = one_room(num_envs=3)
    state = simulator.reset()
    senses = make_senses(model, simulator)
    frame = simulator.observe(state)
    before = senses.observe(frame, state, senses.begin(state)).observation["vector"]
    for name in ("distance", "start_distance", "home", "goal", "stage", "key", "path_length"):
        getattr(state, name).add_(1)
    frame.instance.fill_(0)
    after = senses.observe(frame, state, senses.begin(state)).observation["vector"]
    assert torch.equal(before, after)


def test_a_sentence_is_embedded_once_and_new_ones_join_when_homes_change(model, monkeypatch):
    simulator = one_room()
    senses = make_senses(model, simulator)
    asked: list[str] = []
    monkeypatch.setattr(senses.table, "compute", lambda texts: asked.extend(texts) or senses._filters(texts))
    things = [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8), ("table", "blue", 3.5, 3.5, 0.6, 0.6, 0.7)]
    pool = HomePool([make_home("other", 5.0, 5.0, things)], goal_labels=["sofa", "table"])
    before = senses.table.rows(torch.tensor([simulator.texts.index("find the red sofa")]))
    twin, _, _ = simulator.moved_to(pool, simulator.reset())
    senses.attach(twin)
    assert asked == ["find the blue table"]
    assert torch.equal(senses.table.rows(torch.tensor([twin.texts.index("find the red sofa")])), before)


def test_an_errand_is_not_part_of_the_thing():
    assert asked_for("find the red armchair") == "red armchair"
    assert asked_for("Go to the chair next to the window") == "chair next to the window"
    assert asked_for("chair") == "chair"


def test_the_head_of_a_thing_is_what_stands_before_its_relation():
    assert head_of("chair that is next to the white table") == head_of("chair closest to the bed") == "chair"
    assert head_of("red chair with the book on it") == head_of("red chair between the bed and the sofa") == "red chair"
    assert head_of("floor lamp") == "floor lamp"


def test_statistics_come_back_from_disk_and_refuse_another_tower(tmp_path):
    maps = torch.randn(9, 2, 2, 5, generator=torch.Generator().manual_seed(0))
    FrameStatistics.fit(maps).save(tmp_path / "s.safetensors")
    assert torch.equal(FrameStatistics.load(tmp_path / "s.safetensors", 5).cell_cov, FrameStatistics.fit(maps).cell_cov)
    np.testing.assert_allclose(FrameStatistics.fit(maps).cell_mean, maps.reshape(-1, 5).mean(0), rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match="width 5"):
        FrameStatistics.load(tmp_path / "s.safetensors", 6)

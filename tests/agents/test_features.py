import math

import numpy as np
import pytest
import torch

from agents.agent import goal_reward
from agents.agent import make_encoder as encoder_of
from agents.features import RANGE_M, FrameStatistics, Note, ObservationEncoder
from core.errors import InputError
from envs.pool import HomePool
from envs.simulator import Simulator
from envs.state import Sensors
from envs.tasks.find_object import FindObject
from scene.render import Frame
from tests.agents.tiny import COLORS, LABELS, make_towers
from tests.envs.homes import make_home
from vl.two_tower import VLModel

TASK = FindObject(tuple((label, color) for label in LABELS for color in COLORS))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> VLModel:
    return VLModel.from_pretrained(make_towers(tmp_path_factory.mktemp("vl")))


def make_encoder(model: VLModel, maps: torch.Tensor | None = None) -> ObservationEncoder:
    if maps is None:
        maps = torch.randn(40, 4, 4, model.dim, generator=torch.Generator().manual_seed(0))
    reward = goal_reward(model, TASK.goals, 0.5)
    return encoder_of(model, reward, TASK.goals, FrameStatistics.fit(maps), Sensors(), 50, "float32")


def some_frames(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 64, 64, 3), generator=generator, dtype=torch.uint8)


def blank(rgb: torch.Tensor, depth: float = 3.0) -> Frame:
    shape = rgb.shape[:3]
    return Frame(rgb, torch.full(shape, depth), torch.full(shape, -1, dtype=torch.int32))


def test_scores_have_mean_zero_and_spread_one_over_the_frames_they_were_fitted_on(model):
    rgb = some_frames(60)
    encoder = make_encoder(model, model.encode_image_map(rgb))
    for goal in (0, 5):
        seen = encoder.perceive(blank(rgb), torch.full((60,), goal))
        for score in (seen.score, seen.image_score):
            assert score.mean().item() == pytest.approx(0.0, abs=1e-3)
            assert score.std().item() == pytest.approx(1.0, abs=0.02)


def test_free_distance_is_that_of_walls_around_the_agent(model):
    pool = HomePool([make_home("room", 4.0, 6.0, [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8)])], goal_labels=["sofa"])
    simulator = Simulator(pool, TASK, num_envs=1, seed=0)
    state = simulator.reset()
    state.position[:], state.yaw[:] = torch.tensor([2.0, 3.0]), 0.0  # in the middle, looking along +x
    seen = make_encoder(model).perceive(simulator.observe(state), state.goal)
    middle = seen.free[0, 7:9]
    assert middle.tolist() == pytest.approx([2.0 - 0.05, 2.0 - 0.05], abs=0.03)  # the wall is 10 cm thick
    sideways = seen.free[0, [0, -1]]  # the outermost sectors look 45 degrees to the sides, so farther along the wall
    assert sideways.tolist() == pytest.approx([1.95 / math.cos(math.pi / 4)] * 2, abs=0.2)


def test_floor_and_ceiling_do_not_count_as_obstacles(model):
    seen = make_encoder(model).perceive(blank(some_frames(1), depth=0.0), torch.tensor([0]))  # nothing hit anywhere
    assert (seen.free == RANGE_M).all()


def put_match(encoder: ObservationEncoder, seen, row: int, column: int, depth: float) -> None:
    seen.score[:] = -1.0
    seen.score[:, row, column] = 6.0
    seen.cell_depth[:, row, column] = depth


def test_a_match_is_remembered_where_it_stood_while_the_agent_turns_and_walks(model):
    pool = HomePool([make_home("room", 6.0, 6.0, [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8)])], goal_labels=["sofa"])
    simulator = Simulator(pool, TASK, num_envs=1, seed=0)
    state = simulator.reset()
    state.position[:], state.yaw[:] = torch.tensor([3.0, 3.0]), 0.0
    encoder = make_encoder(model)
    seen = encoder.perceive(blank(some_frames(1)), state.goal)
    put_match(encoder, seen, row=1, column=2, depth=2.0)
    _, note = encoder.observe(seen, state, Note.empty(1))
    right = ((2 + 0.5) / encoder.columns * 2 - 1) * 2.0
    assert note.spot[0].tolist() == pytest.approx([5.0, 3.0 - right], abs=1e-5)  # right of +x is -y

    seen.score[:] = -1.0  # out of view
    state.yaw[:], state.position[:] = math.pi / 2, torch.tensor([3.0, 4.0])
    observation, later = encoder.observe(seen, state, note)
    assert torch.equal(later.spot, note.spot) and later.age.item() == 1
    ahead, aside = observation[0, -8] * RANGE_M, observation[0, -7] * RANGE_M
    assert ahead.item() == pytest.approx(3.0 - right - 4.0, abs=1e-4)
    assert aside.item() == pytest.approx(2.0, abs=1e-4)


def test_nothing_of_the_simulators_knowledge_of_the_goal_reaches_the_observation(model):
    pool = HomePool([make_home("room", 6.0, 6.0, [("sofa", "red", 0.5, 0.5, 0.6, 0.6, 0.8)])], goal_labels=["sofa"])
    simulator = Simulator(pool, TASK, num_envs=3, seed=0)
    state = simulator.reset()
    encoder = make_encoder(model)
    frame = simulator.observe(state)
    before, _ = encoder.observe(encoder.perceive(frame, state.goal), state, Note.empty(3))
    for name in ("distance", "start_distance", "home", "key", "path_length"):
        getattr(state, name).add_(1)
    frame.instance.fill_(0)
    after, _ = encoder.observe(encoder.perceive(frame, state.goal), state, Note.empty(3))
    assert torch.equal(before, after)


def test_statistics_come_back_from_disk_and_refuse_another_tower(tmp_path):
    maps = torch.randn(9, 2, 2, 5, generator=torch.Generator().manual_seed(0))
    FrameStatistics.fit(maps).save(tmp_path / "s.safetensors")
    assert torch.equal(FrameStatistics.load(tmp_path / "s.safetensors", 5).cell_cov, FrameStatistics.fit(maps).cell_cov)
    np.testing.assert_allclose(FrameStatistics.fit(maps).cell_mean, maps.reshape(-1, 5).mean(0), rtol=1e-5, atol=1e-7)
    with pytest.raises(InputError, match="width 5"):
        FrameStatistics.load(tmp_path / "s.safetensors", 6)

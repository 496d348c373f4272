import math

import gymnasium
import numpy as np
import pytest

import envs  # noqa: F401  registers the ids
from core.errors import InputError
from envs.vlm_tasks.cartpole import RAIL_M, VLMCartPole, truth


def placed(state: list[float], **options) -> VLMCartPole:
    env = VLMCartPole(**options)
    env.reset(seed=0)
    env.state = np.array(state)
    return env


def test_only_the_time_limit_ends_an_episode_and_it_truncates():
    env = gymnasium.make("Sightline/VLMCartPole-v0")
    env.reset(seed=0)
    ends = [env.step(1)[2:4] for _ in range(200)]  # pushed to one side the pole falls at once
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_the_angle_is_wrapped_and_the_observation_stays_in_its_space():
    env = placed([0.0, 0.0, math.pi - 0.01, 2.0])
    observation, *_ = env.step(0)
    assert -math.pi <= observation[2] < -math.pi + 0.1
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("side", [-1, 1])
def test_the_cart_stops_at_the_rails_end_and_can_leave_it_again(side):
    env = placed([side * (RAIL_M - 0.001), side * 3.0, 0.0, 0.0])
    stopped, *_ = env.step(int(side > 0))
    assert stopped[:2] == pytest.approx([side * RAIL_M, 0.0])
    for _ in range(5):
        left, *_ = env.step(int(side < 0))
    assert abs(left[0]) < RAIL_M


def test_progress_is_one_upright_half_lying_and_zero_hanging():
    states = np.zeros((4, 4))
    states[:, 2] = [0, math.pi / 2, -math.pi / 2, math.pi]
    np.testing.assert_allclose(truth(states), [1, 0.5, 0.5, 0], atol=1e-12)


def test_a_step_pays_one_while_the_pole_is_within_twelve_degrees():
    _, reward, _, _, info = placed([0.0, 0.0, 0.18, 0.0]).step(1)
    assert (reward, info["success"]) == (1.0, True)
    _, reward, _, _, info = placed([0.0, 0.0, 0.25, 0.0]).step(0)
    assert (reward, info["success"]) == (0.0, False)
    assert 0.9 < info["progress"] < 1


def test_a_freely_swinging_pole_gains_no_energy():
    env = placed([0.0, 0.0, 0.5 * math.pi, 0.0])
    speeds = []
    for k in range(2000):
        env.step(k % 2)  # pushes cancel
        speeds.append(abs(env.state[3]))
    assert max(speeds[1000:]) < 1.5 * max(speeds[:200])


def test_the_picture_is_square_of_the_asked_size_and_shows_the_whole_pole_anywhere():
    tan = np.array([202, 152, 101])
    shown = []
    for x in (-RAIL_M, 0.0, RAIL_M):
        for angle in (0.0, math.pi / 2, -math.pi / 2, math.pi):
            picture = placed([x, 0.0, angle, 0.0], render_mode="rgb_array", render_size=96).render()
            assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8
            shown.append((np.abs(picture.astype(int) - tan).sum(-1) < 60).sum())
    assert min(shown) > 0.4 * max(shown) > 5


def test_unknown_render_modes_and_tiny_pictures_are_refused():
    with pytest.raises(InputError, match="render_mode='human'"):
        VLMCartPole(render_mode="human")
    with pytest.raises(InputError, match="render_size=3"):
        VLMCartPole(render_mode="rgb_array", render_size=3)
    env = VLMCartPole()
    env.reset(seed=0)
    assert env.render() is None

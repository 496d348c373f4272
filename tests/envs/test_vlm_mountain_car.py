import gymnasium
import numpy as np

import envs  # noqa: F401  registers the ids
from envs.vlm_tasks.mountain_car import FLAG, VLMMountainCar, truth


def test_a_car_at_the_flag_stays_there_without_ending_the_episode_and_reset_forgets_it():
    env = gymnasium.make("Sightline/VLMMountainCar-v0")
    env.reset(seed=0)
    task = env.unwrapped
    task.state = np.array([FLAG - 0.01, 0.05])
    observation, reward, terminated, truncated, info = env.step(np.array([1.0], np.float32))
    assert (terminated, truncated, info["success"], info["progress"]) == (False, False, True, 1.0)
    assert abs(reward - 0.9) < 1e-6  # 1 at the flag less 0.1 of full force
    for _ in range(20):
        observation, *_, info = env.step(np.array([-1.0], np.float32))
    assert observation[0] == np.float32(FLAG) and info["success"]
    _, info = env.reset(seed=1)
    assert not info["success"]
    assert not env.step(np.array([0.0], np.float32))[4]["success"]


def test_only_the_time_limit_ends_an_episode_and_it_truncates():
    env = gymnasium.make("Sightline/VLMMountainCar-v0")
    env.reset(seed=0)
    ends = [env.step(np.zeros(1, np.float32))[2:4] for _ in range(200)]
    assert ends == [(False, False)] * 199 + [(False, True)]


def test_progress_is_the_share_of_the_track_to_the_flag():
    np.testing.assert_allclose(truth(np.array([[-1.2, 0], [-0.375, 0], [0.45, 0], [0.6, 0]])), [0, 0.5, 1, 1])


def test_a_step_hands_out_its_own_array():
    env = VLMMountainCar()
    env.reset(seed=0)
    first, *_ = env.step(np.array([1.0], np.float32))
    kept = first.copy()
    env.step(np.array([1.0], np.float32))
    np.testing.assert_array_equal(first, kept)


def test_the_red_car_moves_over_a_landscape_that_stays():
    env = VLMMountainCar(render_mode="rgb_array", render_size=96)
    env.reset(seed=0)
    columns, pictures = [], []
    for position in (-1.0, -0.3, FLAG):
        env.state = np.array([position, 0.0])
        picture = env.render()
        red = (picture[..., 0] > 150) & (picture[..., 1] < 90)
        columns.append(np.nonzero(red)[1].mean() / 96)
        pictures.append(picture)
    np.testing.assert_allclose(columns, [0.2 / 1.8, 0.9 / 1.8, 1.65 / 1.8], atol=0.04)
    assert (pictures[0] == pictures[1]).all(-1).mean() > 0.9

import av
import gymnasium
import numpy as np
import pytest

from agents.task_evaluation import EpisodeTruth, evaluate_policy, film_policy, summary


class Counting(gymnasium.Env):
    """Four steps; progress is the action, success holds from 0.5 on."""

    observation_space = gymnasium.spaces.Box(0, 4, (1,), np.float32)
    action_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}
    render_mode = "rgb_array"

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.seeds = 0, [*getattr(self, "seeds", []), seed]
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        info = {"progress": float(action), "success": float(action) >= 0.5}
        return np.full(1, self.t, np.float32), 2.0, False, self.t == 4, info

    def render(self):
        return np.full((33, 47, 3), 10 * self.t, np.uint8)


def test_figures_of_an_episode_are_means_over_its_steps_and_its_end():
    env = Counting()
    found = evaluate_policy(env, lambda observation: observation[0] / 4, 2)  # progress 0, 1/4, 2/4, 3/4
    expected = {"task_return": 8.0, "progress": 0.375, "held": 0.5, "success": 1.0, "length": 4.0}
    assert found == [expected, expected]
    assert env.seeds[0] != env.seeds[1]
    again = Counting()
    evaluate_policy(again, lambda observation: 0.0, 2)
    assert again.seeds == env.seeds  # every policy meets the same episodes


def test_a_task_that_tells_no_progress_has_only_its_return():
    truth = EpisodeTruth(2)
    truth.add(1, 3.0, {})
    truth.add(1, 4.0, {"task_reward": 0.5})  # what was paid was not the task's own
    assert truth.end(1, {}) == {"task_return": 3.5, "length": 2.0}
    assert truth.steps.tolist() == [0, 0]


def test_running_episodes_go_on_from_a_saved_state():
    truth = EpisodeTruth(1)
    truth.add(0, 1.0, {"progress": 0.5, "success": False})
    other = EpisodeTruth(1)
    other.load_state_dict(truth.state_dict())
    truth.add(0, 9.0, {"progress": 0.0, "success": False})
    other.add(0, 1.0, {"progress": 1.0, "success": True})
    assert other.end(0, {"success": True}) == {
        "task_return": 2.0, "progress": 0.75, "held": 0.5, "success": 1.0, "length": 2.0,
    }  # fmt: skip


def test_a_summary_has_means_with_intervals_over_episodes():
    found = summary([{"progress": 0.0}, {"progress": 1.0}])
    assert found["episodes"] == 2 and found["progress"] == 0.5
    assert found["progress_interval"] == pytest.approx((0.0, 1.0))


def test_a_film_shows_every_state_of_an_episode_in_an_even_size(tmp_path):
    figures = film_policy(tmp_path / "film.mp4", Counting(), lambda observation: 1.0)
    assert figures["progress"] == 1.0
    with av.open(str(tmp_path / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (32, 46, 3)
    assert [round(frame.mean() / 10) for frame in frames] == [0, 1, 2, 3, 4]

import gymnasium
import numpy as np
import pytest
import torch

from agents.reward_wrapper import VLMRewardWrapper
from core.errors import InputError
from vl.rewards import StepBatch


class ColorEmbedder:
    """Embeds a picture as the direction of its mean colour, and the words red, green, blue as axes."""

    dim = 3
    words = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}

    def encode_images(self, images):
        return torch.nn.functional.normalize(torch.as_tensor(images).float().mean((1, 2)), dim=-1)

    def encode_texts(self, texts):
        return torch.tensor([self.words[text] for text in texts])


class Lights(gymnasium.Env):
    """Shows green until its third and last step, whose frame alone is red; reset shows blue."""

    metadata = {"render_modes": ["rgb_array"]}
    observation_space = gymnasium.spaces.Box(0.0, 10.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode, self.time = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), 7.0, self.time == 3, False, {"seen": self.time}

    def render(self):
        frame = np.zeros((4, 6, 3), np.uint8)
        frame[..., 2 if self.time == 0 else 0 if self.time == 3 else 1] = 255
        return frame if self.render_mode == "rgb_array" else None


def test_the_last_frame_of_an_episode_is_paid_before_anything_resets():
    make = lambda: VLMRewardWrapper(Lights("rgb_array"), ColorEmbedder(), goal="red", alpha=0.0)  # noqa: E731
    same_step = gymnasium.vector.AutoresetMode.SAME_STEP  # resets inside the very step that ends an episode
    env = gymnasium.vector.SyncVectorEnv([make, make], autoreset_mode=same_step)
    env.reset(seed=0)
    rewards = [env.step(np.zeros(2, int))[1].tolist() for _ in range(6)]
    assert rewards == [[0, 0], [0, 0], [1, 1]] * 2


def test_the_task_reward_and_its_info_stay_readable():
    env = VLMRewardWrapper(Lights("rgb_array"), ColorEmbedder(), goal="green", baseline="blue", alpha=0.5, scale=2.0)
    env.reset()
    _, reward, _, _, info = env.step(0)
    assert reward == pytest.approx(2.0)  # the frame is the goal: |s - g| = 0
    assert info == {"seen": 1, "task_reward": 7.0}


def test_a_ready_reward_model_is_used_as_it_is():
    class Half:
        needs = frozenset({"frame"})

        def score(self, steps: StepBatch, goals):
            assert steps.frame.shape == (1, 4, 6, 3)
            return 0.5 * goals

    env = VLMRewardWrapper(Lights("rgb_array"), Half(), goal_index=3)
    env.reset()
    assert env.step(0)[1] == 1.5


def test_a_task_that_does_not_render_is_refused():
    with pytest.raises(InputError, match="render_mode"):
        VLMRewardWrapper(Lights(), ColorEmbedder(), goal="red", alpha=0.0)

    class Blind(Lights):
        def render(self):
            return None

    env = VLMRewardWrapper(Blind("rgb_array"), ColorEmbedder(), goal="red", alpha=0.0)
    env.reset()
    with pytest.raises(InputError, match="gave None"):
        env.step(0)


def test_an_embedder_without_a_goal_is_refused():
    with pytest.raises(InputError, match="needs a goal"):
        VLMRewardWrapper(Lights("rgb_array"), ColorEmbedder())


@pytest.mark.parametrize("algorithm", ["DQN", "PPO"])
def test_stable_baselines3_trains_on_it(algorithm):
    import stable_baselines3

    env = VLMRewardWrapper(Lights("rgb_array"), ColorEmbedder(), goal="red", alpha=0.0)
    options = {"DQN": {"learning_starts": 8, "buffer_size": 64}, "PPO": {"n_steps": 16, "batch_size": 16}}[algorithm]
    model = getattr(stable_baselines3, algorithm)("MlpPolicy", env, seed=0, device="cpu", **options)
    model.learn(32)
    seen = [info["r"] for info in model.ep_info_buffer]
    assert seen and all(value == pytest.approx(1.0) for value in seen)  # one red frame per episode

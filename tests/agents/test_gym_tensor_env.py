import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.gym_tensor_env import GymTensorEnv
from core.checkpoint import Checkpoints
from core.errors import InputError


class Counter(gymnasium.Env):
    """Counts its steps and shows the number its seed drew; over after three steps, by time or by itself."""

    action_space = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 8.0], np.float32))

    def __init__(self, as_dict: bool = False, truncates: bool = True) -> None:
        self.as_dict, self.truncates = as_dict, truncates
        vector = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        image = spaces.Box(0, 255, (4, 4, 3), np.uint8)
        self.observation_space = spaces.Dict({"vector": vector, "image": image}) if as_dict else vector

    def _observe(self):
        vector = np.array([self.count, self.drawn], np.float32)
        if not self.as_dict:
            return vector
        return {"vector": vector, "image": np.full((4, 4, 3), self.count, np.uint8)}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.drawn = 0, float(self.np_random.integers(1000))
        return self._observe(), {}

    def step(self, action):
        self.count += 1
        over = self.count == 3
        return self._observe(), float(action[0]), over and not self.truncates, over and self.truncates, {}


def counters(mode=AutoresetMode.DISABLED, **options) -> GymTensorEnv:
    return GymTensorEnv(SyncVectorEnv([lambda: Counter(**options)] * 2, autoreset_mode=mode), seed=5)


@pytest.mark.parametrize("mode", [AutoresetMode.DISABLED, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("as_dict", [False, True])
def test_an_episode_ends_and_the_next_begins_in_the_same_step(mode, as_dict):
    env = counters(mode, as_dict=as_dict)
    first = env.reset()["vector"]
    steps = [env.step(torch.zeros(2, 2)) for _ in range(4)]
    assert [s.final_observation["vector"][0, 0].item() for s in steps] == [1, 2, 3, 1]
    assert [s.observation["vector"][0, 0].item() for s in steps] == [1, 2, 0, 1]
    assert [bool(s.truncated.all()) for s in steps] == [False, False, True, False]
    assert not any(bool(s.terminated.any()) for s in steps)
    assert steps[2].metrics["length"].tolist() == [3.0, 3.0]
    assert not torch.equal(steps[2].observation["vector"][:, 1], first[:, 1])  # another episode draws anew
    if as_dict:
        assert env.observation_spec["image"].dtype == "uint8"
        assert (steps[2].final_observation["image"] == 3).all() and (steps[2].observation["image"] == 0).all()


def test_a_terminal_state_is_not_a_time_limit():
    env = counters(truncates=False)
    env.reset()
    last = [env.step(torch.zeros(2, 2)) for _ in range(3)][-1]
    assert bool(last.terminated.all()) and not bool(last.truncated.any())


def test_continuous_actions_are_stretched_onto_the_box_and_cut_at_its_edge():
    env = counters()
    env.reset()
    assert (env.num_actions, env.action_size) == (0, 2)
    assert env.step(torch.tensor([[0.5, 0.0], [7.0, 0.0]])).reward.tolist() == [1.0, 2.0]


def test_environments_are_seeded_by_their_number_and_not_by_their_batch():
    whole, part = GymTensorEnv.make("CartPole-v1", 3, seed=1), GymTensorEnv.make("CartPole-v1", 1, seed=1, first=2)
    assert torch.equal(whole.reset()["vector"][2:], part.reset()["vector"])


def test_a_resumed_environment_goes_on_as_the_original(tmp_path):
    generator = torch.Generator().manual_seed(0)
    env, other = (GymTensorEnv.make("CartPole-v1", 4, seed=3) for _ in range(2))
    env.reset()
    for _ in range(40):  # random episodes last some 20 steps, so their starts lie apart by now
        env.step(torch.randint(0, 2, (4,), generator=generator))
    Checkpoints(tmp_path).save(1, {"env": env.state_dict()})
    other.load_state_dict(Checkpoints(tmp_path).latest()[1]["env"])
    for _ in range(40):
        action = torch.randint(0, 2, (4,), generator=generator)
        one, two = env.step(action), other.step(action)
        assert torch.equal(one.observation["vector"], two.observation["vector"])
        assert torch.equal(one.terminated, two.terminated)


def test_what_cannot_be_done_right_is_refused():
    with pytest.raises(InputError, match="NEXT_STEP"):
        counters(AutoresetMode.NEXT_STEP)
    with pytest.raises(InputError, match="cannot be resumed"):
        counters(AutoresetMode.SAME_STEP).state_dict()

import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from agents.encoders import ObservationSpec
from agents.gym_tensor_env import GymTensorEnv
from agents.networks import make_policy
from agents.paid import Payment
from agents.reward_env import RewardEnv
from agents.rollout import EnvStep, EpisodeLog, Progress, collect
from agents.step_frames import StepFrame
from core.errors import InputError
from tests.agents.lights import TASK_REWARD, ColorReward, Lights, length_of, picture, true_score
from tests.agents.toy import Recall


class Seeded(Lights):
    """The episode's number comes from the seed, so that a replay shows the same pictures."""

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.episode = seed % 7
        return super().reset(seed=seed)


def lights(mode=AutoresetMode.SAME_STEP, task=Lights, **options) -> GymTensorEnv:
    makers = [lambda number=number: StepFrame(task(number, **options)) for number in (0, 1)]
    return GymTensorEnv(SyncVectorEnv(makers, autoreset_mode=mode), seed=3)


def shown(observation) -> list[tuple[int, int, int]]:
    return [tuple(row) for row in (10 * observation["vector"]).round().int().tolist()]


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_the_frame_that_an_episode_ends_with_is_paid(mode):
    env = RewardEnv(lights(mode), ColorReward())
    env.reset()
    ends = 0
    for _ in range(7):
        step = env.step(torch.zeros(2, dtype=torch.int64))
        assert step.reward.tolist() == [true_score(*at) for at in shown(step.final_observation)]
        ends += int(step.terminated.sum())
    assert ends == 4


def test_a_rollout_of_the_tensor_trainer_holds_the_models_rewards_and_both_returns():
    env = RewardEnv(lights(truncates=True), ColorReward(), payment=Payment(scale=2.0))
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=8)
    progress, log = Progress.begin(env, policy), EpisodeLog(2)
    rollout = collect(env, policy, progress, 5, torch.Generator().manual_seed(0), log)
    for t in range(5):
        acted_on = shown({"vector": rollout.observation["vector"][t]})
        expected = [2 * true_score(time + 1, episode, number) for time, episode, number in acted_on]
        assert rollout.reward[t].tolist() == pytest.approx(expected)
    metrics = log.flush()
    assert metrics["task_return"] == TASK_REWARD * 2.5  # episodes of two and of three steps
    assert metrics["model_return"] == pytest.approx(metrics["return"])


def test_shaping_begins_with_the_frame_an_episode_began_with():
    env = RewardEnv(lights(), ColorReward(), payment=Payment(shaping=True, gamma=0.5))
    env.reset()
    rewards = [env.step(torch.zeros(2, dtype=torch.int64)).reward[0].item() for _ in range(3)]
    phi = lambda *at: true_score(*at, 0)  # noqa: E731
    assert rewards == pytest.approx([0.5 * phi(1, 0) - phi(0, 0), -phi(1, 0), 0.5 * phi(1, 1) - phi(0, 1)])


class Screens:
    """A tensor task that observes its picture: two environments, episodes as in Lights."""

    num_envs, num_actions, action_size = 2, 2, 0
    observation_spec = {"image": ObservationSpec((4, 6, 3), "uint8")}  # noqa: RUF012

    def _observe(self):
        return {"image": torch.stack([torch.from_numpy(picture(self.time, self.episode, n)) for n in (0, 1)])}

    def reset(self):
        self.time, self.episode = 0, 0
        return self._observe()

    def step(self, action):
        self.time += 1
        final, over = self._observe(), self.time == length_of(self.episode)
        if over:
            self.time, self.episode = 0, self.episode + 1
        ended, none = torch.full((2,), over), torch.zeros(2, dtype=torch.bool)
        return EnvStep(self._observe(), final, torch.ones(2), ended, none, {})


def test_a_task_that_observes_its_picture_needs_nothing_else():
    env = RewardEnv(Screens(), ColorReward(), goals=[0, 2], payment=Payment(shaping=True, gamma=1.0, task_weight=1.0))
    env.reset()
    rewards = torch.stack([env.step(torch.zeros(2)).reward for _ in range(3)])
    for number, goal in ((0, 0), (1, 2)):
        phi = [true_score(time, episode, number, goal) for time, episode in [(0, 0), (1, 0), (0, 1), (1, 1)]]
        expected = [1 + phi[1] - phi[0], 1 - phi[1], 1 + phi[3] - phi[2]]
        assert rewards[:, number].tolist() == pytest.approx(expected, abs=1e-6)


def test_a_resumed_run_is_paid_the_same():
    options = {"mode": AutoresetMode.DISABLED, "task": Seeded}
    payment = Payment(shaping=True)
    env = RewardEnv(lights(**options), ColorReward(), payment=payment)
    env.reset()
    action = torch.zeros(2, dtype=torch.int64)
    for _ in range(3):
        env.step(action)
    other = RewardEnv(lights(**options), ColorReward(), payment=payment)
    other.load_state_dict(env.state_dict())
    for _ in range(4):
        first, second = env.step(action), other.step(action)
        assert first.reward.tolist() == second.reward.tolist()
        assert first.metrics["model_return"].tolist() == second.metrics["model_return"].tolist()


def test_a_task_without_pictures_is_refused_with_what_to_add():
    env = RewardEnv(Recall(3), ColorReward())
    env.reset()
    with pytest.raises(InputError, match=r"wrappers=\[StepFrame\]"):
        env.step(torch.zeros(3, dtype=torch.int64))


def test_cartpole_is_paid_for_its_picture():
    env = GymTensorEnv.make("CartPole-v1", 2, render_mode="rgb_array", wrappers=[StepFrame])
    paid = RewardEnv(env, ColorReward())
    paid.reset()
    reward = paid.step(torch.zeros(2, dtype=torch.int64)).reward
    frames = torch.stack([torch.from_numpy(frame) for frame in env.envs.render()])
    assert reward.tolist() == pytest.approx(ColorReward().embed(frames)[:, 0].half().tolist())

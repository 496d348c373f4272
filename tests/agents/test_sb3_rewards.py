import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from agents.paid import Payment
from agents.sb3_rewards import RelabelCallback, VecEnvReward
from agents.step_frames import StepFrame
from core.errors import InputError
from tests.agents.lights import TASK_REWARD, ColorReward, Lights, length_of, true_score


def small(**options):
    """Options of a learner that is quick; stable-baselines3 writes into the dict of policy options."""
    return {"policy_kwargs": {"net_arch": [4]}, "seed": 0, "device": "cpu"} | options


def off_policy(**options):
    return small(batch_size=4, learning_starts=6, **options)


def lights(num_envs=1, kind=DummyVecEnv, inside=True, **options):
    def maker(number):
        return lambda: StepFrame(Lights(number, **options)) if inside else Lights(number, **options)

    return kind([maker(number) for number in range(num_envs)])


def acted_on(observations):
    """(time, episode, number) of observations (..., 3)."""
    return np.rint(10 * observations).astype(int)


def expected(observations, goal=0):
    """The score of what steps from these observations led to."""
    flat = acted_on(observations).reshape(-1, 3)
    goals = np.broadcast_to(goal, observations.shape[:-1]).reshape(-1)
    scores = [true_score(time + 1, episode, number, g) for (time, episode, number), g in zip(flat, goals)]
    return np.array(scores).reshape(observations.shape[:-1])


class AtTraining(BaseCallback):
    """Calls back when a rollout is over, before training."""

    def __init__(self, look):
        super().__init__()
        self.look = look

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        self.look(self.model, self.locals)


def trained(algorithm, env, callback, steps=40, look=None, **options):
    model = algorithm("MlpPolicy", env, **off_policy(**options))
    model.learn(steps, callback=callback if look is None else CallbackList([callback, AtTraining(look)]))
    return model


@pytest.mark.parametrize("algorithm", [SAC, TD3, DQN])
@pytest.mark.parametrize(("num_envs", "frequency"), [(1, 1), (2, 3)])
def test_replay_rows_hold_the_models_rewards_before_every_training_also_after_the_buffer_wraps(
    algorithm, num_envs, frequency
):
    looked = []

    def look(model, _):
        rows = model.replay_buffer.size()
        assert np.array_equal(model.replay_buffer.rewards[:rows], expected(model.replay_buffer.observations[:rows]))
        looked.append(model.replay_buffer.full)

    env = lights(num_envs, continuous=algorithm is not DQN)
    trained(
        algorithm, env, RelabelCallback(ColorReward(), batch_size=4), 40, look, buffer_size=20, train_freq=frequency
    )
    assert any(looked) and not all(looked)


def test_the_last_frame_that_alone_pays_is_never_taken_for_the_next_episodes_first():
    model = trained(SAC, lights(2, continuous=True), RelabelCallback(ColorReward()), buffer_size=60)
    buffer = model.replay_buffer
    time, episode, _ = np.moveaxis(acted_on(buffer.observations[: buffer.pos]), -1, 0)
    last = time + 1 == 2 + episode % 3
    paid = buffer.rewards[: buffer.pos]
    assert last.any() and np.array_equal(buffer.dones[: buffer.pos] > 0, last)
    assert paid[last].min() > 0.6 > 0.3 > paid[~last].max()


def test_rows_are_right_where_observations_share_one_array_and_for_several_steps_at_once():
    options = {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    model = trained(
        SAC, lights(continuous=True, truncates=True), RelabelCallback(ColorReward()), buffer_size=15, **options
    )
    buffer = model.replay_buffer
    rows = (buffer.pos + 1 + np.arange(14)) % 15  # the one at pos holds half a transition
    assert buffer.full and np.array_equal(buffer.rewards[rows], expected(buffer.observations[rows]))
    model = trained(DQN, lights(), RelabelCallback(ColorReward()), buffer_size=50, n_steps=3)
    assert type(model.replay_buffer).__name__ == "NStepReplayBuffer"
    assert np.array_equal(model.replay_buffer.rewards[:40], expected(model.replay_buffer.observations[:40]))


def test_training_by_whole_episodes_and_many_goals():
    callback = RelabelCallback(ColorReward(), goals=lambda info: info["goal"])
    model = trained(SAC, lights(continuous=True), callback, buffer_size=60, train_freq=(2, "episode"))
    seen = model.replay_buffer.observations[: model.replay_buffer.pos]
    goals = acted_on(seen)[..., 1] % 3
    assert set(goals.ravel()) == {0, 1, 2}
    assert np.array_equal(model.replay_buffer.rewards[: len(seen)], expected(seen, goals))


def test_a_mixture_with_the_tasks_reward():
    callback = RelabelCallback(ColorReward(), goals=[0, 2], payment=Payment(scale=2.0, offset=-0.5, task_weight=0.25))
    model = trained(DQN, lights(2), callback, buffer_size=60)
    seen = model.replay_buffer.observations[: model.replay_buffer.pos]
    paid = 2 * expected(seen, [0, 2]) - 0.5 + 0.25 * TASK_REWARD
    assert model.replay_buffer.rewards[: len(seen)] == pytest.approx(paid)


@pytest.mark.parametrize("truncates", [False, True])
def test_shaping_in_replay_rows_ends_at_zero_where_the_task_ends_and_not_where_time_does(truncates):
    callback = RelabelCallback(ColorReward(), payment=Payment(shaping=True, gamma=0.9), keep_embeddings=True)
    model = trained(
        SAC, lights(2, continuous=True, truncates=truncates), callback, buffer_size=24, gamma=0.9, train_freq=5
    )
    buffer = model.replay_buffer
    time, episode, number = np.moveaxis(acted_on(buffer.observations), -1, 0)
    before = np.vectorize(true_score)(time, episode, number)
    after = np.vectorize(true_score)(time + 1, episode, number)
    if not truncates:
        after[time + 1 == 2 + episode % 3] = 0.0
    assert buffer.full and buffer.rewards == pytest.approx(0.9 * after - before, abs=1e-6)
    kept = buffer.rewards.copy()
    callback.rescore()
    assert buffer.rewards == pytest.approx(kept, abs=1e-6)


def test_the_whole_replay_buffer_is_scored_anew_without_encoding_a_frame():
    callback = RelabelCallback(ColorReward(), keep_embeddings=True)
    model = trained(DQN, lights(2), callback, buffer_size=20, train_freq=1)
    other = ColorReward(gain=3.0)
    assert callback.rescore(other, Payment(offset=1.0, task_weight=0.5)) == 20 and other.batches == []
    buffer = model.replay_buffer
    assert buffer.rewards == pytest.approx(3 * expected(buffer.observations) + 1 + 0.5 * TASK_REWARD)
    model.learn(6, callback=callback, reset_num_timesteps=False)  # goes on with the other model
    assert len(other.batches) == 3
    assert buffer.rewards == pytest.approx(3 * expected(buffer.observations) + 1 + 0.5 * TASK_REWARD)


def test_rescoring_without_what_it_needs_is_refused():
    callback = RelabelCallback(ColorReward())
    with pytest.raises(InputError, match="keep_embeddings"):
        callback.rescore()
    callback = RelabelCallback(ColorReward(), keep_embeddings=True)
    model = trained(DQN, lights(), callback, 10, buffer_size=20, train_freq=1)
    wider = ColorReward()
    wider.dim = 4
    with pytest.raises(InputError, match="same image tower"):
        callback.rescore(wider)
    with pytest.raises(InputError, match="shaping=True"):
        callback.rescore(payment=Payment(shaping=True))
    fresh = RelabelCallback(ColorReward(), keep_embeddings=True)
    model.learn(4, callback=fresh, reset_num_timesteps=False)
    with pytest.raises(InputError, match="10 of 14 replay rows"):
        fresh.rescore()


@pytest.mark.parametrize("first", [True, False])
def test_a_rollout_that_another_callback_stops_is_paid_as_far_as_it_is_stored(first):
    class Stop(BaseCallback):
        def _on_step(self):
            return self.n_calls < 14

    ours = RelabelCallback(ColorReward())
    model = trained(
        DQN, lights(), CallbackList([ours, Stop()] if first else [Stop(), ours]), buffer_size=50, train_freq=6
    )
    buffer = model.replay_buffer
    assert buffer.pos == 13 and np.array_equal(buffer.rewards[:13], expected(buffer.observations[:13]))
    assert (buffer.rewards[:13] != TASK_REWARD).all() and ours.scorer.model.batches == [6, 6, 2]


class Recomputed:
    """Checks a rollout buffer against the rewards and advantages worked out step by step."""

    def __init__(self, score=lambda observations: expected(observations)):
        self.score, self.looked, self.at_limits = score, 0, 0

    def __call__(self, model, given):
        buffer, steps = model.rollout_buffer, model.n_steps
        values, last = buffer.values, given["values"].numpy().ravel()
        time, episode, number = np.moveaxis(acted_on(buffer.observations), -1, 0)
        over = time + 1 == 2 + episode % 3
        reward = self.score(buffer.observations)
        for t, i in zip(*np.nonzero(over)):
            env = model.get_env()
            if env.get_attr("truncates")[i]:
                reached = np.array([[time[t, i] + 1, episode[t, i], number[t, i]]], np.float32) / 10
                with torch.no_grad():
                    value = model.policy.predict_values(torch.from_numpy(reached)).item()
                reward[t, i] += model.gamma * value
                self.at_limits += abs(value) > 1e-6
        assert buffer.rewards == pytest.approx(reward, abs=1e-5)
        advantage, carry = np.zeros_like(reward), 0.0
        for t in reversed(range(steps)):
            following = last if t == steps - 1 else values[t + 1]
            delta = reward[t] + model.gamma * following * ~over[t] - values[t]
            carry = delta + model.gamma * model.gae_lambda * ~over[t] * carry
            advantage[t] = carry
        assert buffer.advantages == pytest.approx(advantage, abs=1e-5)
        assert buffer.returns == pytest.approx(advantage + values, abs=1e-5)
        self.looked += 1


@pytest.mark.parametrize(("algorithm", "truncates"), [(PPO, True), (PPO, False), (A2C, True)])
def test_a_rollout_buffer_is_paid_and_its_advantages_follow_with_the_value_at_time_limits(algorithm, truncates):
    look, callback = Recomputed(), RelabelCallback(ColorReward(), batch_size=5)
    options = {"batch_size": 8} if algorithm is PPO else {}
    model = algorithm("MlpPolicy", lights(2, truncates=truncates), **small(n_steps=8, **options))
    model.learn(40, callback=CallbackList([callback, AtTraining(look)]))
    assert look.looked == 3 and (look.at_limits > 0) == truncates


def test_shaping_in_a_rollout_buffer():
    def score(observations):
        time, episode, number = np.moveaxis(acted_on(observations), -1, 0)
        after, before = (np.vectorize(true_score)(time + k, episode, number) for k in (1, 0))
        after[time + 1 == 2 + episode % 3] = 0.0
        return 0.9 * after - before

    look, callback = Recomputed(score), RelabelCallback(ColorReward(), payment=Payment(shaping=True, gamma=0.9))
    model = PPO("MlpPolicy", lights(2), **small(n_steps=8, batch_size=8, gamma=0.9))
    model.learn(40, callback=CallbackList([callback, AtTraining(look)]))
    assert look.looked == 3


def test_processes_are_paid_for_their_own_last_frames():
    env = lights(2, kind=lambda makers: SubprocVecEnv(makers, start_method="fork"), continuous=True)
    try:
        model = trained(SAC, env, RelabelCallback(ColorReward()), 20, buffer_size=60)
        seen = model.replay_buffer.observations[:10]
        assert np.array_equal(model.replay_buffer.rewards[:10], expected(seen))
        paid = VecEnvReward(env, ColorReward())
        observation = paid.reset()
        for _ in range(4):
            before = observation
            observation, reward, _, _ = paid.step(np.zeros((2, 1)))
            assert np.array_equal(reward, expected(before).astype(np.float32))
    finally:
        env.close()


def test_any_vec_env_is_paid_step_by_step():
    model = ColorReward()
    env = VecEnvReward(lights(2, truncates=True), model, goals=[0, 2], payment=Payment(scale=2.0))
    observation = env.reset()
    for step in range(5):
        before = observation
        observation, reward, done, infos = env.step(np.zeros(2, int))
        assert reward == pytest.approx(2 * expected(before, [0, 2]))
        assert [info["task_reward"] for info in infos] == [TASK_REWARD] * 2
        assert done.tolist() == ["model_return" in info for info in infos] == [step in (1, 4)] * 2
    assert infos[0]["task_return"] == TASK_REWARD * 3 and model.batches == [2] * 5
    assert 0 < env.timing.share < 1


def test_states_are_scored_as_they_come():
    class Counted:
        needs = frozenset({"state"})

        def score(self, steps, goals):
            return steps.state + 100.0 * goals

    def watch(env):
        calls.append(env.num_envs)
        return torch.full((2,), float(len(calls))), torch.tensor([0, 1])

    calls: list[int] = []
    model = trained(DQN, lights(2), RelabelCallback(Counted(), watch=watch), 24, buffer_size=60, train_freq=3)
    assert model.replay_buffer.rewards[:12].tolist() == [[t, t + 100.0] for t in range(1, 13)]


def logged(model, callback, steps):
    rows = []

    class Keep(Logger):
        def dump(self, step=0):
            rows.append(dict(self.name_to_value))
            super().dump(step)

    model.set_logger(Keep(None, []))
    model.learn(steps, callback=callback, log_interval=1)
    return rows


def test_both_returns_and_the_share_of_time_are_logged():
    model = PPO("MlpPolicy", lights(), **small(n_steps=9, batch_size=9))
    (row,) = logged(model, RelabelCallback(ColorReward()), 9)
    scores = [true_score(t, episode, 0) for episode in range(3) for t in range(1, length_of(episode) + 1)]
    assert row["reward/model_return"] == pytest.approx(sum(scores) / 3)
    assert row["reward/task_return"] == TASK_REWARD * 3
    assert 0 < row["reward/seconds_share"] < 1 and "reward/unanswered" not in row


def test_unanswered_steps_are_held_and_counted_in_the_log():
    class Moody:
        needs = frozenset({"frame"})

        def score(self, steps, goals):
            scores = steps.frame[:, 0, 0, 0].float()
            return torch.where(scores == 20, torch.nan, scores)

    callback = RelabelCallback(Moody())
    model = DQN("MlpPolicy", lights(), **off_policy(buffer_size=50, train_freq=1))
    rows = logged(model, callback, 30)
    buffer = model.replay_buffer
    time, episode, _ = np.moveaxis(acted_on(buffer.observations[:30]), -1, 0)
    last = time + 1 == 2 + episode % 3
    held = np.where(time == 1, 10.0, 10.0 * (time + 1))  # the second picture's score is missing: the first's is held
    assert np.array_equal(buffer.rewards[:30], np.where(last, 255.0, held))
    unanswered = int((~last & (time == 1)).sum())
    assert callback.account.unanswered == unanswered and 0 < rows[-1]["reward/unanswered"] <= unanswered


def test_a_model_that_falls_silent_ends_training_with_every_stored_row_paid():
    class Falls(ColorReward):
        embed = None

        def score(self, steps, goals):
            self.batches.append(len(goals))
            return torch.full((len(goals),), 0.5 if len(self.batches) == 1 else torch.nan)

    callback = RelabelCallback(Falls(), payment=Payment(patience=7))
    model = DQN("MlpPolicy", lights(), **off_policy(buffer_size=50, train_freq=4))
    with pytest.raises(InputError, match="8 steps in a row .*8 of 12"):
        model.learn(40, callback=callback)
    assert model.replay_buffer.pos == 12 and (model.replay_buffer.rewards[:12] == 0.5).all()


def test_what_cannot_be_paid_is_refused_when_training_starts():
    def refused(algorithm, env, match, payment=None, keep=False, **options):
        model = algorithm("MlpPolicy", env, **small(**options))
        with pytest.raises(InputError, match=match):
            model.learn(10, callback=RelabelCallback(ColorReward(), payment=payment, keep_embeddings=keep))

    refused(DQN, lights(inside=False), "StepFrame", buffer_size=20)
    refused(DQN, lights(2), "5 steps .* fewer than the 6", buffer_size=10, train_freq=6)
    refused(PPO, VecNormalize(lights()), "norm_reward=False", n_steps=4, batch_size=4)
    refused(DQN, VecNormalize(lights()), "norm_reward=False", buffer_size=20)
    refused(DQN, lights(), "learner's is 0.99", Payment(shaping=True, gamma=0.9), buffer_size=20)
    refused(PPO, lights(), "no replay buffer", keep=True, n_steps=4, batch_size=4)
    refused(DQN, lights(), "does not fit the replay buffer's 1", buffer_size=1, train_freq=(1, "episode"))


def test_hindsight_replay_is_refused():
    from gymnasium import spaces
    from stable_baselines3 import HerReplayBuffer

    class Goals(Lights):
        box = Lights.observation_space
        observation_space = spaces.Dict({"observation": box, "achieved_goal": box, "desired_goal": box})

        def _observe(self):
            return dict.fromkeys(self.observation_space.spaces, super()._observe())

        def compute_reward(self, achieved, desired, info):
            return np.zeros(len(achieved))

    env = DummyVecEnv([lambda: StepFrame(Goals(truncates=True))])
    model = DQN("MultiInputPolicy", env, **off_policy(replay_buffer_class=HerReplayBuffer, buffer_size=30))
    with pytest.raises(InputError, match="HerReplayBuffer computes rewards"):
        model.learn(10, callback=RelabelCallback(ColorReward()))

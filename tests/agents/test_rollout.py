import torch

from agents.encoders import ObservationSpec
from agents.networks import make_policy
from agents.rollout import EpisodeLog, Progress, collect
from tests.agents.toy import Recall


def gather(steps: int, truncates: bool = False, memory: int = 4):
    env = Recall(5, truncates=truncates)
    policy = make_policy("recurrent", env.observation_spec, num_actions=2, width=8, memory=memory)
    progress, log = Progress.begin(env, policy), EpisodeLog(5)
    rollouts = [collect(env, policy, progress, s, torch.Generator().manual_seed(3), log) for s in (steps, steps)]
    return policy, rollouts, log


def test_values_and_log_probs_are_those_of_the_policy_unrolled():
    policy, rollouts, _ = gather(7)
    for part in rollouts:  # the second begins in the middle of episodes, with a memory
        logits, value = policy.unroll(policy.normalise(part.observation), part.start, part.memory)
        torch.testing.assert_close(value, part.value, atol=1e-5, rtol=1e-4)
        log_prob = torch.log_softmax(logits, -1).gather(-1, part.action[..., None]).squeeze(-1)
        torch.testing.assert_close(log_prob, part.log_prob, atol=1e-5, rtol=1e-4)


def test_the_next_value_at_a_time_limit_is_of_the_state_reached_and_not_of_the_new_episode():
    policy, (first, _), _ = gather(7, truncates=True, memory=0)
    end = first.truncated[2]
    assert bool(end.all())
    reached = policy(policy.normalise({"vector": torch.tensor([[0.0, 1.0]])}), policy.initial_memory(1))[
        1
    ]  # cue gone, time up
    torch.testing.assert_close(first.next_value[2], reached.expand(5))
    torch.testing.assert_close(first.next_value[0], first.value[1])
    assert not torch.allclose(first.next_value[2], first.value[3])


def test_the_log_counts_each_episode_once_with_its_whole_return():
    _, rollouts, log = gather(6)
    flushed = log.flush()
    assert flushed["episodes"] == 5 * 2 * 2
    paid = sum(float(r.reward.sum()) for r in rollouts)
    assert abs(flushed["return"] - paid / 20) < 1e-6
    assert flushed["success"] == flushed["return"]
    assert log.flush() == {"episodes": 0.0}


def test_bytes_stay_bytes_and_memory_is_used_again():
    class Seen(Recall):
        observation_spec = {**Recall.observation_spec, "image": ObservationSpec((36, 36, 3), "uint8")}  # noqa: RUF012

        def _observe(self):
            image = torch.full((self.num_envs, 36, 36, 3), 7, dtype=torch.uint8) * self.time[:, None, None, None].byte()
            return {**super()._observe(), "image": image}

    env = Seen(2)
    policy = make_policy("feedforward", env.observation_spec, num_actions=2, width=8, image_width=8)
    progress, log, generator = Progress.begin(env, policy), EpisodeLog(2), torch.Generator().manual_seed(0)
    first = collect(env, policy, progress, 4, generator, log)
    assert first.observation["image"].dtype == torch.uint8
    assert first.observation["image"][:, 0, 0, 0, 0].tolist() == [0, 7, 14, 0]
    place = first.observation["image"].data_ptr()
    second = collect(env, policy, progress, 4, generator, log, first)
    assert second.observation["image"].data_ptr() == place
    assert second.observation["image"][:, 0, 0, 0, 0].tolist() == [7, 14, 0, 7]

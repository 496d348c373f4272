"""Facts about vl/abstain.py."""

import json
import math

import numpy as np
import pytest
import torch

from core.errors import InputError
from vl.abstain import AbstainingReward, Abstention, Share, abstaining, measure
from vl.rewards import StepBatch

# nine independent frames of each label at level 0.8: ceil(10 * 0.8) = 8th of 9 from the label's good end
REACHED, OTHERS = np.arange(4, 13) / 10, np.arange(0, 9) / 10  # 0.4 .. 1.2 and 0 .. 0.8
SCORES, LABELS = np.concatenate([REACHED, OTHERS]), np.arange(18) < 9
BY_HAND = Abstention(0.8, reached=0.5, not_reached=0.7, frames=(9, 9), groups=(9, 9))


class Given:
    """A reward model whose scores are its states."""

    needs = frozenset({"state"})

    def score(self, steps: StepBatch, goals: torch.Tensor) -> torch.Tensor:
        return steps.state


class GivenEmbeddings(Given):
    dim = 1

    def embed(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.float().mean((1, 2, 3))[:, None]


def paid(reward: AbstainingReward, scores: list[float], goals: list[int] | None = None) -> list[float]:
    of = torch.tensor(goals) if goals else torch.zeros(len(scores), dtype=torch.int64)
    return reward.score(StepBatch(state=torch.tensor(scores)), of).tolist()


def test_each_label_has_the_threshold_of_its_own_frames():
    assert Abstention.fit(SCORES, LABELS, range(18), 0.8) == BY_HAND


def test_a_frame_whose_score_both_labels_have_is_unsure():
    sure = BY_HAND.sure(torch.tensor([0.0, 0.49, 0.5, 0.6, 0.7, 0.71, 2.0]))
    assert sure.tolist() == [True, True, False, False, False, True, True]


def test_a_frame_whose_score_neither_label_has_is_unsure():
    apart = Abstention(0.8, reached=0.7, not_reached=0.3, frames=(9, 9), groups=(9, 9))
    assert apart.sure(torch.tensor([0.3, 0.31, 0.69, 0.7])).tolist() == [True, False, False, True]


def test_too_few_groups_of_a_label_keep_it_in_every_set():
    # three homes of reached frames: 3 / 4 is less than 0.8
    found = Abstention.fit(SCORES, LABELS, [*np.arange(9) % 3, *range(9)], 0.8)
    assert (found.reached, found.not_reached, found.groups) == (None, 0.7, (3, 9))
    # above 0.7 `reached` is alone in the set; below, both are
    assert found.sure(torch.tensor([-5.0, 0.7, 0.8])).tolist() == [False, False, True]


def test_frames_of_one_home_share_its_weight():
    # homes a (four frames) and b (one): 1/3 each; 1/12 for each of a's
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6, 0.2, 0.0]), np.array([True] * 5 + [False])
    assert Abstention.fit(scores, labels, [*"aaaab", "c"], 1 / 3).reached == 0.6
    assert Abstention.fit(scores, labels, [*"aaaab", "c"], 0.34).reached == 0.2


def test_either_label_is_covered_at_the_stated_level_in_new_homes():
    rng = np.random.default_rng(0)

    def homes(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        home = np.repeat(np.arange(count), 20)
        reached = rng.random(len(home)) < 0.15  # rare, as goals are
        return rng.normal(0, 0.5, count)[home] + rng.normal(0, 0.5, len(home)) + reached, reached, home

    found = [measure(Abstention.fit(*homes(29), 0.8), *homes(30)) for _ in range(60)]
    for shares in ([m.reached for m in found], [m.not_reached for m in found]):
        covered = np.mean([share.value for share in shares if share])
        assert 0.8 - 0.015 < covered < 0.8 + 1 / 30 + 0.02
    assert 0.1 < np.mean([m.abstained.value for m in found]) < 0.9


def test_unsure_frames_are_paid_nothing_and_counted_and_unanswered_ones_stay_unanswered():
    reward = AbstainingReward(Given(), BY_HAND)
    assert reward.needs == {"state"} and math.isnan(reward.share)
    first = paid(reward, [0.25, 0.5, math.nan, 0.75])
    assert first[:2] == [0.25, 0.0] and math.isnan(first[2]) and first[3] == 0.75
    paid(reward, [0.6])
    assert (reward.answered, reward.abstained, reward.share) == (4, 2, 0.5)


def test_each_goal_may_have_thresholds_of_its_own():
    other = Abstention(0.8, reached=20.0, not_reached=10.0, frames=(9, 9), groups=(9, 9))
    reward = AbstainingReward(Given(), [BY_HAND, other])
    assert paid(reward, [0.25, 0.5, 5.0, 15.0, 25.0], [0, 0, 1, 1, 1]) == [0.25, 0.0, 5.0, 0.0, 25.0]
    with pytest.raises(InputError, match="known of 2 goals"):
        paid(reward, [0.25], [2])


def test_one_abstention_for_all_goals_reads_and_pays_scores_in_units_of_each_goals_spread():
    reward = AbstainingReward(Given(), BY_HAND, mean=torch.tensor([0.0, 10.0]), std=torch.tensor([1.0, 4.0]))
    # (12 - 10) / 4 = 0.5 is unsure, (14 - 10) / 4 = 1 is sure
    assert paid(reward, [0.25, 12.0, 14.0], [0, 1, 1]) == [0.25, 0.0, 1.0]


def test_a_model_that_embeds_frames_still_does_when_it_abstains():
    frames = torch.full((2, 4, 4, 3), 7, dtype=torch.uint8)
    reward = abstaining(GivenEmbeddings(), BY_HAND)
    assert reward.dim == 1 and reward.embed(frames).tolist() == [[7.0], [7.0]]
    assert not hasattr(abstaining(Given(), BY_HAND), "embed")


def test_coverage_and_abstentions_are_means_over_homes():
    # home a: reached 0.5 (both labels), reached 0.4 (missed); home b: reached 0.8, others 0.75 (missed) and 0.1
    scores, labels = np.array([0.5, 0.4, 0.8, 0.75, 0.1]), np.array([True, True, True, False, False])
    found = measure(BY_HAND, scores, labels, [*"aabbb"])
    assert found.reached is not None and found.not_reached is not None
    assert (found.reached.value, found.reached.frames, found.reached.groups) == (0.75, 3, 2)
    assert (found.not_reached.value, found.not_reached.groups) == (0.5, 1)
    assert (found.abstained.value, found.both, found.none) == (0.25, 0.25, 0.0)
    assert found.reached.interval[0] < 0.75 < found.reached.interval[1]
    assert measure(BY_HAND, [0.8], np.array([True]), ["a"]).not_reached is None


def test_full_coverage_of_few_homes_has_an_interval_below_one():
    share = measure(BY_HAND, [0.8, 0.9], np.array([True, True]), [*"ab"]).reached
    assert isinstance(share, Share) and share.value == 1.0 and share.interval[0] == pytest.approx(0.342, abs=1e-3)


def test_what_is_saved_is_plain_json_and_loads_as_the_same(tmp_path):
    few = Abstention.fit(SCORES, LABELS, [*np.arange(9) % 3, *range(9)], 0.8)
    for found in (BY_HAND, few):
        path = found.save(tmp_path / "abstention.json")
        assert Abstention.load(path) == found
    assert json.loads(path.read_text())["reached"] is None


@pytest.mark.parametrize(
    "content", [[], {"level": 0.9}, {"level": 2, "reached": 0, "not_reached": 0, "frames": [1, 1], "groups": [1, 1]}]
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="is no abstention"):
        Abstention.load(tmp_path / "a.json")


def test_labelled_frames_that_cannot_be_fitted_are_refused():
    with pytest.raises(InputError, match="the other label has no threshold"):
        Abstention.fit(REACHED, LABELS[:9], range(9), 0.8)
    with pytest.raises(InputError, match="1 of 18 scores are NaN"):
        Abstention.fit(np.where(np.arange(18) == 3, np.nan, SCORES), LABELS, range(18), 0.8)
    with pytest.raises(InputError, match="one bool and one group per frame"):
        Abstention.fit(SCORES, LABELS[:3], range(18), 0.8)
    with pytest.raises(InputError, match="or neither"):
        AbstainingReward(Given(), BY_HAND, mean=torch.zeros(1))
    with pytest.raises(InputError, match="should be positive"):
        AbstainingReward(Given(), BY_HAND, mean=torch.zeros(1), std=torch.zeros(1))

import numpy as np
import pytest
import torch

from agents.paid import Payment
from agents.step_scorer import ASKED_AGAIN, FrameQueue, StepScorer, check_watched
from core.errors import InputError
from tests.agents.lights import ColorReward, picture, true_score
from vl.rewards import StepBatch

NAN = float("nan")


class Says:
    """Gives prepared answers, one list per call."""

    needs = frozenset({"frame"})

    def __init__(self, *answers):
        self.answers = list(answers)

    def score(self, steps, goals):
        return torch.tensor(self.answers.pop(0))


def frames(*times):
    return np.stack([picture(time, 0, 0) for time in times])


def test_goals_are_one_for_all_or_one_each_or_read_from_info():
    infos = [{"goal": 2}, {"goal": 0}]
    assert StepScorer(ColorReward(), 2, 1).goals(infos).tolist() == [1, 1]
    assert StepScorer(ColorReward(), 2, [0, 2]).goals(infos).tolist() == [0, 2]
    assert StepScorer(ColorReward(), 2, lambda info: info["goal"]).goals(infos).tolist() == [2, 0]


def test_goals_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="3 goals for 2"):
        StepScorer(ColorReward(), 2, [0, 1, 2])
    with pytest.raises(InputError, match=r"KeyError.*\['goal'\]"):
        StepScorer(ColorReward(), 1, lambda info: info["aim"]).goals([{"goal": 1}])


def test_a_model_that_reads_clips_is_refused_and_states_need_watching():
    class Clips(Says):
        needs = frozenset({"clip"})

    with pytest.raises(InputError, match="clips"):
        StepScorer(Clips(), 1)
    with pytest.raises(InputError, match="watch="):
        check_watched(None, Payment())
    with pytest.raises(InputError, match="shaping"):
        check_watched(lambda env: None, Payment(shaping=True))


def test_a_model_that_never_answered_is_asked_again_and_later_no_more():
    model = Says([NAN], [0.5], [NAN])
    scorer, batch = StepScorer(model, 1), StepBatch(frame=torch.zeros(1, 2, 2, 3, dtype=torch.uint8))
    assert scorer.score(batch, torch.zeros(1, dtype=torch.int64)).tolist() == [0.5]
    assert scorer.score(batch, torch.zeros(1, dtype=torch.int64)).isnan().tolist() == [True]
    silent = Says(*[[NAN]] * (1 + ASKED_AGAIN))
    assert StepScorer(silent, 1).score(batch, torch.zeros(1, dtype=torch.int64)).isnan().all()
    assert silent.answers == []


def test_answers_of_another_shape_or_without_bounds_are_refused():
    batch, goals = StepBatch(frame=torch.zeros(2, 2, 2, 3, dtype=torch.uint8)), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(InputError, match="shape"):
        StepScorer(Says([0.5]), 2).score(batch, goals)
    with pytest.raises(InputError, match="infinite"):
        StepScorer(Says([0.5, float("inf")]), 2).score(batch, goals)


def test_a_queue_encodes_full_batches_as_they_come_and_keeps_halves_in_order():
    model = ColorReward()
    queue = FrameQueue(StepScorer(model, 3), batch_size=4)
    for times in ([0, 1, 2], [0, 1, 2], [0, 1, 2]):
        queue.put(frames(*times), torch.zeros(3, dtype=torch.int64))
        assert len(queue._frames) < 4
    assert model.batches == [4, 4]
    rows = queue.take()
    assert model.batches == [4, 4, 1] and rows.dtype == torch.float16
    assert rows[:, 0].tolist() == [true_score(time, 0, 0) for time in [0, 1, 2] * 3]


def test_a_model_without_embeddings_is_asked_for_scores_by_goal():
    class Plain:
        needs = frozenset({"frame"})

        def score(self, steps, goals):
            return steps.frame[:, 0, 0, 0] + 100.0 * goals

    queue = FrameQueue(StepScorer(Plain(), 2), batch_size=3)
    queue.put(frames(0, 1), torch.tensor([0, 2]))
    queue.put(frames(2, 1), torch.tensor([1, 0]))
    assert queue.take().tolist() == [0.0, 210.0, 355.0, 10.0]


def test_the_share_of_wall_time_is_what_the_model_took(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("vl.scoring.time.perf_counter", lambda: clock[0])

    class Slow(ColorReward):
        def embed(self, frames):
            clock[0] += 2.0
            return super().embed(frames)

    scorer = StepScorer(Slow(), 1)
    clock[0] += 5.0
    scorer.embed(frames(0))
    clock[0] += 1.0
    assert scorer.timing.seconds == 2.0 and scorer.timing.share == pytest.approx(2 / 8)

"""Facts about agents/subgoals/asked_judge.py, with models that look and ones that misbehave."""

from dataclasses import fields

import pytest
import torch

from agents.subgoals.asked_judge import UNREAD, AskedJudge, question, read_verdict
from agents.subgoals.types import Subgoal
from core.errors import InputError
from envs.state import SimState
from scene.render import Frame
from tests.agents.subgoals.asked_models import Scripted
from tests.vl.chat_server import Answer, completion, serving
from vl.endpoint import EndpointGenerator
from vl.generator import CachedGenerator, Failure

BED, MUG = Subgoal("go to the bed"), Subgoal("pick up the mug.")


def state(size):
    """Environments of which nothing matters but how many they are."""
    named = {item.name: torch.zeros(size, dtype=torch.int64) for item in fields(SimState) if item.name != "world"}
    return SimState(**named)


def frame(*levels):
    rgb = torch.stack([torch.full((4, 4, 3), level, dtype=torch.uint8) for level in levels])
    return Frame(rgb, torch.zeros(len(levels), 4, 4), torch.zeros(len(levels), 4, 4, dtype=torch.int32))


def looks(prompt, shown, number):
    """Done where the picture is bright."""
    return "Yes." if shown[0][0, 0, 0] > 100 else "No."


def test_each_environment_is_judged_by_its_own_picture():
    judge = AskedJudge(Scripted(looks))
    assert judge([BED] * 3, state(3), frame(200, 0, 150)).tolist() == [True, False, True]
    assert judge.counts.summary() == {"asked": 3, "done": 2, "not_done": 1, "failures": {}}


def test_environments_without_a_subgoal_are_not_asked_about_and_not_done():
    model = Scripted(lambda *given: "yes")
    judge = AskedJudge(model)
    assert judge([None, BED, None], state(3), frame(0, 7, 0)).tolist() == [False, True, False]
    assert [int(shown[0][0, 0, 0]) for shown in model.shown] == [7]
    assert judge([None, None], state(2), None).tolist() == [False, False] and len(model.prompts) == 1


def test_finished_subgoals_are_asked_about_together_with_the_current_one():
    done = {0: [], 1: [BED, MUG]}
    model = Scripted(looks)
    AskedJudge(model, done.__getitem__)([MUG, BED], state(2), frame(0, 0))
    assert "The task: pick up the mug.\n" in model.prompts[0]
    assert "The task: go to the bed, then pick up the mug, then go to the bed.\n" in model.prompts[1]


def test_forty_subgoals_are_one_question():
    assert question([BED] * 40).count("go to the bed") == 40


@pytest.mark.parametrize(("always", "expected"), [("yes", [True, True]), ("no", [False, False])])
def test_a_model_that_always_says_the_same_is_believed_and_counted(always, expected):
    judge = AskedJudge(Scripted(lambda *given: always))
    for _ in range(3):
        assert judge([BED, MUG], state(2), frame(0, 255)).tolist() == expected
    assert (judge.counts.asked, judge.counts.done) == (6, 6 * (always == "yes"))


def test_one_word_is_read_in_the_forms_models_write_it():
    assert all(read_verdict(said) is True for said in ("yes", "Yes.", " YES!\n", "**yes**", '"Yes."'))
    assert all(read_verdict(said) is False for said in ("no", "No.", "`no`"))


@pytest.mark.parametrize(
    "said", ["", "maybe", "yes and no", "Yes, the agent is at the bed.", "not yet", "yes\nno", "y", "1", "true", "yess"]
)
def test_more_or_other_than_one_word_is_no_verdict(said):
    assert read_verdict(said) == Failure(UNREAD, said)


def test_what_is_not_answered_is_not_done_and_counted_by_cause():
    answers = ["yes", Failure("timeout"), "I think so", Failure("filtered"), Failure("timeout")]
    judge = AskedJudge(Scripted(lambda prompt, shown, number: answers[number]))
    assert judge([BED] * 5, state(5), frame(0, 1, 2, 3, 4)).tolist() == [True, False, False, False, False]
    assert judge.counts.failures == {"timeout": 2, UNREAD: 1, "filtered": 1}
    counts = judge.counts
    assert counts.asked == counts.done + counts.not_done + counts.failures.total() == 5


def test_an_endpoint_that_fails_in_the_middle_judges_again_once_it_is_back(tmp_path):
    down = False
    with serving(lambda request, number: Answer(status=500) if down else completion("yes")) as chat:
        model = CachedGenerator(EndpointGenerator(chat.url, "m", retries=0, backoff_s=0.0), tmp_path)
        judge = AskedJudge(model)
        assert judge([BED], state(1), frame(1)).tolist() == [True]
        down = True
        assert judge([BED, BED], state(2), frame(1, 2)).tolist() == [True, False]  # the first is known
        down = False
        assert judge([BED, BED], state(2), frame(1, 2)).tolist() == [True, True]
    assert judge.counts.failures == {"server error": 1} and len(chat.requests) == 3


def test_pictures_are_reduced_to_the_side_asked_for():
    model = Scripted(looks)
    AskedJudge(model, max_side=2)([BED], state(1), frame(9))
    assert model.shown[0][0].shape == (2, 2, 3)


def test_what_cannot_be_judged_is_refused():
    judge = AskedJudge(Scripted(looks))
    with pytest.raises(InputError, match="nothing is rendered"):
        judge([BED], state(1), None)
    with pytest.raises(InputError, match="2 pictures of 1 environments"):
        judge([BED], state(1), frame(0, 0))
    with pytest.raises(InputError, match="2 subgoals for 1 environments"):
        judge([BED, BED], state(1), frame(0))
    with pytest.raises(InputError, match="a subgoal without words"):
        judge([Subgoal(" . ")], state(1), frame(0))
    with pytest.raises(InputError, match="max_tokens=0"):
        AskedJudge(Scripted(looks), max_tokens=0)
    assert judge.counts.asked == 0

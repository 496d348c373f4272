"""How near rows of steps are to the true ones."""

import pytest

from agents.subgoals.step_metrics import METRICS, common_prefix, compare, edit_distance
from agents.subgoals.step_sequences import Step


def moved(thing: str, place: str, start: str = "table") -> tuple[Step, ...]:
    return (
        Step("GotoLocation", start),
        Step("PickupObject", thing),
        Step("GotoLocation", place),
        Step("PutObject", thing, place),
    )


def test_the_true_plan_scores_one_everywhere():
    assert compare(moved("mug", "bed"), moved("mug", "bed")) == dict.fromkeys(METRICS, 1.0)


def test_a_wrong_start_spoils_the_prefix_but_not_the_interactions():
    found = compare(moved("mug", "bed", "desk"), moved("mug", "bed"))
    assert found == {"exact": 0, "interactions": 1, "actions": 1, "prefix": 0, "edit": 0.75, "f1": 0.75}


def test_a_plan_cut_short_is_right_in_part():
    found = compare(moved("mug", "bed")[:2], moved("mug", "bed"))
    assert found == {
        "exact": 0,
        "interactions": 0,
        "actions": 0,
        "prefix": 0.5,
        "edit": 0.5,
        "f1": pytest.approx(2 / 3),
    }


def test_an_empty_proposal_scores_zero_and_a_step_said_twice_counts_once():
    assert compare((), moved("mug", "bed")) == dict.fromkeys(METRICS, 0.0)
    once = (Step("GotoLocation", "bed"),)
    assert compare(once * 3, once)["f1"] == 0.5


def test_distances_of_words_known_by_heart():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3
    assert common_prefix("abcd", "abxd") == 2
    assert common_prefix("ab", "abc") == 2

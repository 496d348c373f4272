"""Figures of rewards, worked out by hand on walks of a few steps."""

import math

import numpy as np
import pytest

from agents.agreement import pearson
from agents.reward_metrics import (
    Rows,
    failed_ends,
    false_positives,
    mean_along,
    paths_table,
    table,
    tables,
    threshold_of,
    value_order_correlation,
    within,
    worst_rows,
)
from core.errors import InputError

NAN = math.nan


def walks(*parts):
    """Rows of walks given as (path, scores, progress, success at the end); each is a group of its own."""
    columns = {name: [] for name in ("score", "progress", "success", "trajectory", "step", "path", "group")}
    for number, (path, scores, progress, success) in enumerate(parts):
        count = len(scores)
        columns["score"] += scores
        columns["progress"] += progress
        columns["success"] += [0] * (count - 1) + [success]
        columns["trajectory"] += [number] * count
        columns["step"] += range(count)
        columns["path"] += [path] * count
        columns["group"] += [f"home-{number}"] * count
    count = len(columns["score"])
    arrays = {name: np.array(values) for name, values in columns.items()}
    return Rows(**arrays, goal=np.zeros(count, np.int64), frame=np.arange(count))


def test_value_order_is_one_for_rising_scores_minus_one_for_falling_and_nothing_for_constant_ones():
    rows = walks(
        ("oracle", [1, 2, 5], [0, 0.5, 1], True),
        ("random", [3, 2, 1], [0, 0, 0], False),
        ("random", [2, 2, 2], [0, 0, 0], False),
        ("random", [1, 3, 2], [0, 0, 0], False),
    )
    found = value_order_correlation(rows)
    # ranks 1 3 2 against 1 2 3: 1 - 6 (0 + 1 + 1) / (3 * 8) = 0.5
    assert found[0] == pytest.approx(1) and found[1] == pytest.approx(-1) and found[3] == pytest.approx(0.5)
    assert math.isnan(found[2])
    measured = table(rows, resamples=20)
    assert measured["voc_expert"]["value"] == pytest.approx(1)
    assert measured["voc_failed"] == {"value": pytest.approx(-0.25), "interval": (-1, 0.5), "n": 2, "undefined": 1}


def test_order_within_a_walk_follows_its_steps_and_not_the_order_of_the_rows():
    rows = walks(("oracle", [1, 2, 5, 6], [0, 0.2, 0.5, 1], True))
    assert value_order_correlation(rows.chosen(np.array([2, 0, 3, 1])))[0] == pytest.approx(1)


def test_unanswered_rows_are_left_out_and_counted():
    rows = walks(("oracle", [1, NAN, 2, 3], [0, 1, 0.5, 0.25], True), ("random", [NAN, NAN], [0, 0], False))
    assert value_order_correlation(rows)[0] == pytest.approx(1)
    # scores 1 2 3, progress 0 .5 .25: deviations -1 0 1 and -.25 .25 0: .25 / sqrt(2 * .125) = 0.5
    assert within(rows, pearson, "progress")[0] == pytest.approx(0.5)
    found = table(rows, resamples=0)
    assert found["pearson"]["value"] == pytest.approx(0.5) and found["pearson"]["n"] == 3
    assert found["epic"]["value"] == pytest.approx(0.5)
    assert found["unanswered"]["value"] == pytest.approx(0.5) and found["unanswered"]["n"] == 6
    assert found["pearson_within"] == {"value": pytest.approx(0.5), "interval": None, "n": 1, "undefined": 1}


def test_unknown_progress_is_left_out_of_correlations_but_not_of_success():
    rows = walks(("oracle", [1, 2, 3], [0, NAN, 1], True), ("random", [0, 5], [NAN, NAN], False))
    found = table(rows, resamples=0)
    assert found["pearson"]["n"] == 2 and found["pearson"]["value"] == pytest.approx(1)
    # one success scored 3 against 1, 2, 0 and 5: three of four
    assert found["auc"]["n"] == 5 and found["auc"]["value"] == pytest.approx(0.75)


def test_the_threshold_keeps_nine_successes_of_ten():
    assert threshold_of(np.arange(1.0, 11.0)) == 2.0  # 2 ... 10 are nine
    assert threshold_of(np.array([4.0, 1.0])) == 1.0  # one alone would be half
    assert threshold_of(np.array([4.0, 1.0]), weight=np.array([9.0, 1.0])) == 4.0
    assert math.isnan(threshold_of(np.array([])))


def test_a_success_that_nobody_knows_is_neither_a_win_nor_a_failure():
    rows = walks(("oracle", [0, 5], [0, 1], True), ("failed", [9, 9], [0, 0], NAN), ("policy", [9, 9], [0, 0], NAN))
    assert failed_ends(rows, ["failed", "policy"]).tolist() == []
    found = table(rows, resamples=0)
    # pooled are all but the policy's; known are the first three, of which two do not succeed
    assert found["auc"]["n"] == 3 and found["auc"]["value"] == 0.5
    assert found["voc_failed"] == {"value": None, "interval": None, "n": 0, "undefined": 0}


def test_false_positives_are_failed_ends_above_what_the_experts_reach():
    rows = walks(
        ("oracle", [0, 5], [0, 1], True),
        ("oracle", [0, 3], [0, 1], True),
        ("policy", [9, 1], [0, 0], False),  # the end counts, not the way
        ("policy", [0, 4], [0, 0], False),
        ("policy", [0, 9], [0, 1], True),  # no failure
        ("policy", [0, NAN], [0, 0], False),  # nobody knows
        ("stare", [0, 3], [0, 0], False),
    )
    assert failed_ends(rows, ["policy"]).tolist() == [5, 7, 11]
    assert false_positives(rows, ["policy"]) == 0.5  # 1 and 4 against a threshold of 3
    assert false_positives(rows, ["stare"]) == 1.0
    assert math.isnan(false_positives(rows, ["circling"]))
    found = table(rows, resamples=50)
    assert found["false_positives"]["n"] == 2 and found["false_positives"]["value"] == 0.5
    assert found["false_positives_adversarial"]["value"] == 1.0


def test_the_policys_own_states_leave_the_other_figures_as_they_are():
    fixed = (("oracle", [1, 2, 3], [0, 0.2, 1], True), ("random", [2, 1], [0.1, 0], False))
    alone, beside = walks(*fixed), walks(*fixed, ("policy", [7, 0], [0, 1], False))
    one, other = table(alone, resamples=0), table(beside, resamples=0)
    for name in ("epic", "pearson", "spearman", "spearman_within", "auc"):
        assert one[name] == other[name]


def test_the_mean_along_a_path_is_linear_between_steps_of_walks_of_any_length():
    rows = walks(
        ("oracle", [0, 1], [0, 1], True),
        ("oracle", [0, NAN, 4], [0, 0.5, 1], True),  # bridged: 2 at the middle
        ("oracle", [NAN], [0], False),
        ("random", [3], [0], False),
    )
    assert mean_along(rows, "oracle", 3) == pytest.approx([0.0, 1.25, 2.5])
    assert mean_along(rows, "random", 3) == [3, 3, 3]
    assert set(paths_table(rows)) == {"oracle", "random"}


def test_the_worst_rows_are_those_ranked_most_differently_one_of_each_walk():
    rows = walks(
        ("oracle", [1.0, 0.0], [0.9, 1.0], True),
        ("stare", [5.0, 4.0, 3.0], [0.0, 0.1, 0.2], False),
        ("random", [2.0], [NAN], False),
    )
    high, low = worst_rows(rows, 5)
    # ranks of scores 2 1 | 5 4 3, of progress 4 5 | 1 2 3: differences -2 -4 | 4 2 0
    assert high.tolist() == [2] and low.tolist() == [1]


def test_perfect_constant_and_opposite_rewards_have_their_known_figures():
    rows = walks(*[("oracle", [0, 0.5, 1], [0, 0.5, 1], True), ("random", [0.5, 0.2], [0.5, 0.2], False)] * 3)
    truth = rows.progress
    found = tables(rows, {"truth": truth, "constant": np.full(len(rows), 0.5), "opposite": -truth}, resamples=20)
    assert found["truth"]["epic"]["value"] == pytest.approx(0, abs=1e-7) and found["truth"]["auc"]["value"] == 1
    assert found["constant"]["epic"]["value"] == pytest.approx(0.5**0.5) and found["constant"]["auc"]["value"] == 0.5
    assert found["constant"]["spearman"]["value"] is None and found["constant"]["voc_expert"]["undefined"] == 3
    assert found["opposite"]["epic"]["value"] == pytest.approx(1) and found["opposite"]["auc"]["value"] == 0
    assert found["truth"]["epic"]["interval"] == pytest.approx((0, 0), abs=1e-6)


def test_one_home_gives_values_and_no_intervals():
    rows = walks(("oracle", [1, 3, 2], [0, 0.5, 1], True))
    assert all(entry["interval"] is None for entry in table(rows).values())
    assert table(rows)["pearson"]["value"] == pytest.approx(0.5)


def test_impossible_columns_are_refused():
    with pytest.raises(InputError, match="true progress runs from"):
        walks(("oracle", [1, 2], [0, 1.5], True))
    with pytest.raises(InputError, match="infinite"):
        walks(("oracle", [1, math.inf], [0, 1], True))
    with pytest.raises(InputError, match="path"):
        walks(("strolling", [1], [0], True))

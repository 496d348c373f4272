"""Steps to half of the episodes, by hand."""

from benchmarks.subgoal_arms import Learned, running_success, steps_to_half, unfinished


def row(steps, episodes, success):
    return {"env_steps": steps, "episodes": float(episodes), "success": success}


def test_half_is_reached_when_enough_of_the_latest_episodes_succeed():
    rows = [row(10, 6, 0.0), row(20, 4, 0.5), row(30, 6, 1.0), row(40, 6, 1.0)]
    # windows of at least 10: 2 of 10 at 20 steps; then of the last two rows 8 of 10 at 30 steps
    assert steps_to_half(running_success(rows, window=10)) == 30
    assert steps_to_half(running_success(rows[:2], window=10)) is None


def test_rows_in_which_the_oracle_acted_and_too_few_episodes_do_not_count():
    shown = {"env_steps": 5, "episodes": 50.0, "teacher_success": 1.0}
    assert steps_to_half(running_success([shown, row(10, 9, 1.0)], window=10)) is None
    assert (
        steps_to_half(
            running_success([shown, row(10, 9, 1.0), {"env_steps": 15, "episodes": 0.0}, row(20, 1, 0.0)], window=10)
        )
        == 20
    )


def test_nothing_counts_before_every_environment_could_fail():
    rows = [row(10, 12, 1.0), row(20, 12, 0.0), row(30, 12, 0.75)]
    assert running_success(rows, window=10, after=10) == [(20, 0.0), (30, 0.75)]
    assert steps_to_half(running_success(rows, window=10, after=10)) == 30


def test_missing_seeds_are_said_first():
    three, one = Learned(steps=[1, 2, 3]), Learned(steps=[1])
    assert unfinished({"grid": {"ppo": three}}) == []
    assert unfinished({"grid": {"ppo": three}, "homes": {"vsc": one}})[0].endswith("oracle subgoals 1.**")

"""The table of what questions give away."""

from benchmarks.blind_answers import out_of_reach, table
from scene.blind_answers import BLIND, cross_validated
from scene.protocols.records import Example


def _examples() -> list[Example]:
    rows = [("s", "yes"), ("s", "blue"), ("t", "yes"), ("t", "red")]
    return [Example(str(k), scene, f"is it {k}", answers=(a,), groups=("is",)) for k, (scene, a) in enumerate(rows)]


def test_the_table_has_a_row_per_baseline_and_a_column_per_group():
    examples = _examples()
    head, line, *rows = table(examples, ("is", "how"), lambda fit: cross_validated(examples, fit)).splitlines()
    assert head.endswith("| is (4) | how (0) |")
    assert head.count("|") == line.count("|")
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(BLIND)
    # "blue" and "red" come before "yes" in the alphabet, so each half's first answer is wrong in the other
    assert rows[0] == "| most frequent answer | 0.0 | 0.0 to 0.0 | 50.0 | 0.0 | nan |"


def test_answers_that_no_training_question_has_are_out_of_reach():
    examples = _examples()
    assert out_of_reach(examples[:2], examples[2:]) == 1

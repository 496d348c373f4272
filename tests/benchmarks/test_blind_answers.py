"""The table of what questions give away."""

from benchmarks.blind_answers import out_of_reach, table
from scene.blind_answers import BLIND
from scene.protocols.records import Example


def _examples() -> list[Example]:
    rows = [("s", "yes"), ("s", "blue"), ("t", "yes"), ("t", "red")]
    return [Example(str(k), scene, f"is it {k}", answers=(a,), groups=("is",)) for k, (scene, a) in enumerate(rows)]


def test_the_table_has_a_row_per_baseline_and_a_column_per_type():
    head, line, *rows = table(_examples()).splitlines()
    assert "| is (4) |" in head
    assert head.count("|") == line.count("|")
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == list(BLIND)
    # "blue" and "red" come before "yes" in the alphabet, so each half's first answer is wrong in the other
    assert rows[0].startswith("| most frequent answer | 0.0 |")


def test_answers_of_one_half_alone_are_out_of_reach():
    assert out_of_reach(_examples()) == 0.5

"""The tables of baselines, on homes whose sentences can be counted."""

from benchmarks.baselines import measure
from scene.datasets.procedural import generate_home


def test_both_tables_count_every_sentence_and_name_every_baseline():
    report = measure([generate_home(3)])
    rows = {cells[1].strip(): cells[2].strip() for line in report.splitlines() if len(cells := line.split("|")) > 3}
    kinds = [int(n) for kind, n in rows.items() if n.isdigit() and kind != "all"]
    assert sum(kinds) == int(rows["all"])
    assert rows["symbolic parser"] == "100.0%"
    chance, label = (float(rows[name].rstrip("%")) for name in ("chance", "label (oracle)"))
    assert 0 < chance < label < 100

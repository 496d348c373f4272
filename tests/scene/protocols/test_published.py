"""Published rows agree with themselves and with the protocols' tables; the registry."""

import pytest

from scene.protocols.published import EVIDENCE, OVERALL, PUBLISHED, published
from scene.protocols.records import Example
from scene.protocols.registry import KINDS, PROTOCOLS, rows


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row.protocol} {row.method}")
def test_a_row_has_known_groups_a_source_and_percentages(row):
    assert row.evidence in EVIDENCE and row.source and row.values
    assert (row.evidence == "M") == (row.source == "-")
    if row.protocol in PROTOCOLS:
        assert {group for group, _ in row.values} <= {OVERALL, *PROTOCOLS[row.protocol].groups}
    assert all(0 < value <= (200 if metric == "CIDEr" else 100) for (_, metric), value in row.values.items())


def test_shares_of_unique_targets_tell_how_they_were_counted():
    shares: dict[str, list[float]] = {"": [], " (scan, 18 classes)": []}
    for row in published("scanrefer"):
        for count, found in shares.items():
            for metric in ("Acc@0.25", "Acc@0.5"):
                unique, multiple = (row.values.get((name + count, metric)) for name in ("unique", "multiple"))
                if unique is not None and multiple is not None:
                    found.append((row.values[OVERALL, metric] - multiple) / (unique - multiple))
    assert len(shares[""]) >= 4 and all(0.175 < share < 0.2 for share in shares[""])
    in_scan = shares[" (scan, 18 classes)"]
    assert len(in_scan) >= 5 and all(0.14 < share < 0.165 for share in in_scan)


def test_easy_and_hard_mix_to_the_overall_figure():
    # the share of easy sentences that a row's figures imply is about a half for Nr3D, more for Sr3D
    for row in PUBLISHED:
        for suffix in ("", " (scan)"):
            easy, hard = (row.values.get((name + suffix, "Acc")) for name in ("easy", "hard"))
            if easy is not None and hard is not None:
                assert hard <= row.values[OVERALL, "Acc"] <= easy


def test_a_method_has_one_row_unless_its_figures_are_known_in_different_ways():
    names = [(row.protocol, row.method, row.evidence, row.source) for row in PUBLISHED]
    assert len(set(names)) == len(names)


def test_gps_stands_in_every_table_it_published():
    for protocol in ("nr3d", "sr3d", "scanrefer", "sceneverse-val", "scanqa", "sqa3d"):
        assert any(row.method.startswith("GPS") for row in published(protocol))
    assert published("corpus") == []


def test_protocols_have_a_kind_options_and_different_groups():
    for protocol in PROTOCOLS.values():
        assert protocol.kind in KINDS and len(set(protocol.groups)) == len(protocol.groups)
    assert PROTOCOLS["scanrefer"].options == {"labels": "", "unknown_scenes": "error", "missing_targets": "error"}
    assert PROTOCOLS["nr3d"].options["max_tokens"] == 24


def test_who_is_asked_for_a_set():
    one, several = Example("a", "s", "", (0,)), Example("b", "s", "", (0, 1))
    corpus, multi = PROTOCOLS["corpus"], PROTOCOLS["multi3drefer"]
    assert [p.asks_for_set(e) for p in (corpus, multi) for e in (one, several)] == [False, True, True, True]


def test_rows_of_a_table_are_those_that_some_example_is_in():
    found = [Example("a", "s", "", groups=("view-dependent", "hard")), Example("b", "s", "", groups=("new", "hard"))]
    assert rows(PROTOCOLS["nr3d"], found) == ["hard", "view-dependent", "new"]


def test_official_files_of_several_splits_are_measured_on_test_scenes_alone():
    assert {name for name, protocol in PROTOCOLS.items() if protocol.mixes_splits} == {"nr3d", "sr3d", "sceneverse-val"}

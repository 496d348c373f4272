import pytest

from core.errors import InputError
from vl.tasks.parts import connected, part_of_groups


def parts(groups, labels, links=None):
    return [part_of_groups(groups, labels, links or {}, part) for part in ("train", "val")]


def test_groups_are_connected_through_others():
    links = {"a": ("x",), "b": ("x", "y"), "c": ("y",), "d": ("z",)}
    assert connected(["d", "c", "b", "a", "a", "e"], links) == [["a", "b", "c"], ["d"], ["e"]]


def test_a_group_named_like_a_link_is_not_that_link():
    assert connected(["a", "b"], {"a": ("b",)}) == [["a"], ["b"]]


def test_parts_are_disjoint_cover_all_and_do_not_depend_on_the_order():
    groups = [str(number) for number in range(100)]
    train, val = parts(groups, ["x"] * 100)
    assert len(val) == 15 and train | val == set(groups) and not train & val
    assert parts(groups[::-1], ["x"] * 100) == [train, val]


def test_the_parts_stay_what_they_were():
    # 3 of 20, all alike: the 4th, 11th and 17th by SHA-256
    assert sorted(parts([str(number) for number in range(20)], ["x"] * 20)[1]) == ["12", "17", "2"]


def test_both_parts_have_the_frequent_label_alike():
    groups = [str(number) for number in range(200) for _ in range(2)]
    labels = ["yes" if number % 10 < 6 else "no" for number in range(200) for _ in range(2)]
    label = dict(zip(groups, labels))
    for part in parts(groups, labels):
        assert sum(label[group] == "yes" for group in part) / len(part) == pytest.approx(0.6, abs=0.02)


def test_two_groups_are_enough_and_one_is_not():
    assert sorted(map(len, parts(["a", "b"], ["x", "x"]))) == [1, 1]
    with pytest.raises(InputError, match="does not fall into parts"):
        part_of_groups(["a", "b"], ["x", "x"], {"a": ("x",), "b": ("x",)}, "val")

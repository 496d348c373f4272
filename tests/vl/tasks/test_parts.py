import pytest

from core.errors import InputError
from vl.tasks.parts import connected, part_of_groups


def test_groups_are_connected_through_others():
    links = {"a": ("x",), "b": ("x", "y"), "c": ("y",), "d": ("z",)}
    assert connected(["d", "c", "b", "a", "a", "e"], links) == [["a", "b", "c"], ["d"], ["e"]]


def test_a_group_named_like_a_link_is_not_that_link():
    assert connected(["a", "b"], {"a": ("b",)}) == [["a"], ["b"]]


def test_parts_are_disjoint_cover_all_and_do_not_depend_on_the_order():
    groups = [str(number) for number in range(100)]
    train, val = part_of_groups(groups, {}, "train"), part_of_groups(reversed(groups), {}, "val")
    assert len(val) == 15 and train | val == set(groups) and not train & val


def test_the_parts_stay_what_they_were():
    assert sorted(part_of_groups([str(number) for number in range(20)], {}, "val")) == ["13", "8", "9"]


def test_what_hangs_together_has_no_parts():
    with pytest.raises(InputError, match="does not fall into parts"):
        part_of_groups(["a", "b"], {"a": ("x",), "b": ("x",)}, "val")

"""The two parts of a split, `train` and `val`, for releases of which only one split is at hand.

A part holds whole groups (all examples of a sentence, all questions about an image), and groups that share something
(the same words, the same drawn scene) lie in one part: otherwise a validation score would measure memory. NLVR1's page
warns of this, and 92 scenes of its public test are shared by several sentences.

Which part a group is in follows from the names of the groups alone: no seed, the same on every machine.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence

from core.errors import InputError

PARTS = ("train", "val")
VAL_SHARE = 0.15


def connected(groups: Iterable[str], links: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Groups that share a link, directly or through others; each set sorted, sets in the order of their first group."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    names = sorted(set(groups))
    for group in names:
        for link in links.get(group, ()):
            parent[root(f"link {link}")] = root(f"group {group}")
    sets: dict[str, list[str]] = {}
    for group in names:
        sets.setdefault(root(f"group {group}"), []).append(group)
    return list(sets.values())


def part_of_groups(groups: Iterable[str], links: Mapping[str, Sequence[str]], part: str) -> set[str]:
    """The groups of a part: 15 % of the connected sets, those with the smallest SHA-256 of their first name, are `val`.

    Raises:
        InputError: all groups are connected, so that no two parts exist.
    """
    sets = connected(groups, links)
    if len(sets) < 2:
        raise InputError("the split does not fall into parts: all its examples share a sentence, an image or a scene")
    ordered = sorted(sets, key=lambda names: hashlib.sha256(names[0].encode()).hexdigest())
    cut = math.ceil(VAL_SHARE * len(ordered))
    chosen = ordered[:cut] if part == "val" else ordered[cut:]
    return {group for names in chosen for group in names}

"""The two parts of a split, `train` and `val`, for releases of which only one split is at hand.

A part holds whole groups (all examples of a sentence, all questions about an image), and groups that share something
(the same words, the same drawn scene) lie in one part: otherwise a validation score would measure memory. NLVR1's page
warns of this, and 92 scenes of its public test are shared by several sentences.

Both parts have the split's most frequent label about equally often: NLVR1's public test has 266 sentences, and a plain
draw of 15 % made `true` 64 % of one part and 55 % of the other.

Which part a group is in follows from names and labels alone: no seed, the same on every machine.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from core.errors import InputError

PARTS = ("train", "val")
VAL_PERCENT = 15


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


def part_of_groups(
    groups: Sequence[str], labels: Sequence[str | None], links: Mapping[str, Sequence[str]], part: str
) -> set[str]:
    """The groups of a part; `val` has 15 % of the connected sets, at least one.

    The sets are ordered by the share of the split's most frequent label in them, equal ones by the SHA-256 of their
    first group's name, and `val` takes them at even distances from that row.

    Args:
        groups, labels: of each example.

    Raises:
        InputError: all groups are connected, so that no two parts exist.
    """
    sets = connected(groups, links)
    if len(sets) < 2:
        raise InputError("the split does not fall into parts: all its examples share a sentence, an image or a scene")
    counts = Counter(labels)
    frequent = max(counts, key=lambda label: (counts[label], str(label)))
    of_group: defaultdict[str, list[bool]] = defaultdict(list)
    for group, label in zip(groups, labels):
        of_group[group].append(label == frequent)

    def place(names: list[str]) -> tuple[float, str]:
        same = [value for name in names for value in of_group[name]]
        return sum(same) / len(same), hashlib.sha256(names[0].encode()).hexdigest()

    row = sorted(sets, key=place)
    count = max(1, len(row) * VAL_PERCENT // 100)
    val = {(2 * index + 1) * len(row) // (2 * count) for index in range(count)}  # middles of `count` equal stretches
    chosen = [names for index, names in enumerate(row) if (index in val) == (part == "val")]
    return {group for names in chosen for group in names}

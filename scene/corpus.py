"""Homes of each split, source by source.

Fixed rules, so that a split is the same in every run: procedural homes are drawn per split by seed; of a ProcTHOR file
the `val` houses are the test split, and the last five of its `train` houses (in file order) are there to tune on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.errors import InputError, check_choice
from scene.types import Scene

SEEDS_PER_BUILD: Final = 100_000  # homes of build seed k start at this times k
TUNING_HOUSES: Final = 5


@dataclass(frozen=True)
class Skipped:
    """A home that was left out."""

    name: str
    reason: str


@dataclass(frozen=True)
class HomeSource:
    """Makes the homes of a split, one at a time."""

    makers: Mapping[str, Sequence[tuple[str, Callable[[], Scene]]]]  # split -> (name, how to make it)

    def count(self, split: str) -> int:
        return len(self.makers.get(split, ()))

    def homes(self, split: str, among: range | None = None) -> Iterator[Scene | Skipped]:
        """Every home of a split (or those of these indices), or why it cannot be had."""
        makers = self.makers[split]
        for name, make in makers if among is None else makers[among.start : among.stop]:
            try:
                yield make()
            except InputError as error:
                yield Skipped(name, str(error))


@dataclass
class SourceConfig:
    """Where homes come from."""

    name: str = "procedural"  # procedural (seeded, reads nothing) or procthor (houses in a file)
    path: str = ""  # procthor: file of houses, one JSON object per line, .jsonl or .jsonl.gz
    assets: str = ""  # procthor: folder of the asset boxes; empty = procthor_db beside the file's folder

    def __post_init__(self) -> None:
        check_choice("source", self.name, SOURCES)
        if self.name != "procedural" and not self.path:  # all others read homes from a file
            raise InputError(f"source={self.name} needs source.path=FILE, e.g. a .jsonl or .jsonl.gz of houses")
        if self.name == "procedural" and (self.path or self.assets):
            raise InputError(
                f"source=procedural reads no file, but source.path={self.path!r} source.assets={self.assets!r} is "
                "given; did you mean source=procthor?"
            )


@dataclass(frozen=True)
class Wanted:
    """What a build asks of a source; each source reads what concerns it."""

    homes: Mapping[str, int]  # per split, how many; where they come from a file, at most
    source: SourceConfig = field(default_factory=SourceConfig)
    seed: int = 0  # of the build
    rooms_min: int = 1  # rooms of a generated home, from
    rooms_max: int = 2  # rooms of a generated home, to


def procedural_source(wanted: Wanted) -> HomeSource:
    """Homes of the seeded generator. Raises InputError for room counts it cannot make."""
    from scene.datasets.procedural import HomeConfig, generate_home

    def maker(split: str, number: int) -> Callable[[], Scene]:
        config = HomeConfig(split=split, rooms_min=wanted.rooms_min, rooms_max=wanted.rooms_max)
        return lambda: generate_home(number, config)

    first = wanted.seed * SEEDS_PER_BUILD
    return HomeSource(
        {
            split: [(f"{split} home {k}", maker(split, k)) for k in range(first, first + count)]
            for split, count in wanted.homes.items()
        }
    )


def procthor_source(wanted: Wanted) -> HomeSource:
    """Houses of a ProcTHOR file.

    Raises:
        MissingFileError, InputError: the file or the asset boxes are absent or damaged, or the file does not hold
            enough train houses, or no val houses.
    """
    from scene.datasets.procthor import AssetBoxes, House, house_scene, read_assets, read_houses

    houses = read_houses(wanted.source.path)
    boxes = read_assets(wanted.source.path, wanted.source.assets or None)
    train = [house for house in houses if house.split == "train"]
    test = [house for house in houses if house.split == "val"]
    if len(train) <= TUNING_HOUSES or not test:
        raise InputError(
            f"{wanted.source.path} holds {len(train)} train and {len(test)} val houses; expected more than "
            f"{TUNING_HOUSES} of train (the last {TUNING_HOUSES} are for tuning) and some of val (the test set)"
        )

    def maker(house: House, boxes: AssetBoxes) -> Callable[[], Scene]:
        return lambda: house_scene(house, boxes)

    chosen = {"train": train[:-TUNING_HOUSES], "val": train[-TUNING_HOUSES:], "test": test}
    return HomeSource(
        {
            split: [(house.where, maker(house, boxes)) for house in chosen[split][:count]]
            for split, count in wanted.homes.items()
        }
    )


SOURCES: dict[str, Callable[[Wanted], HomeSource]] = {"procedural": procedural_source, "procthor": procthor_source}
"""Where homes can come from, by name."""

_opened: dict[str, HomeSource] = {}


def open_source(wanted: Wanted, fresh: bool = False) -> HomeSource:
    """The source a build asks for; remembered, so that a worker that builds many shards reads its index once.

    Args:
        fresh: read it again.

    Raises:
        InputError: what it reads is missing or damaged.
    """
    key = repr(wanted)
    if fresh or key not in _opened:
        _opened.clear()
        _opened[key] = SOURCES[wanted.source.name](wanted)
    return _opened[key]

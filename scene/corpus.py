"""Homes of each split, source by source.

Fixed rules, so that a split is the same in every run: procedural homes are drawn per split by seed; of a ProcTHOR file
the `val` houses are the test split, and the last five of its `train` houses (in file order) are there to tune on. Of
scans (SceneVerse, ScanNet) their val list is the test split, too, and the last tenth of their train list, by name, is
there to tune on; a split may be empty where one of their lists is absent.

Building a source reads lists of names and no home: worker processes build it anew from `Wanted`.
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

    name: str = "procedural"  # procedural (seeded, reads nothing), procthor, sceneverse, scannet or custom
    path: str = ""  # procthor: file of houses, .jsonl or .jsonl.gz, or their folder; scans: the dataset's folder
    assets: str = ""  # procthor: folder of the asset boxes; empty = procthor_db beside the file's folder
    scratch: str = ""  # procthor: folder that a .jsonl.gz is unpacked into; empty = the system's temporary folder
    dataset: str = ""  # sceneverse: which of its seven, e.g. 3RScan; empty = the last name of path
    labels: str = "raw"  # scannet: raw names, or the 40 classes of nyu40
    unmatched: str = "refuse"  # scans: ids without label and labels without points: refuse the scan, or drop those
    up: str = ""  # custom: axis that points up in the scans, z or y; empty = y for glTF, z for all others
    scale: float = 1.0  # custom: metres per unit of the scans, e.g. 0.001 for millimetres
    default_label: str = ""  # custom: label of instance ids that no labels file names; empty = such a scan is left out
    room: str = ""  # custom: kind of a room to put around each scan, e.g. kitchen; empty = scans have no rooms

    def __post_init__(self) -> None:
        check_choice("source", self.name, SOURCES)
        check_choice("source.labels", self.labels, ("raw", "nyu40"))
        check_choice("source.unmatched", self.unmatched, ("refuse", "drop"))
        if self.name != "procedural" and not self.path:  # all others read homes from disk
            what = "FILE, e.g. a .jsonl or .jsonl.gz of houses" if self.name == "procthor" else "FOLDER of the dataset"
            raise InputError(f"source={self.name} needs source.path={what}")
        if self.name == "procedural" and (self.path or self.assets):
            raise InputError(
                f"source=procedural reads no file, but source.path={self.path!r} source.assets={self.assets!r} is "
                "given; did you mean source=procthor?"
            )
        own = {"up": self.up, "scale": self.scale, "default_label": self.default_label, "room": self.room}
        given = [f"source.{key}={value}" for key, value in own.items() if value not in ("", 1.0)]
        if self.name != "custom" and given:
            raise InputError(f"{', '.join(given)}: only for scans of your own, source=custom, not source={self.name}")


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
    """Houses of a ProcTHOR file, each read from it when made: any number of them takes the memory of one.

    Raises:
        MissingFileError, InputError: the file or the asset boxes are absent or damaged, or the file does not hold
            enough train houses, or no val houses.
    """
    from scene.datasets.procthor import AssetBoxes, house_scene
    from scene.datasets.procthor_files import HouseFile, HouseLine, house_files, read_assets

    houses = [(file, line) for file in house_files(wanted.source.path, wanted.source.scratch) for line in file.lines]
    boxes = read_assets(wanted.source.path, wanted.source.assets or None)
    train = [house for house in houses if house[1].split == "train"]
    test = [house for house in houses if house[1].split == "val"]
    if len(train) <= TUNING_HOUSES or not test:
        raise InputError(
            f"{wanted.source.path} holds {len(train)} train and {len(test)} val houses; expected more than "
            f"{TUNING_HOUSES} of train (the last {TUNING_HOUSES} are for tuning) and some of val (the test set)"
        )

    def maker(file: HouseFile, line: HouseLine, boxes: AssetBoxes) -> Callable[[], Scene]:
        return lambda: house_scene(file.house(line), boxes)

    chosen = {"train": train[:-TUNING_HOUSES], "val": train[-TUNING_HOUSES:], "test": test}
    return HomeSource(
        {
            split: [(line.where, maker(file, line, boxes)) for file, line in chosen[split][:count]]
            for split, count in wanted.homes.items()
        }
    )


def sceneverse_source(wanted: Wanted) -> HomeSource:
    """Scans of one of SceneVerse's datasets, as released (scene/datasets/sceneverse.py).

    Raises:
        MissingFileError, InputError: no such folder, not one of the datasets, or no list of train or val scans.
    """
    from scene.datasets.sceneverse import dataset_of, read_scan, splits

    source = wanted.source
    name = dataset_of(source.path, source.dataset)

    def maker(scan: str) -> Callable[[], Scene]:
        return lambda: read_scan(source.path, scan, name, source.unmatched)

    return _scans(wanted, splits(source.path, name), maker)


def scannet_source(wanted: Wanted) -> HomeSource:
    """Scans of ScanNet's raw release (scene/datasets/scannet.py).

    Raises:
        MissingFileError, InputError: no such folder, or no list of train or val scans.
    """
    from scene.datasets.scannet import read_scan, splits

    source = wanted.source

    def maker(scan: str) -> Callable[[], Scene]:
        return lambda: read_scan(source.path, scan, source.labels, source.unmatched)

    return _scans(wanted, splits(source.path), maker)


def _scans(
    wanted: Wanted, splits: Mapping[str, Sequence[str]], maker: Callable[[str], Callable[[], Scene]]
) -> HomeSource:
    return HomeSource(
        {split: [(scan, maker(scan)) for scan in splits[split][:count]] for split, count in wanted.homes.items()}
    )


def custom_source(wanted: Wanted) -> HomeSource:
    """A user's own scans: all of them are test homes, unless splits.json in the folder says otherwise.

    Raises:
        MissingFileError, InputError: no scans there, two of one name, or a splits.json that does not fit them.
    """
    from pathlib import Path

    from scene.datasets.custom import SPLITS_FILE, homes_at
    from scene.datasets.scan_notes import read_splits

    own = wanted.source
    homes = homes_at(own.path, up=own.up, scale=own.scale, default_label=own.default_label, room=own.room)
    splits_file = Path(own.path).expanduser() / SPLITS_FILE
    names = [name for name, _ in homes]
    splits = read_splits(splits_file, names) if splits_file.exists() else {"test": names}
    makers = dict(homes)
    return HomeSource(
        {
            split: [(name, makers[name]) for name in splits.get(split, [])[:count]]
            for split, count in wanted.homes.items()
        }
    )


SOURCES: dict[str, Callable[[Wanted], HomeSource]] = {
    "procedural": procedural_source,
    "procthor": procthor_source,
    "sceneverse": sceneverse_source,
    "scannet": scannet_source,
    "custom": custom_source,
}
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

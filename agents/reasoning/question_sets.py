"""Sets of questions side by side, each by a name: what is measured beside a first set (`also=`, `val_ood=`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from agents.reasoning.rewards import check_samples
from agents.reasoning.task_files import SampleSet, open_samples
from core.errors import InputError


def set_name(item: str) -> str:
    """What a set is called: a split by its name, a file by its folder's and its own."""
    if not item.endswith(".jsonl"):
        return item
    path = Path(item)
    return f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem


def set_file(data: str, item: str) -> Path:
    """The file of a split of `data`, or a .jsonl file itself; for NLVR1's release a name that no other split has."""
    if item.endswith(".jsonl") or data.endswith(".jsonl"):
        return Path(item if item.endswith(".jsonl") else data).expanduser().resolve()
    return (Path(data).expanduser() / f"{item}.jsonl").resolve()


def open_beside(
    data: str, items: Sequence[str], key: str, taken: Mapping[Path, str], names: Sequence[str] = ()
) -> dict[str, SampleSet]:
    """The sets that a key of the configuration names, in their order.

    Args:
        data: what splits are of.
        items: splits of `data`, or .jsonl files.
        key: of the configuration, for errors.
        taken: files that are no further sets -> why not ("learned from").
        names: that other sets have.

    Raises:
        InputError: a set that is not there, is empty, is given twice or is taken; two of one name; a split where
            `data` is a file; or an answer that its own check does not take.
    """
    used, sets = dict(taken), dict[str, SampleSet]()
    for item in items:
        name, file = set_name(item), set_file(data, item)
        if data.endswith(".jsonl") and not item.endswith(".jsonl"):
            raise InputError(f"{key}={item}: data={data} is one file and has no splits; name another .jsonl file")
        if file in used:
            raise InputError(f"{key}={item} names a set that is {used[file]} ({file}); give each once")
        if name in (*names, *sets):
            raise InputError(f"{key}={item}: two sets would be called {name}; put one in a folder of another name")
        sets[name] = open_samples(item) if item.endswith(".jsonl") else open_samples(data, item)
        check_samples(sets[name].samples)
        used[file] = "named before"
    return sets

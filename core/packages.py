"""Notices foreign packages that carry the names of ours: names as general as `agents` exist elsewhere, too."""

import importlib.metadata
import importlib.util
from pathlib import Path

from core.errors import InputError

OURS = ("core", "vl", "scene", "envs", "agents", "configs")
ROOT = Path(__file__).resolve().parents[1]


def foreign_packages(names: tuple[str, ...] = OURS, root: Path = ROOT) -> dict[str, str]:
    """Of our package names those that Python would load from elsewhere, with the place."""
    found = {}
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None:
            found[name] = "nowhere"
            continue
        places = [Path(place).resolve() for place in spec.submodule_search_locations or ()]
        if root / name not in places[:1]:
            found[name] = str(places[0] if places else spec.origin)
    return found


def describe_foreign(name: str, place: str) -> str:
    """One sentence on a foreign package: where it is, who ships it, what to do."""
    if place == "nowhere":
        return f"package {name!r} is missing beside {ROOT}; install Sightline again (`make setup` in its folder)"
    owners = importlib.metadata.packages_distributions().get(name, [])
    others = sorted({owner for owner in owners if owner.lower() != "sightline"})
    if others and "site-packages" in place:
        remedy = f"it belongs to {', '.join(others)}; pip uninstall {others[0]}, or use an own environment for each"
    else:
        remedy = "start from another folder, or rename it"
    return f"a foreign package {name!r} at {place} hides Sightline's own ({ROOT / name}); {remedy}"


def check_packages() -> None:
    """Raises InputError when a foreign package hides one of ours."""
    for name, place in foreign_packages().items():
        raise InputError(describe_foreign(name, place))

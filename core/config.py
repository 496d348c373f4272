"""From command line words to a checked configuration object.

Hydra composes the dataclass schema with configs/<job>.yaml and the chosen groups (configs/<group>/<option>.yaml);
single values are then set through OmegaConf, which knows their types. Text values are taken literally, so that a
sentence or a path needs no second layer of quoting. Hydra's own job runner, which makes output folders, is not used.
"""

import contextlib
import dataclasses
import importlib.resources
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import AnyNode, DictConfig, OmegaConf, StringNode
from omegaconf.errors import OmegaConfBaseException

from core.errors import InputError, nearest

LONGEST_HINT = 400  # characters of known keys named in an error
WORD = re.compile(r"(\+{0,2})([A-Za-z_][\w./]*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class JobShape:
    """A job's name and its configuration dataclass."""

    job: str
    config_class: type

    @property
    def yaml_name(self) -> str:
        return self.job.replace("-", "_")

    @property
    def positional(self) -> tuple[str, ...]:
        """Keys whose values may stand alone, in this order: `sightline ground scan.ply "the red chair"`."""
        return getattr(self.config_class, "POSITIONAL", ())


def compose_config(shape: JobShape, words: Sequence[str] = ()) -> Any:
    """The configuration object of a job, `words` ("key=value", "group=option", values of positional keys) applied.

    Raises:
        InputError: a word that is no key=value (but for values of positional keys), an unknown key or option, a wrong
            type, a missing value, or a combination that the dataclass refuses in __post_init__.
    """
    pairs = _pairs(shape, words)
    tree, groups = compose_tree(shape, {})
    chosen = {key: text for key, text in pairs if key in groups and not _is_leaf(tree, key)}
    for group, option in chosen.items():
        if option not in groups[group]:
            raise InputError(f"{group}={option}: unknown option; {nearest(option, groups[group])}")
    if chosen:
        tree, _ = compose_tree(shape, chosen)
    for key, text in pairs:
        if key not in chosen:
            _set(shape, tree, key, text, groups)
    missing = sorted(str(key) for key in OmegaConf.missing_keys(tree))
    if missing:
        from core.help import comment_of

        raise InputError(
            "; ".join(f"{key} is required: {key}=... {comment_of(shape, key)}".rstrip() for key in missing)
        )
    try:
        return OmegaConf.to_object(tree)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"configuration of {shape.job}: {_first_line(error)}") from error
    except InputError:
        raise
    except ValueError as error:  # raised by the __post_init__ of a configuration: an impossible combination
        raise InputError(str(error)) from error


def compose_tree(shape: JobShape, chosen: dict[str, str]) -> tuple[DictConfig, dict[str, list[str]]]:
    """The composed configuration with group options `chosen`, and the groups this job offers with their options."""
    ConfigStore.instance().store(name=f"{shape.yaml_name}_schema", node=shape.config_class, provider="sightline")
    name = shape.yaml_name if has_file(f"{shape.yaml_name}.yaml") else f"{shape.yaml_name}_schema"
    try:
        with initialize_config_module("configs", version_base="1.3", job_name=shape.yaml_name):
            composed = compose(
                config_name=name,
                overrides=[f"{group}={option}" for group, option in chosen.items()],
                return_hydra_config=True,
            )
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(f"configs/{shape.yaml_name}.yaml does not compose: {_first_line(error)}") from error
    choices: dict[str, str] = dict(composed.hydra.runtime.choices)
    offered = [group for group in choices if not group.startswith("hydra/")]
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra")
    OmegaConf.set_struct(composed, True)
    return composed, {group: _options(group) for group in offered}


def has_file(name: str) -> bool:
    """Whether configs/ holds this file; a job without one runs on its dataclass alone."""
    return (importlib.resources.files("configs") / name).is_file()


def leaves(tree: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and node of every single value, in the order of the dataclass."""
    for name in map(str, tree):
        node = tree._get_node(name)
        key = f"{prefix}{name}"
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() and len(node):
            yield from leaves(node, f"{key}.")
        else:
            yield key, node


def _pairs(shape: JobShape, words: Sequence[str]) -> list[tuple[str, str]]:
    """Key and text of every word; what is no key=value belongs to the positional keys in turn."""
    matches = [(word, WORD.fullmatch(word)) for word in words]
    named = [(match[2], match[3]) for _, match in matches if match]
    alone = [word for word, match in matches if not match]
    if len(alone) > len(shape.positional):
        if not shape.positional:
            raise InputError(f"expected key=value, got {alone[0]!r}; --help lists the keys")
        raise InputError(
            f"{shape.job} takes {' and '.join(shape.positional)} without a key, but got {len(alone)} such words, "
            f"{', '.join(map(repr, alone[:4]))}; put a sentence in quotes, and write other values as key=value"
        )
    for key, word in zip(shape.positional, alone):
        if key in dict(named):
            raise InputError(f"{key} is given twice: as {word!r} and as {key}={dict(named)[key]}")
    return [*zip(shape.positional, alone), *named]


def _options(group: str) -> list[str]:
    folder = importlib.resources.files("configs") / group
    files = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    with contextlib.suppress(OSError):  # raised when the store holds no such group
        files += ConfigStore.instance().list(group)
    names = {name.removesuffix(".yaml") for name in files if name.endswith(".yaml")}
    return sorted(name for name in names if not name.endswith("_schema"))


def _node(tree: DictConfig, key: str) -> Any:
    """The node at a dotted key, None when there is none."""
    node: Any = tree
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none():
            return None
        # `in` would deny keys whose value is still missing
        node = node._get_node(part, validate_access=False)
    return node


def _is_leaf(tree: DictConfig, key: str) -> bool:
    node = _node(tree, key)
    return node is not None and not isinstance(node, DictConfig)


def _is_free_form(tree: DictConfig, key: str) -> bool:
    """Whether `key` is a plain dict or lies in one, where new keys are allowed."""
    node = _node(tree, key)
    if node is None and "." in key:
        node = _node(tree, key.rpartition(".")[0])
    return isinstance(node, DictConfig) and not dataclasses.is_dataclass(OmegaConf.get_type(node))


def _set(shape: JobShape, tree: DictConfig, key: str, text: str, groups: dict[str, list[str]]) -> None:
    node = _node(tree, key)
    free = _is_free_form(tree, key)
    if node is None and not free:
        known = [name for name, _ in leaves(tree)] + list(groups)
        hint = nearest(key, known)
        if len(hint) > LONGEST_HINT:
            hint = f"`sightline {shape.job} --help` lists them"
        raise InputError(f"unknown key {key!r} for {shape.job}; {hint}")
    if isinstance(node, StringNode):
        value: Any = None if text == "null" and node._is_optional() else _unquoted(text)
    else:
        value = _parsed(key, text)
    try:
        OmegaConf.update(tree, key, value, merge=True, force_add=free)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        from core.help import comment_of, type_name

        wanted = type_name(node)
        raise InputError(f"{key}={text!r} does not fit: expected {wanted} {comment_of(shape, key)}".rstrip()) from error
    if isinstance(node, AnyNode) and not isinstance(node, StringNode) and value != value:
        raise InputError(f"{key}={text!r} is not a number")


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"" else text


def _parsed(key: str, text: str) -> Any:
    """The value of `text` in Hydra's grammar: numbers, true/false, null, [lists], {dicts}, plain words."""
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException as error:
        raise InputError(f"{key}={text!r} cannot be read as a value; a list is written [a,b]") from error
    if override.is_sweep_override():
        raise InputError(f"{key}={text!r} names several values; give one, or a list as [a,b]")
    return override.value()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

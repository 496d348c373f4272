"""`sightline <job> --help`, made from the configuration dataclass: its comments are the documentation.

The comment of a field is the one at the end of its line, joined by comment lines directly above it.
"""

import dataclasses
import functools
import importlib.resources
import inspect
import io
import re
import shutil
import textwrap
import tokenize
import typing
from typing import Any

from omegaconf import OmegaConf

from core.config import JobShape, compose_tree, leaves

FIELD = re.compile(r"\s*([A-Za-z_]\w*)\s*:")


def job_help(shape: JobShape, about: str) -> str:
    """The help page: usage, what the job does, group options, then every key with type, default and meaning."""
    tree, groups = compose_tree(shape, {})
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    alone = "".join(f" {key.upper()}" for key in shape.positional)
    lines = [f"usage: sightline {shape.job}{alone} [key=value ...]"]
    if about.strip():
        lines += ["", *textwrap.dedent(_first_indented(about)).strip().splitlines()]
    if groups:
        lines += ["", "groups"]
        for group, options in groups.items():
            lines += _filled(f"  {group}=" + "|".join(options), " " * (len(group) + 3), width)
            for option in options:
                if text := _about_option(group, option):
                    lines += textwrap.wrap(
                        f"{option}: {text}", width, initial_indent=" " * 6, subsequent_indent=" " * 8
                    )
    common = {field.name for field in dataclasses.fields(_job_config())}
    own: list[str] = []
    shared: list[str] = []
    inner = _job_configs_inside(shape.config_class)
    for key, node in leaves(tree):
        parent, _, name = key.rpartition(".")
        if parent in inner and name in common:
            continue  # a job inside this one takes these from it
        default = "required" if node._is_missing() else _shown(node)
        head = f"  {key}={default}  [{type_name(node)}]"
        text = _comment(shape.config_class, key)
        entry = [head if not text else _two_columns(head, text, width)]
        (shared if key in common else own).extend(entry)
    lines += ["", "options", *own] if own else []
    lines += ["", "options of every job", *shared]
    return "\n".join(lines)


def comment_of(shape: JobShape, key: str) -> str:
    """The comment of a key in brackets, for error messages; empty when it has none."""
    text = _comment(shape.config_class, key)
    return f"({text})" if text else ""


def type_name(node: Any) -> str:
    """How a value's type is called on the help page."""
    kind = node._metadata.ref_type if node is not None else Any
    if kind is Any or kind is None:
        return "any"
    optional = " or null" if node._is_optional() else ""
    names = {str: "text", int: "whole number", float: "number", bool: "true/false", list: "list", dict: "mapping"}
    origin = typing.get_origin(kind)
    if origin in (list, tuple):
        inner = typing.get_args(kind)
        return f"list of {names.get(inner[0], getattr(inner[0], '__name__', 'values'))}{optional}" if inner else "list"
    return names.get(origin or kind, getattr(kind, "__name__", str(kind))) + optional


@functools.cache
def field_comments(config_class: type) -> dict[str, str]:
    """Comment of each field of a dataclass, inherited ones included; empty where the source is not at hand."""
    comments: dict[str, str] = {}
    for base in reversed(config_class.__mro__):
        if dataclasses.is_dataclass(base) and isinstance(base, type):
            comments.update(_own_comments(base))
    return comments


def _own_comments(config_class: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(config_class))
    except (OSError, TypeError):
        return {}  # typed at a prompt: there is no source to read
    found: dict[int, tuple[str, bool]] = {}  # line -> comment, whether it stands alone
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ").strip()
            if not text.startswith(("noqa", "type:", "fmt:")):
                found[token.start[0]] = (text, token.line.strip().startswith("#"))
    names = set(getattr(config_class, "__annotations__", {}))
    comments = {}
    for number, line in enumerate(source.splitlines(), start=1):
        match = FIELD.match(line)
        if not match or match[1] not in names or match[1] in comments:
            continue
        above: list[str] = []
        before = number - 1
        while before in found and found[before][1]:
            above.insert(0, found[before][0])
            before -= 1
        own = [found[number][0]] if number in found else []
        comments[match[1]] = " ".join(above + own)
    return comments


def _comment(config_class: Any, key: str) -> str:
    """The comment at a dotted key; nested dataclasses are followed."""
    name, _, rest = key.partition(".")
    if not dataclasses.is_dataclass(config_class) or not isinstance(config_class, type):
        return ""
    if not rest:
        return field_comments(config_class).get(name, "")
    kind = typing.get_type_hints(config_class).get(name)
    return _comment(kind, rest)


def _job_configs_inside(config_class: type) -> set[str]:
    """Names of the fields that hold the configuration of another job."""
    hints = typing.get_type_hints(config_class)
    return {name for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, _job_config())}


def _job_config() -> type:
    from core.job import JobConfig

    return JobConfig


def _shown(node: Any) -> str:
    value = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node._value()
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "name") and hasattr(value, "value"):
        return str(value.name)
    return str(value).replace("'", "") if isinstance(value, list) else str(value)


def _two_columns(head: str, text: str, width: int, column: int = 44) -> str:
    body = textwrap.wrap(text, max(width - column, 30))
    first = f"{head:<{column}}{body[0]}" if len(head) < column else f"{head}\n{'':<{column}}{body[0]}"
    return "\n".join([first, *(f"{'':<{column}}{line}" for line in body[1:])])


def _filled(line: str, indent: str, width: int) -> list[str]:
    """A line of choices, broken behind a bar where it is too long."""
    lines = [line]
    while len(lines[-1]) > width and (cut := lines[-1].rfind("|", len(indent), width) + 1):
        lines[-1:] = [lines[-1][:cut], indent + lines[-1][cut:]]
    return lines


def _first_indented(text: str) -> str:
    """A docstring with its first line, which is not indented, aligned to the rest."""
    return inspect.cleandoc(text)


def _about_option(group: str, option: str) -> str:
    """The first comment line of a group option's YAML that is meant for people."""
    file = importlib.resources.files("configs") / group / f"{option}.yaml"
    if not file.is_file():
        return ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        text = line.lstrip("# ").strip()
        if text and not text.startswith("@package"):  # an instruction to Hydra
            return text
    return ""

"""Reading recipes: presets, YAML files and overrides."""

from __future__ import annotations

import difflib
import importlib.resources
import os
import pathlib
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import yaml

from keras_gan import datasets
from keras_gan.errors import UsageError, one_line
from keras_gan.places import find_run
from keras_gan.recipe.checking import check_data, parse
from keras_gan.recipe.sections import NetworkSection, Recipe
from keras_gan.registry import nearest
from serving.bundle_folder import hint, is_bundle, is_run
from serving.errors import short_repr


def names() -> dict[str, str]:
    """Returns the first line of every preset's header by the preset's name."""
    found = {}
    for entry in importlib.resources.files("keras_gan").joinpath("recipes").iterdir():
        if entry.name.endswith(".yaml"):
            found[entry.name.removesuffix(".yaml")] = entry.read_text("utf-8").split("\n")[0][2:]
    return dict(sorted(found.items()))


def load(name: str, settings: Iterable[str] = (), data: str | None = None) -> Recipe:
    """Reads a preset or a file, applies overrides, and checks every key.

    Args:
        name: name of a preset, or path of a YAML file.
        settings: overrides, each `dotted.path=value` with the value in YAML, or `dotted.path=` to
            take a key out. Another architecture of a network has none of the options that the
            recipe states for the former one.
        data: a data source that replaces the recipe's `data` section; or a folder for a data set
            that reads folders, such as `pairs`, whose other options stay.

    Raises:
        UsageError: an unknown recipe, a file that is not YAML, or a key that `parse` refuses.

    Warns:
        UserWarning: options of an architecture that a setting replaces.
    """
    tree = _read(name)
    if data is not None:
        if not data:
            raise UsageError("--data must name the data. Received: ''")
        tree["data"] = datasets.with_folder(tree.get("data"), data)
    return complete(tree, settings)


def complete(tree: dict[str, Any], settings: Iterable[str] = ()) -> Recipe:
    """Applies overrides to the sections of a recipe, and checks every key.

    Args:
        tree: the sections by name; the overrides are written into them.
        settings: overrides, as in `load`.

    Raises:
        UsageError: a key that `parse` refuses.
    """
    changes = [_change(setting) for setting in settings]
    dropped = _drop_options(tree, changes)
    for change in changes:
        _apply(tree, change)
    section = tree.get("data")
    if isinstance(section, dict) and isinstance(section.get("source"), str):
        section["source"] = _absolute(section["source"])
        if datasets.takes_folder(section["source"]) and isinstance(section.get("path"), str):
            section["path"] = os.path.abspath(os.path.expanduser(section["path"]))
    recipe = parse(tree)
    for line in dropped:
        warnings.warn(line, stacklevel=3)
    return recipe


def _absolute(source: str) -> str:
    """Returns the absolute path of data that is found by a path, for resuming from any folder."""
    path = os.path.expanduser(source)
    known = source.replace("_", "-") in datasets.names()
    return os.path.abspath(path) if os.path.exists(path) and not known else source


def parse_data(source: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the options of a data source from overrides `data.option=value`, checked.

    Raises:
        UsageError: an unknown source, an option that it does not have, or a key of another
            section.
    """
    tree: dict[str, Any] = {"data": {}}
    for setting in settings:
        if not setting.startswith("data."):
            raise UsageError(
                f"--set takes data.option=value in this command. Received: {setting!r}"
            )
        _apply(tree, _change(setting))
    return check_data(source, tree["data"])


_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """YAML with the numbers of YAML 1.2, in which duplicate keys are errors."""

    def construct_yaml_int(self, node: Any) -> int:
        text = node.value.replace("_", "").lower()
        return int(text, 0 if re.match(r"[-+]?0[ox]", text) else 10)

    def construct_sequence(self, node: Any, deep: bool = False) -> list[Any]:
        # In a list, such as one of names, yes, no, on and off are texts, as in YAML 1.2.
        for child in node.value:
            if child.tag == _BOOLEAN and child.value.lower() not in ("true", "false"):
                child.tag = "tag:yaml.org,2002:str"
        return super().construct_sequence(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len({str(key) for key in keys}):
            duplicate = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {duplicate!r}")
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 64:48 as 3888 (base 60) and 010 as 8; 1.2 has neither, and reads 1e-3 as a number.
_NUMBERS = {
    "tag:yaml.org,2002:int": r"^[-+]?(\d[\d_]*|0o[0-7]+|0x[0-9a-fA-F]+)$",
    "tag:yaml.org,2002:float": r"^[-+]?((\d[\d_]*\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+)$"
    r"|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$",
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(_pattern), list("-+.0123456789"))


def _read(name: str) -> dict[str, Any]:
    path = pathlib.Path(os.path.expanduser(name))
    preset = name.replace("_", "-")
    if preset in names() and not path.is_file():
        text = importlib.resources.files("keras_gan").joinpath(f"recipes/{preset}.yaml").read_text()
    else:
        text = _read_file(path, name)
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        line = one_line(error)
        raise UsageError(f"A recipe must be a YAML file. Received: {name!r}: {line}") from None
    if not isinstance(tree, dict):
        raise UsageError(
            f"A recipe must hold sections ({', '.join(Recipe.model_fields)}). "
            f"Received: {name!r} with {type(tree).__name__}"
        )
    return tree


def _read_file(path: pathlib.Path, name: str) -> str:
    rule = f"A recipe must be a preset or a YAML file. Received: {name!r}"
    if not name.strip():
        raise UsageError(rule)
    if other := _describe_other(path, name):
        raise UsageError(f"{rule}, {other}")
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        beside = [str(each) for each in path.parent.glob("*.y*ml")] if path.suffix else []
        near = difflib.get_close_matches(str(path), beside, 1, 0.8)
        hint = f"Did you mean {near[0]!r}?" if near else nearest(name, names())
        raise UsageError(f"{rule}, which is neither. {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"A recipe must be a readable YAML file. Received: {name!r}: {error}"
        ) from None


def _describe_other(path: pathlib.Path, name: str) -> str:
    """Returns what a path or name stands for if it is not a recipe, and how that is given."""
    run = None if path.suffix in (".yaml", ".yml") else find_run(path)
    if run is not None:
        recipe = run.folder / "recipe.yaml"
        return f"a run: --resume {run.folder} continues it, and {recipe} is its recipe"
    if path.is_dir():
        if is_bundle(path):
            return "a bundle"
        if inside := hint(path, is_run):
            return f"a folder{inside}: --resume RUN continues one"
        return f"a folder: pictures in it are given with --data {name}"
    if datasets.exists(name):
        return f"which is data: give a recipe as well, and --data {name}"
    return ""


class _Change(NamedTuple):
    """One override: its text, its path, and its value; `None` as `value` is YAML's null."""

    text: str
    path: list[str]
    value: Any
    removes: bool


def _change(setting: str) -> _Change:
    """Reads an override, `dotted.path=value`, or `dotted.path=` to take a key out."""
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes dotted.path=value. Received: {setting!r}")
    try:
        parsed = yaml.load(value, _Loader)
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"--set takes a value in YAML. Received: {setting!r}") from None
    return _Change(setting, path.strip().split("."), parsed, not value.strip())


def _drop_options(tree: dict[str, Any], changes: Sequence[_Change]) -> list[str]:
    """Removes the options of architectures that overrides replace by others.

    They are removed before any override is applied, so that the options of the new architecture
    may come before its name.

    Returns:
        One line for each architecture that lost options.
    """
    lines = []
    for change in changes:
        if len(change.path) != 3 or (change.path[0], change.path[2]) != (
            "networks",
            "architecture",
        ):
            continue
        networks = tree.get("networks")
        section = networks.get(change.path[1]) if isinstance(networks, dict) else None
        if not isinstance(section, dict) or section.get("architecture") in (None, change.value):
            continue
        dropped = [key for key in section if key not in NetworkSection.model_fields]
        if dropped:
            options = ", ".join(f"{key}={short_repr(section.pop(key))}" for key in dropped)
            lines.append(
                f"{'.'.join(change.path)}={change.value} drops the recipe's options of "
                f"{section['architecture']}: {options}"
            )
    return lines


def _apply(tree: dict[str, Any], change: _Change) -> None:
    """Applies one override; numbers in the path are indices of lists."""
    node: Any = tree
    *parents, last = change.path
    try:
        for key in parents:
            if isinstance(node, list):
                node = node[int(key)]
            else:
                if node.get(key) is None and not change.removes:  # absent, or a null section
                    node[key] = {}
                node = node.get(key)
        key: Any = int(last) if isinstance(node, list) else last
        if not change.removes:
            node[key] = change.value
            return
        present = key in node if isinstance(node, dict) else node[key] is not None
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(
            f"--set must name a key of the recipe. Received: {change.text!r}"
        ) from None
    if not present:
        raise UsageError(
            "--set key= takes out a key that the recipe states, and key=null sets null. "
            f"Received: {change.text!r}. {nearest(last, node)}"
        )
    del node[key]

"""Reading recipes: presets, YAML files and overrides."""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import re
from collections.abc import Iterable
from typing import Any

import yaml

from keras_gan import datasets
from keras_gan.errors import UsageError, one_line
from keras_gan.recipe.checking import check_data, parse
from keras_gan.recipe.sections import Recipe
from keras_gan.registry import nearest


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
        settings: overrides, each `dotted.path=value` with the value in YAML.
        data: a data source that replaces the recipe's `data` section.

    Raises:
        UsageError: an unknown recipe, a file that is not YAML, or a key that `parse` refuses.
    """
    tree = _read(name)
    if data is not None:
        if not data:
            raise UsageError("--data must name the data. Received: ''")
        tree["data"] = {"source": data}
    return complete(tree, settings)


def complete(tree: dict[str, Any], settings: Iterable[str] = ()) -> Recipe:
    """Applies overrides to the sections of a recipe, and checks every key.

    Args:
        tree: the sections by name; the overrides are written into them.
        settings: overrides, as in `load`.

    Raises:
        UsageError: a key that `parse` refuses.
    """
    for setting in settings:
        _set(tree, setting)
    section = tree.get("data")
    if isinstance(section, dict) and isinstance(section.get("source"), str):
        section["source"] = _absolute(section["source"])
    return parse(tree)


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
        _set(tree, setting)
    check_data(source, tree["data"])
    return tree["data"]


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in YAML 1.2, and duplicate keys are errors."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len({str(key) for key in keys}):
            duplicate = next(key for key in keys if keys.count(key) > 1)
            raise yaml.constructor.ConstructorError(None, None, f"duplicate key {duplicate!r}")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


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
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"A recipe must be a preset or a YAML file. Received: {name!r}, which is neither. "
            f"{nearest(name, names())}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"A recipe must be a readable YAML file. Received: {name!r}: {error}"
        ) from None


def _set(tree: dict[str, Any], setting: str) -> None:
    """Applies one `dotted.path=value`; numbers in the path are indices of lists."""
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise UsageError(f"--set takes dotted.path=value. Received: {setting!r}")
    node: Any = tree
    *parents, last = path.strip().split(".")
    try:
        for key in parents:
            if isinstance(node, list):
                node = node[int(key)]
            else:
                if node.get(key) is None:  # absent, or a section that is null
                    node[key] = {}
                node = node[key]
        parsed = yaml.load(value, _Loader)
        if isinstance(node, list):
            node[int(last)] = parsed
        else:
            node[last] = parsed
    except (ValueError, IndexError, TypeError, AttributeError):
        raise UsageError(f"--set must name a key of the recipe. Received: {setting!r}") from None
    except (yaml.YAMLError, RecursionError):
        raise UsageError(f"--set takes a value in YAML. Received: {setting!r}") from None

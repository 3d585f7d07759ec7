"""Data sets: images and points, opened by name or by path.

Every module of this package with a function `open` is a data set, called by the module's name
(`fashion_mnist` or `fashion-mnist`); the first line of its docstring describes it. A module that
also has a function `parse` recognizes other strings as well, such as paths, by giving the options
of `open` that the string stands for, or `None`. To add a data set is to add one file.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
from types import ModuleType
from typing import Any

import tensorflow as tf

from keras_gan.datasets.source import Source, Split
from keras_gan.errors import UsageError
from keras_gan.spec import Spec


def _discover() -> dict[str, ModuleType]:
    modules = {
        info.name: importlib.import_module(f"{__name__}.{info.name}")
        for info in pkgutil.iter_modules(__path__)
    }
    return {
        name.replace("_", "-"): module
        for name, module in sorted(modules.items())
        if hasattr(module, "open")
    }


_REGISTRY = _discover()

from keras_gan.datasets.arrays import from_arrays  # noqa: E402
from keras_gan.datasets.prepare import prepare  # noqa: E402

__all__ = [
    "Source",
    "Split",
    "find",
    "from_arrays",
    "load",
    "names",
    "open",
    "prepare",
    "spec",
]


def names() -> dict[str, str]:
    """Name and one-line description of every data set there is."""
    return {
        name: (module.__doc__ or "").strip().split("\n")[0] for name, module in _REGISTRY.items()
    }


def open(source: str | os.PathLike[str], **options: Any) -> Source:
    """Opens a data set.

    Args:
        source: a name from `names()`; `tfds:NAME[/config][:version]`; the path of a .npz or
            .npy file; or the path of a folder of images. A name goes before a path: write
            `./gaussians` for a folder called like a data set.
        **options: options of the data set, see the function `open` of its module.

    Raises:
        UsageError: there is no such data set, it does not have such an option, or it is not as
            it must be.
    """
    module, found = find(source)
    _check_options(module, {**found, **options})
    return module.open(**{**found, **options})


def load(
    source: str | os.PathLike[str],
    split: str = "train",
    batch_size: int = 64,
    seed: int = 0,
    **options: Any,
) -> tf.data.Dataset:
    """Opens a data set and gives batches of one epoch: `x`, or `(x, y)` with labels.

    See `open` for the source and its options, and `Source.dataset` for batches.
    """
    return open(source, **options).dataset(split, batch_size, seed)


def spec(source: str | os.PathLike[str], **options: Any) -> Spec:
    """Opens a data set and tells what its samples look like."""
    return open(source, **options).spec


def find(source: str | os.PathLike[str]) -> tuple[ModuleType, dict[str, Any]]:
    """The module that opens a source, and the options that the source stands for."""
    text = os.fspath(source)
    name = text.replace("_", "-")
    if isinstance(source, str) and name in _REGISTRY:
        return _REGISTRY[name], {}
    for module in _REGISTRY.values():
        found = module.parse(text) if hasattr(module, "parse") else None
        if found is not None:
            return module, found
    near = difflib.get_close_matches(name, _REGISTRY, 1, 0.5)
    exists = "is a file of another kind" if os.path.exists(text) else "does not exist"
    raise UsageError(
        f"A data set must be one of {', '.join(_REGISTRY)}, or tfds:NAME, or the path of a "
        "folder of images or of a .npz or .npy file"
        + (f" (did you mean {near[0]!r}?)" if near else "")
        + f". Received: {text!r}, which is none of them, and as a path {exists}"
    )


def _check_options(module: ModuleType, options: dict[str, Any]) -> None:
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    parameters = inspect.signature(module.open).parameters
    for option in options:
        if option not in parameters:
            near = difflib.get_close_matches(option, parameters, 1)
            raise UsageError(
                f"Data set {name!r} has the options {', '.join(parameters)}"
                + (f" (did you mean {near[0]!r}?)" if near else "")
                + f". Received: {option}={options[option]!r}"
            )
    for option, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and option not in options:
            raise UsageError(
                f"Data set {name!r} needs the option {option!r}: {names()[name]} "
                f"Received: {options or 'no options'}"
            )

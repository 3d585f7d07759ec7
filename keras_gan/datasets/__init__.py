"""Data sets, opened by name or by path.

Every module of this package with a function `open` is a data set. Its name is the module's name
(`fashion_mnist` or `fashion-mnist`), and the first line of its docstring describes it. A module may
also have a function `parse` for other strings, such as paths: it returns the options of `open`
that the string stands for, or `None`. A new data set is one new file.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import os
import pkgutil
from types import ModuleType
from typing import Any

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import OwnSplitsError, Split
from keras_gan.errors import UsageError
from keras_gan.registry import nearest, parameters_of
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

from keras_gan.datasets.array_fields import UnknownRangeError  # noqa: E402
from keras_gan.datasets.arrays import from_arrays  # noqa: E402
from keras_gan.datasets.prepare import prepare  # noqa: E402

__all__ = [
    "OwnSplitsError",
    "Source",
    "Split",
    "UnknownRangeError",
    "find",
    "from_arrays",
    "names",
    "open",
    "prepare",
    "spec",
]


def names() -> dict[str, str]:
    """Returns the name and the one-line description of every data set."""
    return {
        name: (module.__doc__ or "").strip().split("\n")[0] for name, module in _REGISTRY.items()
    }


def open(source: str | os.PathLike[str], **options: Any) -> Source:
    """Opens a data set.

    Args:
        source: a name from `names()`; `tfds:NAME[/config][:version]`; the path of a .npz or
            .npy file; or the path of a folder of images. A name takes precedence over a path:
            write `./gaussians` for a folder that has the name of a data set.
        **options: options of the data set, see the function `open` of its module.

    Returns:
        The data set. `source.dataset(split, batch_size, seed)` returns batches and
        `source.arrays(split)` the stored samples and labels.

    Raises:
        UsageError: an unknown data set or option, or data that are damaged or invalid.
    """
    module, found = find(source)
    given = {**found, **options}
    _check_options(module, given)
    opened = module.open(**given)
    if opened.earlier_options:
        again = {**given, **opened.earlier_options}
        opened.earlier = functools.partial(module.open, **again)
    return opened


def spec(source: str | os.PathLike[str], **options: Any) -> Spec:
    """Opens a data set and returns the spec of its fields."""
    return open(source, **options).spec


def find(source: str | os.PathLike[str]) -> tuple[ModuleType, dict[str, Any]]:
    """Returns the module that opens a source, and the options that the source stands for."""
    text = os.fspath(source)
    name = text.replace("_", "-")
    if isinstance(source, str) and name in _REGISTRY:
        return _REGISTRY[name], {}
    for module in _REGISTRY.values():
        found = module.parse(text) if hasattr(module, "parse") else None
        if found is not None:
            return module, found
    near = difflib.get_close_matches(name, _REGISTRY, 1, 0.5)
    path = "is a file of another format" if os.path.exists(text) else "does not exist"
    raise UsageError(
        f"A data set must be one of {', '.join(_REGISTRY)}, or tfds:NAME, or the path of a "
        "folder of images or of a .npz or .npy file"
        + (f" (did you mean {near[0]!r}?)" if near else "")
        + f". Received: {text!r}, which as a path {path}"
    )


def _check_options(module: ModuleType, options: dict[str, Any]) -> None:
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    parameters = parameters_of(module.open)
    for option, value in options.items():
        if option not in parameters:
            raise UsageError(
                f"`{option}` is not an option of the data set {name!r}. "
                f"Received: {option}={value!r}. {nearest(option, parameters)}"
            )
    for option, (_, default) in parameters.items():
        if default is ... and option not in options:
            raise UsageError(
                f"Data set {name!r} needs the option {option!r}: {names()[name]} "
                f"Received: {options or 'no options'}"
            )

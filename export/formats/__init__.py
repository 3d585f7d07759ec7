"""Formats that a bundle can hold beside SavedModel and ONNX, one module each, found by name.

A format's name is its module's name. A module defines `FILE_NAME`, the file in the bundle, and
`write(generator, to)`, which writes it. A new format is one new file.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from keras_gan import UsageError


def names() -> list[str]:
    """Returns the names of all formats, in alphabetical order."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def get(name: str) -> ModuleType:
    """Imports and returns the module of a format.

    Raises:
        UsageError: no format has that name.
    """
    if name not in names():
        raise UsageError(f"formats must be of {names()}. Received: {name!r}")
    return importlib.import_module(f"{__name__}.{name}")

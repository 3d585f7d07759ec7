"""Formats that a bundle can hold beside SavedModel and ONNX, one module each, found by name.

A format's name is its module's name. A module defines `FILE_NAME`, the file in the bundle;
`write(network, to)`, which writes it; and `run(path, batches)`, which returns the outputs of each
batch of inputs, by name: with it, the file must reproduce the golden samples. A format that cannot
run here has `NOT_RUN` in place of `run`: one line that says why. A new format is one new file.
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
        UsageError: no format has that name, or its module lacks a part.
    """
    if name not in names():
        raise UsageError(f"formats must be of {names()}. Received: {name!r}")
    importlib.invalidate_caches()  # a file that was added while this process runs
    form = importlib.import_module(f"{__name__}.{name}")
    missing = [part for part in ("FILE_NAME", "write") if not hasattr(form, part)]
    reason = getattr(form, "NOT_RUN", None)
    if not (callable(getattr(form, "run", None)) or (isinstance(reason, str) and reason.strip())):
        missing.append("run (or NOT_RUN, one line that says why it cannot run here)")
    if missing:
        raise UsageError(
            "A format must define FILE_NAME, write(network, to) and run(path, batches). "
            f"Received: {name!r} without {' and '.join(missing)}"
        )
    return form

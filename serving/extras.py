"""Packages that only some file formats need, which extras of this package install."""

from __future__ import annotations

import importlib.util

from serving.errors import UsageError


def is_installed(module: str) -> bool:
    """Checks whether a module can be imported; an empty name stands for no module."""
    return not module or importlib.util.find_spec(module) is not None


def check(ending: str, module: str, extra: str) -> None:
    """Checks that files of a format can be written here.

    Args:
        ending: of the files, without the dot.
        module: that writes them; empty for a format that needs none.
        extra: that installs it.

    Raises:
        UsageError: the module is not installed.
    """
    if not is_installed(module):
        raise UsageError(
            f"A .{ending} file needs the extra {extra!r}: pip install 'keras-gan[{extra}]'. "
            f"Received: no module {module!r}"
        )

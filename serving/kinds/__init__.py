"""Kinds of data: one module per modality, found by name.

A kind knows the axes of its samples, their checks and ranges, its file formats, its preview and
its default metrics. Training previews, sampling to files, requests and responses of the server,
data shards and evaluation follow from it; to add a kind is to add a module with a class `KIND`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Sequence
from typing import Any

from serving.errors import UsageError, short_repr
from serving.kinds._kind import Format, Kind

__all__ = ["Format", "Kind", "get", "guess", "names"]


@functools.cache
def names() -> tuple[str, ...]:
    """Returns the names of all kinds, in alphabetical order."""
    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    )


def get(name: Any) -> Kind:
    """Returns the kind of a name.

    Raises:
        UsageError: there is none of this name.
    """
    if not isinstance(name, str) or name not in names():
        raise UsageError(
            f"`kind` must be one of {', '.join(names())}. Received: kind={short_repr(name)}"
        )
    return _load(name)


def guess(shape: Sequence[int]) -> str:
    """Returns the name of the kind of samples of which only the shape is known.

    Args:
        shape: of one sample, without the batch; -1 where any size goes.
    """
    if len(shape) == 3 and shape[-1] in (1, 3, 4):
        return "image"
    return "points" if len(shape) == 1 else "array"


@functools.cache
def _load(name: str) -> Kind:
    return importlib.import_module(f"serving.kinds.{name}").KIND

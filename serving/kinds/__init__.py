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

__all__ = ["Format", "Kind", "endings", "get", "names", "of_shape"]

# Kinds that a shape alone may mean, the likeliest first; `array` takes every other shape.
_BY_SHAPE = ("points", "series", "image", "video", "array")


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


@functools.cache
def endings() -> frozenset[str]:
    """Returns the file endings of the formats of all kinds, without the dot."""
    forms = (form for name in names() for form in get(name).all_formats().values())
    return frozenset(ending for form in forms for ending in (form.name, *form.endings))


def of_shape(shape: Sequence[int | None]) -> str:
    """Returns the name of the likeliest kind of samples of a shape, without the batch."""
    for name in _BY_SHAPE:
        try:
            get(name).check(shape)
        except UsageError:
            continue
        return name
    return _BY_SHAPE[-1]


@functools.cache
def _load(name: str) -> Kind:
    return importlib.import_module(f"serving.kinds.{name}").KIND

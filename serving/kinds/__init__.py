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
from serving.kinds._formats import Format, Lines
from serving.kinds._kind import Kind

__all__ = [
    "UNKNOWN",
    "Format",
    "Kind",
    "Lines",
    "animated",
    "endings",
    "fitting",
    "get",
    "names",
    "of_shape",
]

UNKNOWN = "array"  # kind of values of which nothing is known
_BY_SHAPE = ("points", "series", "image", "video")  # the likeliest first


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


def animated() -> list[str]:
    """Returns the names of the kinds whose samples `film` shows as they change."""
    return [name for name in names() if get(name).is_animated]


@functools.cache
def endings() -> frozenset[str]:
    """Returns the file endings of the formats of all kinds, without the dot."""
    forms = (form for name in names() for form in get(name).all_formats().values())
    return frozenset(ending for form in forms for ending in (form.name, *form.endings))


def of_shape(shape: Sequence[int | None], dtype: str = "float32") -> str:
    """Returns the name of the likeliest kind of samples of which only shape and dtype are known.

    | shape without the batch | kind | why |
    |---|---|---|
    | `(n,)` | points | a table holds the same numbers and differs in its preview only |
    | `(t, c)` | series | audio, texts and gray images without an axis of channels are possible |
    | `(h, w, 1, 3 or 4)` | image | few other samples end in these numbers of channels |
    | `(t, h, w, 1, 3 or 4)` | video | as images |
    | any other | array | values of unknown meaning |

    A dtype that the kind neither has in batches nor stores in files leaves `array`: uint8 is left
    to images and video, integers and booleans to arrays. So this answers how samples are drawn,
    described and named where nobody has said what they are. Where a wrong answer would change
    training, it is not enough: a data set of floating-point samples `(t, c)`, or of any that are an
    `array` here, has to state its kind, and reports the kind that it assumes of the others.

    Args:
        shape: shape without the batch, `None` where any size goes.
        dtype: name of the dtype.
    """
    for name in _BY_SHAPE:
        kind = get(name)
        if dtype in kind.dtypes or dtype in kind.stored:
            try:
                kind.check(shape)
            except UsageError:
                continue
            return name
    return UNKNOWN


def fitting(shape: Sequence[int | None]) -> list[str]:
    """Returns the names of all kinds that samples of a shape, without the batch, may be of.

    An image may lack its axis of channels.
    """
    found = []
    for name in names():
        kind = get(name)
        whole = (*shape, 1) if kind.has_pixels and len(shape) == len(kind.axes) - 1 else shape
        try:
            kind.check(whole)
        except UsageError:
            continue
        found += [name] if kind.for_samples else []
    return found


@functools.cache
def _load(name: str) -> Kind:
    return importlib.import_module(f"serving.kinds.{name}").KIND

"""Named sizes: dimensions besides the batch that may have any length."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from serving import kinds

Sizes = dict[str, int]

# Smallest size and step between sizes that are tried: networks that halve a picture several times
# run only at multiples of a power of two.
_BASES = ((16, 8), (64, 32), (256, 128))


def axis_name(shape: Sequence[Any], axis: int, kind: str) -> str:
    """Returns the name of an axis: that of the kind, else of the kind that the shape suggests."""
    sizes = tuple(None if isinstance(n, str) else n for n in shape)
    for name in (kind, kinds.of_shape(sizes)):
        axes = kinds.get(name).axes
        if len(axes) == len(shape):
            return axes[axis]
    return f"axis_{axis}"


def own_name(port: str, axis: str) -> str:
    """Returns the name of a size that only one port has."""
    name = re.sub(r"\W", "_", f"{port}_{axis}".lower())[-40:]
    return name if re.match("[a-z]", name) else f"size_{name}"[:40]


def tested_sizes(names: Collection[str]) -> Iterator[tuple[Sizes, Sizes]]:
    """Yields pairs of sizes to test, in which every two sizes differ; smaller ones first."""
    for base, step in _BASES:
        yield (
            {name: base + 2 * i * step for i, name in enumerate(names)},
            {name: base + (2 * i + 1) * step for i, name in enumerate(names)},
        )


def resolve(shape: Sequence[int | str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Returns a shape with its named sizes filled in."""
    return tuple(sizes[n] if isinstance(n, str) else n for n in shape)


def name_output(
    name: str, one: Sequence[int], other: Sequence[int], pair: tuple[Sizes, Sizes]
) -> tuple[int | str, ...]:
    """Returns the shape of an output from its shapes at two sizes of the inputs.

    A dimension that is the same at both is fixed; one that equals an input's size at both has its
    name; any other has a name of its own.
    """
    shape: list[int | str] = []
    free = tuple(a if a == b else None for a, b in zip(one, other, strict=True))
    for axis, (a, b) in enumerate(zip(one, other, strict=True)):
        same = [n for n in pair[0] if pair[0][n] == a and pair[1][n] == b]
        if a == b:
            shape.append(a)
        elif same:
            shape.append(same[0])
        else:
            shape.append(own_name(name, axis_name(free, axis, kinds.of_shape(free))))
    return tuple(shape)

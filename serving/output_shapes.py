"""Shapes of the outputs of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving.inputs import Port


def fits(port: Port, shape: tuple[int, ...], count: int) -> bool:
    """Returns True if an array has the static sizes of a port, and the size of the batch."""
    rank = len(shape) == len(port.shape) + 1 and shape[0] == count
    return rank and all(n in (None, m) for n, m in zip(port.sizes, shape[1:], strict=True))


def empty_outputs(ports: Sequence[Port], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Returns the outputs of an empty batch by name.

    Args:
        ports: the outputs.
        sizes: the named sizes that are known; others are 0.
    """
    found = {}
    for port in ports:
        shape = [sizes.get(n, 0) if isinstance(n, str) else n for n in port.shape]
        found[port.name] = np.empty((0, *shape), port.dtype)
    return found

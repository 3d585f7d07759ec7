"""Exact distances between two sets of features, tile by tile, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, pair, slices

ROWS, COLUMNS = 512, 1024  # size of a tile: 4 MiB of distances in float64


def tiles(
    points: np.ndarray, others: np.ndarray, center: np.ndarray, ties: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yields squared Euclidean distances between all points and all others, by rows of tiles.

    A tile is one matrix product, `[x, |x|^2, 1] . [-2 y, 1, |y|^2]`.

    Args:
        points: `(count, dim)`.
        others: `(other_count, dim)`.
        center: `(dim,)`, subtracted from both. It does not change the distances, and keeps a large
            common offset from cancelling their digits.
        ties: reduce each distance by its possible rounding error, so that a distance equal to a
            bound is not above it. Otherwise a copied sample might lie outside a ball on whose
            surface its original lies.

    Yields:
        The tile's rows, its columns, and the squared distances, float64. Those of equal samples
        are 0 up to rounding, and may be negative.
    """
    dim = points.shape[1]
    shrink = 1 - ties * np.finfo(np.float64).eps * (16 + np.sqrt(dim))
    y, x = np.empty((COLUMNS, dim + 2)), np.empty((ROWS, dim + 2))
    x[:, dim + 1] = y[:, dim] = 1
    for r in slices(len(points), ROWS):
        left = x[: r.stop - r.start]
        np.subtract(points[r], center, out=left[:, :dim])
        left[:, dim] = np.square(left[:, :dim]).sum(axis=1) * shrink
        for c in slices(len(others), COLUMNS):
            right = y[: c.stop - c.start]
            np.subtract(others[c], center, out=right[:, :dim])
            right[:, dim + 1] = np.square(right[:, :dim]).sum(axis=1) * shrink
            right[:, :dim] *= -2
            yield r, c, left @ right.T


def radii(features: np.ndarray, neighbors: int, center: np.ndarray) -> np.ndarray:
    """Returns the squared distance of each row to its `neighbors`-th nearest other row."""
    kept = neighbors + 1  # a row is its own nearest
    nearest = np.full((len(features), kept), np.inf)
    for r, _, squared in tiles(features, features, center):
        if squared.shape[1] > kept:
            squared.partition(kept - 1, axis=1)
        candidates = np.concatenate([nearest[r], squared[:, :kept]], axis=1)
        candidates.partition(kept - 1, axis=1)
        nearest[r] = candidates[:, :kept]
    return nearest.max(axis=1)


def neighbor_pair(
    real: np.ndarray | Collected, generated: np.ndarray | Collected, neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the checked real and generated features, each with more rows than `neighbors`.

    Raises:
        UsageError: at most `neighbors` samples, different dimensions, NaN or infinity.
    """
    if neighbors < 1:
        raise UsageError(f"neighbors must be at least 1. Received: neighbors={neighbors}")
    first, second = pair(real, generated)
    if min(len(first), len(second)) <= neighbors:
        raise UsageError(
            "A neighbor metric needs more real and more generated samples than neighbors. "
            f"Received: {len(first)} real, {len(second)} generated, neighbors={neighbors}"
        )
    return first, second

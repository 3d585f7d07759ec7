"""Distances between two sets of features, tile by tile: exact, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_gan.metrics.accumulators import slices

ROWS, COLUMNS = 512, 1024  # of a tile: 4 MiB of distances in float64


def tiles(
    points: np.ndarray, others: np.ndarray, center: np.ndarray, ties: bool = False
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Squared Euclidean distances of every point to every other, rows of tiles in order.

    A tile is one matrix product, `[x, |x|^2, 1] . [-2 y, 1, |y|^2]`.

    Args:
        points: `(count, dim)`.
        others: `(other_count, dim)`.
        center: `(dim,)`, taken off both: what two samples share is none of their distance, and
            would cost its digits.
        ties: lower every distance by the rounding that it may have, so that one that equals a
            bound is not above it: else a copied sample might be outside of a ball on whose
            surface its original lies.

    Yields:
        The tile's rows, its columns, and the squared distances, float64; those of equal samples
        are 0 but for rounding, which may be negative.
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
    """Squared distance of each row to its `neighbors`-th nearest other row, `(count,)`."""
    kept = neighbors + 1  # a row is its own nearest
    nearest = np.full((len(features), kept), np.inf)
    for r, _, squared in tiles(features, features, center):
        if squared.shape[1] > kept:
            squared.partition(kept - 1, axis=1)
        candidates = np.concatenate([nearest[r], squared[:, :kept]], axis=1)
        candidates.partition(kept - 1, axis=1)
        nearest[r] = candidates[:, :kept]
    return nearest.max(axis=1)

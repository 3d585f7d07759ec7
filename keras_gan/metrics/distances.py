"""Distances between two sets of features, tile by tile: exact, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from keras_gan.metrics.accumulators import slices

TILE = 2048  # rows and columns: 32 MiB of distances in float64


def tiles(
    points: np.ndarray, others: np.ndarray, center: np.ndarray
) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
    """Squared Euclidean distances of every point to every other, rows of tiles in order.

    Args:
        points: `(count, dim)`.
        others: `(other_count, dim)`.
        center: `(dim,)`, taken off both: what two samples share is none of their distance, and
            would cost its digits.

    Yields:
        The tile's rows and columns, its squared distances, float64, and their `slack`: distances
        that differ by less are equal but for rounding. A caller must count such ties alike
        however they were computed, else a copied sample were outside of a ball on whose
        surface its original lies.
    """
    epsilon = np.finfo(np.float64).eps * (16 + np.sqrt(points.shape[1]))
    for r in slices(len(points), TILE):
        x = points[r] - center
        x_norms = np.square(x).sum(axis=1)[:, None]
        for c in slices(len(others), TILE):
            y = others[c] - center
            norms = x_norms + np.square(y).sum(axis=1)
            squared = x @ y.T
            squared *= -2
            squared += norms
            norms *= epsilon
            yield r, c, np.maximum(squared, 0, out=squared), norms


def radii(features: np.ndarray, neighbours: int, center: np.ndarray) -> np.ndarray:
    """Squared distance of each row to its `neighbours`-th nearest other row, `(count,)`."""
    kept = neighbours + 1  # a row is its own nearest
    nearest = np.full((len(features), kept), np.inf)
    for r, _, squared, _ in tiles(features, features, center):
        candidates = squared if squared.shape[1] <= kept else _least(squared, kept)
        nearest[r] = _least(np.concatenate([nearest[r], candidates], axis=1), kept)
    return nearest.max(axis=1)


def _least(values: np.ndarray, count: int) -> np.ndarray:
    return np.partition(values, count - 1, axis=1)[:, :count]

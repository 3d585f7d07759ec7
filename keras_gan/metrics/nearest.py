"""Nearest training samples: detection of memorized training data."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected, pair, slices
from keras_gan.metrics.distances import tiles

_CLOSE = 5  # percentile of the held-out samples' distances, below which a sample is close


class Nearest(Metric):
    """Distances of generated samples to the training data, compared with held-out samples'."""

    title = "Nearest training samples"
    needs = ("features", "training")
    order = 110

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        real, generated = (
            nearest(features, inputs.training_features).distances[:, 0]
            for features in inputs.features
        )
        scale = float(np.median(real))
        return {
            "nearest_distance": float(np.median(generated)),
            "nearest_distance_real": scale,
            "nearest_ratio": float(np.median(generated)) / scale if scale > 0 else float("nan"),
            "nearest_close": float((generated < np.percentile(real, _CLOSE)).mean()),
        }


class Neighbors(NamedTuple):
    """Distances and indices of the nearest training samples, nearest first."""

    distances: np.ndarray
    indices: np.ndarray


def nearest(
    features: np.ndarray | Collected, training_features: np.ndarray | Collected, count: int = 1
) -> Neighbors:
    """Returns the training samples nearest to each sample, by Euclidean distance.

    A memorized training set has distances far below those of real samples that were not used in
    training; a copy has distance 0. In pixels only near-identical copies are near; features also
    detect shifted and recolored ones. Exact; needs 50 MB and 40 kB per dimension besides the
    features.

    Args:
        features: features of the generated samples, `(samples, dim)`; flatten images to compare
            pixels.
        training_features: features of the training data, `(training_samples, dim)`.
        count: number of neighbors, from 1 to the number of training samples.

    Returns:
        `distances`, float64, from 0 up, and `indices` into the training data, both
        `(samples, count)`, nearest first.

    Raises:
        UsageError: too few training samples, different dimensions, NaN or infinity.
    """
    training, samples = pair(training_features, features)
    if not 1 <= count <= len(training):
        raise UsageError(
            "count must be at least 1 and at most the number of training samples. "
            f"Received: count={count} for {len(training)} training samples"
        )
    squared = np.full((len(samples), count), np.inf)
    indices = np.zeros((len(samples), count), np.int64)
    for r, c, tile in tiles(samples, training, training.mean(axis=0, dtype=np.float64)):
        kept = min(count, tile.shape[1])
        best = np.argpartition(tile, kept - 1, axis=1)[:, :kept]
        found = np.concatenate([squared[r], np.take_along_axis(tile, best, axis=1)], axis=1)
        ids = np.concatenate([indices[r], best + c.start], axis=1)
        best = np.argpartition(found, count - 1, axis=1)[:, :count]
        squared[r] = np.take_along_axis(found, best, axis=1)
        indices[r] = np.take_along_axis(ids, best, axis=1)
    distances = _exact_distances(samples, training, indices)
    order = np.lexsort((indices, distances), axis=1)
    return Neighbors(
        np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)
    )


def _exact_distances(samples: np.ndarray, training: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Returns distances by subtraction: a copy is exactly at 0, without rounding of norms."""
    distances = np.empty(indices.shape)
    for r in slices(len(samples), 256):
        gap = samples[r, None].astype(np.float64) - training[indices[r]]
        distances[r] = np.sqrt(np.square(gap).sum(axis=2))
    return distances

"""Sliced Wasserstein distance: transport in one dimension, averaged over directions."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, Moments


def sliced_wasserstein(
    real: np.ndarray | Collected,
    generated: np.ndarray | Collected,
    directions: int = 256,
    seed: int = 0,
) -> float:
    """Sliced Wasserstein-1 distance between two sets of samples.

    Samples are projected on random directions of unit length; in one dimension the distance is
    the mean difference of the sorted values. Needs no feature extractor and works on any kind
    of sample; it sees missing modes and wrong averages, hardly fine detail.

    Args:
        real: `(count, ...)`, or features that were `Collected`.
        generated: the same number of samples of the same shape.
        directions: number of random directions.
        seed: seed of the directions: equal seeds make distances comparable.

    Returns:
        The distance in units of the samples' values, from 0 up.

    Raises:
        UsageError: sets of different counts or shapes, NaN or infinity, or `Moments`.

    Reference:
        - [Rabin et al., 2011](https://doi.org/10.1007/978-3-642-24785-9_37)
    """
    real, generated = _values(real, "real"), _values(generated, "generated")
    if real.shape != generated.shape or not len(real):
        raise UsageError(
            "Both sets must have the same number of samples of the same shape, at least one. "
            f"Received: {real.shape} and {generated.shape}"
        )
    real, generated = real.reshape(len(real), -1), generated.reshape(len(generated), -1)
    slices = np.random.default_rng(seed).normal(size=(real.shape[1], directions))
    slices /= np.linalg.norm(slices, axis=0)
    return float(np.abs(np.sort(real @ slices, 0) - np.sort(generated @ slices, 0)).mean())


def _values(samples: np.ndarray | Collected, name: str) -> np.ndarray:
    """Samples in float64, of any shape."""
    if isinstance(samples, Moments):
        raise UsageError(
            "This metric compares samples one by one and needs them themselves, an array or "
            f"Collected. Received: {name} as Moments"
        )
    given = samples.array if isinstance(samples, Collected) else np.asarray(samples)
    if given.dtype.kind not in "fiub":
        raise UsageError(f"Samples must be numbers. Received: {name} of type {given.dtype}")
    array = given.astype(np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"Samples must be finite numbers. Received: {name} with NaN or infinity")
    return array

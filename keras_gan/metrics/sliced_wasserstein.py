"""Sliced Wasserstein distance: one-dimensional transport, averaged over directions."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected, Moments

DIRECTIONS, SEED = 256, 0


class SlicedWasserstein(Metric):
    """Sliced Wasserstein distance of the samples' own values, for comparisons during training.

    It needs no extractor. Samples are clipped to the range of their kind, as they are saved.
    """

    title = "Sliced Wasserstein distance"
    better = "lower"
    least = 1
    needs = ("values",)
    in_evaluate = False
    in_training = True
    order = 10

    def of(self, inputs: EvaluationInputs) -> float:
        if inputs.values is None:
            raise UsageError("The metric needs the samples themselves. Received: values=None")
        real, generated = inputs.values
        return sliced_wasserstein(real, generated)


def sliced_wasserstein(
    real: np.ndarray | Collected,
    generated: np.ndarray | Collected,
    directions: int = DIRECTIONS,
    seed: int = SEED,
) -> float:
    """Returns the sliced Wasserstein-1 distance between two sets of samples.

    Samples are projected on random directions of unit length. In one dimension the distance is
    the mean difference of the sorted values. It works on any kind of sample, without a feature
    extractor. It detects missing modes and wrong averages, but hardly fine detail.

    Args:
        real: `(count, ...)`, or `Collected` features.
        generated: the same number of samples of the same shape.
        directions: number of random directions.
        seed: seed of the directions; equal seeds make distances comparable.

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
            "real and generated must have the same number of samples (1 or more) and shape. "
            f"Received: {real.shape} and {generated.shape}"
        )
    real, generated = real.reshape(len(real), -1), generated.reshape(len(generated), -1)
    slices = np.random.default_rng(seed).normal(size=(real.shape[1], directions))
    slices /= np.linalg.norm(slices, axis=0)
    return float(np.abs(np.sort(real @ slices, 0) - np.sort(generated @ slices, 0)).mean())


def _values(samples: np.ndarray | Collected, name: str) -> np.ndarray:
    """Returns checked samples of any shape in float64."""
    if isinstance(samples, Moments):
        raise UsageError(
            "This metric compares individual samples and needs an array or Collected. "
            f"Received: {name} as Moments"
        )
    values = samples.array if isinstance(samples, Collected) else np.asarray(samples)
    if values.dtype.kind not in "fiub":
        raise UsageError(f"Samples must be numbers. Received: {name} of type {values.dtype}")
    array = values.astype(np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"Samples must be finite numbers. Received: {name} with NaN or infinity")
    return array

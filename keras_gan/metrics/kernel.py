"""Kernel distance: maximum mean discrepancy of two sets of features, as in KID."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected, pair, slices

SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 2020


class KernelDistance(Metric):
    """Kernel distance of the features, over 100 subsets; KID with the standard network."""

    title = "Kernel distance"
    better = "lower"
    standard_names = {"kid": "KID"}
    in_training = True
    order = 30

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        found = kernel_distance(*inputs.features, **self.settings(inputs))
        return {"kernel_distance": found.mean, "kernel_distance_error": found.standard_error}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        size = subset_size(*map(len, inputs.features))
        return {"subsets": SUBSETS, "subset_size": size, "seed": SEED}

    def training_protocol(self, count: int) -> dict[str, Any]:
        size = subset_size(count, count)
        return {"kernel_subsets": SUBSETS, "kernel_subset_size": size}


def subset_size(real: int, generated: int) -> int:
    """Returns the samples per subset: 1,000, or half of the smaller set.

    Subsets of all samples would all be the same, and there would be no standard error.
    """
    return max(2, min(SUBSET_SIZE, min(real, generated) // 2))


class KernelDistanceResult(NamedTuple):
    """Mean and standard deviation over the subsets, and the standard error of the mean."""

    mean: float
    deviation: float
    standard_error: float

    def __float__(self) -> float:
        return self.mean


def kernel_distance(
    real_features: np.ndarray | Collected,
    generated_features: np.ndarray | Collected,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 2020,
) -> KernelDistanceResult:
    """Returns the squared maximum mean discrepancy under the kernel `(x.y / dim + 1)^3`.

    The unbiased estimate is averaged over random subsets. Unlike the Frechet distance, its
    expectation does not depend on the count, and it does not assume Gaussians. The subsets are
    those that torch-fidelity draws with the same seed. Computed in float64, because a cubic kernel
    in float32 loses half of the digits.

    Args:
        real_features: `(count, dim)`, at least `subset_size` rows.
        generated_features: likewise; the counts may differ.
        subsets: number of subsets, from 1.
        subset_size: real samples, and generated samples, in each subset, from 2.
        seed: seed of the subsets.

    Returns:
        `mean`, about 0 for equal distributions (it may be slightly negative) and up; `deviation`
        of the subsets' values; and `standard_error`, `deviation / sqrt(subsets)`, the error due to
        the choice of subsets. As the error of the distance it is too small if the subsets overlap,
        that is if `subsets * subset_size` exceeds the count.

    Raises:
        UsageError: fewer samples than `subset_size`, different dimensions, NaN or infinity.

    Reference:
        - [Binkowski et al., 2018](https://arxiv.org/abs/1801.01401)
    """
    if subsets < 1 or subset_size < 2:
        raise UsageError(
            "A kernel distance needs at least 1 subset of at least 2 samples. "
            f"Received: subsets={subsets}, subset_size={subset_size}"
        )
    real, generated = pair(real_features, generated_features)
    if min(len(real), len(generated)) < subset_size:
        raise UsageError(
            "A kernel distance needs at least subset_size real and generated samples: collect "
            "more, or give a smaller subset_size. "
            f"Received: {len(real)} real, {len(generated)} generated, subset_size={subset_size}"
        )
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        # torch-fidelity draws from its first input first, by custom the generated samples.
        x = generated[rng.choice(len(generated), subset_size, replace=False)]
        y = real[rng.choice(len(real), subset_size, replace=False)]
        values.append(_discrepancy(x.astype(np.float64), y.astype(np.float64)))
    deviation = float(np.std(values))
    return KernelDistanceResult(float(np.mean(values)), deviation, deviation / subsets**0.5)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the unbiased estimate of the squared discrepancy of two sets of equal size."""
    count, dim = x.shape
    # A column of ones adds the 1 of the kernel to the product.
    x, y = (np.hstack([points / dim**0.5, np.ones((count, 1))]) for points in (x, y))
    own = between = 0.0
    for part in slices(count, 128):  # small enough for the cache
        between += _cubes(x[part] @ y.T)
        for points in (x, y):  # symmetric: entries right of the diagonal count twice
            products = points[part] @ points[part.start :].T
            corner = products[:, : len(products)]
            own += 2 * _cubes(products) - _cubes(corner) - (np.diagonal(corner) ** 3).sum()
    return own / (count * (count - 1)) - 2 * between / count**2


def _cubes(values: np.ndarray) -> float:
    """Returns the sum of the cubes; `values**3` takes ten times as long."""
    values = values.ravel()
    return float(values @ np.square(values))

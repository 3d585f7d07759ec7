"""Kernel distance: the maximum mean discrepancy of two sets' features, as in KID."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, pair, slices


class KernelDistance(NamedTuple):
    """Mean over the subsets, its deviation among them, and the mean's standard error."""

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
) -> KernelDistance:
    """Squared maximum mean discrepancy under the kernel `(x.y / dim + 1)^3`.

    The unbiased estimate, averaged over random subsets: unlike the Frechet distance it has the
    same expectation whatever the count, and no Gaussian is assumed. The subsets are those that
    torch-fidelity draws with the same seed. Computed in float64; features are three numbers of a
    cubic kernel apart, and float32 loses half of the digits.

    Args:
        real_features: `(count, dim)`, at least `subset_size` rows.
        generated_features: likewise; the counts may differ.
        subsets: number of subsets, from 1.
        subset_size: samples of either side in a subset, from 2.
        seed: seed of the subsets.

    Returns:
        `mean`, about 0 for equal distributions, where it may be slightly negative, and up;
        `deviation` of the subsets' values, and `standard_error`, `deviation / sqrt(subsets)`: that
        of the choice of subsets. It is too small as the error of the distance where the subsets
        overlap, that is where `subsets * subset_size` exceeds the count.

    Raises:
        UsageError: fewer samples than `subset_size`, different dimensions, NaN or infinity.

    Reference:
        - [Binkowski et al., 2018](https://arxiv.org/abs/1801.01401)
    """
    if subsets < 1 or subset_size < 2:
        raise UsageError(
            "A kernel distance takes at least 1 subset of at least 2 samples. "
            f"Received: subsets={subsets}, subset_size={subset_size}"
        )
    real, generated = pair(real_features, generated_features)
    if min(len(real), len(generated)) < subset_size:
        raise UsageError(
            "A kernel distance needs as many samples of either side as a subset has: collect "
            "more, or give a smaller subset_size. "
            f"Received: {len(real)} real, {len(generated)} generated, subset_size={subset_size}"
        )
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        # It draws from its first input first, which by custom is the generated one.
        x = generated[rng.choice(len(generated), subset_size, replace=False)]
        y = real[rng.choice(len(real), subset_size, replace=False)]
        values.append(_discrepancy(x.astype(np.float64), y.astype(np.float64)))
    deviation = float(np.std(values))
    return KernelDistance(float(np.mean(values)), deviation, deviation / subsets**0.5)


def _discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared discrepancy of two sets of one size."""
    count, dim = x.shape
    # One more column makes the kernel's 1 part of the product.
    x, y = (np.hstack([side / dim**0.5, np.ones((count, 1))]) for side in (x, y))
    own = between = 0.0
    for part in slices(count, 128):  # small enough for the cache
        between += _cubes(x[part] @ y.T)
        for side in (x, y):  # a symmetric kernel: what is right of the diagonal counts twice
            products = side[part] @ side[part.start :].T
            corner = products[:, : len(products)]
            own += 2 * _cubes(products) - _cubes(corner) - (np.diagonal(corner) ** 3).sum()
    return own / (count * (count - 1)) - 2 * between / count**2


def _cubes(values: np.ndarray) -> float:
    """Sum of the cubes; a power of 3 takes ten times as long."""
    values = values.ravel()
    return float(values @ np.square(values))

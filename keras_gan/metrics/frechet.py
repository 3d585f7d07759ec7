"""Frechet distance: between the Gaussians of two sets' features."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.linalg.lapack

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, Moments

lapack: Any = scipy.linalg.lapack  # its functions are made when imported


def frechet_distance(
    real_features: np.ndarray | Collected | Moments,
    generated_features: np.ndarray | Collected | Moments,
) -> float:
    """Squared Frechet distance between Gaussians fitted to two sets of features.

    `|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))`, in float64, symmetric in its arguments.
    It is called FID only with the features and the protocol of that; the bias of finite sets
    shrinks with their size, so compare only distances of equal counts.

    Args:
        real_features: `(count, dim)`, at least 2 rows, or `Moments` that have streamed them.
        generated_features: likewise; the counts may differ.

    Returns:
        From 0 (equal means and covariances) up, in squared units of the features.

    Raises:
        UsageError: fewer than 2 samples, different dimensions, NaN or infinity.

    Reference:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
        - [Dowson and Landau, 1982](https://doi.org/10.1016/0047-259X(82)90077-X)
    """
    real, generated = Moments.of(real_features), Moments.of(generated_features)
    if min(real.count, generated.count) < 2:
        raise UsageError(
            "A Frechet distance needs at least 2 samples of either side. "
            f"Received: {real.count} real and {generated.count} generated"
        )
    if real.dim != generated.dim:
        raise UsageError(
            "Both sides' features have one dimension. "
            f"Received: dim={real.dim} and dim={generated.dim}"
        )
    first, second = real.covariance, generated.covariance
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError(
            "Features must be small enough for float64 to hold their covariance. "
            "Received: one that is infinite"
        )
    shift = real.mean - generated.mean
    between = _trace_of_root(first, real.count - 1, second, generated.count - 1)
    distance = shift @ shift + np.trace(first) + np.trace(second) - 2 * between
    return max(0.0, float(distance))  # rounding: of equal sets, the terms cancel


def _trace_of_root(first: np.ndarray, rank: int, second: np.ndarray, other_rank: int) -> float:
    """`tr((C1 C2)^(1/2))`, from symmetric problems only.

    With `C = F F^T`, the eigenvalues of `C1 C2` are those of `F1^T C2 F1`, and their roots are the
    singular values of `F1^T F2`. The former take a fourth of the time, and they lose the smallest
    ones, of which the latter decide.
    """
    factor, other = _factor(first, rank), _factor(second, other_rank)
    if factor.shape[1] > other.shape[1]:  # else the product were singular
        factor, other, second = other, factor, first
    if not factor.shape[1]:
        return 0.0
    values = scipy.linalg.eigvalsh(factor.T @ second @ factor, check_finite=False)
    if values[0] > 1e-12 * values[-1]:
        return float(np.sqrt(values).sum())
    singular: Any = scipy.linalg.svdvals(factor.T @ other, check_finite=False)
    return float(singular.sum())


def _factor(covariance: np.ndarray, rank: int) -> np.ndarray:
    """`F` with `F F^T = C`, as many columns as the rank: Cholesky's with pivots.

    Args:
        covariance: `(dim, dim)`.
        rank: no rank is above this: the number of samples less one. What rounding leaves beyond
            it are roots of rounding errors, no small numbers.
    """
    upper, pivots, found, _ = lapack.dpstrf(covariance)
    found = min(found, rank) if np.trace(covariance) > 0 else 0
    factor = np.zeros((len(covariance), found))
    factor[pivots - 1] = np.triu(upper)[:found].T
    return factor

"""Frechet distance between Gaussians fitted to two sets of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.linalg.lapack

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected, Moments

FID_COUNT = 50_000  # generated samples of an FID that is quoted without its count
lapack: Any = scipy.linalg.lapack  # creates its functions at import, unseen by type checkers


class FrechetDistance(Metric):
    """Frechet distance of the features; FID with the standard network.

    The name `fid` alone stands for the usual protocol: 50,000 generated samples against all real
    samples of the split, or against at least 50,000. Other counts are part of the name.
    """

    title = "Frechet distance"
    better = "lower"
    needs = ("moments",)
    standard_names = {"fid": "FID"}
    in_training = True
    order = 20

    def of(self, inputs: EvaluationInputs) -> float:
        return frechet_distance(inputs.real.moments, inputs.generated.moments)

    def published_names(self, inputs: EvaluationInputs) -> dict[str, str]:
        if not inputs.extractor.standard:
            return {}
        count = inputs.generated.count
        usual = count == FID_COUNT and (inputs.all_real or inputs.real.count >= FID_COUNT)
        return {self.name: "fid" if usual else f"fid_{count}"}


def frechet_distance(
    real_features: np.ndarray | Collected | Moments,
    generated_features: np.ndarray | Collected | Moments,
) -> float:
    """Returns the squared Frechet distance between Gaussians fitted to two sets of features.

    `|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))`, in float64, symmetric in its arguments.
    It is called FID only with the standard network and protocol. The bias of finite sets shrinks
    with their size, so compare only distances of equal counts.

    Args:
        real_features: `(count, dim)`, at least 2 rows, or `Moments` of them.
        generated_features: likewise; the counts may differ.

    Returns:
        The distance, from 0 (equal means and covariances) up, in squared units of the features.

    Raises:
        UsageError: fewer than 2 samples, different dimensions, NaN or infinity.

    Reference:
        - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500)
        - [Dowson and Landau, 1982](https://doi.org/10.1016/0047-259X(82)90077-X)
    """
    real, generated = Moments.of(real_features), Moments.of(generated_features)
    if min(real.count, generated.count) < 2:
        raise UsageError(
            "A Frechet distance needs at least 2 real and 2 generated samples. "
            f"Received: {real.count} real and {generated.count} generated"
        )
    if real.dim != generated.dim:
        raise UsageError(
            "Real and generated features must have the same dimension. "
            f"Received: dim={real.dim} and dim={generated.dim}"
        )
    first, second = real.covariance, generated.covariance
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise UsageError(
            "Features must be small enough for float64 to hold their covariance. "
            "Received: an infinite covariance"
        )
    shift = real.mean - generated.mean
    between = _trace_of_root(first, real.count - 1, second, generated.count - 1)
    distance = shift @ shift + np.trace(first) + np.trace(second) - 2 * between
    return max(0.0, float(distance))  # rounding: of equal sets, the terms cancel


def _trace_of_root(first: np.ndarray, rank: int, second: np.ndarray, other_rank: int) -> float:
    """Returns `tr((C1 C2)^(1/2))`, from symmetric problems only.

    With `C = F F^T`, the eigenvalues of `C1 C2` are those of `F1^T C2 F1`, and their square roots
    are the singular values of `F1^T F2`. The eigenvalues take a fourth of the time but lose the
    smallest values; the singular values are computed when these matter.
    """
    factor, other = _factor(first, rank), _factor(second, other_rank)
    if factor.shape[1] > other.shape[1]:  # otherwise the product would be singular
        factor, other, second = other, factor, first
    if not factor.shape[1]:
        return 0.0
    values = scipy.linalg.eigvalsh(factor.T @ second @ factor, check_finite=False)
    if values[0] > 1e-12 * values[-1]:
        return float(np.sqrt(values).sum())
    singular: Any = scipy.linalg.svdvals(factor.T @ other, check_finite=False)
    return float(singular.sum())


def _factor(covariance: np.ndarray, rank: int) -> np.ndarray:
    """Returns `F` with `F F^T = C` and as many columns as the rank, by pivoted Cholesky.

    Args:
        covariance: `(dim, dim)`.
        rank: upper bound of the rank: the number of samples minus one. Columns beyond it would
            be square roots of rounding errors, which are not small.
    """
    upper, pivots, found, _ = lapack.dpstrf(covariance)
    found = min(found, rank) if np.trace(covariance) > 0 else 0
    factor = np.zeros((len(covariance), found))
    factor[pivots - 1] = np.triu(upper)[:found].T
    return factor

"""Density and coverage: fidelity and diversity, robust to outliers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected
from keras_gan.metrics.distances import neighbor_pair, radii, tiles

NEIGHBORS = 5


class DensityCoverage(Metric):
    """Density and coverage of the features, with 5 neighbors."""

    title = "Density and coverage"
    better = "higher"
    least = NEIGHBORS + 1
    outputs = ("density", "coverage")
    in_training = True
    order = 60

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        return density_coverage(*inputs.features, neighbors=NEIGHBORS)._asdict()

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"neighbors": NEIGHBORS}


class DensityCoverageResult(NamedTuple):
    """Density of generated samples around real ones, and the share of real ones they reach."""

    density: float
    coverage: float


def density_coverage(
    real_features: np.ndarray | Collected,
    generated_features: np.ndarray | Collected,
    neighbors: int = 5,
) -> DensityCoverageResult:
    """Returns the density and the coverage.

    Both use closed balls around the real samples only. The radius of a ball is the distance to the
    `neighbors`-th nearest real sample. Exact, in float64; needs 10 MB and 40 kB per dimension
    besides the features. Time grows with the product of the counts.

    Args:
        real_features: `(count, dim)`, more rows than `neighbors`.
        generated_features: likewise. Coverage grows with their count.
        neighbors: number of neighbors, from 1; 5 by custom, with which equal distributions reach
            a coverage of 0.97.

    Returns:
        `density`, the mean number of balls that contain a generated sample, over `neighbors`:
        about 1 for equal distributions, more if samples crowd into dense regions; and `coverage`,
        the share of real samples whose ball contains a generated one, from 0 to 1. Higher is
        better.

    Raises:
        UsageError: at most `neighbors` samples, different dimensions, NaN or infinity.

    Reference:
        - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797)
    """
    real, generated = neighbor_pair(real_features, generated_features, neighbors)
    center = real.mean(axis=0, dtype=np.float64)
    real_radii = radii(real, neighbors, center)
    inside, covered = 0, np.zeros(len(real), bool)
    for _, r, squared in tiles(generated, real, center, ties=True):
        within = squared <= real_radii[r]
        inside += int(np.count_nonzero(within))
        covered[r] |= within.any(axis=0)
    return DensityCoverageResult(inside / (neighbors * len(generated)), float(covered.mean()))

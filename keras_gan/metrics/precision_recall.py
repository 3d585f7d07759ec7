"""Improved precision and recall: overlap of the real and the generated manifolds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected
from keras_gan.metrics.distances import neighbor_pair, radii, tiles

NEIGHBORS = 3


class PrecisionRecall(Metric):
    """Improved precision and recall of the features, with 3 neighbors."""

    title = "Precision and recall"
    better = "higher"
    least = NEIGHBORS + 1
    outputs = ("precision", "recall")
    in_training = True
    order = 50

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        return precision_recall(*inputs.features, neighbors=NEIGHBORS)._asdict()

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"neighbors": NEIGHBORS}


class PrecisionRecallResult(NamedTuple):
    """Share of generated samples that look real, and of real ones that could be generated."""

    precision: float
    recall: float


def precision_recall(
    real_features: np.ndarray | Collected,
    generated_features: np.ndarray | Collected,
    neighbors: int = 3,
) -> PrecisionRecallResult:
    """Returns the improved precision and recall.

    The manifold of a set is the union of closed balls around its samples. The radius of a ball is
    the distance to the `neighbors`-th nearest sample of the same set. Exact, in float64; needs
    10 MB and 40 kB per dimension besides the features. Time grows with the product of the counts.
    An outlier has a large ball, so that precision accepts samples far from the data;
    `density_coverage` is more robust.

    Args:
        real_features: `(count, dim)`, more rows than `neighbors`.
        generated_features: likewise. Both values depend on the counts, so compare only values of
            equal counts.
        neighbors: number of neighbors, from 1; 3 by custom.

    Returns:
        `precision`, the share of generated samples on the real manifold, and `recall`, the
        share of real samples on the generated one; each from 0 to 1, higher is better.

    Raises:
        UsageError: at most `neighbors` samples, different dimensions, NaN or infinity.

    Reference:
        - [Kynkaanniemi et al., 2019](https://arxiv.org/abs/1904.06991)
    """
    real, generated = neighbor_pair(real_features, generated_features, neighbors)
    center = real.mean(axis=0, dtype=np.float64)
    real_radii = radii(real, neighbors, center)
    generated_radii = radii(generated, neighbors, center)
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(real), bool)
    for g, r, squared in tiles(generated, real, center, ties=True):
        precise[g] |= (squared <= real_radii[r]).any(axis=1)
        recalled[r] |= (squared <= generated_radii[g][:, None]).any(axis=0)
    return PrecisionRecallResult(float(precise.mean()), float(recalled.mean()))

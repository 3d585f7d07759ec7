"""Pair accuracy: share of answers whose nearest real picture is their own partner."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices
from keras_gan.metrics.pairs import check_pair

MOST, SEED = 2_000, 0  # most pictures that are compared, and the seed of their choice
_VALUES = 4096  # of each picture that are processed together


class PairAccuracy(Metric):
    """Share of answers that are nearer to their own partner than to all other real pictures."""

    title = "Share of answers nearest to their own real partner"
    better = "higher"
    kinds = ("image",)
    needs = ("pairs",)
    in_training = True
    order = 33

    def of(self, inputs: EvaluationInputs) -> float:
        rows = _chosen(len(inputs.paired.real))
        return pair_accuracy(inputs.paired.real[rows], inputs.paired.generated[rows])

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        count = len(_chosen(len(inputs.paired.real)))
        return {"pairs": count, "seed": SEED, "distance": "Euclidean"}


def _chosen(count: int) -> np.ndarray:
    """Returns the rows that are compared: all, or a fixed choice of many."""
    if count <= MOST:
        return np.arange(count)
    return np.sort(np.random.default_rng(SEED).choice(count, MOST, replace=False))


def pair_accuracy(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the share of answers whose nearest real picture is their own partner.

    An answer as near to its partner as to another real picture counts as right.

    Args:
        real: uint8 `(count, height, width, channels)`. Needs `8 count^2` bytes.
        generated: their partners, row by row, of the same shape.

    Returns:
        The share, from 0 to 1; by chance `1 / count`.

    Raises:
        UsageError: pictures of different shapes, none, or not uint8.
    """
    check_pair(real, generated)
    count = len(real)
    first, second = (x.reshape(count, -1) for x in (generated, real))
    # |g - r|^2 - |g|^2 = |r|^2 - 2 g r, exact: sums of integers far below 2^53.
    distances = np.zeros((count, count))
    norms = np.zeros(count)
    for part in slices(first.shape[1], _VALUES):
        answers, partners = (x[:, part].astype(np.float64) for x in (first, second))
        distances -= 2 * answers @ partners.T
        norms += np.square(partners).sum(axis=1)
    distances += norms
    return float((np.diagonal(distances) <= distances.min(axis=1)).mean())

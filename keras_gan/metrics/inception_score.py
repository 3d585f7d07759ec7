"""Inception-style score: sure of every sample, and of all classes in turn."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from scipy.special import rel_entr

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import Collected, rows


class InceptionScore(NamedTuple):
    """Mean over the splits, and its deviation among them."""

    mean: float
    deviation: float

    def __float__(self) -> float:
        return self.mean


def inception_score(
    probabilities: np.ndarray | Collected, splits: int = 10, seed: int | None = 2020
) -> InceptionScore:
    """`exp(mean KL(p(y|x) || p(y)))` of a classifier's probabilities.

    It asks no real samples: it sees whether each sample looks like some class and whether all
    classes come up, and nothing within a class. It is called the Inception score only with the
    standard network. Computed in float64; the shuffle with `seed=2020` is torch-fidelity's, so
    that the numbers agree.

    Args:
        probabilities: of the classes, `(count, classes)`, rows from a softmax that add up to 1.
        splits: number of parts that the score is computed of, from 1 to the count. The score of
            small parts is too low.
        seed: seed of the order in which samples are split; None leaves them as they come, as
            the first implementation does.

    Returns:
        `mean`, from 1 (all samples alike, or the classifier unsure) to the number of classes, and
        `deviation` of the splits' scores. Higher is better.

    Raises:
        UsageError: rows that are no probabilities, fewer samples than splits.

    Reference:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498)
    """
    table = rows(probabilities, "probabilities")
    if not 1 <= splits <= len(table):
        raise UsageError(
            "There are at least 1 and at most as many splits as samples. "
            f"Received: splits={splits} for {len(table)} samples"
        )
    table = table.astype(np.float64)
    sums = table.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if table.min() < 0 or abs(sums[worst] - 1) > 1e-2:
        raise UsageError(
            "Probabilities are at least 0 and add up to 1 in each row (of logits, take the "
            f"softmax). Received: least value {table.min():.6g}, row {worst} with sum "
            f"{sums[worst]:.6g}"
        )
    table /= sums[:, None]  # a softmax in float16 or float32 is rounded
    if seed is not None:
        table = table[np.random.RandomState(seed).permutation(len(table))]
    edges = [i * len(table) // splits for i in range(splits + 1)]
    scores = []
    for start, stop in itertools.pairwise(edges):
        part = table[start:stop]
        scores.append(np.exp(rel_entr(part, part.mean(axis=0)).sum(axis=1).mean()))
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))

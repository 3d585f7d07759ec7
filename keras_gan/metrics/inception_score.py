"""Inception-style score: confident predictions per sample, diverse predictions over all."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
from scipy.special import rel_entr

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import Collected, rows

SPLITS, SEED = 10, 2020


class ClassScore(Metric):
    """Inception-style score of an extractor's classes; Inception score with the standard network.

    Computed on up to 10 splits of the generated samples.
    """

    title = "Class score"
    better = "higher"
    needs = ("classes",)
    standard_names = {"inception_score": "The Inception score"}
    order = 40

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        found = inception_score(inputs.probabilities[1], **self.settings(inputs))
        return {self.name: found.mean, f"{self.name}_deviation": found.deviation}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"splits": min(SPLITS, inputs.generated.count), "seed": SEED}

    def published_names(self, inputs: EvaluationInputs) -> dict[str, str]:
        if not inputs.extractor.standard:
            return {}
        return {
            self.name: "inception_score",
            f"{self.name}_deviation": "inception_score_deviation",
        }


class InceptionScore(NamedTuple):
    """Mean and standard deviation over the splits."""

    mean: float
    deviation: float

    def __float__(self) -> float:
        return self.mean


def inception_score(
    probabilities: np.ndarray | Collected, splits: int = 10, seed: int | None = 2020
) -> InceptionScore:
    """Returns `exp(mean KL(p(y|x) || p(y)))` of a classifier's probabilities.

    It uses no real samples. It measures whether each sample looks like one class and whether all
    classes occur, but nothing within a class. It is called the Inception score only with the
    standard network. Computed in float64; the shuffle with `seed=2020` is torch-fidelity's, so
    that the values agree.

    Args:
        probabilities: probabilities of the classes, `(count, classes)`; each row sums to 1.
        splits: number of splits that the score is averaged over, from 1 to the count. The score
            of small splits is too low.
        seed: seed of the shuffle before splitting; `None` keeps the order, as the first
            implementation does.

    Returns:
        `mean`, from 1 (all samples alike, or an unsure classifier) to the number of classes, and
        `deviation` of the splits' scores. Higher is better.

    Raises:
        UsageError: rows that are not probabilities, fewer samples than splits.

    Reference:
        - [Salimans et al., 2016](https://arxiv.org/abs/1606.03498)
    """
    table = rows(probabilities, "probabilities")
    if not 1 <= splits <= len(table):
        raise UsageError(
            "splits must be at least 1 and at most the number of samples. "
            f"Received: splits={splits} for {len(table)} samples"
        )
    table = table.astype(np.float64)
    sums = table.sum(axis=1)
    worst = int(np.argmax(np.abs(sums - 1)))
    if table.min() < 0 or abs(sums[worst] - 1) > 1e-2:
        raise UsageError(
            "Probabilities must be at least 0 and sum to 1 in each row (of logits, take the "
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

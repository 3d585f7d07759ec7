"""Calibration error: difference between the confidence and the accuracy of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric

BINS = 15


class CalibrationError(Metric):
    """Expected calibration error of the discriminator's classes on real examples."""

    title = "Expected calibration error of the discriminator's classes"
    better = "lower"
    needs = ("classifier",)
    order = 131

    def of(self, inputs: EvaluationInputs) -> float:
        return calibration_error(inputs.judged.probabilities, inputs.judged.labels)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"bins": BINS, "examples": len(inputs.judged.labels)}


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """Returns the expected calibration error of class probabilities.

    Examples are divided by their confidence, the largest probability, into bins of equal width
    over [0, 1], each with its upper edge. The error is the mean over the bins of
    |accuracy - mean confidence|, weighted by their numbers of examples.

    Args:
        probabilities: `(count, classes)`.
        labels: class ids, `(count,)`.
        bins: number of bins, from 1.

    Raises:
        UsageError: no examples, or another number of labels.

    Reference:
        - [Guo et al., 2017](https://arxiv.org/abs/1706.04599), equation 3
    """
    if not len(labels) or len(labels) != len(probabilities):
        raise UsageError(
            "`labels` must have one class id for each example, at least one. "
            f"Received: {len(labels)} labels, {len(probabilities)} examples"
        )
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == labels
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    difference = np.bincount(number, weights=hits - confidence, minlength=bins)
    return float(np.abs(difference).sum() / len(labels))

"""Nearest ratio: whether samples are copies of the training data, measured during training."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.nearest import nearest

SAMPLES = 1_000  # held-out samples, and generated samples
TRAINING = 10_000  # training samples that they are compared with
_VALUES = 1_024  # values of a sample after its height and width are reduced


class NearestRatio(Metric):
    """Median distance to the nearest training sample, relative to that of held-out samples.

    1 is right, and far below 1 are copies of the training data. The distance is of the values
    themselves; images are first reduced to at most 1,024 values. `nearest` of `evaluate` compares
    in features and with the whole training set.
    """

    title = "Distance to the nearest training sample, relative to held-out samples"
    needs = ("values", "training_values")
    in_evaluate = False
    in_training = True
    order = 38

    def of(self, inputs: EvaluationInputs) -> float:
        if inputs.values is None or inputs.training_values is None:
            return float("nan")
        training, real, generated = (
            reduce(samples).reshape(len(samples), -1)
            for samples in (inputs.training_values, *(v[:SAMPLES] for v in inputs.values))
        )
        scale = float(np.median(nearest(real, training).distances))
        return float(np.median(nearest(generated, training).distances)) / scale if scale else np.nan

    def training_protocol(self, count: int) -> dict[str, Any]:
        return {self.name: {"samples": min(count, SAMPLES)}}


def reduce(samples: np.ndarray) -> np.ndarray:
    """Returns images as means of squares of pixels, with at most 1,024 values, others unchanged.

    Args:
        samples: `(count, height, width, channels)`; rows and columns beyond whole squares are left
            out.
    """
    if samples.ndim != 4:
        return samples
    count, height, width, channels = samples.shape
    side = 1
    while (height // side) * (width // side) * channels > _VALUES and 2 * side <= min(
        height, width
    ):
        side *= 2
    rows, columns = height // side, width // side
    whole = samples[:, : rows * side, : columns * side]
    return whole.reshape(count, rows, side, columns, side, channels).mean(axis=(2, 4))

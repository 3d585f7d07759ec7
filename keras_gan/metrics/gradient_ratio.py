"""Gradient ratio: sharpness of answers, relative to real pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.gradients import forward_magnitude, to_gray
from keras_gan.metrics.pairs import check_pair

_VALUES = 2**21  # values of the pictures that are processed together


class GradientRatio(Metric):
    """Mean gradient magnitude of answers, relative to that of their partners; 1 is right."""

    title = "Mean gradient magnitude, relative to real pictures"
    least = 1
    kinds = ("image",)
    least_size = 2
    needs = ("pairs",)
    in_training = True
    order = 32

    def of(self, inputs: EvaluationInputs) -> float:
        return gradient_ratio(inputs.paired.real, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        magnitude = "sum of both absolute differences to the next pixel"
        channels = "luma, ITU-R BT.601"
        return {"pairs": len(inputs.paired.real), "magnitude": magnitude, "channels": channels}


def gradient_ratio(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean gradient magnitude of answers, relative to real pictures.

    The gradient is the difference to the next pixel below and that to the right, of the luma of
    color pictures, and its magnitude the sum of their absolute values. Blurred pictures have a
    ratio below 1, noisy ones above.

    Args:
        real: uint8 `(count, height, width, channels)`, height and width from 2.
        generated: their partners, row by row, of the same shape.

    Returns:
        The ratio, from 0 up; NaN if all real pictures are flat.

    Raises:
        UsageError: pictures of different shapes, none, not uint8, or too small.
    """
    check_pair(real, generated, 2)
    scale = _mean(real)
    return _mean(generated) / scale if scale > 0 else math.nan


def _mean(pictures: np.ndarray) -> float:
    total = 0.0
    for part in slices_of(pictures, _VALUES):
        total += float(forward_magnitude(to_gray(pictures[part])).mean(axis=(1, 2)).sum())
    return total / len(pictures)

"""Gradient magnitude similarity deviation of answers and their real partners."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.gradients import prewitt_magnitude, to_gray
from keras_gan.metrics.pairs import check_pair

C = 170.0  # constant of the paper, for values from 0 to 255
LEAST_SIZE = 6  # of a picture's height and width, so that 3 remain
_VALUES = 2**21  # values of the pictures that are processed together


class Gmsd(Metric):
    """Mean gradient magnitude similarity deviation of the answers; 0 if they are right."""

    title = "Gradient magnitude similarity deviation"
    better = "lower"
    least = 1
    kinds = ("image",)
    least_size = LEAST_SIZE
    needs = ("pairs",)
    in_training = True
    order = 32

    def of(self, inputs: EvaluationInputs) -> float:
        return gmsd(inputs.paired.real, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real), "c": C, "channels": "luma, ITU-R BT.601"}


def gmsd(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean over pictures of the gradient magnitude similarity deviation.

    Pictures are averaged over 2 x 2 pixels and halved. Their gradients are those of the Prewitt
    filters, with zeros outside of the pictures; an odd last row or column is left out. Color
    pictures are compared by their luma.

    Args:
        real: uint8 `(count, height, width, channels)`, height and width from 6.
        generated: their partners, row by row, of the same shape.

    Returns:
        The deviation, from 0 (equal) up.

    Raises:
        UsageError: pictures of different shapes, none, not uint8, or too small.

    Reference:
        - [Xue et al., 2014](https://arxiv.org/abs/1308.3052), equations 1 to 6
    """
    check_pair(real, generated, LEAST_SIZE)
    total = 0.0
    for part in slices_of(real, _VALUES):
        first, second = (prewitt_magnitude(_halved(to_gray(x[part]))) for x in (real, generated))
        similarity = (2 * first * second + C) / (first**2 + second**2 + C)
        total += float(similarity.std(axis=(1, 2)).sum())
    return total / len(real)


def _halved(gray: np.ndarray) -> np.ndarray:
    """Returns the means of 2 x 2 pixels."""
    height, width = gray.shape[1] // 2 * 2, gray.shape[2] // 2 * 2
    even = gray[:, :height, :width]
    blocks = even.reshape(len(gray), height // 2, 2, width // 2, 2)
    return blocks.mean(axis=(2, 4))

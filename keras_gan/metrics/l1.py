"""Mean absolute difference of answers and their real partners."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.pairs import check_pair

_VALUES = 2**22  # values of the pictures that are processed together


class L1(Metric):
    """Mean absolute difference of all values of answers and their partners, black 0, white 1."""

    title = "Mean absolute difference to the real partner"
    better = "lower"
    least = 1
    kinds = ("image",)
    needs = ("pairs",)
    in_training = True
    order = 31

    def of(self, inputs: EvaluationInputs) -> float:
        return l1(inputs.paired.real, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real)}


def l1(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean absolute difference of pictures and their partners, black 0, white 1.

    Args:
        real: uint8 `(count, height, width, channels)`.
        generated: their partners, row by row, of the same shape.

    Returns:
        The difference, from 0 to 1.

    Raises:
        UsageError: pictures of different shapes, none, or not uint8.
    """
    check_pair(real, generated)
    total = 0
    for part in slices_of(real, _VALUES):
        differences = real[part].astype(np.int16) - generated[part]
        total += int(np.abs(differences).sum(dtype=np.int64))
    return total / real.size / 255

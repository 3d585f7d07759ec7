"""Consistency: reduced answers of super-resolution, compared with what was enlarged."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics._needs import Missing
from keras_gan.metrics.images import to_channels
from keras_gan.metrics.pairs import CONDITION, resize_bytes
from keras_gan.spec import Spec


class Consistency(Metric):
    """Mean absolute difference of the conditions and the answers reduced to their size.

    In levels of gray, of 255. Only where the answers are larger than the conditions.
    """

    title = "Difference of the reduced answer and the condition, in levels of gray"
    better = "lower"
    least = 1
    kinds = ("image",)
    needs = ("conditions",)
    in_training = True
    order = 33

    def of(self, inputs: EvaluationInputs) -> float:
        return consistency(inputs.paired.conditions, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        size = list(inputs.paired.conditions.shape[1:3])
        return {"pairs": len(inputs.paired.real), "reduced_to": size, "filter": "bicubic of Pillow"}

    def unfit(self, spec: Spec) -> Missing | None:
        unfit = super().unfit(spec)
        if unfit is not None or CONDITION not in spec.fields:
            return unfit
        sizes, condition = spec.shape[:2], spec.fields[CONDITION].shape[:2]
        if None in (*sizes, *condition) or _is_larger(sizes, condition):
            return None
        return Missing(
            "samples that are larger than their conditions",
            f"samples of {sizes[0]}x{sizes[1]} for conditions of {condition[0]}x{condition[1]}",
        )


def _is_larger(size: tuple[Any, ...], condition: tuple[Any, ...]) -> bool:
    return size != condition and all(a >= b for a, b in zip(size, condition, strict=True))


def consistency(conditions: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean absolute difference of conditions and reduced answers.

    The answers are reduced in 8 bits by Pillow's antialiased bicubic filter. Those of other
    channels than the conditions' are converted: gray is repeated, color becomes luma.

    Args:
        conditions: uint8 `(count, height, width, channels)`.
        generated: answers, row by row, uint8, larger than the conditions.

    Returns:
        The difference in levels of gray, from 0 to 255.

    Raises:
        UsageError: answers of another number, or that are not larger.
    """
    size = conditions.shape[1:3]
    if len(conditions) != len(generated) or not _is_larger(generated.shape[1:3], size):
        raise UsageError(
            "`generated` must be as many pictures as the conditions, and larger. "
            f"Received: {generated.shape} for conditions {conditions.shape}"
        )
    reduced = resize_bytes(generated, size).astype(np.float32)
    reduced = to_channels(reduced, conditions.shape[3])
    return float(np.abs(reduced - conditions).mean(dtype=np.float64))

"""Cycle consistency: pictures that are translated there and back, compared with themselves."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.l1 import l1
from keras_gan.metrics.pairs import back


class CycleL1(Metric):
    """Mean absolute difference of the conditions and their translation there and back.

    Black is 0 and white 1. The answers are rounded to 8 bits in between, as a file holds them, so
    that nothing can be hidden in faint patterns.
    """

    title = "Mean absolute difference after the translation there and back"
    better = "lower"
    least = 1
    kinds = ("image",)
    needs = ("conditions", "inverse")
    in_training = True
    order = 33

    def of(self, inputs: EvaluationInputs) -> float:
        return l1(inputs.paired.conditions, back(inputs.paired))

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real), "answers": "rounded to 8 bits"}

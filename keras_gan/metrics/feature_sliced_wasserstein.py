"""Sliced Wasserstein distance of features."""

from __future__ import annotations

from typing import Any

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.sliced_wasserstein import DIRECTIONS, SEED, sliced_wasserstein


class FeatureSlicedWasserstein(Metric):
    """Sliced Wasserstein distance of as many real features as generated ones."""

    title = "Sliced Wasserstein distance of features"
    better = "lower"
    needs = ("features", "equal_counts")
    aliases = ("sliced_wasserstein",)
    order = 70

    def of(self, inputs: EvaluationInputs) -> float:
        return sliced_wasserstein(*inputs.features, **self.settings(inputs))

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"directions": DIRECTIONS, "seed": SEED}

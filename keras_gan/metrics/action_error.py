"""Error of a policy's actions, at observations of which an expert's actions are known."""

from __future__ import annotations

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric


class ActionError(Metric):
    """Mean error of actions: half the sum of the absolute differences of one-hot choices.

    Of choices that is the share of those that differ from the expert's; of continuous actions it is
    half the absolute difference in units of half the distance of the bounds.
    """

    title = "Error of actions"
    better = "lower"
    least = 1
    kinds = ("action",)
    needs = ("values",)
    in_training = True
    in_evaluate = False  # other samples do not answer the held-out observations row by row

    def of(self, inputs: EvaluationInputs) -> float:
        real, generated = inputs.values or (None, None)
        meta = inputs.spec.samples.meta
        return action_error(real, generated, meta.get("low"), meta.get("high"))


def action_error(
    real: np.ndarray | None,
    generated: np.ndarray | None,
    low: tuple[float, ...] | None = None,
    high: tuple[float, ...] | None = None,
) -> float:
    """Returns the mean error of actions, from 0 to 1 of choices.

    Args:
        real: the expert's actions, `(count, actions)`.
        generated: the policy's at the same observations, of the same shape.
        low: smallest values of continuous actions; `None` for choices.
        high: largest values.

    Raises:
        UsageError: actions of different shapes, or none.
    """
    if real is None or generated is None or real.shape != generated.shape or not len(real):
        shapes = [None if x is None else x.shape for x in (real, generated)]
        raise UsageError(f"Actions must be as many as the expert's. Received: shapes {shapes}")
    difference = np.abs(real.astype(np.float64) - generated)
    if low is not None and high is not None:
        difference /= (np.asarray(high) - np.asarray(low)) / 2
    return float(difference.sum(axis=-1).mean() / 2)

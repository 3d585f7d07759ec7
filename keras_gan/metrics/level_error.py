"""Difference of the level of sounds and their real partners."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.waves import check_waves

LOWEST = -100.0  # dB relative to full scale, at which quieter clips count


class LevelError(Metric):
    """Mean absolute and mean signed difference of the clips' levels, in dB.

    `level_bias` is negative if the generated clips are too quiet.
    """

    title = "Difference of the level, in dB"
    better = "lower"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    in_training = True
    order = 33

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        pairs = inputs.paired
        found = level_error(pairs.real, pairs.generated, inputs.sample_rate)
        return {self.name: found.error, "level_bias": found.bias}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real), "mean_of": "clips", "lowest_dB": LOWEST}


class LevelErrorResult(NamedTuple):
    """Mean over clips of the absolute and of the signed difference of levels, in dB."""

    error: float
    bias: float

    def __float__(self) -> float:
        return self.error


def level_error(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> LevelErrorResult:
    """Returns the differences of the clips' levels, `10 log10(mean square)`, in dB.

    Levels below -100 dB, such as that of silence, count as -100.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.

    Raises:
        UsageError: clips of different shapes, none, or not finite floats.
    """
    x, y = (_levels(clips) for clips in check_waves(real, generated, sample_rate))
    return LevelErrorResult(float(np.abs(y - x).mean()), float((y - x).mean()))


def _levels(clips: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(np.square(clips).mean(axis=1), 10 ** (LOWEST / 10)))

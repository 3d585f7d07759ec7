"""Errors of the pitch of sounds against their real partners."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from keras_gan.metrics import pitch
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.waves import check_waves


class F0Error(Metric):
    """Error of the fundamental frequency in cents, and share of frames with wrong voicing.

    The first is the root mean square over the frames that have a pitch in both clips; NaN
    without such frames. The values are of little use for sound that has no single pitch.
    """

    title = "Error of the pitch (cents) and of voicing"
    better = "lower"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    outputs = ("f0_error", "voicing_error")
    order = 33

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        pairs = inputs.paired
        found = f0_error(pairs.real, pairs.generated, inputs.sample_rate)
        return {"f0_error": found.cents, "voicing_error": found.voicing}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {
            "pairs": len(inputs.paired.real),
            "tracker": "YIN",
            "hop_seconds": pitch.HOP,
            "window_seconds": pitch.WINDOW,
            "lowest_hz": pitch.LOWEST,
            "highest_hz": pitch.HIGHEST,
            "voiced_below": pitch.VOICED,
        }


class F0ErrorResult(NamedTuple):
    """Errors of the pitch.

    Args:
        cents: root mean square error over the frames voiced in both, in cents (1,200 per octave);
            NaN without such frames.
        voicing: share of all frames that are voiced in one clip only, from 0 to 1.
        frames: number of frames voiced in both.
    """

    cents: float
    voicing: float
    frames: int

    def __float__(self) -> float:
        return self.cents


def f0_error(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> F0ErrorResult:
    """Returns the errors of the fundamental frequency, as `track_pitch` finds it.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz, from 1,000.

    Raises:
        UsageError: clips of different shapes, none, or not finite floats.
    """
    squares, both, wrong, count = 0.0, 0, 0, 0
    for clip, partner in zip(*check_waves(real, generated, sample_rate), strict=True):
        x, y = (pitch.track_pitch(wave, sample_rate) for wave in (clip, partner))
        voiced = (x > 0) & (y > 0)
        squares += float(np.square(1200 * np.log2(x[voiced] / y[voiced])).sum())
        both += int(voiced.sum())
        wrong += int(((x > 0) != (y > 0)).sum())
        count += len(x)
    cents = float(np.sqrt(squares / both)) if both else float("nan")
    return F0ErrorResult(cents, wrong / count, both)

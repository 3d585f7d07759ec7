"""Mel cepstral distortion of sounds against their real partners."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.waves import check_waves, parts_of, standard_mel

COEFFICIENTS = 13  # of the cepstrum, without the first one, which is the level
QUIET = 40.0  # dB below the loudest frame of the real clip, at which frames are left out


class Mcd(Metric):
    """Mel cepstral distortion: the difference of spectral envelopes without their level."""

    title = "Mel cepstral distortion, in dB"
    better = "lower"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    in_training = True
    order = 32

    def of(self, inputs: EvaluationInputs) -> float:
        pairs = inputs.paired
        return mcd(pairs.real, pairs.generated, inputs.sample_rate)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        rate = inputs.sample_rate
        used = {"coefficients": COEFFICIENTS, "quiet_frames_below_dB": -QUIET, "alignment": "none"}
        return {"pairs": len(inputs.paired.real), **used, **standard_mel(rate).to_meta()}


def mcd(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> float:
    """Returns the mel cepstral distortion, in dB.

    A frame's distortion is `10 / ln(10) sqrt(2 sum_k (c_k - c'_k)^2)` over the coefficients 1 to
    13 of `ln(mel magnitude_n) = c_0 / 2 + sum_k c_k cos(pi k (n + 1/2) / mels)`. It is the root
    mean square difference in dB of the envelopes that these coefficients describe. The mean is
    over the frames whose real power is above that of the clip's loudest frame minus 40 dB. Frames
    are not aligned, because the partner of a clip has its timing.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.

    Returns:
        The distortion from 0 up; NaN if all real clips are silent.

    Raises:
        UsageError: clips of different shapes, none, or not finite floats.

    Reference:
        - [Kubichek, 1993](https://doi.org/10.1109/PACRIM.1993.407206)
    """
    mel, total, count = standard_mel(sample_rate), 0.0, 0
    orders = np.arange(1, min(COEFFICIENTS, mel.mels - 1) + 1)
    places = np.arange(mel.mels) + 0.5
    cosines = 2 / mel.mels * np.cos(np.pi / mel.mels * places[:, np.newaxis] * orders)
    for first, second in parts_of(*check_waves(real, generated, sample_rate)):
        logs, others = mel(first).astype(np.float64), mel(second).astype(np.float64)
        errors = np.square((logs - others) @ cosines).sum(axis=2)
        loud = _loud(logs, np.log(mel.floor))
        total += float((10 / np.log(10) * np.sqrt(2 * errors))[loud].sum())
        count += int(loud.sum())
    return total / count if count else math.nan


def _loud(logs: np.ndarray, floor: float) -> np.ndarray:
    """Returns which frames of log-mel spectrograms are not quiet."""
    powers = np.square(np.exp(logs)).sum(axis=2)
    loud = powers > powers.max(axis=1, keepdims=True) * 10 ** (-QUIET / 10)
    return loud & (logs.max(axis=2) > floor + 1e-3)

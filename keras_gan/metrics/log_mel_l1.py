"""Mean absolute difference of the log-mel spectrograms of sounds and their real partners."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.waves import check_waves, parts_of, standard_mel


class LogMelL1(Metric):
    """Mean absolute difference of the natural logarithms of mel magnitudes.

    Its values depend on the definition of the spectrogram, which `standard_mel` fixes by the
    sampling rate, whatever a vocoder reads.
    """

    title = "Mean absolute difference of log-mel spectrograms"
    better = "lower"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    in_training = True
    order = 31

    def of(self, inputs: EvaluationInputs) -> float:
        pairs = inputs.paired
        return log_mel_l1(pairs.real, pairs.generated, inputs.sample_rate)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        rate = inputs.sample_rate
        return {"pairs": len(inputs.paired.real), **standard_mel(rate).to_meta()}


def log_mel_l1(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> float:
    """Returns the mean absolute difference of log-mel spectrograms, in natural logarithms.

    The spectrograms are those of `standard_mel`, with the magnitudes' floor of 1e-5. A gain of
    6 dB is a difference of 0.69 wherever both are above the floor.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.

    Raises:
        UsageError: clips of different shapes, none, or not finite floats.
    """
    mel, total, count = standard_mel(sample_rate), 0.0, 0
    for first, second in parts_of(*check_waves(real, generated, sample_rate)):
        differences = np.abs(mel(first) - mel(second))
        total += float(differences.sum(dtype=np.float64))
        count += differences.size
    return total / count

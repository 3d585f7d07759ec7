"""Multi-resolution distance of the spectra of sounds and their real partners."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.waves import check_waves, parts_of

# Window and hop in seconds, as the paper has them at 24 kHz (240/50, 600/120, 1,200/240).
RESOLUTIONS = ((0.010, 0.002), (0.025, 0.005), (0.050, 0.010))
FLOOR = 1e-7  # least power
SILENT = 1e-10  # mean power up to which a clip counts as silent


class MrStft(Metric):
    """Spectral convergence and difference of log magnitudes, over three resolutions."""

    title = "Multi-resolution STFT distance"
    better = "lower"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    in_training = True
    order = 31

    def of(self, inputs: EvaluationInputs) -> float:
        pairs = inputs.paired
        return mr_stft(pairs.real, pairs.generated, inputs.sample_rate)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        seconds = [list(pair) for pair in RESOLUTIONS]
        return {"pairs": len(inputs.paired.real), "windows_and_hops": seconds, "least_power": FLOOR}


def mr_stft(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> float:
    """Returns the multi-resolution STFT distance, the mean over clips and resolutions.

    At each resolution it is the sum of the spectral convergence `||X| - |Y|| / |X|`, in Frobenius
    norms of the magnitudes of a clip, and of the mean absolute difference of their natural
    logarithms. Hann windows of 10, 25 and 50 ms with hops of 2, 5 and 10 ms are zero-padded to a
    power of 2; powers below 1e-7 count as 1e-7. Clips whose real part is silent (mean power up to
    1e-10, -100 dB) are left out; without another, the value is NaN.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.

    Raises:
        UsageError: clips of different shapes, none, or not finite floats.

    Reference:
        - [Yamamoto et al., 2019](https://arxiv.org/abs/1910.11480), equations 4 to 6
    """
    real, generated = check_waves(real, generated, sample_rate)
    kept = np.square(real).reshape(len(real), -1).mean(axis=1) > SILENT
    if not kept.any():
        return math.nan
    real, generated = real[kept], generated[kept]
    total = 0.0
    for first, second in parts_of(real, generated):
        for seconds, step in RESOLUTIONS:
            window, hop = (max(1, round(x * sample_rate)) for x in (seconds, step))
            x, y = (_magnitudes(clips, window, hop) for clips in (first, second))
            error = np.sqrt(np.square(x - y).sum(axis=(1, 2)) / np.square(x).sum(axis=(1, 2)))
            logs = np.abs(np.log(x / y)).mean(axis=(1, 2))
            total += float((error + logs).sum())
    return total / len(real) / len(RESOLUTIONS)


def _magnitudes(clips: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Returns the magnitudes of each frame; frames begin before the clip and end after it."""
    padded = np.pad(clips, [(0, 0), (window // 2, window // 2 + hop)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, window, axis=1)[:, ::hop]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    spectrum = np.fft.rfft(frames * hann, 1 << (window - 1).bit_length())
    return np.sqrt(np.maximum(spectrum.real**2 + spectrum.imag**2, FLOOR))

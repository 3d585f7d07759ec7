"""Resampling of sound by its spectrum."""

from __future__ import annotations

import numpy as np


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Returns sound at another sampling rate.

    Args:
        samples: array `(time, channels)`.
        from_rate: its sampling rate in Hz.
        to_rate: the wanted sampling rate in Hz.

    Returns:
        float64 array `(ceil(time * to_rate / from_rate), channels)`.
    """
    count = -(-len(samples) * to_rate // from_rate)
    if not count or from_rate == to_rate:
        return np.asarray(samples, np.float64)
    spectrum = np.fft.rfft(samples, axis=0)
    kept = np.zeros((count // 2 + 1, samples.shape[1]), complex)
    size = min(len(kept), len(spectrum))
    kept[:size] = spectrum[:size]
    return np.fft.irfft(kept, count, axis=0) * (count / len(samples))

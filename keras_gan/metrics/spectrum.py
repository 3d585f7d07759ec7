"""Features of samples over time: statistics of their log spectrum."""

from __future__ import annotations

import numpy as np

WINDOW = 256  # samples of a frame, half of which the next one shares
_FLOOR = 1e-6  # smallest power, at which silence is cut off


def spectrum(samples: np.ndarray) -> tuple[np.ndarray, None]:
    """Returns mean and standard deviation over time of the log power spectrum.

    The samples are cut into frames of 256 steps (or of all, if there are fewer), of which each
    shares half with the next, under a Hann window.

    Args:
        samples: `(batch, time, channels)`.

    Returns:
        float32 `(batch, 2 * (frame / 2 + 1) * channels)`, and `None`: there are no classes.
    """
    size = min(WINDOW, samples.shape[1])
    starts = np.arange(0, samples.shape[1] - size + 1, max(1, size // 2))
    frames = samples[:, starts[:, np.newaxis] + np.arange(size)]
    window = np.hanning(size + 2)[1:-1, np.newaxis].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=2)) ** 2 / size
    logs = np.log10(power + _FLOOR)
    features = np.concatenate([logs.mean(axis=1), logs.std(axis=1)], axis=1)
    return features.reshape(len(samples), -1).astype(np.float32), None

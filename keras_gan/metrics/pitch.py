"""Pitch tracker: the fundamental frequency of sound over time."""

from __future__ import annotations

import math

import numpy as np

HOP = 0.01  # seconds from frame to frame
WINDOW = 0.025  # seconds that are compared with themselves, shifted
LOWEST, HIGHEST = 60.0, 500.0  # Hz
CHOSEN = 0.15  # difference below which the shortest period is taken
VOICED = 0.25  # difference below which a frame is voiced
QUIET = 40.0  # dB below the loudest frame of a clip, at which frames count as unvoiced
_RATE = 16_000  # Hz; slower clips are interpolated, as periods are whole numbers of samples
_SILENCE = 1e-10  # mean square of a frame without sound


def track_pitch(samples: np.ndarray, sample_rate: float) -> np.ndarray:
    """Returns the fundamental frequency of a clip over time.

    The period of a frame is the shift at which the frame differs least from itself, by YIN's
    cumulative mean normalized difference, with the parabola through it and its neighbors. The
    first minimum below 0.15 is taken, otherwise the least. A frame is voiced if its difference is
    below 0.25 and its power above that of the loudest frame minus 40 dB.

    Args:
        samples: clip `(time,)`, values in [-1, 1].
        sample_rate: sampling rate in Hz.

    Returns:
        float64 array `(frames,)` with a frame every 10 ms from the clip's start: frequencies from
        60 to 500 Hz, 0 where the sound has no pitch.

    Reference:
        - [de Cheveigne and Kawahara, 2002](https://doi.org/10.1121/1.1458024), equations 6 to 8
    """
    factor = math.ceil(_RATE / sample_rate)
    rate = sample_rate * factor
    window, longest = round(WINDOW * rate), math.ceil(rate / LOWEST) + 1
    frames = _frames(_interpolated(samples, factor), rate, window + longest)
    frames = frames - frames.mean(axis=1, keepdims=True)  # a constant has no pitch
    differences = _normalized_differences(frames, window, longest)
    periods, least = _best_periods(differences, math.floor(rate / HIGHEST))
    powers = np.mean(np.square(frames), axis=1)
    loud = powers > max(_SILENCE, float(powers.max(initial=0.0)) * 10 ** (-QUIET / 10))
    return np.where(loud & (least < VOICED), rate / periods, 0.0)


def _interpolated(samples: np.ndarray, factor: int) -> np.ndarray:
    """Returns a clip of so many times the samples, by zeros at the end of its spectrum."""
    samples = np.asarray(samples, np.float64)
    if factor == 1:
        return samples
    size = len(samples) * factor
    return np.fft.irfft(np.fft.rfft(samples), size) * factor


def _frames(samples: np.ndarray, rate: float, length: int) -> np.ndarray:
    """Returns the frames around each multiple of the hop, `(frames, length)`."""
    count = max(1, math.ceil(len(samples) / (HOP * rate) - 1e-9))
    centers = np.round(np.arange(count) * HOP * rate).astype(int)
    padded = np.pad(samples, length)
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    return windows[centers + length - length // 2]


def _normalized_differences(frames: np.ndarray, window: int, longest: int) -> np.ndarray:
    """Returns the difference of each frame and itself for shifts of 0 to `longest`."""
    size = 2 ** math.ceil(math.log2(frames.shape[1] + window))
    first = np.fft.rfft(frames[:, :window], size)
    products = np.fft.irfft(np.conj(first) * np.fft.rfft(frames, size), size)[:, : longest + 1]
    sums = np.pad(np.cumsum(np.square(frames), axis=1), [(0, 0), (1, 0)])
    energies = sums[:, window : window + longest + 1] - sums[:, : longest + 1]
    # Equation 6: the squared difference of the window and the window that is shifted.
    differences = np.maximum(energies[:, :1] + energies - 2 * products, 0.0)
    # Equation 8: divided by the mean over all shorter shifts.
    shifts = np.arange(1, longest + 1)
    means = np.cumsum(differences[:, 1:], axis=1) / shifts
    normalized = differences[:, 1:] / np.maximum(means, _SILENCE)
    return np.pad(normalized, [(0, 0), (1, 0)], constant_values=1.0)


def _best_periods(differences: np.ndarray, shortest: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the period of each frame in samples, and its difference."""
    inner = differences[:, shortest:-1]
    before, after = differences[:, shortest - 1 : -2], differences[:, shortest + 1 :]
    below = (inner <= before) & (inner < after) & (inner < CHOSEN)
    chosen = np.where(below.any(axis=1), below.argmax(axis=1), inner.argmin(axis=1)) + shortest
    rows = np.arange(len(differences))
    before, at, after = (differences[rows, chosen + step] for step in (-1, 0, 1))
    curve = before - 2 * at + after
    shift = np.where(curve > 0, (before - after) / np.where(curve > 0, 2 * curve, 1.0), 0.0)
    return chosen + np.clip(shift, -0.5, 0.5), at

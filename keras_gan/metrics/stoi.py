"""Short-time objective intelligibility of sounds against their real partners."""

from __future__ import annotations

import functools
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import signal

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics._needs import Missing
from keras_gan.metrics.waves import check_waves
from keras_gan.spec import Spec
from serving.kinds.audio import rate_of

RATE = 10_000  # Hz at which clips are compared
WINDOW, SIZE = 256, 512  # samples of a frame, half of which the next one shares, and of its DFT
BANDS, LOWEST = 15, 150.0  # one-third octave bands, and the center of the lowest one in Hz
SEGMENT = 30  # frames that are compared together
CLIPPED = -15.0  # dB, the lowest signal-to-distortion ratio of a band in a frame
QUIET = 40.0  # dB below the loudest frame of the real clip, at which frames are left out
LEAST = (SEGMENT + 1) * WINDOW // 2 / RATE  # seconds


class Stoi(Metric):
    """Short-time objective intelligibility, the mean over the clips that hold enough sound."""

    title = "Short-time objective intelligibility"
    better = "higher"
    least = 1
    kinds = ("audio",)
    needs = ("pairs",)
    in_training = True
    order = 34

    def of(self, inputs: EvaluationInputs) -> float:
        pairs = inputs.paired
        return stoi(pairs.real, pairs.generated, inputs.sample_rate)

    def unfit(self, spec: Spec) -> Missing | None:
        unfit, time = super().unfit(spec), spec.shape[0]
        if unfit is not None or time is None:
            return unfit
        rate = rate_of(spec.samples.meta)
        if time >= LEAST * rate:
            return None
        return Missing(f"clips of at least {LEAST:.2f} s", f"{time} samples at {rate:g} Hz")

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real), "rate": RATE, "segment": SEGMENT}


def stoi(real: np.ndarray, generated: np.ndarray, sample_rate: float) -> float:
    """Returns the mean over clips of the short-time objective intelligibility.

    Clips are resampled to 10 kHz, and frames are left out where the real clip is 40 dB below its
    loudest frame. A clip of less than 30 remaining frames is left out.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1], of at least
            0.4 s.
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.

    Returns:
        The intelligibility, 1 for equal clips; NaN if all clips are left out.

    Raises:
        UsageError: clips of different shapes, none, too short, or not finite floats.

    Reference:
        - [Taal et al., 2011](https://doi.org/10.1109/TASL.2011.2114881)
    """
    values = []
    for clip, partner in zip(*check_waves(real, generated, sample_rate, LEAST), strict=True):
        x, y = _without_silence(_to_rate(clip, sample_rate), _to_rate(partner, sample_rate))
        envelopes = _bands(x), _bands(y)
        if len(envelopes[0]) >= SEGMENT:
            values.append(_correlation(*envelopes))
    return float(np.mean(values)) if values else float("nan")


def _to_rate(clip: np.ndarray, sample_rate: float) -> np.ndarray:
    ratio = Fraction(RATE) / Fraction(sample_rate).limit_denominator(1000)
    if ratio == 1:
        return clip
    return signal.resample_poly(clip, ratio.numerator, ratio.denominator, window=("kaiser", 8.0))


def _frames(clip: np.ndarray) -> np.ndarray:
    """Returns the windowed frames of a clip that lie inside of it."""
    if len(clip) < WINDOW:
        return np.zeros((0, WINDOW))
    windows = np.lib.stride_tricks.sliding_window_view(clip, WINDOW)[:: WINDOW // 2]
    return windows * np.hanning(WINDOW + 2)[1:-1]


def _without_silence(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns both clips without the frames in which the real one is quiet, overlap-added."""
    x, y = _frames(real), _frames(generated)
    powers = np.square(x).sum(axis=1)
    kept = powers > powers.max(initial=0.0) * 10 ** (-QUIET / 10)
    return _overlap_add(x[kept]), _overlap_add(y[kept])


def _overlap_add(frames: np.ndarray) -> np.ndarray:
    half = WINDOW // 2
    total = np.zeros((len(frames) + 1, half))
    total[:-1] += frames[:, :half]
    total[1:] += frames[:, half:]
    return total.reshape(-1) if len(frames) else np.zeros(0)


@functools.cache
def _band_matrix() -> np.ndarray:
    """Returns which frequencies of the DFT belong to which one-third octave band."""
    frequencies = np.arange(SIZE // 2 + 1) * RATE / SIZE
    centers = LOWEST * 2.0 ** (np.arange(BANDS) / 3)
    edges = [
        [np.abs(frequencies - center * 2.0**step).argmin() for center in centers]
        for step in (-1 / 6, 1 / 6)
    ]
    bins = np.arange(len(frequencies))[:, np.newaxis]
    return ((bins >= edges[0]) & (bins < edges[1])).astype(np.float64)


def _bands(clip: np.ndarray) -> np.ndarray:
    """Returns the magnitude of each band in each frame, `(frames, bands)` (equation 1)."""
    spectrum = np.fft.rfft(_frames(clip), SIZE)
    return np.sqrt((spectrum.real**2 + spectrum.imag**2) @ _band_matrix())


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Returns the mean correlation over bands and segments (equations 3 to 6)."""
    x, y = (np.lib.stride_tricks.sliding_window_view(v, SEGMENT, axis=0) for v in (x, y))
    tiny = np.finfo(np.float64).tiny
    norms = [np.linalg.norm(v, axis=2, keepdims=True) for v in (x, y)]
    y = np.minimum(y * norms[0] / np.maximum(norms[1], tiny), x * (1 + 10 ** (-CLIPPED / 20)))
    x, y = (v - v.mean(axis=2, keepdims=True) for v in (x, y))
    scale = np.linalg.norm(x, axis=2) * np.linalg.norm(y, axis=2)
    return float(((x * y).sum(axis=2) / np.maximum(scale, tiny)).mean())

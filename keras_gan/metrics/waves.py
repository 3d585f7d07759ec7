"""Clips of sound and their partners, as the metrics of pairs compare them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from keras_gan.errors import UsageError
from serving.mel import Mel

SECONDS = 0.032  # length of the standard window, before it is rounded to a power of 2
MOST_MELS = 80
_VALUES = 2**20  # samples of the clips that are processed together


def standard_mel(sample_rate: float) -> Mel:
    """Returns the definition of the log-mel spectrograms that metrics compare.

    It depends on the sampling rate alone, so that vocoders of different spectrograms are compared
    by one definition: the window is the power of 2 nearest to 32 ms, the hop a quarter of it, and
    there are 5/32 of its samples of mels, at most 80. At 8 kHz that is a window of 256, a hop of
    64 and 40 mels; at 16 kHz 512, 128 and 80.

    Args:
        sample_rate: sampling rate in Hz, from 1,000.

    Raises:
        UsageError: a lower rate.
    """
    if sample_rate < 1_000:
        raise UsageError(
            "`sample_rate` must be at least 1,000 Hz for a metric of sound. "
            f"Received: sample_rate={sample_rate}"
        )
    window = 2 ** round(math.log2(SECONDS * sample_rate))
    mels = min(MOST_MELS, window * 5 // 32)
    return Mel(round(sample_rate), hop=window // 4, window=window, n_fft=window, mels=mels)


def check_waves(
    real: np.ndarray, generated: np.ndarray, sample_rate: float, least: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Returns clips and their partners as float64 `(clips, time)`; each channel is a clip.

    Args:
        real: clips `(count, time)` or `(count, time, channels)`, values in [-1, 1].
        generated: their partners, row by row, of the same shape.
        sample_rate: sampling rate in Hz.
        least: shortest length in seconds.

    Raises:
        UsageError: clips of different shapes, none, too short, or not finite floats.
    """
    real, generated = np.asarray(real), np.asarray(generated)
    if real.shape != generated.shape or real.ndim not in (2, 3) or not real.size:
        raise UsageError(
            "`real` and `generated` must be as many clips of the same length, (count, time) or "
            f"(count, time, channels). Received: {real.shape} and {generated.shape}"
        )
    for name, clips in (("real", real), ("generated", generated)):
        if clips.dtype.kind != "f" or not np.isfinite(clips).all():
            found = "NaN or infinity" if clips.dtype.kind == "f" else f"dtype {clips.dtype}"
            raise UsageError(f"`{name}` must be finite floats in [-1, 1]. Received: {found}")
    if real.shape[1] < least * sample_rate:
        raise UsageError(
            f"Clips must last at least {least:g} s for this metric. "
            f"Received: {real.shape[1]} samples at {sample_rate:g} Hz"
        )
    return _by_channel(real), _by_channel(generated)


def _by_channel(clips: np.ndarray) -> np.ndarray:
    clips = clips.astype(np.float64)
    if clips.ndim == 2:
        return clips
    return np.moveaxis(clips, 2, 1).reshape(-1, clips.shape[1])


def parts_of(real: np.ndarray, generated: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields some clips and their partners at a time, so that memory stays bounded."""
    together = max(1, _VALUES // real.shape[1])
    for start in range(0, len(real), together):
        yield real[start : start + together], generated[start : start + together]

"""Drawings of sound: the waveform over its log-mel spectrogram, with seconds and the peak."""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image, ImageDraw

from serving.kinds import _heat
from serving.mel import Mel, multiply

WIDTH, WAVE, MELS, LINE = 256, 56, 64, 13  # pixels: of a cell, and of its rows
LEAST = -80.0  # dB of black; 0 dB, of a full-scale tone, is the lightest
HEIGHT = LINE + WAVE + MELS + LINE
_SECONDS = 0.032  # of a window
_INKS = ("#1f5fa8", "#c0561f")


def cell(sample: np.ndarray, rate: int) -> np.ndarray:
    """Draws one sound.

    Args:
        sample: floats `(time, channels)`, of which the first two are drawn; in [-1, 1], what is
            beyond is cut off.
        rate: sampling rate in Hz.

    Returns:
        uint8 array `(HEIGHT, WIDTH, 3)`.
    """
    finite = np.nan_to_num(sample.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    peak = float(np.abs(finite).max()) if finite.size else 0.0
    draw.text((2, 1), f"peak {peak:.3f}", fill="#b02020" if peak > 1.0 else "#444444")
    draw.rectangle((0, LINE, WIDTH - 1, LINE + WAVE - 1), outline="#dddddd")
    for channel in reversed(range(min(2, finite.shape[1]))):
        ends = LINE + 1 + (1.0 - _extremes(finite[:, channel]).clip(-1.0, 1.0)) / 2.0 * (WAVE - 3)
        for x, (bottom, top) in enumerate(ends.tolist()):
            draw.line((x, top, x, bottom), fill=_INKS[channel])
    levels = _levels(finite.mean(axis=1), rate)
    image.paste(Image.fromarray(_heat.colored(levels, LEAST, 0.0)), (0, LINE + WAVE))
    _draw_seconds(draw, len(sample) / rate)
    return np.asarray(image)


def _extremes(values: np.ndarray) -> np.ndarray:
    """Returns the least and the greatest value of each column, `(WIDTH, 2)`."""
    starts = np.arange(WIDTH) * len(values) // WIDTH
    return np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], 1)


def _levels(mono: np.ndarray, rate: int) -> np.ndarray:
    """Returns the level of each mel band in dB, `(WIDTH, MELS)`; 0 dB is a full-scale tone."""
    window, hann, weights = _bands(rate)
    padded = np.pad(mono, (window // 2, window))
    starts = ((np.arange(WIDTH) + 0.5) * len(mono) / WIDTH).astype(int)  # the centers are in `mono`
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[starts]
    magnitudes = np.abs(np.fft.rfft(frames * hann, 2 * window)) * (4.0 / window)
    return 20.0 * np.log10(np.maximum(multiply(magnitudes, weights), 1e-9))


@functools.lru_cache(maxsize=8)
def _bands(rate: int) -> tuple[int, np.ndarray, np.ndarray]:
    """Returns the samples of a window, the window, and the weight of each frequency in each band.

    The largest weight of each band is 1.
    """
    window = 2 ** max(6, round(np.log2(max(1.0, _SECONDS * rate))))
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    bands = Mel(sample_rate=rate, hop=window, window=window, n_fft=2 * window, mels=MELS).filters
    return window, hann, (bands / bands.max(axis=1, keepdims=True)).T


def _draw_seconds(draw: ImageDraw.ImageDraw, seconds: float) -> None:
    """Draws an axis of time with two to five marks at round numbers."""
    top = LINE + WAVE + MELS
    step = 10.0 ** np.floor(np.log10(max(seconds, 1e-9) / 2.0))
    step *= next(x for x in (5.0, 2.0, 1.0) if x * step <= seconds / 2.0)
    for number in range(int(seconds / step + 1e-9) + 1):
        x = min(WIDTH - 1, number * step / seconds * WIDTH)
        draw.line((x, top, x, top + 3), fill="#444444")
        unit = " s" if number == 0 else ""
        text = f"{number * step:.6g}{unit}"
        draw.text((min(x + 2, WIDTH - 6 * len(text)), top + 1), text, fill="#444444")

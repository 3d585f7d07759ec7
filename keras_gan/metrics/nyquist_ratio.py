"""Nyquist ratio: energy of the finest detail of generated images, relative to real ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.fft

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of

LEAST_SIZE = 8  # of an image's height and width
BAND = 7 / 16  # lower end of the band, in cycles per pixel; the Nyquist frequency is 1/2
_VALUES = 2**22  # values of the images that are processed together


class NyquistRatio(Metric):
    """Nyquist ratio of up to 1,000 generated images, and as many real ones; 1 is right."""

    title = "Energy next to the Nyquist frequency, relative to real images"
    least = 1
    kinds = ("image",)
    least_size = LEAST_SIZE
    needs = ("images",)
    in_training = True
    order = 36

    def of(self, inputs: EvaluationInputs) -> float:
        return nyquist_ratio(*inputs.pixels)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"images": len(inputs.pixels[0]), "least_cycles_per_pixel": BAND}


def nyquist_ratio(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the energy of generated images next to the Nyquist frequency, relative to real ones.

    A comb or checkerboard of pixels, as transposed convolutions with a stride of 2 leave it, has a
    ratio far above 1; blurred images one far below 1; noise one above 1. The energy is the mean
    squared magnitude of the Fourier coefficients of at least 7/16 cycles per pixel, horizontally
    or vertically, the uppermost eighth of each axis. Each channel is first reduced by its mean
    and multiplied with a Hann window, so that edges at the borders of an image do not count.

    Args:
        real: `(count, height, width, channels)`, height and width from 8; uint8, or floating point
            in any range.
        generated: images of the same size and channels, in the same range; the count may differ.

    Returns:
        The ratio, from 0 up; NaN if the real images have no energy there.

    Raises:
        UsageError: images of different or too small sizes, or no images.

    Reference:
        - [Odena et al., 2016](https://doi.org/10.23915/distill.00003): the checkerboard
        - [Durall et al., 2020](https://arxiv.org/abs/2003.01826): the spectra of generated images
    """
    real, generated = np.asarray(real), np.asarray(generated)
    fits = real.ndim == 4 and real.shape[1:] == generated.shape[1:] and len(real) and len(generated)
    if not fits or min(real.shape[1:3]) < LEAST_SIZE:
        raise UsageError(
            "real and generated must be images of the same shape, (count, height, width, channels) "
            f"with height and width from {LEAST_SIZE}. "
            f"Received: {real.shape} and {generated.shape}"
        )
    scale = _energy(real)
    return _energy(generated) / scale if scale > 0 else math.nan


def _energy(images: np.ndarray) -> float:
    """Returns the mean energy of an image in the band."""
    height, width = images.shape[1:3]
    window = _hann(height)[:, np.newaxis] * _hann(width)
    rows, columns = np.abs(np.fft.fftfreq(height)), np.abs(np.fft.fftfreq(width))
    band = np.maximum(rows[:, np.newaxis], columns) >= BAND
    total = 0.0
    for part in slices_of(images, _VALUES):
        values = images[part].astype(np.float64)
        values -= values.mean(axis=(1, 2), keepdims=True)
        spectrum: Any = scipy.fft.fft2(values * window[..., np.newaxis], axes=(1, 2))
        total += float(np.square(np.abs(spectrum[:, band])).sum())
    return total / len(images)


def _hann(size: int) -> np.ndarray:
    """Returns a periodic Hann window, sin^2 of the middle of each pixel, without zeros."""
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2

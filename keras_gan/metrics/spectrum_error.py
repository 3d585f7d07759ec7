"""Spectrum error: power of fine detail in answers, compared with real pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.gradients import to_gray
from keras_gan.metrics.pairs import check_pair

LEAST_SIZE = 8  # of a picture's height and width
LOWEST = 1 / 4  # cycles per pixel: the upper half of the frequencies up to 1/2
_FLOOR = 1e-3  # power, in squared levels of gray, below which there is none; rounding has 1/12
_VALUES = 2**21  # values of the pictures that are processed together


class SpectrumError(Metric):
    """Mean difference of the radial power spectra above 1/4 cycles per pixel, in decibels."""

    title = "Error of the power spectrum, upper half, in dB"
    better = "lower"
    least = 1
    kinds = ("image",)
    least_size = LEAST_SIZE
    needs = ("pairs",)
    in_training = True
    order = 32

    def of(self, inputs: EvaluationInputs) -> float:
        return spectrum_error(inputs.paired.real, inputs.paired.generated)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"pairs": len(inputs.paired.real), "least_cycles_per_pixel": LOWEST}


def spectrum_error(real: np.ndarray, generated: np.ndarray) -> float:
    """Returns the mean absolute difference of log power spectra at high frequencies, in decibels.

    The luma of each picture is reduced by its mean and multiplied with a Hann window. The power
    of its Fourier coefficients is averaged over all pictures of a set and over rings of equal
    frequency, one ring for each cycle per smaller of height and width, from 1/4 to 1/2 cycles
    per pixel. The error is the mean of `|10 log10(generated / real)|` over these rings.

    Args:
        real: uint8 `(count, height, width, channels)`, height and width from 8.
        generated: their partners, row by row, of the same shape.

    Returns:
        The error, from 0 up.

    Raises:
        UsageError: pictures of different shapes, none, not uint8, or too small.

    Reference:
        - [Durall et al., 2020](https://arxiv.org/abs/2003.01826): the spectra of generated images
    """
    check_pair(real, generated, LEAST_SIZE)
    first, second = (10 * np.log10(np.maximum(_rings(x), _FLOOR)) for x in (real, generated))
    return float(np.abs(first - second).mean())


def _rings(pictures: np.ndarray) -> np.ndarray:
    """Returns the mean power in each ring of the upper half."""
    height, width = pictures.shape[1:3]
    size = min(height, width)
    rows, columns = np.fft.fftfreq(height), np.fft.fftfreq(width)
    rings = np.round(np.hypot(rows[:, np.newaxis], columns) * size).astype(int)
    window = _hann(height)[:, np.newaxis] * _hann(width)
    power = np.zeros((height, width))
    for part in slices_of(pictures, _VALUES):
        gray = to_gray(pictures[part])
        gray -= gray.mean(axis=(1, 2), keepdims=True)
        spectrum: Any = scipy.fft.fft2(gray * window, axes=(1, 2))
        power += np.square(np.abs(spectrum)).sum(axis=0)
    power /= len(pictures) * height * width
    lowest, highest = int(np.ceil(LOWEST * size)), size // 2
    return np.array([power[rings == ring].mean() for ring in range(lowest, highest + 1)])


def _hann(size: int) -> np.ndarray:
    """Returns a periodic Hann window, sin^2 of the middle of each pixel, without zeros."""
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2

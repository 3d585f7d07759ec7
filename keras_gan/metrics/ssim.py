"""Structural similarity of answers and their real partners."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.pairs import check_pair, prepared

WINDOW, DEVIATION = 11, 1.5  # pixels of the Gaussian window's height and width
K1, K2 = 0.01, 0.03  # constants of the paper
_VALUES = 2**20  # values of the pictures that are processed together


class Ssim(Metric):
    """Mean structural similarity of the answers, with the Gaussian window of the paper."""

    title = "Structural similarity"
    better = "higher"
    least = 1
    kinds = ("image",)
    least_size = WINDOW
    needs = ("pairs",)
    in_training = True
    order = 31

    def of(self, inputs: EvaluationInputs) -> float:
        return _mean(*inputs.paired.signals)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        window = {"window": WINDOW, "deviation": DEVIATION, "k1": K1, "k2": K2}
        return {**inputs.paired.settings, **window}


def ssim(real: np.ndarray, generated: np.ndarray, luma: bool = False, shave: int = 0) -> float:
    """Returns the mean structural similarity of pictures and their partners.

    The local means, variances and covariance are those of a Gaussian window of 11 x 11 pixels
    with a standard deviation of 1.5, at all places where it fits. Channels are averaged.

    Args:
        real: uint8 `(count, height, width, channels)`, height and width from 11 without the
            borders.
        generated: their partners, row by row, of the same shape.
        luma: compare the luma of color pictures, ITU-R BT.601 from 0 to 255, instead of all
            channels.
        shave: pixels at each border that are left out, from 0 up.

    Returns:
        The similarity, from -1 to 1 (equal).

    Raises:
        UsageError: pictures of different shapes, none, not uint8, or too small.

    Reference:
        - [Wang et al., 2004](https://doi.org/10.1109/TIP.2003.819861)
    """
    check_pair(real, generated, WINDOW + 2 * shave)
    return _mean(prepared(real, luma, shave), prepared(generated, luma, shave))


def _mean(real: np.ndarray, generated: np.ndarray) -> float:
    total = 0.0
    for part in slices_of(real, _VALUES):
        similarities = _similarities(real[part].astype(float), generated[part].astype(float))
        total += float(similarities.mean(axis=(1, 2, 3)).sum())
    return total / len(real)


def _similarities(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the similarity at each place where the window fits, equation 13 of the paper."""
    mean_x, mean_y = _filtered(x), _filtered(y)
    variance_x = _filtered(x * x) - mean_x**2
    variance_y = _filtered(y * y) - mean_y**2
    covariance = _filtered(x * y) - mean_x * mean_y
    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def _filtered(pictures: np.ndarray) -> np.ndarray:
    """Returns the mean of each window, without those that exceed the picture."""
    places = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(places**2) / (2 * DEVIATION**2))
    weights /= weights.sum()
    for axis in (1, 2):
        pictures = ndimage.correlate1d(pictures, weights, axis=axis)
    border = WINDOW // 2
    return pictures[:, border:-border, border:-border]

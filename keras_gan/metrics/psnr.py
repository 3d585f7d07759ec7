"""Peak signal-to-noise ratio of answers and their real partners."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.pairs import check_pair, prepared

MOST = 100.0  # decibels of a picture that is equal to its partner
_VALUES = 2**22  # values of the pictures that are processed together


class Psnr(Metric):
    """Mean peak signal-to-noise ratio of the answers, in decibels."""

    title = "Peak signal-to-noise ratio, in dB"
    better = "higher"
    least = 1
    kinds = ("image",)
    needs = ("pairs",)
    in_training = True
    order = 31

    def of(self, inputs: EvaluationInputs) -> float:
        return _mean(*inputs.paired.signals)

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {**inputs.paired.settings, "mean_of": "pictures", "equal_pictures": MOST}


def psnr(real: np.ndarray, generated: np.ndarray, luma: bool = False, shave: int = 0) -> float:
    """Returns the mean over pictures of the peak signal-to-noise ratio, in decibels.

    The ratio of a picture is `10 log10(255^2 / MSE)`; a picture equal to its partner counts 100.

    Args:
        real: uint8 `(count, height, width, channels)`.
        generated: their partners, row by row, of the same shape.
        luma: compare the luma of color pictures, ITU-R BT.601 from 0 to 255, instead of all
            channels.
        shave: pixels at each border that are left out, from 0 up.

    Raises:
        UsageError: pictures of different shapes, none, not uint8, or too small for `shave`.
    """
    check_pair(real, generated)
    return _mean(prepared(real, luma, shave), prepared(generated, luma, shave))


def _mean(real: np.ndarray, generated: np.ndarray) -> float:
    ratios = []
    for part in slices_of(real, _VALUES):
        squares = np.square(real[part].astype(np.float64) - generated[part])
        errors = squares.mean(axis=(1, 2, 3))
        least = 255**2 / 10 ** (MOST / 10)
        ratios.append(10 * np.log10(255**2 / np.maximum(errors, least)))
    return float(np.concatenate(ratios).mean())

"""Gradients of pictures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from keras_gan.metrics.images import luma


def to_gray(pictures: np.ndarray) -> np.ndarray:
    """Returns pictures `(count, height, width, channels)` as float64 `(count, height, width)`.

    Color becomes luma, ITU-R BT.601.
    """
    gray = luma(pictures) if pictures.shape[-1] > 1 else pictures.astype(np.float64)
    return gray[..., 0]


def prewitt_magnitude(gray: np.ndarray) -> np.ndarray:
    """Returns the magnitude of the gradient by the Prewitt filters of thirds, zeros outside.

    Args:
        gray: float64 `(count, height, width)`.
    """
    # Not `ndimage.prewitt`, which also averages over the first axis: over neighboring pictures.
    by_axis = []
    for axis, other in ((1, 2), (2, 1)):
        differences = ndimage.correlate1d(gray, [-1, 0, 1], axis, mode="constant")
        by_axis.append(ndimage.correlate1d(differences, [1, 1, 1], other, mode="constant") / 3)
    return np.hypot(*by_axis)


def forward_magnitude(gray: np.ndarray) -> np.ndarray:
    """Returns the absolute differences to the next pixel below and to the right, added up.

    Args:
        gray: float64 `(count, height, width)`, height and width from 2.

    Returns:
        `(count, height - 1, width - 1)`.
    """
    down = np.abs(np.diff(gray, axis=1)[:, :, :-1])
    return down + np.abs(np.diff(gray, axis=2)[:, :-1])

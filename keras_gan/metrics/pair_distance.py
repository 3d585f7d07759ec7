"""Distance of pairs of images: diversity, relative to real images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices

_VALUES = 4096  # of each image that are processed together


class PairDistance(Metric):
    """Mean distance of two generated images, of two real ones, and the ratio of the two.

    Of up to 1,000 images each. Much below 1 the images are alike or pale; noise is above 1.
    """

    title = "Mean distance of two images"
    kinds = ("image",)
    needs = ("images",)
    outputs = ("pair_distance_ratio", "pair_distance")
    in_training = True
    order = 37

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        real, generated = map(pair_distance, inputs.pixels)
        return {
            "pair_distance_ratio": generated / real if real > 0 else math.nan,
            "pair_distance": generated,
            "pair_distance_real": real,
        }

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {"images": len(inputs.pixels[0]), "unit": "levels of gray, of 255"}


def pair_distance(images: np.ndarray) -> float:
    """Returns the mean Euclidean distance of all pairs of different images.

    Args:
        images: `(count, height, width, channels)`, uint8, at least 2.

    Returns:
        The distance in levels of gray: 255 for two images that differ in one black or white value.

    Raises:
        UsageError: fewer than 2 images, or images that are not uint8.
    """
    count = len(images)
    if count < 2 or images.dtype != np.uint8:
        raise UsageError(
            "A distance of pairs needs at least 2 images, uint8. "
            f"Received: {count} images of type {images.dtype}"
        )
    flat = images.reshape(count, -1)
    products = np.zeros((count, count))
    for part in slices(flat.shape[1], _VALUES):
        values = flat[:, part].astype(np.float64)
        products += values @ values.T  # exact: sums of integers far below 2^53
    norms = np.diagonal(products)
    distances = np.sqrt(norms[:, np.newaxis] + norms - 2 * products)
    return float(distances.sum()) / (count * (count - 1))

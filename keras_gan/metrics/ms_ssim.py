"""MS-SSIM diversity: how alike random pairs of images are."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.metrics.accumulators import slices

# Of the five scales, the finest first (Wang et al., 2003).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11


def ms_ssim_diversity(
    images: np.ndarray,
    pairs: int = 1000,
    value_range: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> float:
    """Mean multi-scale structural similarity of random pairs of images: lower is more diverse.

    A collapsed generator's is near 1. It says nothing of how good the images are (noise scores
    best), so compare it with that of as many real images. With labels both images of a pair are
    of one class, as Odena et al. have it: else the difference of classes hides a collapse within
    each. An 11 x 11 Gaussian window of deviation 1.5, weights of Wang et al. for as many of the
    five scales as the window fits in (28 x 28: 2, 32 x 32: 2, 64 x 64: 3, from 176 x 176: 5),
    scaled to add up to 1; color channels are averaged, negative contrasts count as 0.

    Args:
        images: `(count, height, width, channels)`, at least 2, sides from 11.
        pairs: number of pairs of different images, drawn at random, from 1.
        value_range: least and greatest value that an image can have.
        seed: seed of the pairs.
        labels: class ids, `(count,)`: pairs are within a class, classes as frequent as among the
            images; images alone in their class are left out. By default any two images are a pair.

    Returns:
        From 0 to 1 (all equal).

    Raises:
        UsageError: fewer than 2 images, images that are too small, values outside of the range,
            labels of which none comes twice.

    Reference:
        - [Wang et al., 2003](https://doi.org/10.1109/ACSSC.2003.1292216)
        - [Odena et al., 2017](https://arxiv.org/abs/1610.09585): as a measure of diversity
    """
    images = np.asarray(images)
    _check(images, pairs, value_range)
    low, high = value_range
    rng = np.random.default_rng(seed)
    if labels is None:
        first = rng.integers(len(images), size=pairs)
        second = (first + rng.integers(1, len(images), size=pairs)) % len(images)  # another one
    else:
        first, second = _within_classes(np.asarray(labels), len(images), pairs, rng)
    weights = WEIGHTS[: scales(min(images.shape[1:3]))]
    weights = [weight / sum(weights) for weight in weights]
    image: Any = tf.image
    total = 0.0
    for part in slices(pairs, max(1, 2**22 // images[0].size)):
        a, b = (images[ids[part]].astype(np.float32) - low for ids in (first, second))
        values = image.ssim_multiscale(a, b, high - low, power_factors=weights, filter_size=WINDOW)
        total += float(np.sum(values, dtype=np.float64))
    return total / pairs


def _within_classes(
    labels: np.ndarray, count: int, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of two different images of one class for each pair."""
    if labels.shape != (count,):
        raise UsageError(
            f"There must be one label for each of the {count} images. Received: {labels.shape}"
        )
    order = np.argsort(labels, kind="stable")
    _, starts, place, sizes = np.unique(
        labels[order], return_index=True, return_inverse=True, return_counts=True
    )
    several = np.flatnonzero(sizes[place] > 1)
    if not len(several):
        raise UsageError(
            "Pairs within a class need 2 images of one class. "
            f"Received: {count} images of {len(sizes)} classes"
        )
    first = several[rng.integers(len(several), size=pairs)]
    start, size = starts[place[first]], sizes[place[first]]
    second = start + (first - start + rng.integers(1, size)) % size  # another one of its class
    return order[first], order[second]


def scales(side: int) -> int:
    """How many of the five scales an image of this lesser side has."""
    return sum(side // 2**scale >= WINDOW for scale in range(len(WEIGHTS)))


def _check(images: np.ndarray, pairs: int, value_range: tuple[float, float]) -> None:
    if images.ndim != 4 or len(images) < 2 or pairs < 1:
        raise UsageError(
            "MS-SSIM diversity takes at least 1 pair of at least 2 images, "
            f"(count, height, width, channels). Received: shape {images.shape}, pairs={pairs}"
        )
    if min(images.shape[1:3]) < WINDOW:
        raise UsageError(
            f"The window of MS-SSIM needs images of at least {WINDOW} x {WINDOW}. "
            f"Received: {images.shape[1]} x {images.shape[2]}"
        )
    low, high = value_range
    least, greatest = float(images.min()), float(images.max())
    slack = 1e-3 * (high - low)
    if not low < high or not (low - slack <= least and greatest <= high + slack):
        raise UsageError(
            "Images must have finite values in value_range. "
            f"Received: {least:.6g} to {greatest:.6g}, value_range={tuple(value_range)}"
        )

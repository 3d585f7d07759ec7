"""MS-SSIM diversity: similarity of random pairs of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices
from keras_gan.metrics.samples import Batch

# Weights of the five scales, the finest first (Wang et al., 2003).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11  # pixels
PAIRS = 1000


class MsSsim(Metric):
    """MS-SSIM of random pairs of generated images, and of as many real ones.

    Both images of a pair are of one class if all samples have labels and no class occurs once.
    """

    title = "MS-SSIM"
    better = "lower"
    kinds = ("image",)
    least_size = WINDOW
    needs = ("images",)
    order = 80

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        within_classes = _within_classes_only(inputs)
        names, values = ("ms_ssim_real", "ms_ssim"), {}
        for name, (images, labels) in zip(names, _images(inputs), strict=True):
            within = labels if within_classes else None
            values[name] = ms_ssim_diversity(images, PAIRS, (0, 255), inputs.seed, within)
        return {name: values[name] for name in ("ms_ssim", "ms_ssim_real")}

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        return {
            "images": len(_images(inputs)[0][0]),
            "pairs": PAIRS,
            "of": "one class" if _within_classes_only(inputs) else "any two images",
            "seed": inputs.seed,
        }


def _images(inputs: EvaluationInputs) -> tuple[Batch, Batch]:
    if inputs.images is None:
        raise UsageError("MS-SSIM needs images. Received: images=None")
    return inputs.images


def _within_classes_only(inputs: EvaluationInputs) -> bool:
    return all(_has_pairs(labels) for _, labels in _images(inputs))


def _has_pairs(labels: np.ndarray | None) -> bool:
    """Returns whether each class that occurs has at least two samples."""
    return labels is not None and bool(np.unique(labels, return_counts=True)[1].min() > 1)


def ms_ssim_diversity(
    images: np.ndarray,
    pairs: int = 1000,
    value_range: tuple[float, float] = (-1.0, 1.0),
    seed: int = 0,
    labels: np.ndarray | None = None,
) -> float:
    """Returns the mean multi-scale structural similarity of random pairs of images.

    Lower is more diverse; a collapsed generator has values near 1. It does not measure quality
    (noise scores best), so compare it with the value of as many real images. With labels both
    images of a pair are of one class, as in Odena et al.; otherwise the difference between classes
    hides a collapse within each.

    The window is Gaussian, 11 x 11 with standard deviation 1.5. The weights of Wang et al. are
    those of as many of the five scales as the window fits in (28 x 28: 2, 32 x 32: 2, 64 x 64: 3,
    from 176 x 176: 5), scaled to sum to 1. Color channels are averaged, and negative contrasts
    count as 0.

    Args:
        images: `(count, height, width, channels)`, at least 2, height and width from 11.
        pairs: number of random pairs of different images, from 1.
        value_range: least and greatest value that an image can have.
        seed: seed of the pairs.
        labels: class ids, `(count,)`. Pairs are then within a class, with classes as frequent as
            among the images; an image alone in its class is left out. By default a pair is any
            two images.

    Returns:
        The similarity, from 0 to 1 (all equal).

    Raises:
        UsageError: fewer than 2 images, images that are too small, values out of range, or labels
            that are all different.

    Reference:
        - [Wang et al., 2003](https://doi.org/10.1109/ACSSC.2003.1292216)
        - [Odena et al., 2017](https://arxiv.org/abs/1610.09585): as a metric of diversity
    """
    images = np.asarray(images)
    _check(images, pairs, value_range)
    low, high = value_range
    rng = np.random.default_rng(seed)
    if labels is None:
        first = rng.integers(len(images), size=pairs)
        second = (first + rng.integers(1, len(images), size=pairs)) % len(
            images
        )  # a different image
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
    """Returns the indices of two different images of one class for each pair."""
    if labels.shape != (count,):
        raise UsageError(
            f"labels must have one label for each of the {count} images. Received: {labels.shape}"
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
    second = start + (first - start + rng.integers(1, size)) % size  # different, of its class
    return order[first], order[second]


def scales(size: int) -> int:
    """Returns how many of the five scales fit an image with this smaller of height and width."""
    return sum(size // 2**scale >= WINDOW for scale in range(len(WEIGHTS)))


def _check(images: np.ndarray, pairs: int, value_range: tuple[float, float]) -> None:
    if images.ndim != 4 or len(images) < 2 or pairs < 1:
        raise UsageError(
            "MS-SSIM diversity needs at least 1 pair of at least 2 images, "
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

"""Background: plain backgrounds of answers, compared with those of real pictures."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage

from keras_gan.errors import UsageError
from keras_gan.metrics._metric import EvaluationInputs, Metric
from keras_gan.metrics.accumulators import slices_of
from keras_gan.metrics.pairs import check_pair

TOLERANCE = 8  # levels of 255 by which a pixel of a plain background may be off the border's color
PLAIN = 0.9  # share of a picture's border that must be of one color
LEAST_SIZE = 4  # of a picture's height and width
_VALUES = 2**22  # values of the pictures that are processed together
# Neighbors of a pixel: the four beside it in its own picture, none in others.
_NEIGHBORS = np.zeros((3, 3, 3), bool)
_NEIGHBORS[1] = scipy.ndimage.generate_binary_structure(2, 1)


class BackgroundResult(NamedTuple):
    """Levels of backgrounds, from 0 for black to 255 for white; NaN without any.

    Args:
        difference: mean absolute difference of the answers' backgrounds from the real ones.
        level: mean level of the answers' backgrounds.
        real_level: mean level of the real ones.
        pictures: number of conditions with a plain background, whose answers were compared.
    """

    difference: float
    level: float
    real_level: float
    pictures: int


class Background(Metric):
    """Mean difference of the answers' backgrounds from the real ones, in levels of gray.

    Only conditions with a plain background count. The metric reveals inverted colors, and gray in
    place of white.
    """

    title = "Difference of plain backgrounds from the real ones, in levels of gray"
    better = "lower"
    least = 1
    kinds = ("image",)
    least_size = LEAST_SIZE
    needs = ("conditions",)
    in_training = True
    order = 34

    def of(self, inputs: EvaluationInputs) -> dict[str, float]:
        found = _of(inputs)
        return {
            "background": found.difference,
            "background_level": found.level,
            "background_level_real": found.real_level,
        }

    def settings(self, inputs: EvaluationInputs) -> dict[str, Any]:
        plain = int(plain_backgrounds(inputs.paired.conditions).any(axis=(1, 2)).sum())
        real = "same pixels of the partner" if inputs.paired.paired else "median of all real"
        return {"plain_conditions": plain, "tolerance": TOLERANCE, "border": PLAIN, "real": real}


def _of(inputs: EvaluationInputs) -> BackgroundResult:
    pairs = inputs.paired
    return background(pairs.real, pairs.generated, pairs.conditions, pairs.paired)


def background(
    real: np.ndarray, generated: np.ndarray, conditions: np.ndarray, paired: bool = True
) -> BackgroundResult:
    """Returns how far the backgrounds of answers are from those of real pictures.

    A condition has a plain background if 90 % of the pixels at its border are within 8 levels of
    their median color. The background are all pixels of this color that are connected with the
    border. Its level in an answer is the median over these pixels, for each channel.

    Args:
        real: uint8 `(count, height, width, channels)`, height and width from 4.
        generated: answers, of the same shape.
        conditions: the pictures that were answered, row by row, uint8, of any size and channels.
        paired: the real picture of a row is the right answer: its level is that of the same
            pixels. Otherwise the real level is the median of those of all real pictures with a
            plain background of their own.

    Raises:
        UsageError: pictures of different shapes, none, not uint8, too small, or another number of
            conditions.
    """
    check_pair(real, generated, LEAST_SIZE)
    if conditions.ndim != 4 or len(conditions) != len(real) or conditions.dtype != np.uint8:
        raise UsageError(
            f"`conditions` must be {len(real)} pictures, uint8 (count, height, width, channels). "
            f"Received: conditions of shape {conditions.shape} {conditions.dtype}"
        )
    masks = _resized(plain_backgrounds(conditions), real.shape[1:3])
    levels = _levels(generated, masks)
    if paired:
        real_levels = _levels(real, masks)
    else:
        own = _levels(real, plain_backgrounds(real))
        real_levels = np.median(own, axis=0, keepdims=True) if len(own) else own
    if not len(levels) or not len(real_levels):
        return BackgroundResult(math.nan, math.nan, math.nan, len(levels))
    difference = float(np.abs(levels - real_levels).mean())
    return BackgroundResult(
        difference, float(levels.mean()), float(real_levels.mean()), len(levels)
    )


def plain_backgrounds(pictures: np.ndarray) -> np.ndarray:
    """Returns the pixels of the plain background of each picture, none for a picture without one.

    Args:
        pictures: uint8 `(count, height, width, channels)`.

    Returns:
        A boolean array `(count, height, width)`.
    """
    found = np.zeros(pictures.shape[:3], bool)
    for part in slices_of(pictures, _VALUES):
        found[part] = _plain_backgrounds(pictures[part])
    return found


def _plain_backgrounds(pictures: np.ndarray) -> np.ndarray:
    border = np.ones(pictures.shape[1:3], bool)
    border[1:-1, 1:-1] = False
    color = np.median(pictures[:, border], axis=1)[:, np.newaxis, np.newaxis]
    near: Any = (np.abs(pictures - color) <= TOLERANCE).all(axis=-1)
    is_plain = near[:, border].mean(axis=1) >= PLAIN
    labeled: Any = scipy.ndimage.label(near, _NEIGHBORS)
    labels, count = labeled
    touches = np.zeros(count + 1, bool)
    touches[labels[:, border]] = True
    touches[0] = False  # the label of pixels of other colors
    return touches[labels] & is_plain[:, np.newaxis, np.newaxis]


def _levels(pictures: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns the median level of each channel in the background of each picture that has one."""
    found = [
        np.median(x[mask], axis=0) for x, mask in zip(pictures, masks, strict=True) if mask.any()
    ]
    return np.array(found).reshape(-1, pictures.shape[-1])


def _resized(masks: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns masks resized to a height and width by their nearest pixels."""
    rows, columns = (
        (np.arange(new) * 2 + 1) * old // (2 * new)
        for new, old in zip(size, masks.shape[1:], strict=True)
    )
    return masks[:, rows[:, np.newaxis], columns]

"""Geometric transformations of images: matrices and bilinear resampling.

All matrices are inverses `(batch, 3, 3)`: they map (x, y, 1) in the transformed image to (x, y, 1)
in the original, in pixels from the center, x to the right and y down.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


def inverse_translation(right, down):
    """Returns the inverse of a translation by `right` and `down`, `(batch,)` each, in pixels."""
    return _matrix((1.0, 0.0, -right), (0.0, 1.0, -down), (0.0, 0.0, 1.0))


def inverse_scaling(x, y):
    """Returns the inverse of a scaling by the factors `x` and `y`, `(batch,)` each."""
    return _matrix((1 / x, 0.0, 0.0), (0.0, 1 / y, 0.0), (0.0, 0.0, 1.0))


def inverse_rotation(cos, sin):
    """Returns the inverse of a rotation by an angle, given by its cosine and sine, `(batch,)`."""
    return _matrix((cos, sin, 0.0), (-sin, cos, 0.0), (0.0, 0.0, 1.0))


def _matrix(*rows):
    """Returns matrices `(batch, n, n)` from rows of floats and of tensors `(batch,)`."""
    entries = [x for row in rows for x in row]
    like = next(x for x in entries if not isinstance(x, float))
    constants = {x: tf.fill(tf.shape(like), x) for x in entries if isinstance(x, float)}
    flat = tf.stack([constants[x] if isinstance(x, float) else x for x in entries], axis=-1)
    return tf.reshape(flat, (-1, len(rows), len(rows)))


def resample(images, inverse):
    """Resamples each image bilinearly by its own matrix.

    Args:
        images: `(batch, height, width, channels)`, float32 or float64.
        inverse: `(batch, 3, 3)`, from (x, y, 1) in the new image to (x, y, 1) in the old one, in
            pixels from the center, x to the right and y down. Beyond the border, the image is
            reflected at its outermost pixels.

    Returns:
        Images of the same shape, differentiable by `images` to any order.
    """
    _, height, width, channels = images.shape
    y, x = tf.meshgrid(_centered(height), _centered(width), indexing="ij")
    x, y = tf.reshape(x, (1, -1)), tf.reshape(y, (1, -1))
    rows = inverse[:, :2, :, None]
    positions = rows[:, :, 0] * x[:, None] + rows[:, :, 1] * y[:, None] + rows[:, :, 2]
    first_x, next_x, fraction_x = _neighbors(positions[:, 0], width)
    first_y, next_y, fraction_y = _neighbors(positions[:, 1], height)
    start = tf.range(tf.shape(images)[0])[:, None] * (height * width)
    # On a CPU the gradient of this gather is summed in a fixed order, so that resuming is exact.
    pixels = tf.reshape(images, (-1, channels))
    resampled = 0.0
    for row, weight_y in ((first_y, 1 - fraction_y), (next_y, fraction_y)):
        for column, weight_x in ((first_x, 1 - fraction_x), (next_x, fraction_x)):
            weight = ops.cast(weight_y * weight_x, images.dtype)[..., None]
            resampled += weight * tf.gather(pixels, start + row * width + column)
    return tf.reshape(resampled, tf.shape(images))


def _centered(length: int):
    """Returns the positions of an axis's pixels from its center."""
    return tf.range(length, dtype=tf.float32) - (length - 1) / 2


def _neighbors(positions, length: int):
    """Returns the indices of the two pixels around each position, and the weight of the second."""
    last = length - 1
    folded = tf.math.floormod(positions + last / 2, max(2.0 * last, 1.0))
    folded = tf.clip_by_value(last - tf.abs(folded - last), 0.0, last)
    first = tf.floor(folded)
    index = tf.cast(first, tf.int32)
    return index, tf.minimum(index + 1, last), folded - first

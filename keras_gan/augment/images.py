"""Random operations on images: each image gets its own random numbers.

Images are `(batch, height, width, channels)`; seeds are integer tensors of 2 numbers.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.augment.random import draw_integers, draw_uniform

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


def flip(images, seed):
    """Flips each image left to right with probability 1/2."""
    flipped = tf.cast(draw_integers(images, seed, 2), tf.bool)[:, None, None, None]
    return tf.where(flipped, tf.reverse(images, axis=[2]), images)


def brightness(images, seed):
    """Adds a number of U(-0.5, 0.5) to each image."""
    return images + draw_uniform(images, seed, -0.5, 0.5)


def saturation(images, seed):
    """Multiplies each pixel's distance from the mean of its channels by U(0, 2)."""
    gray = ops.mean(images, axis=3, keepdims=True)
    return gray + (images - gray) * draw_uniform(images, seed, 0.0, 2.0)


def contrast(images, seed):
    """Multiplies each value's distance from the mean of its image by U(0.5, 1.5)."""
    # The mean is computed in float32, because the sum over an image overflows half precision.
    wide = ops.cast(images, keras.backend.result_type(images.dtype, "float32"))
    mean = ops.cast(ops.mean(wide, axis=(1, 2, 3), keepdims=True), images.dtype)
    return mean + (images - mean) * draw_uniform(images, seed, 0.5, 1.5)


def translation(images, seed, ratio: float = 1 / 8):
    """Translates each image by whole pixels and fills with zeros.

    Args:
        images: `(batch, height, width, channels)`.
        seed: integer tensor of 2 numbers.
        ratio: largest shift in either direction, as a fraction of the height or width.
    """
    for axis in (1, 2):
        length = images.shape[axis]
        limit = int(length * ratio + 0.5)
        shift = draw_integers(images, random_numbers.fold_in(seed, axis), 2 * limit + 1) - limit
        padding = [(0, 0)] * 4
        padding[axis] = (limit, limit)
        # No index occurs twice, so the gradient does not depend on the order of a sum.
        index = tf.range(length)[None] + limit - shift[:, None]
        images = tf.gather(ops.pad(images, padding), index, axis=axis, batch_dims=1)
    return images


def cutout(images, seed, ratio: float = 1 / 2):
    """Sets a rectangle of each image to 0, with its center anywhere in the image.

    Args:
        images: `(batch, height, width, channels)`.
        seed: integer tensor of 2 numbers.
        ratio: height and width of the rectangle, as a fraction of those of the image.
    """
    inside = []
    for axis in (1, 2):
        length = images.shape[axis]
        size = int(length * ratio + 0.5)
        # Centers of a rectangle of even size lie between pixels: there is one more of them.
        places = length + 1 - size % 2
        first = draw_integers(images, random_numbers.fold_in(seed, axis), places) - size // 2
        offset = tf.range(length)[None] - first[:, None]
        inside.append((offset >= 0) & (offset < size))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return images * ops.cast(~hole, images.dtype)

"""The augmentation pipeline of StyleGAN2-ADA, with a fixed or scheduled probability."""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules
from keras_gan.augment.base import Augment, check_images, checked_probability
from keras_gan.augment.random import RandomNumbers
from keras_gan.augment.resampling import (
    inverse_rotation,
    inverse_scaling,
    inverse_translation,
    resample,
)
from keras_gan.schedules import Schedule

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Pipeline(Augment):
    """Geometric and color transformations of StyleGAN2-ADA, each applied with a probability.

    For each image, each operation is applied or not, with its own random numbers, in this order:

    - blit: horizontal flip with probability 1/2; rotation by 0, 90, 180 or 270 degrees;
      translation by whole pixels, U(-1/8, 1/8) of the height and width, rounded.
    - geometry: isotropic scaling by a lognormal factor of deviation 0.2 (in powers of 2); rotation
      by any angle; anisotropic scaling, by such a factor on one axis and its inverse on the
      other; rotation by any angle; translation by N(0, 1/8) of the height and width. Each
      rotation has the probability 1 - sqrt(1 - p), so that the two together have p.
    - color, where black is -1 and white 1: brightness shifted by N(0, 0.2); contrast, a lognormal
      factor of deviation 0.5 on all values; luma inverted with probability 1/2; hue rotated by any
      angle around the gray axis; saturation, a lognormal factor of deviation 1 on the distance
      from the gray axis. Hue needs 3 channels, saturation more than one.
    - cutout: a rectangle of half the height and width, with its center anywhere in the image, is
      set to 0.

    Blit and geometry are one bilinear resampling, without the paper's twofold oversampling;
    beyond the border, the image is reflected. An image to which no operation is applied is
    unchanged, exactly. At probabilities below 1, the distribution of the samples can be recovered
    from that of the augmented samples, so that the augmentations do not leak into the generator.

    Args:
        probability: probability of each operation, 0 to 1, or a schedule of it.
        blit: factor on the probability for the operations of this group, 0 to 1.
        geometry: likewise.
        color: likewise.
        cutout: likewise; 0 by default.

    Raises:
        UsageError: a number is out of range, or the samples are not images.

    Reference:
        - [Karras et al., 2020](https://arxiv.org/abs/2006.06676), appendix B
    """

    also_called = ("bgc",)

    def __init__(
        self,
        probability: float | Schedule = 1.0,
        blit: float = 1.0,
        geometry: float = 1.0,
        color: float = 1.0,
        cutout: float = 0.0,
    ):
        self.probability = checked_probability(probability)
        self.blit = checked_probability(blit, "blit")
        self.geometry = checked_probability(geometry, "geometry")
        self.color = checked_probability(color, "color")
        self.cutout = checked_probability(cutout, "cutout")

    def __call__(self, samples, seed):
        return self.transform(samples, seed, schedules.now(self.probability, 0.0))

    def apply(self, samples, seed, state: dict[str, Any]):
        probability = schedules.now(self.probability, state["examples_seen"])
        return self.transform(samples, seed, probability)

    def transform(self, samples, seed, probability):
        """Augments a batch, each operation with this probability times its group's factor."""
        numbers = RandomNumbers(samples, seed)
        # Half precision is not enough for pixel positions and for sums over channels.
        images = ops.cast(samples, keras.backend.result_type(samples.dtype, "float32"))
        _, height, width, channels = samples.shape
        inverses = []
        if self.blit:
            inverses.append(blit_inverse(numbers, probability * self.blit, height, width))
        if self.geometry:
            inverses.append(geometry_inverse(numbers, probability * self.geometry, height, width))
        if inverses:
            images = resample(images, functools.reduce(tf.matmul, inverses))
        if self.color:
            offset, matrix = color_transform(numbers, probability * self.color, channels)
            images = _recolor(images, offset, matrix)
        if self.cutout:
            images = images * _cutout_mask(images, numbers, probability * self.cutout)
        return ops.cast(images, samples.dtype)

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        return {"probability": schedules.now(self.probability, state["examples_seen"])}

    def check(self, sample_shape: tuple) -> None:
        check_images(self, sample_shape)

    def get_config(self) -> dict:
        config = {name: getattr(self, name) for name in ("blit", "geometry", "color", "cutout")}
        return {"probability": keras.saving.serialize_keras_object(self.probability), **config}


def blit_inverse(numbers: RandomNumbers, p, height: int, width: int):
    """Returns the inverse matrices of the blit operations, which map pixels to pixels."""
    flip = numbers.select(p, 1 - 2 * numbers.integer(2), 1.0)
    quarters = numbers.select(p, numbers.integer(4), 0.0)
    # Exact cosines and sines of the quarter turns: a rotated image has no interpolated values.
    cos, sin = tf.abs(quarters - 2) - 1, 1 - tf.abs(quarters - 1)
    right = numbers.select(p, tf.round(numbers.uniform(-0.125, 0.125) * width), 0.0)
    down = numbers.select(p, tf.round(numbers.uniform(-0.125, 0.125) * height), 0.0)
    inverse = inverse_scaling(flip, tf.ones_like(flip)) @ inverse_rotation(cos, sin)
    return inverse @ inverse_translation(right, down)


def geometry_inverse(numbers: RandomNumbers, p, height: int, width: int):
    """Returns the inverse matrices of the operations that need interpolation."""
    scale = numbers.select(p, numbers.lognormal(0.2), 1.0)
    inverse = inverse_scaling(scale, scale)
    # Without anisotropic scaling in between, two rotations are one: p is their joint probability.
    p_rotation = 1 - tf.sqrt(1 - p)
    angle = numbers.select(p_rotation, numbers.uniform(-math.pi, math.pi), 0.0)
    inverse = inverse @ inverse_rotation(tf.cos(angle), tf.sin(angle))
    stretch = numbers.select(p, numbers.lognormal(0.2), 1.0)
    inverse = inverse @ inverse_scaling(stretch, 1 / stretch)
    angle = numbers.select(p_rotation, numbers.uniform(-math.pi, math.pi), 0.0)
    inverse = inverse @ inverse_rotation(tf.cos(angle), tf.sin(angle))
    translated = numbers.uniform() < p
    right = tf.where(translated, numbers.normal(0.125) * width, 0.0)
    down = tf.where(translated, numbers.normal(0.125) * height, 0.0)
    return inverse @ inverse_translation(right, down)


def color_transform(numbers: RandomNumbers, p, channels: int):
    """Returns the color transformation: pixels become matrix @ (pixel + offset).

    Returns:
        Offset `(batch, 1)` and matrix `(batch, channels, channels)`.
    """
    offset = numbers.select(p, numbers.normal(0.2), 0.0)[:, None]
    contrast = numbers.select(p, numbers.lognormal(0.5), 1.0)[:, None, None]
    gray = tf.fill((channels, channels), 1 / channels)  # projection onto the gray axis
    identity = tf.eye(channels)
    inverted = numbers.select(p, numbers.integer(2), 0.0)[:, None, None]
    matrix = contrast * (identity - 2 * inverted * gray)
    angle = numbers.select(p, numbers.uniform(-math.pi, math.pi), 0.0)[:, None, None]
    saturation = numbers.select(p, numbers.lognormal(1.0), 1.0)[:, None, None]
    if channels == 3:  # Rodrigues' rotation formula around the gray axis
        axis = tf.constant([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
        hue = tf.cos(angle) * identity + (1 - tf.cos(angle)) * gray + tf.sin(angle) * axis
        matrix = hue @ matrix
    if channels > 1:
        matrix = (saturation * identity + (1 - saturation) * gray) @ matrix
    return offset, matrix


def _recolor(images, offset, matrix):
    _, height, width, channels = images.shape
    pixels = tf.reshape(images, (-1, height * width, channels))
    offset, matrix = ops.cast(offset, images.dtype), ops.cast(matrix, images.dtype)
    pixels = (pixels + offset[:, None]) @ tf.transpose(matrix, (0, 2, 1))
    return tf.reshape(pixels, tf.shape(images))


def _cutout_mask(images, numbers: RandomNumbers, p):
    """Returns 0 in a rectangle of half the height and width of each image, 1 elsewhere."""
    applied = numbers.uniform() < p
    inside = []
    for axis in (1, 2):
        length = images.shape[axis]
        position = (tf.range(length, dtype=tf.float32) + 0.5) / length
        inside.append(tf.abs(position[None] - numbers.uniform()[:, None]) < 0.25)
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    return ops.cast(~(hole & applied[:, None, None, None]), images.dtype)

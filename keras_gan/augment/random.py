"""Random numbers for augmentations, as functions of a seed.

All numbers are made from integers in float32. XLA draws other floats from a seed than TensorFlow,
but the same integers, so neither the compiler nor the precision changes the numbers.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


def draw_integers(images, seed, count: int):
    """Draws an integer of 0..count-1 for each image, `(batch,)`, int32."""
    batch = (tf.shape(images)[0],)
    return random_numbers.integers(batch, seed, count)


def draw_uniform(images, seed, low: float, high: float):
    """Draws a number of U(low, high) for each image, `(batch, 1, 1, 1)`, in the images' dtype."""
    numbers = tf.cast(draw_integers(images, seed, 2**24), tf.float32) / 2**24
    return ops.cast(low + (high - low) * numbers, images.dtype)[:, None, None, None]


def draw_unit_floats(images, seed, count: int):
    """Draws `count` numbers of U(0, 1) for each image, `(batch, count)`, float32."""
    shape = (tf.shape(images)[0], count)
    numbers = random_numbers.integers(shape, seed, 2**24)
    return tf.cast(numbers, tf.float32) / 2**24


class RandomNumbers:
    """Random numbers of one batch, `(batch,)` each, in the order of the calls.

    Args:
        samples: `(batch, ...)`.
        seed: integer tensor of 2 numbers.
    """

    count = 39  # of all operations of the ADA pipeline together

    def __init__(self, samples, seed):
        self._numbers = iter(tf.unstack(draw_unit_floats(samples, seed, self.count), axis=1))

    def uniform(self, low: float = 0.0, high: float = 1.0):
        """Returns numbers of U(low, high)."""
        return low + (high - low) * next(self._numbers)

    def integer(self, count: int):
        """Returns integers of 0..count-1 as floats."""
        return tf.floor(self.uniform(0.0, count))

    def normal(self, deviation: float):
        """Returns numbers of N(0, deviation^2) by the Box-Muller transform."""
        radius = tf.sqrt(-2 * tf.math.log(1 - self.uniform()))  # 1 - u is never 0
        return deviation * radius * tf.cos(self.uniform(0.0, 2 * math.pi))

    def lognormal(self, deviation: float):
        """Returns 2 to the power of N(0, deviation^2)."""
        return tf.exp(self.normal(deviation * math.log(2.0)))

    def select(self, probability, value, otherwise: float):
        """Returns `value` with a probability, else `otherwise`, the value without an effect."""
        return tf.where(self.uniform() < probability, value, otherwise)

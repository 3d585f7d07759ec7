"""Noise of a game: a function of its seed, the purpose, the replica and the iteration."""

from __future__ import annotations

import zlib
from typing import Any

import keras
import tensorflow as tf

from keras_gan import replicas

# Keras and TensorFlow are not annotated, and what a type checker infers of them is wrong.
ops: Any = keras.ops
random: Any = tf.random

# Each purpose has a number, which is folded into the seed, so that no two share random numbers.
_PURPOSES = ("noise", "discriminator terms", "augment", "evaluation", "generator terms", "mix")


def seed_of(seed: int, purpose: str, iteration: Any, index: Any):
    """Returns two integers for stateless random operations.

    Args:
        seed: the game's seed.
        purpose: any name; different purposes get different numbers.
        iteration: number of the training step.
        index: number within the training step.
    """
    known = purpose in _PURPOSES
    number = _PURPOSES.index(purpose) if known else len(_PURPOSES) + zlib.crc32(purpose.encode())
    # All evaluations draw the same noise, so that they differ only by the networks.
    iteration = 0 if purpose == "evaluation" else iteration
    numbers = tf.constant([seed & 0x7FFFFFFF, seed >> 31], dtype=tf.int64)
    for part in (number, replicas.index(), iteration, index):
        numbers = random.experimental.stateless_fold_in(
            numbers, ops.cast(part, "int64"), alg="philox"
        )
    return numbers


def normal(shape: tuple, seed: Any):
    """Returns standard normal numbers of a shape."""
    # By name, as "auto" chooses another algorithm, and so other noise, on other devices.
    return random.stateless_normal(shape, seed=seed, alg="philox")

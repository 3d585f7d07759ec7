"""Noise of a game: a function of its seed, the purpose, the replica and the iteration."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import random_numbers, replicas

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

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
    numbers = _started(seed, number)
    for part in (replicas.index(), iteration, index):
        numbers = random_numbers.fold_in(numbers, ops.cast(part, "int64"))
    return numbers


@functools.lru_cache(maxsize=256)
def _started(seed: int, number: int) -> np.ndarray:
    """Returns the integers of a seed and a purpose, computed once, outside of graphs."""
    with tf.init_scope():
        numbers = tf.constant([seed & 0x7FFFFFFF, seed >> 31], tf.int64)
        return random_numbers.fold_in(numbers, tf.constant(number, tf.int64)).numpy()

"""Latents of integer seeds, in TensorFlow; `serving/seeds.py` computes the same in numpy.

One integer seed names one sample in every runtime, so the random number generator is part of the
bundle format: `docs/seeds.md` defines it, and a change to it is a new format.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf

ALGORITHM = "threefry2x32-20/box-muller/1"  # as a bundle's manifest names it
_MASK = 0xFFFFFFFF
_PARITY = 0x1BD11BDA  # Threefish's key schedule constant, cut to 32 bits
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def latents_from_seeds(seeds: Any, latent_dim: int) -> tf.Tensor:
    """Returns the standard normal latents that seeds name.

    The latents of a seed depend on nothing else, such as the batch, the device or the process.
    Longer latents begin with the shorter ones of the same seed. Works in graphs and under XLA.

    Args:
        seeds: int64 tensor of shape `(batch,)`, values `0 <= seed < 2**63`.
        latent_dim: length of the latents of one sample.

    Returns:
        float32 tensor of shape `(batch, latent_dim)`.
    """
    seeds = tf.convert_to_tensor(seeds, tf.int64)[:, tf.newaxis]
    key = (_low(seeds), _low(tf.bitwise.right_shift(seeds, _int64(32))))
    pairs = tf.range((latent_dim + 1) // 2, dtype=tf.int64)[tf.newaxis, :]
    first, second = threefry_2x32(key, (pairs, tf.zeros_like(pairs)))

    # Box-Muller in float64: the tail reaches sqrt(-2 ln 2**-33) = 6.8, and rounding to float32
    # removes the last bits, in which the sine and cosine of libraries differ.
    radius = tf.sqrt(-2.0 * tf.math.log(_uniform(first)))
    angle = 2.0 * math.pi * _uniform(second)
    normal = tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)
    flat = tf.reshape(normal, [-1, 2 * ((latent_dim + 1) // 2)])
    return tf.cast(flat[:, :latent_dim], tf.float32)


def labels_from_seeds(seeds: Any, num_classes: int) -> tf.Tensor:
    """Returns the default class of each seed: the seed modulo `num_classes`.

    Args:
        seeds: int64 tensor of shape `(batch,)`.
        num_classes: number of classes, at least 1.

    Returns:
        int64 tensor of shape `(batch,)`.
    """
    return tf.math.floormod(tf.convert_to_tensor(seeds, tf.int64), _int64(num_classes))


def threefry_2x32(
    key: tuple[tf.Tensor, tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns Threefry-2x32 with 20 rounds, on 32-bit words in int64 tensors.

    It uses int64 with masks rather than uint32, whose kernels some devices and XLA lack.

    Reference:
        Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    parity = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(key[0], key[1]), _int64(_PARITY))
    keys = (key[0], key[1], parity)
    x, y = _low(counter[0] + keys[0]), _low(counter[1] + keys[1])
    for step in range(1, 6):
        for bits in _ROTATIONS[(step - 1) % 2]:
            x = _low(x + y)
            y = tf.bitwise.bitwise_xor(_rotate_left(y, bits), x)
        x = _low(x + keys[step % 3])
        y = _low(y + keys[(step + 1) % 3] + _int64(step))
    return x, y


def _int64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.int64)


def _low(words: tf.Tensor) -> tf.Tensor:
    return tf.bitwise.bitwise_and(words, _int64(_MASK))


def _rotate_left(words: tf.Tensor, bits: int) -> tf.Tensor:
    left = _low(tf.bitwise.left_shift(words, _int64(bits)))
    return tf.bitwise.bitwise_or(left, tf.bitwise.right_shift(words, _int64(32 - bits)))


def _uniform(words: tf.Tensor) -> tf.Tensor:
    """Maps 32-bit words to the middles of their intervals in (0, 1), without 0 and 1."""
    return (tf.cast(words, tf.float64) + 0.5) / 4294967296.0

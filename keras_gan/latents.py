"""Random inputs from seeds, in TensorFlow; `serving/seeds.py` is the same in numpy.

One integer seed names one sample in every runtime, so the generator of random numbers is part of
the bundle format: it is defined in `docs/seeds.md`, and a change to it is a new format.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

ALGORITHM = "threefry2x32-20/box-muller/1"  # as a bundle's manifest names it
_MASK = 0xFFFFFFFF
_PARITY = 0x1BD11BDA  # Threefish's key schedule constant, cut to 32 bits
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def latents_from_seeds(seeds: Any, latent_dim: int) -> tf.Tensor:
    """Draws the standard normal latent vector that each seed names: stream 0.

    The vector of a seed depends on nothing else: not on the batch, the device or the process. A
    longer vector starts with the shorter one of the same seed. Works in graphs and under XLA.

    Args:
        seeds: int64 tensor of shape `(batch,)`, values `0 <= seed < 2**63`.
        latent_dim: length of a latent vector.

    Returns:
        float32 tensor of shape `(batch, latent_dim)`.
    """
    return normals(seeds, latent_dim, 0)


def normals(seeds: Any, size: Any, stream: int) -> tf.Tensor:
    """Returns standard normal numbers of one stream, float32 `(batch, size)`.

    Args:
        seeds: int64 tensor of shape `(batch,)`, values `0 <= seed < 2**63`.
        size: numbers for each seed, an integer or a scalar tensor.
        stream: number of the stream; two streams of a seed share no numbers.
    """
    first, second = _words(seeds, size, stream)
    # Box and Muller in float64: the tail reaches sqrt(-2 ln 2**-33) = 6.8, and the last bits, in
    # which libraries' sine and cosine differ, are gone after rounding to float32.
    radius = tf.sqrt(-2.0 * tf.math.log(_uniform(first)))
    angle = 2.0 * math.pi * _uniform(second)
    normal = tf.stack([radius * tf.cos(angle), radius * tf.sin(angle)], axis=-1)
    flat = tf.reshape(normal, [-1, 2 * ((size + 1) // 2)])
    return tf.cast(flat[:, :size], tf.float32)


def uniforms(seeds: Any, size: Any, stream: int) -> tf.Tensor:
    """Returns numbers of one stream that are uniform in [0, 1), float32 `(batch, size)`.

    Args:
        seeds: int64 tensor of shape `(batch,)`, values `0 <= seed < 2**63`.
        size: numbers for each seed, an integer or a scalar tensor.
        stream: number of the stream.
    """
    words = tf.stack(_words(seeds, size, stream), axis=-1)
    # 24 bits: a float32 holds no more of them, and a rounded 32-bit word could become 1.
    upper = tf.bitwise.right_shift(words, _int64(8))
    drawn = tf.cast(upper, tf.float32) / tf.constant(2.0**24, tf.float32)
    return tf.reshape(drawn, [-1, 2 * ((size + 1) // 2)])[:, :size]


def classes_from_seeds(
    seeds: Any,
    num_classes: int,
    frequencies: Sequence[float] | None = None,
    stream: int = 0,
) -> tf.Tensor:
    """Returns the default class of each seed, int64 `(batch,)`.

    Args:
        seeds: int64 tensor of shape `(batch,)`.
        num_classes: number of classes, at least 1.
        frequencies: how often each class occurs, at least 0 and not all 0; by default the class is
            the seed modulo `num_classes`.
        stream: number of the stream that draws by frequency.
    """
    seeds = tf.convert_to_tensor(seeds, tf.int64)
    if frequencies is None:
        return tf.math.floormod(seeds, _int64(num_classes))
    bounds = np.cumsum(np.asarray(frequencies, np.float64))
    drawn = tf.cast(uniforms(seeds, 1, stream)[:, 0], tf.float64) * bounds[-1]
    found = tf.searchsorted(tf.constant(bounds), drawn, side="right", out_type=tf.int64)
    return tf.clip_by_value(found, _int64(0), _int64(num_classes - 1))


def labels_from_seeds(seeds: Any, num_classes: int) -> tf.Tensor:
    """Returns the class of each seed where the user names none: the seed modulo `num_classes`.

    Args:
        seeds: int64 tensor of shape `(batch,)`.
        num_classes: number of classes, at least 1.

    Returns:
        int64 tensor of shape `(batch,)`.
    """
    return classes_from_seeds(seeds, num_classes)


def _words(seeds: Any, size: Any, stream: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Encrypts the counters of `size` numbers, `(pair, stream)`, under each seed."""
    seeds = tf.convert_to_tensor(seeds, tf.int64)[:, tf.newaxis]
    key = (_low(seeds), _low(tf.bitwise.right_shift(seeds, _int64(32))))
    pairs = tf.range(tf.cast((size + 1) // 2, tf.int64), dtype=tf.int64)[tf.newaxis, :]
    return threefry_2x32(key, (pairs, tf.fill(tf.shape(pairs), _int64(stream))))


def threefry_2x32(
    key: tuple[tf.Tensor, tf.Tensor], counter: tuple[tf.Tensor, tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Applies Threefry-2x32 with 20 rounds, on 32-bit words held in int64 tensors.

    int64 with masks rather than uint32: every device and XLA have the int64 kernels.

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
    """Maps a word to the middle of its interval, so that the result is neither 0 nor 1."""
    return (tf.cast(words, tf.float64) + 0.5) / 4294967296.0

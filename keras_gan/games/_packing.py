"""Packs of samples that a discriminator judges together (PacGAN)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_gan.errors import UsageError


class Packing:
    """Packs of neighboring samples of a batch, stacked along their last axis.

    Args:
        size: number of samples in a pack, at least 1; packs of 1 are the samples themselves.
        sample_shape: shape of a sample.
        name: argument that the size comes from, for errors.

    Reference:
        - [Lin et al., 2017](https://arxiv.org/abs/1712.04086)
    """

    def __init__(self, size: int = 1, sample_shape: tuple = (), name: str = "size"):
        self.size, self.sample_shape, self.name = size, tuple(sample_shape), name

    def __str__(self) -> str:
        return f"{self.name}={self.size}"

    def of(self, sample_shape: tuple) -> Packing:
        """Returns packs of the same size, of samples of a shape.

        Raises:
            UsageError: packs of several samples of any height and width.
        """
        if self.size > 1 and None in sample_shape:
            raise UsageError(
                "Samples can be packed only if they have a fixed height and width: networks of "
                f"pictures of any size must have {self.name}=1. Received: {self}, samples of "
                f"shape {tuple(sample_shape)}"
            )
        return Packing(self.size, sample_shape, self.name)

    @property
    def shape(self) -> tuple:
        """Shape of a pack."""
        *inner, channels = self.sample_shape
        return (*inner, self.size * channels)

    def pack(self, samples):
        """Packs samples `(batch, ..., channels)` to `(batch / size, ..., size * channels)`."""
        if self.size == 1:
            return samples
        *inner, channels = self.sample_shape
        parts = tf.reshape(samples, (-1, self.size, *inner, channels))
        parts = tf.stack(tf.unstack(parts, self.size, axis=1), axis=-2)
        return tf.reshape(parts, (-1, *inner, self.size * channels))

    def unpack(self, packs):
        """Returns the samples of packs, in the order in which `pack` got them."""
        if self.size == 1:
            return packs
        *inner, channels = self.sample_shape
        parts = tf.reshape(packs, (-1, *inner, self.size, channels))
        parts = tf.stack(tf.unstack(parts, self.size, axis=-2), axis=1)
        return tf.reshape(parts, (-1, *inner, channels))

    def per_sample(self, function: Callable, packs: Any) -> Any:
        """Applies a function of samples to packs, to each of their samples by itself."""
        return self.pack(function(self.unpack(packs)))

    def whole(self, samples):
        """Returns samples that make whole packs; of too few for one, some are repeated."""
        if self.size == 1:
            return samples
        count = tf.shape(samples)[0]
        whole = tf.maximum(count // self.size, 1) * self.size
        return tf.gather(samples, tf.range(whole) % count)

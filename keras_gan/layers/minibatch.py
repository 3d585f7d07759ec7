"""Statistics over the samples of a batch, as features for a discriminator."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_gan.arguments import check_integer
from keras_gan.layers.dtypes import at_least_float32

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class MinibatchStandardDeviation(keras.layers.Layer):
    """Layer that appends the standard deviation over a group of samples as one more channel.

    The standard deviation of each feature over the group is averaged over all features, which
    yields one number for each group. It lets a discriminator detect a generator whose samples
    are all alike.

    Batches can be of any size. A batch is divided into ceil(batch / group_size) groups, with
    sample i in group i modulo the number of groups. If `group_size` divides the batch size, all
    groups are of that size; if not, their sizes differ by at most one. A smaller batch is one
    group.

    Args:
        group_size: samples in a group, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: `(batch, ..., channels + 1)`.

    Raises:
        UsageError: `group_size` is out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 3
    """

    def __init__(self, group_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("group_size", group_size)
        self.group_size = int(group_size)

    def call(self, inputs):
        x = ops.cast(inputs, at_least_float32(inputs.dtype))
        batch = ops.shape(x)[0]
        groups = (batch + self.group_size - 1) // self.group_size
        group = ops.arange(batch, dtype="int32") % groups
        # Averaging matrix: entry (i, j) is 1 / (size of the group) if samples i and j are in the
        # same group, else 0. Group means are then a matrix product, for any batch size.
        same_group = ops.cast(ops.expand_dims(group, 1) == ops.expand_dims(group, 0), x.dtype)
        averaging = same_group / ops.sum(same_group, axis=1, keepdims=True)
        features = ops.reshape(x, (-1, math.prod(x.shape[1:])))
        centered = features - ops.matmul(averaging, features)
        variance = ops.matmul(averaging, ops.square(centered))
        # The epsilon keeps the derivative of the square root finite where all samples are equal.
        deviation = ops.mean(ops.sqrt(variance + 1e-8), axis=1)
        channel = ops.reshape(deviation, (-1, *[1] * (len(x.shape) - 1)))
        channel = ops.cast(channel * ops.ones_like(x[..., :1]), inputs.dtype)
        return ops.concatenate([inputs, channel], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group_size": self.group_size}

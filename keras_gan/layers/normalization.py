"""Normalization layers: group, batch, class-conditional batch, and pixel normalization."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan import replicas
from keras_gan.arguments import check_integer, check_positive
from keras_gan.errors import UsageError
from keras_gan.layers.dtypes import at_least_float32

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class GroupNormalization(keras.layers.Layer):
    """Group normalization with correct second derivatives, as gradient penalties need them.

    Normalizes each sample over height, width and the channels of each group, then scales and
    shifts each channel. Keras's normalization layers compute the variance by `tf.nn.moments`,
    which stops the gradient at the mean. The first derivative is still right; the second, which
    penalties such as R1 need, is wrong.

    Args:
        groups: number of groups that the channels are divided into; 1 normalizes over the
            whole sample, as WGAN-GP recommends for its critic; -1 makes each channel a group of
            its own (instance normalization).
        epsilon: constant added to the variance, above 0.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        UsageError: the number of channels is not divisible by `groups`.

    Reference:
        - [Wu and He, 2018](https://arxiv.org/abs/1803.08494)
    """

    def __init__(self, groups: int = 1, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.groups != -1 and (self.groups < 1 or channels % self.groups):
            raise UsageError(
                "`groups` must divide the number of channels, or be -1. "
                f"Received: groups={self.groups}, channels={channels}"
            )
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")

    def call(self, inputs):
        dtype, shape = at_least_float32(inputs.dtype), ops.shape(inputs)
        x, axes = ops.cast(inputs, dtype), tuple(range(1, len(shape) - 1))
        if self.groups != -1:  # else each channel is a group, without a reshape
            grouped = (-1, *shape[1:-1], self.groups, shape[-1] // self.groups)
            x = ops.reshape(x, grouped)
            axes = (*axes, len(shape))  # all except the batch and the group
        centered = x - ops.mean(x, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=axes, keepdims=True)
        x = centered * ops.rsqrt(variance + self.epsilon)
        if self.groups != -1:
            x = ops.reshape(x, (-1, *shape[1:]))
        gamma, beta = ops.cast(self.gamma, dtype), ops.cast(self.beta, dtype)
        return ops.cast(x * gamma + beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}


_FUSED_DTYPES = ("float32", "float16", "bfloat16")


def _fused(x, scale, offset, epsilon: float):
    """Normalizes images by the statistics of the batch, in the fused operation of TensorFlow.

    Returns:
        float32 images, and the mean and the biased variance of each channel.
    """
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=ops.cast(x, "float32"),
        scale=ops.cast(scale, "float32"),
        offset=ops.cast(offset, "float32"),
        mean=[],
        variance=[],
        epsilon=epsilon,
    )
    # The operation returns the unbiased variance; Keras averages the biased one.
    count = tf.cast(tf.size(x) // tf.shape(x)[-1], "float32")
    return outputs, mean, variance * (count - 1) / count


@keras.saving.register_keras_serializable("keras_gan")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, faster to train on images.

    Computes the same function with the same weights. In training, images
    `(batch, height, width, channels)` go through TensorFlow's fused operation, which reads them
    twice; Keras's operations take more than ten passes forward and backward. Inference, and all
    cases that the fused operation does not support, are computed by Keras.

    Args:
        *args, **kwargs: the arguments of `keras.layers.BatchNormalization`.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and self._supports_fused(inputs) and mask is None):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance = _fused(inputs, self.gamma, self.beta, self.epsilon)
        _update_moving_average(self.moving_mean, mean, self.momentum)
        _update_moving_average(self.moving_variance, variance, self.momentum)
        return ops.cast(outputs, self.compute_dtype)

    def _supports_fused(self, inputs) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.renorm
            and not self.synchronized
            and inputs.dtype in _FUSED_DTYPES
        )


@keras.saving.register_keras_serializable("keras_gan")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Batch normalization with a learned scale and shift for each class.

    In training, each channel is normalized by the statistics of the batch; under a distribution
    strategy, by those of the global batch over all replicas. In inference, it is normalized by
    moving averages. For generators only: the statistics couple the samples of a batch, so a
    penalty on a discriminator's gradient would not act on each sample by itself.

    Args:
        num_classes: number of classes, at least 1.
        momentum: weight of the old moving average in each update, in [0, 1).
        epsilon: constant added to the variance, above 0.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: list of features `(batch, ..., channels)` and integer class ids `(batch,)`.
        training: if True, normalizes by the statistics of the batch and updates the moving
            averages.

    Output shape: the shape of the features.

    Raises:
        UsageError: an argument is out of range.

    Reference:
        - [Dumoulin et al., 2016](https://arxiv.org/abs/1610.07629)
        - [Miyato and Koyama, 2018](https://arxiv.org/abs/1802.05637)
    """

    def __init__(
        self, num_classes: int, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any
    ):
        super().__init__(**kwargs)
        check_integer("num_classes", num_classes)
        if not 0 <= momentum < 1:
            raise UsageError(f"`momentum` must be in [0, 1). Received: momentum={momentum!r}")
        check_positive("epsilon", epsilon)
        self.num_classes = int(num_classes)
        self.momentum = float(momentum)
        self.epsilon = float(epsilon)

    def build(self, input_shape):
        channels = input_shape[0][-1]
        table, row = (self.num_classes, channels), (channels,)
        self.gamma = self.add_weight(name="gamma", shape=table, initializer="ones")
        self.beta = self.add_weight(name="beta", shape=table, initializer="zeros")
        self.moving_mean = self.add_weight(
            name="moving_mean", shape=row, initializer="zeros", trainable=False, autocast=False
        )
        self.moving_variance = self.add_weight(
            name="moving_variance", shape=row, initializer="ones", trainable=False, autocast=False
        )

    def call(self, inputs, training=False):
        features, labels = inputs
        x = ops.cast(features, at_least_float32(features.dtype))
        scale = self._class_rows(self.gamma, labels, x)
        shift = self._class_rows(self.beta, labels, x)
        if training and self.trainable:
            x = self._normalize_by_batch(x)
        else:
            # Two passes over the features; the rows of the classes are small.
            mean = ops.cast(self.moving_mean, x.dtype)
            scale = scale * ops.rsqrt(ops.cast(self.moving_variance, x.dtype) + self.epsilon)
            shift = shift - mean * scale
        return ops.cast(x * scale + shift, features.dtype)

    def _normalize_by_batch(self, x):
        if len(x.shape) == 4 and x.dtype in _FUSED_DTYPES and replicas.count() == 1:
            channels = x.shape[-1]
            outputs, mean, variance = _fused(
                x, ops.ones(channels), ops.zeros(channels), self.epsilon
            )
        else:
            axes = tuple(range(len(x.shape) - 1))
            mean = replicas.mean(ops.mean(x, axis=axes))
            variance = replicas.mean(ops.mean(ops.square(x - mean), axis=axes))
            outputs = (x - mean) * ops.rsqrt(variance + self.epsilon)
        _update_moving_average(self.moving_mean, mean, self.momentum)
        _update_moving_average(self.moving_variance, variance, self.momentum)
        return outputs

    def _class_rows(self, table, labels, like):
        """Returns each sample's row of the table, in a shape that broadcasts with `like`."""
        rows = ops.cast(ops.take(table, labels, axis=0), like.dtype)
        return ops.reshape(rows, (-1, *[1] * (len(like.shape) - 2), rows.shape[-1]))

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }


@keras.saving.register_keras_serializable("keras_gan")
class PixelNormalization(keras.layers.Layer):
    """Normalization of each pixel's channels to a mean square of 1.

    Args:
        epsilon: constant added to the mean square, above 0.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        UsageError: `epsilon` is out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 4.2
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive("epsilon", epsilon)
        self.epsilon = float(epsilon)

    def call(self, inputs):
        x = ops.cast(inputs, at_least_float32(inputs.dtype))
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return ops.cast(x * ops.rsqrt(square + self.epsilon), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


def _update_moving_average(average, value, momentum: float) -> None:
    """Assigns momentum * average + (1 - momentum) * value, computed in the value's dtype."""
    value = ops.stop_gradient(value)
    new = momentum * ops.cast(average, value.dtype) + (1 - momentum) * value
    average.assign(ops.cast(new, average.dtype))

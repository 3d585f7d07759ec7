"""Layers of our own, where Keras's do not fit the game."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.errors import UsageError

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class GroupNormalization(keras.layers.Layer):
    """Group normalization that a gradient penalty can be differentiated through.

    Normalizes each sample by itself, over height, width and the channels of each group, then
    scales and shifts each channel. Keras's normalization layers take their variance from
    `tf.nn.moments`, which stops the gradient at the mean: right for the first derivative, wrong
    for the second, which penalties such as R1 need.

    Args:
        groups: number of groups that the channels are divided into; 1 normalizes over the
            whole sample, as WGAN-GP advises for its critic.
        epsilon: added to the variance, above 0.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        UsageError: channels that do not divide by `groups`.

    Reference:
        - [Wu and He, 2018](https://arxiv.org/abs/1803.08494)
    """

    def __init__(self, groups: int = 1, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups
        self.epsilon = epsilon

    def build(self, input_shape):
        channels = input_shape[-1]
        if self.groups < 1 or channels % self.groups:
            raise UsageError(
                f"The channels must divide by the groups. Received: {channels} channels, "
                f"groups={self.groups}"
            )
        self.gamma = self.add_weight(name="gamma", shape=(channels,), initializer="ones")
        self.beta = self.add_weight(name="beta", shape=(channels,), initializer="zeros")

    def call(self, inputs):
        shape = ops.shape(inputs)
        grouped = (-1, *shape[1:-1], self.groups, shape[-1] // self.groups)
        # At least float32: squares of float16 overflow.
        precision = keras.backend.result_type(inputs.dtype, "float32")
        x = ops.reshape(ops.cast(inputs, precision), grouped)
        axes = (*range(1, len(shape) - 1), len(shape))  # all but the sample and the group
        centered = x - ops.mean(x, axis=axes, keepdims=True)
        variance = ops.mean(ops.square(centered), axis=axes, keepdims=True)
        x = ops.reshape(centered * ops.rsqrt(variance + self.epsilon), (-1, *shape[1:]))
        gamma, beta = ops.cast(self.gamma, precision), ops.cast(self.beta, precision)
        return ops.cast(x * gamma + beta, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "epsilon": self.epsilon}

"""Learned spatial bases: the start of a generator."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_integer

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Basis2D(keras.layers.Layer):
    """Learned spatial pattern for each channel, scaled by that channel's input.

    It maps vectors to feature maps. In a generator it is the counterpart of a discriminator's
    depthwise convolution whose kernel covers the whole feature map.

    Args:
        height: height of the pattern, in pixels, at least 1.
        width: width of the pattern, in pixels, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, channels)`. Output shape: `(batch, height, width, channels)`.

    Raises:
        UsageError: `height` or `width` is out of range.

    Reference:
        - [Huang et al., 2025](https://arxiv.org/abs/2501.05441)
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("height", height)
        check_integer("width", width)
        self.height, self.width = int(height), int(width)

    def build(self, input_shape):
        self.basis = self.add_weight(
            name="basis",
            shape=(self.height, self.width, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, inputs):
        return inputs[:, None, None, :] * ops.cast(self.basis, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "height": self.height, "width": self.width}

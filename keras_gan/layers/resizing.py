"""Layers for networks of pictures of any size: padding, resizing, appended channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class ReflectionPadding2D(keras.layers.Layer):
    """Padding of height and width by the reflection of the image without its edge pixels.

    Args:
        padding: pixels that are added on each of the four edges, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, height and width above `padding`. Output
    shape: height and width plus `2 * padding`.

    Raises:
        UsageError: `padding` is out of range.
    """

    def __init__(self, padding: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("padding", padding)
        self.padding = int(padding)

    def call(self, inputs):
        edges = (self.padding, self.padding)
        return ops.pad(inputs, [(0, 0), edges, edges, (0, 0)], mode="reflect")

    def compute_output_shape(self, input_shape):
        batch, *lengths, channels = input_shape
        return (batch, *(length and length + 2 * self.padding for length in lengths), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "padding": self.padding}


class _Enlarging(keras.layers.Layer):
    """Base class of layers that multiply height and width by a whole number."""

    def __init__(self, scale: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("scale", scale)
        self.scale = int(scale)

    def _channels(self, channels: int) -> int:
        return channels

    def compute_output_shape(self, input_shape):
        batch, *lengths, channels = input_shape
        lengths = (length and length * self.scale for length in lengths)
        return (batch, *lengths, self._channels(channels))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("keras_gan")
class BicubicUpsample2D(_Enlarging):
    """Bicubic interpolation by a whole factor, equal to that of `tf.image.resize`.

    TensorFlow's operation runs on CPUs only and not under XLA. This layer is a convolution and a
    division, and so runs, and is exported, like any convolution, for pictures of any size.

    Args:
        scale: factor of height and width, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: height and width times `scale`.

    Raises:
        UsageError: `scale` is out of range.

    Reference:
        - [Keys, 1981](https://doi.org/10.1109/TASSP.1981.1163711), a = -0.5
    """

    def call(self, inputs):
        if self.scale == 1:
            return inputs
        ones = ops.ones_like(inputs[:1, :, :, :1])
        # Pixels beyond the border have no weight; the others' are divided by their sum.
        total = self._interpolate(ones)
        return self._interpolate(inputs) / total

    def _interpolate(self, x):
        """Returns the sums of the weighted pixels of `(batch, height, width, channels)`."""
        channels, scale = x.shape[-1], self.scale
        rows = _cubic_phases(scale)
        kernel = np.einsum("ia,jb,cd->abcijd", rows, rows, np.eye(channels))
        kernel = kernel.reshape(5, 5, channels, scale**2 * channels)
        x = tf.nn.conv2d(x, tf.cast(kernel, x.dtype), 1, "SAME")
        return tf.nn.depth_to_space(x, scale)


def _cubic_phases(scale: int) -> np.ndarray:
    """Returns the weights of five neighbors, for each of the pixels that one becomes.

    Keys's kernel (equation 15): (a + 2)|x|^3 - (a + 3)|x|^2 + 1 up to 1, and
    a|x|^3 - 5a|x|^2 + 8a|x| - 4a up to 2. Positions are those of the centers of pixels, rounded
    to 1/1024 as TensorFlow rounds them.
    """
    a = -0.5
    positions = np.round(((np.arange(scale) + 0.5) / scale - 0.5) * 1024) / 1024
    x = np.abs(positions[:, None] - np.arange(-2, 3))
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


@keras.saving.register_keras_serializable("keras_gan")
class DepthToSpace2D(_Enlarging):
    """Rearrangement of `scale**2` groups of channels to the pixels of a larger image.

    Args:
        scale: factor of height and width, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, scale**2 * channels)`. Output shape:
    `(batch, scale * height, scale * width, channels)`.

    Raises:
        UsageError: `scale` is out of range.

    Reference:
        - [Shi et al., 2016](https://arxiv.org/abs/1609.05158), equation 4
    """

    def _channels(self, channels: int) -> int:
        return channels // self.scale**2

    def call(self, inputs):
        return inputs if self.scale == 1 else tf.nn.depth_to_space(inputs, self.scale)


@keras.saving.register_keras_serializable("keras_gan")
class DivisibleSize2D(keras.layers.Layer):
    """Identity that refuses images whose height or width is known and not divisible by a number.

    Args:
        divisor: number that must divide the height and width, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.

    Raises:
        UsageError: `divisor` is out of range, or a height or width is not divisible.
    """

    def __init__(self, divisor: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("divisor", divisor)
        self.divisor = int(divisor)

    def call(self, inputs):
        self.check_size(*inputs.shape[1:3])
        return inputs

    def check_size(self, height: int | None, width: int | None) -> None:
        """Raises a `UsageError` if the number does not divide a known height or width."""
        if any(n and n % self.divisor for n in (height, width)):
            error: Any = UsageError(
                f"Height and width of pictures must be divisible by {self.divisor} for this "
                f"network. Received: {height} x {width}"
            )
            error._keras_call_info_injected = True  # Keras then leaves its text as it is
            raise error

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "divisor": self.divisor}


@keras.saving.register_keras_serializable("keras_gan")
class AppendVector2D(keras.layers.Layer):
    """Concatenation of a vector to every pixel of an image, as further channels.

    Input: a list of the image `(batch, height, width, channels)` and of the vector
    `(batch, size)`. Output shape: `(batch, height, width, channels + size)`.

    Reference:
        - [Zhu et al., 2017](https://arxiv.org/abs/1711.11586), section 3, "adding z to the input"
    """

    def call(self, inputs):
        image, vector = inputs
        batch, height, width = tf.unstack(tf.shape(image)[:3])
        vector = tf.cast(vector, image.dtype)[:, tf.newaxis, tf.newaxis]
        plane = tf.broadcast_to(vector, (batch, height, width, vector.shape[-1]))
        return tf.concat([image, plane], axis=-1)

    def compute_output_shape(self, input_shape):
        (*sizes, channels), (_, size) = input_shape
        return (*sizes, channels + size)


@keras.saving.register_keras_serializable("keras_gan")
class MatchSize2D(keras.layers.Layer):
    """Nearest-neighbor resize of an image to the height and width of another one.

    Input: a list of the image `(batch, height, width, channels)` and of the other image. Output
    shape: the height and width of the other image, the channels of the first one.
    """

    def call(self, inputs):
        image, like = inputs
        old, new = tuple(image.shape[1:3]), tuple(like.shape[1:3])
        if None not in (*old, *new):
            return image if old == new else tf.image.resize(image, new, "nearest")
        return tf.image.resize(image, tf.shape(like)[1:3], "nearest")

    def compute_output_shape(self, input_shape):
        (batch, *_, channels), like = input_shape
        return (batch, *like[1:3], channels)

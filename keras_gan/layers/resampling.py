"""Resampling layers: antialiased down- and upsampling, and fast nearest-neighbor upsampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops

# Largest height or width that is resampled by two matrix products. On a CPU they are several
# times faster than a depthwise convolution, including the second derivative
# (docs/architectures.md).
MATRIX_PRODUCT_LIMIT = 64


class _Blur(keras.layers.Layer):
    """Base class of the blur layers: a separable filter and its padding.

    Subclasses define `_reach` and `_matrix`.
    """

    def __init__(
        self, kernel: Sequence[float] = (1, 3, 3, 1), padding: str = "reflect", **kwargs: Any
    ):
        super().__init__(**kwargs)
        if len(kernel) < 2 or not all(math.isfinite(k) for k in kernel) or not sum(kernel):
            raise UsageError(
                "`kernel` must be 2 or more finite numbers whose sum is not 0. "
                f"Received: kernel={list(kernel)}"
            )
        if padding not in ("reflect", "zero"):
            raise UsageError(f"`padding` must be reflect or zero. Received: padding={padding!r}")
        self.kernel = [float(k) for k in kernel]
        self.padding = padding

    def build(self, input_shape):
        # Reflection excludes the edge pixel, so it needs one more pixel than the filter's reach.
        (height, width), minimum = input_shape[1:3], self._reach() + 1
        if self.padding == "reflect" and any(n and n < minimum for n in (height, width)):
            raise UsageError(
                f"Reflection padding with kernel={self.kernel} needs a height and a width of at "
                f'least {minimum} pixels; padding="zero" takes any. '
                f"Received: height={height}, width={width}"
            )

    def _reach(self) -> int:
        """Returns the number of pixels that the filter reads beyond the border."""
        raise NotImplementedError

    def _matrix(self, length: int) -> np.ndarray:
        """Returns the resampling matrix of an axis.

        Entry (i, j) is the weight of input pixel j in output pixel i.
        """
        raise NotImplementedError

    def _matrix_row(self, length: int, pixels: Sequence[Any], weights: Sequence[Any]) -> np.ndarray:
        """Returns a row of the matrix from weights of pixels, some of them beyond the border."""
        row = np.zeros(length)
        for pixel, weight in zip(pixels, weights, strict=True):
            if self.padding == "reflect":
                pixel = length - 1 - abs(length - 1 - abs(pixel))
            if 0 <= pixel < length:
                row[pixel] += weight
        return row

    def _resample_by_matrices(self, x):
        """Resamples height and width by one matrix product each."""
        _, height, width, channels = x.shape
        rows, columns = (
            ops.convert_to_tensor(self._matrix(length), dtype=x.dtype) for length in (height, width)
        )
        lines = ops.matmul(rows, ops.reshape(x, (-1, height, width * channels)))
        x = ops.matmul(columns, ops.reshape(lines, (-1, width, channels)))
        return ops.reshape(x, (-1, rows.shape[0], columns.shape[0], channels))

    def _fits_matrices(self, lengths: Sequence[int | None]) -> bool:
        return all(length and length <= MATRIX_PRODUCT_LIMIT for length in lengths)

    def _pad(self, x, before: int, after: int):
        widths = [(0, 0), (before, after), (before, after), (0, 0)]
        return ops.pad(x, widths, "reflect" if self.padding == "reflect" else "constant")

    def _depthwise_blur(self, x, strides: int, gain: float):
        """Applies the separable filter to each channel; its weights sum to `gain` on each axis."""
        total = sum(self.kernel)
        row = [gain * k / total for k in self.kernel]
        square = ops.convert_to_tensor([[a * b for b in row] for a in row], dtype=x.dtype)
        square = ops.reshape(square, (len(row), len(row), 1, 1))
        return ops.depthwise_conv(
            x, ops.tile(square, (1, 1, x.shape[-1], 1)), strides, padding="valid"
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel": self.kernel, "padding": self.padding}


@keras.saving.register_keras_serializable("keras_gan")
class BlurPool2D(_Blur):
    """Antialiased downsampling: a blur, followed by subsampling.

    Args:
        kernel: weights of the separable filter on one axis, normalized to a sum of 1. A filter
            of even length, such as [1, 3, 3, 1], is centered between two pixels; one of odd
            length, such as [1, 2, 1], on a pixel.
        padding: "reflect" or "zero".
        strides: subsampling factor, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, height and width of at least 3 for the usual
    filters. Output shape: height and width divided by `strides`, rounded up.

    Raises:
        UsageError: an argument is out of range, or the height or width is too small for
            reflection.

    Reference:
        - [Zhang, 2019](https://arxiv.org/abs/1904.11486)
        - [Karras et al., 2018](https://arxiv.org/abs/1812.04948), section 2
    """

    def __init__(
        self,
        kernel: Sequence[float] = (1, 3, 3, 1),
        padding: str = "reflect",
        strides: int = 2,
        **kwargs: Any,
    ):
        super().__init__(kernel, padding, **kwargs)
        check_integer("strides", strides)
        self.strides = int(strides)

    def _reach(self) -> int:
        return len(self.kernel) // 2

    def _matrix(self, length: int) -> np.ndarray:
        weights = [k / sum(self.kernel) for k in self.kernel]
        taps = np.arange(len(weights)) - (len(weights) - 1) // 2
        starts = range(0, length, self.strides)
        return np.array([self._matrix_row(length, list(start + taps), weights) for start in starts])

    def call(self, inputs):
        if self._fits_matrices(inputs.shape[1:3]):
            return self._resample_by_matrices(inputs)
        padding = len(self.kernel) - 1
        x = self._pad(inputs, padding // 2, padding - padding // 2)
        return self._depthwise_blur(x, self.strides, gain=1.0)

    def compute_output_shape(self, input_shape):
        batch, *lengths, channels = input_shape
        return (batch, *(length and -(-length // self.strides) for length in lengths), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable("keras_gan")
class BlurUpsample2D(_Blur):
    """Upsampling by a factor of 2: zero insertion, followed by a blur.

    With [1, 3, 3, 1] this is bilinear interpolation at half-pixel centers; with [1, 2, 1] it is
    bilinear interpolation that keeps the original pixels. Unlike TensorFlow's bilinear resize, it
    has a second derivative.

    Args:
        kernel: weights of the separable filter on one axis, normalized to a sum of 2, so that
            the mean brightness is preserved.
        padding: "reflect" or "zero".
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, height and width of at least 2 for the usual
    filters. Output shape: twice the height and width.

    Raises:
        UsageError: an argument is out of range, or the height or width is too small for
            reflection.

    Reference:
        - [Karras et al., 2018](https://arxiv.org/abs/1812.04948), section 2
    """

    def _reach(self) -> int:
        return (len(self.kernel) // 2 + 1) // 2

    def _matrix(self, length: int) -> np.ndarray:
        weights = np.array([2 * k / sum(self.kernel) for k in self.kernel])
        taps = np.arange(len(weights)) - len(weights) // 2  # positions on the upsampled axis
        rows = []
        for pixel in range(2 * length):
            on = (pixel + taps) % 2 == 0  # the other positions hold the inserted zeros
            rows.append(self._matrix_row(length, list((pixel + taps)[on] // 2), list(weights[on])))
        return np.array(rows)

    def call(self, inputs):
        if self._fits_matrices([length and 2 * length for length in inputs.shape[1:3]]):
            return self._resample_by_matrices(inputs)
        _, height, width, channels = ops.shape(inputs)
        before = len(self.kernel) // 2  # padding of the upsampled image
        border = self._reach()
        x = self._pad(inputs, border, border)
        # Insert zeros between the columns, then between the rows.
        tall, wide = height + 2 * border, width + 2 * border
        x = ops.reshape(ops.stack([x, ops.zeros_like(x)], 3), (-1, tall, 2 * wide, channels))
        x = ops.reshape(ops.stack([x, ops.zeros_like(x)], 2), (-1, 2 * tall, 2 * wide, channels))
        first, padding = 2 * border - before, len(self.kernel) - 1
        x = x[:, first : first + 2 * height + padding, first : first + 2 * width + padding]
        return self._depthwise_blur(x, strides=1, gain=2.0)

    def compute_output_shape(self, input_shape):
        batch, *lengths, channels = input_shape
        return (batch, *(length and 2 * length for length in lengths), channels)


@keras.saving.register_keras_serializable("keras_gan")
class UpSampling2D(keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D`, many times faster to train on a CPU for a factor of 2.

    Computes the same function. Nearest-neighbor upsampling by 2 stacks the features along width
    and height. Keras gathers each pixel by its index, and so sums the gradient by index.

    Args:
        *args, **kwargs: the arguments of `keras.layers.UpSampling2D`.
    """

    def call(self, inputs):
        nearest = self.interpolation == "nearest" and self.data_format == "channels_last"
        if not nearest or tuple(self.size) != (2, 2) or not all(inputs.shape[1:3]):
            return super().call(inputs)
        return upsample_nearest(inputs)


def upsample_nearest(inputs):
    """Repeats each pixel twice along height and width.

    Args:
        inputs: `(batch, height, width, channels)`; unknown lengths are read as it runs.

    Returns:
        `(batch, 2 * height, 2 * width, channels)`.
    """
    _, height, width, channels = inputs.shape
    if None in (height, width):
        # Without the sizes, so that an exported graph has no arithmetic on them.
        return tf.nn.depth_to_space(ops.concatenate([inputs] * 4, -1), 2)
    x = ops.reshape(ops.stack([inputs, inputs], 3), (-1, height, 2 * width, channels))
    return ops.reshape(ops.stack([x, x], 2), (-1, 2 * height, 2 * width, channels))

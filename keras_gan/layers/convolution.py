"""Convolutional layers: drop-in replacements for Keras's that train faster on CPUs."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import convolutions, precision
from keras_gan.errors import UsageError
from keras_gan.layers.resampling import upsample_nearest

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, faster to train on a CPU.

    Computes the same function with the same weights. In training, it takes the gradients of
    `keras_gan.convolutions` where they were measured to be faster. All of these cases need
    channels last, padding "same", a known height and width, one group and no dilation:

    - kernels of 3 or 4 with strides 2, wherever products are computed in bfloat16;
    - kernels of 4 with strides 2 in float32, with 512 channels or more at the higher resolution;
    - in float32 on x86 CPUs with AVX2 and without AVX-512, also kernels of 3 or 4 with strides 2
      and fewer channels, and odd kernels with strides 1.

    Grouped convolutions do not go through XLA, unlike Keras's. All other cases are Keras's.

    Args:
        *args, **kwargs: the arguments of `keras.layers.Conv2D`.
    """

    def call(self, inputs, training: bool = False):  # pyright: ignore
        size, channels = inputs.shape[1:3], inputs.shape[-1]
        if training and prefers_stride2(self, size, channels):
            return _finish(self, convolutions.conv2d_stride2(*_operands(self, inputs)))
        if training and prefers_same(self, size, channels):
            return _finish(self, convolutions.conv2d_same(*_operands(self, inputs)))
        if self.groups > 1 and self.data_format == "channels_last":
            form = (self.groups, self.strides, self.padding.upper(), self.dilation_rate)
            return _finish(self, convolutions.conv2d_grouped(*_operands(self, inputs), *form))
        return super().call(inputs)


@keras.saving.register_keras_serializable("keras_gan")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, faster to train on a CPU with strides 2.

    Computes the same function with the same weights, see `Conv2D`.

    Args:
        *args, **kwargs: the arguments of `keras.layers.Conv2DTranspose`.
    """

    def call(self, inputs, training: bool = False):  # pyright: ignore
        size = [length and 2 * length for length in inputs.shape[1:3]]
        if training and self.output_padding is None and prefers_stride2(self, size, self.filters):
            operands = _operands(self, inputs)
            return _finish(self, convolutions.conv2d_transpose_stride2(*operands, size))
        return super().call(inputs)


@keras.saving.register_keras_serializable("keras_gan")
class UpConv2D(Conv2D):
    """Nearest-neighbor upsampling by 2, followed by a convolution with a 3 x 3 kernel.

    Unlike an untrained transposed convolution, it leaves no checkerboard artifacts. In training, it
    is computed as a transposed convolution whose 4 x 4 kernel holds sums of the weights: 4 products
    for each output pixel instead of 9. In inference, and so in exported models, it is upsampling
    and a convolution.

    Args:
        filters: number of output channels, at least 1.
        kernel_size: 3.
        padding: "same".
        **kwargs: further arguments of `keras.layers.Conv2D`. Strides, dilation and groups must be
            1.

    Input shape: `(batch, height, width, channels)`. Output shape:
    `(batch, 2 * height, 2 * width, filters)`.

    Raises:
        UsageError: an argument is not supported.

    Reference:
        - [Odena et al., 2016](https://doi.org/10.23915/distill.00003)
    """

    def __init__(self, filters: int, kernel_size: Any = 3, padding: str = "same", **kwargs: Any):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        _check_form(self, "a kernel of 3 x 3", self.kernel_size == (3, 3))

    def call(self, inputs, training: bool = False):  # pyright: ignore
        if training and all(inputs.shape[1:3]):
            return _finish(self, convolutions.conv2d_upsampled(*_operands(self, inputs)))
        return super().call(upsample_nearest(inputs), training=False)

    def compute_output_shape(self, input_shape):
        batch, height, width = input_shape[:3]
        return (batch, height and 2 * height, width and 2 * width, self.filters)


def prefers_stride2(layer, size, channels: int) -> bool:
    """Returns True where `keras_gan.convolutions` trains a stride-2 layer faster: measured.

    Args:
        layer: the convolution or the transposed convolution.
        size: height and width at the higher resolution.
        channels: channels at the higher resolution.
    """
    if not _is_plain(layer, size, 2) or layer.compute_dtype not in ("bfloat16", "float32"):
        return False
    if precision.computes_in_bfloat16(layer.compute_dtype):
        minimum = {(3, 3): 32, (4, 4): 32}  # with fewer channels, the products are too narrow
    elif convolutions.prefers_forward_kernels(layer.compute_dtype):
        minimum = {(3, 3): 128, (4, 4): 32}
    else:
        # With fewer channels, float32 gains nothing from blocks.
        minimum = {(4, 4): 4 * convolutions.CHANNEL_BLOCK}
    return layer.kernel_size in minimum and channels >= minimum[layer.kernel_size]


def prefers_same(layer, size, channels: int) -> bool:
    """Returns True where `keras_gan.convolutions` trains a stride-1 layer faster: measured.

    Args:
        layer: the convolution.
        size: height and width of the inputs.
        channels: channels of the inputs.
    """
    return (
        _is_plain(layer, size, 1)
        and convolutions.prefers_forward_kernels(layer.compute_dtype)
        and all(length % 2 for length in layer.kernel_size)
        and channels >= 16  # with fewer, the input gradient's convolution is too narrow
    )


def _is_plain(layer, size, strides: int) -> bool:
    """Returns True for channels last, padding "same", a known size, no dilation and no groups."""
    form = (layer.strides, layer.dilation_rate, layer.padding, layer.data_format)
    plain = form == ((strides,) * 2, (1, 1), "same", "channels_last")
    return plain and getattr(layer, "groups", 1) == 1 and all(size)


def _check_form(layer, kernel: str, fits: bool) -> None:
    """Raises a `UsageError` unless the kernel fits, and all else is as in a plain convolution."""
    name = type(layer).__name__
    plain = (layer.strides, layer.dilation_rate, layer.groups) == ((1, 1), (1, 1), 1)
    if not fits or not plain or layer.padding != "same":
        raise UsageError(
            f"{name} needs {kernel}, strides 1, padding same, no dilation and no groups. "
            f"Received: kernel_size={layer.kernel_size}, strides={layer.strides}, "
            f"padding={layer.padding!r}, dilation_rate={layer.dilation_rate}, "
            f"groups={layer.groups}"
        )
    if layer.data_format != "channels_last":
        raise UsageError(
            f"{name} needs `data_format` channels_last. Received: data_format={layer.data_format!r}"
        )


def _operands(layer, inputs):
    """Returns the inputs and the kernel in the layer's compute dtype."""
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), layer.compute_dtype)
    return ops.cast(inputs, layer.compute_dtype), kernel


def _finish(layer, outputs):
    """Adds the layer's bias and applies its activation."""
    if layer.use_bias:
        outputs = tf.nn.bias_add(outputs, ops.cast(layer.bias, outputs.dtype))
    return layer.activation(outputs) if layer.activation is not None else outputs


@keras.saving.register_keras_serializable("keras_gan")
class NarrowConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with few filters, faster to train on a CPU: a generator's last layer.

    Computes the same function with the same weights. CPU kernels of convolutions work on blocks
    of output channels, most of which are idle for three filters. In training, the layer multiplies
    each pixel by the whole kernel in one matrix product, and then overlap-adds the results. In
    inference, and so in exported models, it is the plain convolution.

    Args:
        filters: number of output channels, at least 1; it pays off up to about 4.
        kernel_size: height and width of the kernel, in pixels, odd.
        **kwargs: further arguments of `keras.layers.Conv2D`. Strides, dilation and groups must be
            1 and the padding "same".

    Input shape: `(batch, height, width, channels)`. Output shape: the same with `filters` channels.

    Raises:
        UsageError: the kernel is not square and odd, or an argument is not supported.
    """

    def __init__(self, filters: int, kernel_size: Any, padding: str = "same", **kwargs: Any):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        height, width = self.kernel_size
        _check_form(self, "an odd square kernel", height == width and height % 2 == 1)

    def call(self, inputs, training: bool = False):  # pyright: ignore
        if not training:
            return super().call(inputs)
        size, channels = self.kernel_size[0], inputs.shape[-1]
        taps = size * size * self.filters
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), self.compute_dtype)
        kernel = ops.reshape(ops.transpose(kernel, (2, 0, 1, 3)), (1, 1, channels, taps))
        # Contributions of each pixel to all of its neighbors, then their overlap-add as a
        # convolution by ones and zeros.
        layout = {"padding": "same", "data_format": "channels_last"}
        contributions = ops.conv(inputs, kernel, **layout)
        shifts = ops.cast(_shift_kernel(size, self.filters), self.compute_dtype)
        outputs = ops.conv(contributions, shifts, **layout)
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs) if self.activation is not None else outputs


def _shift_kernel(size: int, filters: int) -> np.ndarray:
    """Returns the kernel that copies input channel (i, j, c) at tap (i, j) to output channel c."""
    kernel = np.zeros((size, size, size, size, filters, filters), "float32")
    i, j, c = np.meshgrid(range(size), range(size), range(filters), indexing="ij")
    kernel[i, j, i, j, c, c] = 1
    return kernel.reshape(size, size, size * size * filters, filters)

"""Gradients of strided, transposed, unit-stride and grouped convolutions, optimized for CPUs.

The gradient with respect to the kernel (the weight gradient) is the slowest of a convolution's
three products (docs/speed.md). In bfloat16 TensorFlow's took half of a training step, at a third
of the speed of the other two. Here, with strides 2 and a kernel of 4 or 3, it is four matrix
products without a copy of every patch. In float32 with many channels, it is computed in blocks of
channels, which stay in the cache. The convolution, its transpose and the weight gradient are each
other's derivatives, so derivatives of all orders exist.

On CPUs without AVX-512, the float32 gradient kernels take twice the time of the forward kernels.
There a transposed convolution is computed as a plain convolution to all of its phases or as a
matrix product, and so is the input gradient of a convolution.

Layers call this module in training only, so that exported graphs contain TensorFlow's operations
and no custom gradients.

Shapes of the stride-2 functions: `inputs` of a convolution are `(batch, height, width, a)`, its
`outputs` `(batch, ceil(height / 2), ceil(width / 2), b)`. The kernel is `(4, 4, a, b)` or
`(3, 3, a, b)`, as Keras stores it both for the convolution and for its transpose. With stride 1,
inputs have a channels, outputs b.

On a CPU, Keras compiles every grouped convolution by XLA, because TensorFlow's own kernels have no
gradient of it. oneDNN's have gradients of any order, and are the fastest (docs/architectures.md).
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_gan import precision
from keras_gan.autograph import do_not_convert
from serving import processor

CHANNEL_BLOCK = 128  # channels of the inputs in each block of a float32 weight gradient
FEW_FILTERS = 4  # up to this many output channels, kernels for blocks of channels are mostly idle

nn: Any = tf.nn
raw: Any = tf.raw_ops
custom_gradient: Any = tf.custom_gradient
unstack: Any = tf.unstack


def prefers_forward_kernels(dtype: str) -> bool:
    """Returns True where the kernels of forward convolutions are the faster ones for gradients.

    That is in float32 on an x86 CPU with AVX2 and without AVX-512, under Linux, which lists the
    CPU's features. It was measured on one such CPU (docs/speed.md) and is assumed on others.
    """
    return dtype == "float32" and _has_slow_gradients() and not precision.graph_pass_enabled()


@functools.cache
def _has_slow_gradients() -> bool:
    flags = processor.flags()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return "avx2" in flags and "avx512f" not in flags and not on_gpu


# ------------------------------------------------------------------------ strides 2


def conv2d_stride2(inputs, kernel):
    """Computes a convolution with strides 2 and padding "SAME".

    Args:
        inputs: `(batch, height, width, a)`, height and width known.
        kernel: `(4, 4, a, b)` or `(3, 3, a, b)`.

    Returns:
        `(batch, ceil(height / 2), ceil(width / 2), b)`.
    """
    input_size = inputs.shape[1:3]

    @do_not_convert
    @custom_gradient
    def operation(inputs, kernel):
        outputs = nn.conv2d(inputs, kernel, 2, "SAME")

        def gradient(upstream):
            upstream.set_shape(outputs.shape)  # a graph may have lost the static shape
            weights = conv2d_stride2_weight_gradient(inputs, upstream, kernel.shape[0])
            return conv2d_transpose_stride2(upstream, kernel, input_size), weights

        return outputs, gradient

    return operation(inputs, kernel)


def conv2d_transpose_stride2(inputs, kernel, output_size):
    """Computes the transpose of `conv2d_stride2`.

    Args:
        inputs: `(batch, ceil(height / 2), ceil(width / 2), b)`.
        kernel: `(4, 4, a, b)` or `(3, 3, a, b)`.
        output_size: height and width of the outputs.

    Returns:
        `(batch, height, width, a)`.
    """

    @do_not_convert
    @custom_gradient
    def operation(inputs, kernel):
        def gradient(upstream):
            upstream.set_shape(outputs.shape)
            weights = conv2d_stride2_weight_gradient(upstream, inputs, kernel.shape[0])
            return conv2d_stride2(upstream, kernel), weights

        if prefers_forward_kernels(inputs.dtype.name):
            outputs = _transpose_by_forward_kernels(inputs, kernel, output_size)
        else:
            shape = tf.stack([tf.shape(inputs)[0], *output_size, kernel.shape[2]])
            outputs = nn.conv2d_transpose(inputs, kernel, shape, 2, "SAME")
        outputs.set_shape((inputs.shape[0], *output_size, kernel.shape[2]))
        return outputs, gradient

    return operation(inputs, kernel)


def conv2d_upsampled(inputs, kernel):
    """Computes nearest-neighbor upsampling by 2, followed by a 3 x 3 convolution, padding "SAME".

    Both together are a transposed convolution: a tap that falls on two equal pixels counts for
    both. The kernel has 16 taps of which an output pixel meets 4, instead of 9.

    Args:
        inputs: `(batch, height, width, a)`, height and width known.
        kernel: `(3, 3, a, b)`.

    Returns:
        `(batch, 2 * height, 2 * width, b)`.
    """
    rotated = _rotate180(kernel)
    rows = tf.pad(rotated, ((0, 1), *_NO_PADS)) + tf.pad(rotated, ((1, 0), *_NO_PADS))
    columns = tf.transpose(rows, (1, 0, 2, 3))
    columns = tf.pad(columns, ((0, 1), *_NO_PADS)) + tf.pad(columns, ((1, 0), *_NO_PADS))
    size = [2 * length for length in inputs.shape[1:3]]
    return conv2d_transpose_stride2(inputs, tf.transpose(columns, (1, 0, 2, 3)), size)


_NO_PADS = ((0, 0),) * 3  # of the axes after the first one


def conv2d_stride2_weight_gradient(inputs, outputs, kernel_size: int):
    """Computes the weight gradient of `conv2d_stride2`.

    It is the sum, over all positions, of the patch of `inputs` times the value of `outputs`.

    Args:
        inputs: inputs of the convolution, `(batch, height, width, a)`.
        outputs: gradient with respect to its outputs,
            `(batch, ceil(height / 2), ceil(width / 2), b)`.
        kernel_size: 4 or 3.

    Returns:
        `(kernel_size, kernel_size, a, b)`.
    """
    input_size = inputs.shape[1:3]

    @do_not_convert
    @custom_gradient
    def operation(inputs, outputs):
        def gradient(upstream):
            transposed = conv2d_transpose_stride2(outputs, upstream, input_size)
            return transposed, conv2d_stride2(inputs, upstream)

        dtype = inputs.dtype.name
        by_forward_kernels = kernel_size == 4 and prefers_forward_kernels(dtype)
        if precision.computes_in_bfloat16(dtype) or by_forward_kernels:
            return _weight_gradient_by_matrix_products(inputs, outputs, kernel_size), gradient
        return _weight_gradient_in_blocks(inputs, outputs, kernel_size), gradient

    return operation(inputs, outputs)


def _transpose_by_forward_kernels(inputs, kernel, output_size):
    """Computes `conv2d_transpose_stride2` by a convolution (4 x 4) or a matrix product (3 x 3)."""
    size, channels = kernel.shape[0], kernel.shape[2]
    height, width = inputs.shape[1:3]
    (top, _), (left, _) = _block_padding(inputs.shape[1:3], output_size, size)
    if size == 4:
        # On each axis, a tap belongs to one of two phases, and to this pixel or the previous one.
        taps = tf.reverse(tf.reshape(kernel, (2, 2, 2, 2, channels, -1)), (0, 2))
        taps = tf.reshape(tf.transpose(taps, (0, 2, 5, 1, 3, 4)), (2, 2, -1, 4 * channels))
        padded = tf.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        outputs = nn.depth_to_space(nn.conv2d(padded, taps, 1, "VALID"), 2)
        return outputs[:, top : top + output_size[0], left : left + output_size[1]]
    taps = tf.reshape(tf.transpose(kernel, (3, 0, 1, 2)), (-1, 9 * channels))
    products = tf.matmul(tf.reshape(inputs, (-1, inputs.shape[-1])), taps)
    products = tf.reshape(products, (-1, height, width, 3, 3 * channels))
    rows = _overlap_add(
        [tf.reshape(row, (-1, height, 3 * width * channels)) for row in unstack(products, axis=3)]
    )
    columns = tf.reshape(rows[:, top : top + output_size[0]], (-1, width, 3, channels))
    outputs = _overlap_add(unstack(columns, axis=2))[:, left : left + output_size[1]]
    return tf.reshape(outputs, (-1, *output_size, channels))


def _overlap_add(taps):
    """Overlap-adds the three taps of a stride-2 transposed convolution along one axis.

    Args:
        taps: three tensors `(count, length, channels)`.

    Returns:
        `(count, 2 * length + 2, channels)`, the last of which is zero.
    """
    first, middle, last = taps
    own, next_one = ((0, 0), (0, 1), (0, 0)), ((0, 0), (1, 0), (0, 0))
    even, odd = tf.pad(first, own) + tf.pad(last, next_one), tf.pad(middle, own)
    length, channels = first.shape[1:]
    return tf.reshape(tf.stack([even, odd], 2), (-1, 2 * length + 2, channels))


def _block_padding(output_size, input_size, kernel_size: int) -> list[tuple[int, int]]:
    """Returns the padding that divides a convolution's inputs into blocks of 2 x 2.

    The padding before is that of "SAME". The padding after makes one more row and one more column
    of blocks than the convolution has outputs.
    """
    pads = []
    for outputs, inputs in zip(output_size, input_size, strict=True):
        before = (2 * outputs - 2 + kernel_size - inputs) // 2
        pads.append((before, 2 * outputs + 2 - inputs - before))
    return pads


def _weight_gradient_in_blocks(inputs, outputs, kernel_size: int):
    """Computes the weight gradient by TensorFlow's operation, 128 input channels at a time."""
    blocks = [inputs[..., i : i + CHANNEL_BLOCK] for i in range(0, inputs.shape[-1], CHANNEL_BLOCK)]
    products = [
        raw.Conv2DBackpropFilter(
            input=block,
            filter_sizes=[kernel_size, kernel_size, block.shape[-1], outputs.shape[-1]],
            out_backprop=outputs,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )
        for block in blocks
    ]
    return tf.concat(products, axis=2)


def _weight_gradient_by_matrix_products(inputs, outputs, kernel_size: int):
    """Computes the weight gradient by four matrix products on blocks of 2 x 2 pixels."""
    a, b = inputs.shape[-1], outputs.shape[-1]
    height, width = outputs.shape[1:3]
    # A patch of 4 x 4 consists of four neighboring blocks of 2 x 2; a patch of 3 x 3 lies within
    # one. The blocks start as many rows and columns earlier as "SAME" pads.
    pads = _block_padding(outputs.shape[1:3], inputs.shape[1:3], kernel_size)
    blocks = nn.space_to_depth(tf.pad(inputs, [(0, 0), *pads, (0, 0)]), 2)
    values = tf.reshape(outputs, (-1, b))
    products = [
        # The smaller matrix is the one that is transposed, which takes less time.
        tf.matmul(
            values,
            tf.reshape(blocks[:, i : i + height, j : j + width], (-1, 4 * a)),
            transpose_a=True,
        )
        for i in (0, 1)
        for j in (0, 1)
    ]
    kernel = tf.reshape(tf.stack(products), (2, 2, b, 2, 2, a))
    kernel = tf.reshape(tf.transpose(kernel, (0, 3, 1, 4, 5, 2)), (4, 4, a, b))
    return kernel[:kernel_size, :kernel_size]


# ------------------------------------------------------------------------ strides 1


def conv2d_same(inputs, kernel):
    """Computes a convolution with strides 1 and padding "SAME".

    Args:
        inputs: `(batch, height, width, a)`, height and width known.
        kernel: `(rows, columns, a, b)`, rows and columns odd.

    Returns:
        `(batch, height, width, b)`.
    """

    @do_not_convert
    @custom_gradient
    def operation(inputs, kernel):
        outputs = nn.conv2d(inputs, kernel, 1, "SAME")

        def gradient(upstream):
            upstream.set_shape(outputs.shape)
            weights = conv2d_same_weight_gradient(inputs, upstream, kernel.shape[:2])
            return conv2d_same(upstream, _rotate180(kernel)), weights

        return outputs, gradient

    return operation(inputs, kernel)


def conv2d_same_weight_gradient(inputs, outputs, kernel_size):
    """Computes the weight gradient of `conv2d_same`.

    It is the sum, over all positions, of the patch of `inputs` times the value of `outputs`.

    Args:
        inputs: inputs of the convolution, `(batch, height, width, a)`.
        outputs: gradient with respect to its outputs, `(batch, height, width, b)`.
        kernel_size: height and width of the kernel, both odd.

    Returns:
        `(*kernel_size, a, b)`.
    """

    @do_not_convert
    @custom_gradient
    def operation(inputs, outputs):
        def gradient(upstream):
            return conv2d_same(outputs, _rotate180(upstream)), conv2d_same(inputs, upstream)

        if outputs.shape[-1] <= FEW_FILTERS:
            return _weight_gradient_of_few_filters(inputs, outputs, kernel_size), gradient
        return raw.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=[*kernel_size, inputs.shape[-1], outputs.shape[-1]],
            out_backprop=outputs,
            strides=[1, 1, 1, 1],
            padding="SAME",
        ), gradient

    return operation(inputs, outputs)


def _rotate180(kernel):
    """Returns the kernel of the input gradient: rotated by 180 degrees, outputs to inputs."""
    return tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2))


def _weight_gradient_of_few_filters(inputs, outputs, kernel_size):
    """Computes the weight gradient by one product of the inputs and the outputs' patches.

    With few filters, patches of the outputs are smaller than patches of the inputs.
    """
    height, width = inputs.shape[1:3]
    rows, columns = kernel_size
    padded = tf.pad(outputs, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    patches = [
        padded[:, rows - 1 - i : rows - 1 - i + height, columns - 1 - j : columns - 1 - j + width]
        for i in range(rows)
        for j in range(columns)
    ]
    a, b = inputs.shape[-1], outputs.shape[-1]
    patches = tf.reshape(tf.concat(patches, -1), (-1, rows * columns * b))
    kernel = tf.matmul(patches, tf.reshape(inputs, (-1, a)), transpose_a=True)
    return tf.transpose(tf.reshape(kernel, (rows, columns, b, a)), (0, 1, 3, 2))


# ------------------------------------------------------------------------ groups


def conv2d_grouped(
    inputs, kernel, groups: int, strides: Any = 1, padding: str = "SAME", dilations: Any = 1
):
    """Computes a grouped convolution, in one operation or in one operation for each group.

    Args:
        inputs: `(batch, height, width, groups * a)`.
        kernel: `(k, k, a, groups * b)`, the kernels of the groups concatenated.
        groups: number of groups.
        strides, padding, dilations: as of `tf.nn.conv2d`.
    """
    if differentiates_grouped(inputs.dtype.name):
        return nn.conv2d(inputs, kernel, strides, padding, dilations=dilations)
    parts = zip(tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([nn.conv2d(x, k, strides, padding, dilations=dilations) for x, k in parts], -1)


@functools.cache
def differentiates_grouped(dtype: str) -> bool:
    """Returns True if TensorFlow differentiates grouped convolutions on this machine.

    The first call for a dtype tries it; the result is cached.
    """
    with tf.init_scope():
        try:
            raw.Conv2DBackpropInput(  # no tape records in this scope
                input_sizes=[1, 3, 3, 4],
                filter=tf.ones((3, 3, 2, 4), dtype),
                out_backprop=tf.ones((1, 3, 3, 4), dtype),
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True

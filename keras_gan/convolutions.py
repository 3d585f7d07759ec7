"""Convolutions made for CPUs: those that halve, double or keep the sides, and those in groups.

The gradient of a convolution by its kernel is the slowest of its three products (docs/speed.md). In
bfloat16 it took half of a step's time before this module, at a third of the other two's speed: with
a kernel of 4 or 3 and strides 2 it is four matrix products without a copy of every patch. In
float32, where many channels meet, it is faster in parts of them, which stay in the cache. The
convolution, its transpose and the weight gradient are each other's derivatives, so that all orders
are there.

Without AVX-512 the products backwards take twice the time of the one forwards, in float32. There a
transposed convolution is a plain one to all of its phases, or a matrix product, and so is what goes
back through a convolution.

The layers come here in training alone: a graph that is exported holds TensorFlow's operations and
no gradients of ours.

Everywhere `large` is `(batch, *sides, a)`, `small` is `(batch, height, width, b)`, half of the
sides, rounded up, and a kernel is `(4, 4, a, b)` or `(3, 3, a, b)`, as Keras keeps it for both
kinds of layer. Where the sides are kept, `inputs` have a channels and `outputs` b.

Keras compiles every convolution in groups by XLA on a CPU, as TensorFlow's own kernels have no
gradient of it. oneDNN's have, to any order, and are the fastest way (docs/architectures.md).
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_gan import precision

PART = 128  # channels whose weight gradient is computed at a time in float32
FEW = 4  # outputs up to which kernels that work on blocks of channels are mostly idle

nn: Any = tf.nn
raw: Any = tf.raw_ops
custom_gradient: Any = tf.custom_gradient
do_not_convert: Any = tf.autograph.experimental.do_not_convert
unstack: Any = tf.unstack


def forwards(dtype: str) -> bool:
    """Whether products of this type are faster by the kernels of a convolution forwards.

    In float32 on an x86 CPU with AVX2 and without AVX-512, under Linux, which tells: measured on
    one (docs/speed.md), assumed on others.
    """
    return dtype == "float32" and _has_slow_gradients() and not precision.in_graphs()


@functools.cache
def _has_slow_gradients() -> bool:
    flags = precision.cpu_flags()
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return "avx2" in flags and "avx512f" not in flags and not on_gpu


def halve(large, kernel):
    """The convolution: large to small."""
    sides = large.shape[1:3]

    @do_not_convert
    @custom_gradient
    def operation(large, kernel):
        small = nn.conv2d(large, kernel, 2, "SAME")

        def gradient(upstream):
            upstream.set_shape(small.shape)  # what comes through a graph may have lost it
            weights = weight_gradient(large, upstream, kernel.shape[0])
            return double(upstream, kernel, sides), weights

        return small, gradient

    return operation(large, kernel)


def double(small, kernel, sides):
    """The transposed convolution: small to large, whose height and width are `sides`."""

    @do_not_convert
    @custom_gradient
    def operation(small, kernel):
        def gradient(upstream):
            upstream.set_shape(large.shape)
            return halve(upstream, kernel), weight_gradient(upstream, small, kernel.shape[0])

        if forwards(small.dtype.name):
            large = _doubled_forwards(small, kernel, sides)
        else:
            shape = tf.stack([tf.shape(small)[0], *sides, kernel.shape[2]])
            large = nn.conv2d_transpose(small, kernel, shape, 2, "SAME")
        large.set_shape((small.shape[0], *sides, kernel.shape[2]))
        return large, gradient

    return operation(small, kernel)


def weight_gradient(large, small, size: int):
    """Sum over all positions of each value of `small` times the patch of `large` it has met."""
    sides = large.shape[1:3]

    @do_not_convert
    @custom_gradient
    def operation(large, small):
        def gradient(upstream):
            return double(small, upstream, sides), halve(large, upstream)

        if precision.in_bfloat16(large.dtype.name) or (size == 4 and forwards(large.dtype.name)):
            return _as_matrix_products(large, small, size), gradient
        return _in_parts(large, small, size), gradient

    return operation(large, small)


def _doubled_forwards(small, kernel, sides):
    """By a convolution or a product to all taps, whose results are laid beside each other."""
    size, channels = kernel.shape[0], kernel.shape[2]
    height, width = small.shape[1:3]
    (top, _), (left, _) = _pads(small, sides, size)
    if size == 4:
        # In each direction a tap is one of two phases, of this pixel or of the one before.
        taps = tf.reverse(tf.reshape(kernel, (2, 2, 2, 2, channels, -1)), (0, 2))
        taps = tf.reshape(tf.transpose(taps, (0, 2, 5, 1, 3, 4)), (2, 2, -1, 4 * channels))
        padded = tf.pad(small, ((0, 0), (1, 1), (1, 1), (0, 0)))
        large = nn.depth_to_space(nn.conv2d(padded, taps, 1, "VALID"), 2)
        return large[:, top : top + sides[0], left : left + sides[1]]
    taps = tf.reshape(tf.transpose(kernel, (3, 0, 1, 2)), (-1, 9 * channels))
    given = tf.matmul(tf.reshape(small, (-1, small.shape[-1])), taps)
    given = tf.reshape(given, (-1, height, width, 3, 3 * channels))
    rows = _laid(
        [tf.reshape(row, (-1, height, 3 * width * channels)) for row in unstack(given, axis=3)]
    )
    columns = tf.reshape(rows[:, top : top + sides[0]], (-1, width, 3, channels))
    large = _laid(unstack(columns, axis=2))[:, left : left + sides[1]]
    return tf.reshape(large, (-1, *sides, channels))


def _laid(taps):
    """Adds up what the values of a line give to three places each, every value's two further on.

    Args:
        taps: three of `(count, side, channels)`.

    Returns:
        `(count, 2 * side + 2, channels)`, of which the last is zero.
    """
    first, middle, last = taps
    own, next_one = ((0, 0), (0, 1), (0, 0)), ((0, 0), (1, 0), (0, 0))
    even, odd = tf.pad(first, own) + tf.pad(last, next_one), tf.pad(middle, own)
    side, channels = first.shape[1:]
    return tf.reshape(tf.stack([even, odd], 2), (-1, 2 * side + 2, channels))


def _pads(small, sides, size: int) -> list[tuple[int, int]]:
    """What makes pictures of these sides blocks of 2 x 2, a row and a column more than of `small`.

    Before are the rows and the columns that "SAME" adds there.
    """
    pads = []
    for halved, side in zip(small.shape[1:3], sides, strict=True):
        before = (2 * halved - 2 + size - side) // 2
        pads.append((before, 2 * halved + 2 - side - before))
    return pads


def keep(inputs, kernel):
    """A convolution of strides 1 with a kernel of odd sides: as many pixels come out as go in."""

    @do_not_convert
    @custom_gradient
    def operation(inputs, kernel):
        outputs = nn.conv2d(inputs, kernel, 1, "SAME")

        def gradient(upstream):
            upstream.set_shape(outputs.shape)
            weights = kept_weight_gradient(inputs, upstream, kernel.shape[:2])
            return keep(upstream, _turned(kernel)), weights

        return outputs, gradient

    return operation(inputs, kernel)


def kept_weight_gradient(inputs, outputs, sides):
    """Sum over all positions of each value of `outputs` times the patch of `inputs` it has met.

    Args:
        inputs: `(batch, height, width, a)`.
        outputs: `(batch, height, width, b)`.
        sides: of the kernel, both odd.
    """

    @do_not_convert
    @custom_gradient
    def operation(inputs, outputs):
        def gradient(upstream):
            return keep(outputs, _turned(upstream)), keep(inputs, upstream)

        if outputs.shape[-1] <= FEW:
            return _of_few(inputs, outputs, sides), gradient
        return raw.Conv2DBackpropFilter(
            input=inputs,
            filter_sizes=[*sides, inputs.shape[-1], outputs.shape[-1]],
            out_backprop=outputs,
            strides=[1, 1, 1, 1],
            padding="SAME",
        ), gradient

    return operation(inputs, outputs)


def _turned(kernel):
    """The kernel of the way back: turned by half a circle, from the outputs to the inputs."""
    return tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2))


def _of_few(inputs, outputs, sides):
    """By one product, of the inputs and of the outputs' patches, which are the smaller ones."""
    height, width = inputs.shape[1:3]
    rows, columns = sides
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


def _in_parts(large, small, size: int):
    """By TensorFlow's operation, on 128 channels of `large` at a time."""
    parts = [large[..., i : i + PART] for i in range(0, large.shape[-1], PART)]
    products = [
        raw.Conv2DBackpropFilter(
            input=part,
            filter_sizes=[size, size, part.shape[-1], small.shape[-1]],
            out_backprop=small,
            strides=[1, 2, 2, 1],
            padding="SAME",
        )
        for part in parts
    ]
    return tf.concat(products, axis=2)


def _as_matrix_products(large, small, size: int):
    a, b = large.shape[-1], small.shape[-1]
    height, width = small.shape[1:3]
    # A patch of 4 x 4, or of 3 x 3 within it, is four neighbors of the blocks of 2 x 2, of which
    # the first begins as many rows and columns earlier as "SAME" pads.
    pads = _pads(small, large.shape[1:3], size)
    blocks = nn.space_to_depth(tf.pad(large, [(0, 0), *pads, (0, 0)]), 2)
    values = tf.reshape(small, (-1, b))
    products = [
        # The product with the smaller matrix transposed: to transpose the larger takes longer.
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
    return kernel[:size, :size]


def grouped(
    inputs, kernel, groups: int, strides: Any = 1, padding: str = "SAME", dilations: Any = 1
):
    """A convolution of each group of channels by its own kernel, in one operation or one a group.

    Args:
        inputs: `(batch, height, width, groups * a)`.
        kernel: `(k, k, a, groups * b)`, the kernels of the groups side by side.
        groups: number of groups.
        strides, padding, dilations: as of `tf.nn.conv2d`.
    """
    if groups_in_one(inputs.dtype.name):
        return nn.conv2d(inputs, kernel, strides, padding, dilations=dilations)
    parts = zip(tf.split(inputs, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([nn.conv2d(x, k, strides, padding, dilations=dilations) for x, k in parts], -1)


@functools.cache
def groups_in_one(dtype: str) -> bool:
    """Whether this machine's kernels differentiate a convolution in groups: tried, once."""
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

"""Convolutions made for CPUs: those that halve or double the sides, and those in groups.

The gradient of a convolution by its kernel is the slowest of its three products (docs/speed.md). In
bfloat16 it took half of a step's time before this module, at a third of the other two's speed: with
a kernel of 4 or 3 and strides 2 it is four matrix products without a copy of every patch. In
float32, where many channels meet, it is faster in parts of them, which stay in the cache. The
convolution, its transpose and the weight gradient are each other's derivatives, so that all orders
are there.

Everywhere `large` is `(batch, *sides, a)`, `small` is `(batch, height, width, b)`, half of the
sides, rounded up, and a kernel is `(4, 4, a, b)` or `(3, 3, a, b)`, as Keras keeps it for both
kinds of layer.

Keras compiles every convolution in groups by XLA on a CPU, as TensorFlow's own kernels have no
gradient of it. oneDNN's have, to any order, and are the fastest way (docs/architectures.md).
"""

from __future__ import annotations

import functools
from typing import Any

import tensorflow as tf

from keras_gan import precision

PART = 128  # channels whose weight gradient is computed at a time in float32

nn: Any = tf.nn
raw: Any = tf.raw_ops
custom_gradient: Any = tf.custom_gradient
do_not_convert: Any = tf.autograph.experimental.do_not_convert


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

        if precision.in_bfloat16(large.dtype.name):
            return _as_matrix_products(large, small, size), gradient
        return _in_parts(large, small, size), gradient

    return operation(large, small)


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
    pads = [[0, 0]]
    for side, halved in zip(large.shape[1:3], (height, width), strict=True):
        before = (2 * halved - 2 + size - side) // 2
        pads.append([before, 2 * halved + 2 - side - before])
    blocks = nn.space_to_depth(tf.pad(large, [*pads, [0, 0]]), 2)
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

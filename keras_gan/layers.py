"""Layers of our own, where Keras's do not fit the game."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import convolutions, precision, replicas
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


# Where the output channels are in a kernel: last, but for the transposed convolutions.
_OUTPUT_AXIS = {
    keras.layers.Dense: -1,
    keras.layers.Embedding: -1,
    keras.layers.Conv1D: -1,
    keras.layers.Conv2D: -1,
    keras.layers.Conv3D: -1,
    keras.layers.Conv1DTranspose: -2,
    keras.layers.Conv2DTranspose: -2,
    keras.layers.Conv3DTranspose: -2,
}


@keras.saving.register_keras_serializable("keras_gan")
class SpectralNormalization(keras.layers.Wrapper):
    """Gives a layer the kernel W / sigma(W), whose largest singular value is 1.

    sigma is estimated as u W v: u is the first singular vector on the side of the outputs, as far
    as the power iteration has come, v = u W / |u W|, and the gradient goes through sigma with both
    held still. The kernel that is stored and trained is W. A call changes nothing, so that
    training, inference and an exported model compute with the same weights, however often a step
    asks the discriminator. The iteration goes on by `move`, which `GAN` calls once at the start of
    each player's turn; whoever trains without `GAN` calls it once a step.

    Keras's layer of that name divides the stored kernel at every call in training, and at none
    in inference.

    Args:
        layer: a Dense, Conv1D, Conv2D, Conv3D, Conv1DTranspose, Conv2DTranspose, Conv3DTranspose
            or Embedding layer.
        iterations: power iterations of a move, from 1 up.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`; by default the precision
            of the layer.

    Input and output shapes: those of the layer.

    Raises:
        UsageError: a layer of another kind, or iterations out of range.

    Reference:
        - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), algorithm 1
    """

    def __init__(self, layer: Any, iterations: int = 1, **kwargs: Any):
        axes = [axis for kind, axis in _OUTPUT_AXIS.items() if isinstance(layer, kind)]
        if not axes:
            raise UsageError(
                "Spectral normalization wraps a layer with one kernel: "
                f"{', '.join(kind.__name__ for kind in _OUTPUT_AXIS)}. "
                f"Received: {type(layer).__name__}"
            )
        check_count("iterations", iterations)
        kwargs.setdefault("dtype", layer.dtype_policy)
        # No casts on the way in: the iteration sees the kernel at full precision, and the layer
        # casts its inputs and weights itself.
        super().__init__(layer, autocast=False, **kwargs)
        self.iterations = int(iterations)
        self._output_axis = axes[0]

    def build(self, input_shape=None):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self._kernel.shape[self._output_axis],),
            initializer="random_normal",
            trainable=False,
            dtype=_at_least_float32(self.variable_dtype),
        )

    def update_power_iteration(self) -> None:
        """Moves u towards the first singular vector of the kernel as it now is."""
        matrix, u = self._matrix(), _unit(self.u.value)
        for _ in range(self.iterations):
            v = _unit(ops.matmul(u, matrix))
            # A kernel of zeros has no direction: the old one stays.
            u = ops.where(ops.any(v != 0), _unit(ops.matmul(matrix, v)), u)
        self.u.assign(u)

    def sigma(self):
        """The estimate of the kernel's largest singular value: a scalar, at least float32."""
        # Not of length 1 when new, or when it was averaged with others.
        u = _unit(self.u.value)
        projected = ops.matmul(u, self._matrix())
        v = ops.stop_gradient(_unit(projected))
        return ops.sum(projected * v)

    def call(self, inputs):
        kernel, sigma = self._kernel, self.sigma()
        # A kernel of zeros stays one, and learns as if it were not normalized.
        sigma = ops.where(sigma > 0, sigma, ops.ones_like(sigma))
        normalized = ops.cast(ops.convert_to_tensor(kernel), sigma.dtype) / sigma
        # A scope of Keras's in which the layer finds other values in its weights; it holds all
        # of them, as it hides the scope that may be around it.
        values = [(v, v.value) for v in self.layer.variables if v is not kernel]
        values.append((kernel, ops.cast(normalized, kernel.dtype)))
        with keras.StatelessScope(values, initialize_variables=False):
            return self.layer(inputs)

    @property
    def _kernel(self) -> Any:
        layer: Any = self.layer
        return layer.embeddings if isinstance(layer, keras.layers.Embedding) else layer.kernel

    def _matrix(self):
        """The kernel as a matrix, one row for each output channel."""
        precision = _at_least_float32(self.variable_dtype)
        kernel = ops.cast(ops.convert_to_tensor(self._kernel), precision)
        rows = ops.moveaxis(kernel, self._output_axis, 0)
        return ops.reshape(rows, (rows.shape[0], -1))

    def compute_output_shape(self, input_shape):
        layer: Any = self.layer
        return layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "iterations": self.iterations}


@keras.saving.register_keras_serializable("keras_gan")
class SelfAttention2D(keras.layers.Layer):
    """Self-attention over the positions of a feature map, added to it with a learned weight.

    Every position looks at every other: queries and keys have C / 8 channels, values C / 2, and
    the attended values come back through a 1x1 convolution. Their weight gamma begins at 0, so
    that a new layer gives back what it gets. Memory grows with the square of the number of
    positions; `pool_size` 2 quarters it, by average pooling of what keys and values are made of
    (a maximum has no second derivative under XLA).

    Args:
        pool_size: side of the squares of positions that keys and values are averaged over; 1 for
            none.
        spectral: whether its four convolutions are normalized by `SpectralNormalization`, as in
            the paper.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.

    Raises:
        UsageError: pool_size out of range, or greater than the feature map.

    Reference:
        - [Zhang et al., 2018](https://arxiv.org/abs/1805.08318), equations 1 to 3
    """

    def __init__(self, pool_size: int = 1, spectral: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("pool_size", pool_size)
        self.pool_size = int(pool_size)
        self.spectral = bool(spectral)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        if min(height or self.pool_size, width or self.pool_size) < self.pool_size:
            raise UsageError(
                "pool_size must be at most the side of the feature map. "
                f"Received: pool_size={self.pool_size}, {height} x {width}"
            )
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = self._convolution(narrow, channels, "query")
        self.key = self._convolution(narrow, channels, "key")
        self.value = self._convolution(half, channels, "value")
        self.projection = self._convolution(channels, half, "projection")
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="zeros")

    def _convolution(self, filters: int, channels: int, name: str):
        layer: Any = keras.layers.Conv2D(
            filters, 1, use_bias=False, name=name, dtype=self.dtype_policy
        )
        if self.spectral:
            layer = SpectralNormalization(layer, name=name)
        layer.build((None, None, None, channels))
        return layer

    def call(self, inputs):
        seen = inputs
        if self.pool_size > 1:
            seen = ops.average_pool(inputs, self.pool_size, self.pool_size, "valid")
        query, key, value = self.query(inputs), self.key(seen), _positions(self.value(seen))
        scores = ops.matmul(_positions(query), ops.transpose(_positions(key), (0, 2, 1)))
        weights = ops.softmax(ops.cast(scores, _at_least_float32(scores.dtype)), axis=-1)
        attended = ops.matmul(ops.cast(weights, value.dtype), value)
        _, height, width, _ = ops.shape(inputs)
        attended = ops.reshape(attended, (-1, height, width, value.shape[-1]))
        return inputs + ops.cast(self.gamma, inputs.dtype) * self.projection(attended)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size, "spectral": self.spectral}


def _follow(average, value, momentum: float) -> None:
    """Moves a moving average to a batch's value, in the value's precision."""
    value = ops.stop_gradient(value)
    new = momentum * ops.cast(average, value.dtype) + (1 - momentum) * value
    average.assign(ops.cast(new, average.dtype))


@keras.saving.register_keras_serializable("keras_gan")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization`, faster to train on images.

    The same function with the same weights. In training, images `(batch, height, width, channels)`
    go through TensorFlow's fused operation, which reads them twice where Keras's own take more
    than ten passes there and back; whatever it does not do, and inference, is as in Keras.

    Args:
        *args, **kwargs: as of `keras.layers.BatchNormalization`.
    """

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable and self._has_fused(inputs) and mask is None):
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=ops.cast(inputs, "float32"),
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        # The operation gives the unbiased variance; Keras's average is of the biased one.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], "float32")
        _follow(self.moving_mean, mean, self.momentum)
        _follow(self.moving_variance, variance * (count - 1) / count, self.momentum)
        return ops.cast(outputs, self.compute_dtype)

    def _has_fused(self, inputs) -> bool:
        return (
            len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and self.scale
            and self.center
            and not self.renorm
            and not self.synchronized
            and inputs.dtype in ("float32", "float16", "bfloat16")
        )


@keras.saving.register_keras_serializable("keras_gan")
class ConditionalBatchNormalization(keras.layers.Layer):
    """Batch normalization whose scale and shift are those of the sample's class.

    Normalizes each channel over the batch in training (the whole one, where it is divided among
    replicas), by moving averages in inference, then scales and shifts it as its class has
    learned. For generators: samples of a batch meet in it, so that a penalty on a
    discriminator's gradient would not be one on each sample.

    Args:
        num_classes: number of classes, from 1 up.
        momentum: share of the old moving averages at each step, in [0, 1).
        epsilon: added to the variance, above 0.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Call arguments:
        inputs: list of features `(batch, ..., channels)` and integer class ids `(batch,)`.
        training: whether to use the statistics of the batch, and to move the averages.

    Output shape: that of the features.

    Raises:
        UsageError: an argument out of range.

    Reference:
        - [Dumoulin et al., 2016](https://arxiv.org/abs/1610.07629)
        - [Miyato and Koyama, 2018](https://arxiv.org/abs/1802.05637)
    """

    def __init__(
        self, num_classes: int, momentum: float = 0.9, epsilon: float = 1e-5, **kwargs: Any
    ):
        super().__init__(**kwargs)
        check_count("num_classes", num_classes)
        if not 0 <= momentum < 1:
            raise UsageError(f"momentum must be in [0, 1). Received: momentum={momentum!r}")
        _check_positive("epsilon", epsilon)
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
        precision = _at_least_float32(features.dtype)
        x = ops.cast(features, precision)
        if training and self.trainable:
            axes = tuple(range(len(x.shape) - 1))
            mean = replicas.mean(ops.mean(x, axis=axes))
            variance = replicas.mean(ops.mean(ops.square(x - mean), axis=axes))
            _follow(self.moving_mean, mean, self.momentum)
            _follow(self.moving_variance, variance, self.momentum)
        else:
            mean = ops.cast(self.moving_mean, precision)
            variance = ops.cast(self.moving_variance, precision)
        x = (x - mean) * ops.rsqrt(variance + self.epsilon)
        x = x * self._of_class(self.gamma, labels, x) + self._of_class(self.beta, labels, x)
        return ops.cast(x, features.dtype)

    def _of_class(self, table, labels, like):
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
    """Scales the channels of each pixel to a mean square of 1.

    Args:
        epsilon: added to the mean square, above 0.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: the same.

    Raises:
        UsageError: epsilon out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 4.2
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any):
        super().__init__(**kwargs)
        _check_positive("epsilon", epsilon)
        self.epsilon = float(epsilon)

    def call(self, inputs):
        x = ops.cast(inputs, _at_least_float32(inputs.dtype))
        square = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return ops.cast(x * ops.rsqrt(square + self.epsilon), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}


@keras.saving.register_keras_serializable("keras_gan")
class MinibatchStandardDeviation(keras.layers.Layer):
    """Adds a channel that tells how much the samples of a group differ from each other.

    The standard deviation of every feature over the group, averaged over all features: one
    number for the group, by which a discriminator knows a generator that repeats itself. Batches
    are of any size: a batch falls into ceil(batch / group_size) groups, sample i into group i
    modulo their number. If the batch divides by `group_size`, all groups are of that size; if
    not, their sizes differ by at most one; a batch that is smaller is one group.

    Args:
        group_size: samples of a group, from 1 up.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, ..., channels)`. Output shape: `(batch, ..., channels + 1)`.

    Raises:
        UsageError: group_size out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 3
    """

    def __init__(self, group_size: int = 4, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("group_size", group_size)
        self.group_size = int(group_size)

    def call(self, inputs):
        x = ops.cast(inputs, _at_least_float32(inputs.dtype))
        batch = ops.shape(x)[0]
        groups = (batch + self.group_size - 1) // self.group_size
        group = ops.arange(batch, dtype="int32") % groups
        # Row i holds, for every sample of i's group, one over their number: a mean is a product
        # of matrices, whatever the size of the batch.
        together = ops.cast(ops.expand_dims(group, 1) == ops.expand_dims(group, 0), x.dtype)
        share = together / ops.sum(together, axis=1, keepdims=True)
        features = ops.reshape(x, (-1, math.prod(x.shape[1:])))
        centered = features - ops.matmul(share, features)
        variance = ops.matmul(share, ops.square(centered))
        # The epsilon keeps the slope of the root finite where all samples are equal.
        deviation = ops.mean(ops.sqrt(variance + 1e-8), axis=1)
        channel = ops.reshape(deviation, (-1, *[1] * (len(x.shape) - 1)))
        channel = ops.cast(channel * ops.ones_like(x[..., :1]), inputs.dtype)
        return ops.concatenate([inputs, channel], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group_size": self.group_size}


# Longest side up to which a blur is two matrix products: on a CPU several times faster than a
# depthwise convolution, the second derivative included (docs/architectures.md).
_LONGEST_BY_MATRICES = 64


class _Blur(keras.layers.Layer):
    """What the two blurring layers share: the filter and the padding."""

    def __init__(
        self, kernel: Sequence[float] = (1, 3, 3, 1), padding: str = "reflect", **kwargs: Any
    ):
        super().__init__(**kwargs)
        if len(kernel) < 2 or not all(math.isfinite(k) for k in kernel) or not sum(kernel):
            raise UsageError(
                "kernel must be 2 or more numbers whose sum is not 0. "
                f"Received: kernel={list(kernel)}"
            )
        if padding not in ("reflect", "zero"):
            raise UsageError(f"padding must be reflect or zero. Received: padding={padding!r}")
        self.kernel = [float(k) for k in kernel]
        self.padding = padding

    def build(self, input_shape):
        # Reflection begins at the second pixel: as many must be there as are looked at beyond.
        sides, least = input_shape[1:3], self._beyond() + 1
        if self.padding == "reflect" and any(side and side < least for side in sides):
            raise UsageError(
                f"A blur of kernel={self.kernel} that reflects needs sides of at least {least} "
                f'pixels; or take padding="zero". Received: {sides[0]} x {sides[1]}'
            )

    def _beyond(self) -> int:
        """How many pixels beyond the border are looked at."""
        raise NotImplementedError

    def _matrix(self, side: int) -> np.ndarray:
        """How much of every pixel of a line, by columns, is in each that is made, by rows."""
        raise NotImplementedError

    def _line(self, side: int, pixels: Sequence[Any], weights: Sequence[Any]) -> np.ndarray:
        """A row of the matrix: the weights of these pixels, some of them beyond the border."""
        row = np.zeros(side)
        for pixel, weight in zip(pixels, weights, strict=True):
            if self.padding == "reflect":
                pixel = side - 1 - abs(side - 1 - abs(pixel))
            if 0 <= pixel < side:
                row[pixel] += weight
        return row

    def _by_matrices(self, x):
        """Both axes by products with their matrices."""
        _, height, width, channels = x.shape
        down, across = (
            ops.convert_to_tensor(self._matrix(side), dtype=x.dtype) for side in (height, width)
        )
        lines = ops.matmul(down, ops.reshape(x, (-1, height, width * channels)))
        x = ops.matmul(across, ops.reshape(lines, (-1, width, channels)))
        return ops.reshape(x, (-1, down.shape[0], across.shape[0], channels))

    def _short(self, sides: Sequence[int | None]) -> bool:
        return all(side and side <= _LONGEST_BY_MATRICES for side in sides)

    def _padded(self, x, before: int, after: int):
        sides = [(0, 0), (before, after), (before, after), (0, 0)]
        return ops.pad(x, sides, "reflect" if self.padding == "reflect" else "constant")

    def _blurred(self, x, strides: int, gain: float):
        """Each channel by itself through the separable filter, whose sum is `gain` an axis."""
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
    """Blurs, then keeps every second pixel: halves the resolution without aliasing.

    Args:
        kernel: the filter of one axis, scaled to a sum of 1. An even number of weights, as in
            [1, 3, 3, 1], is centered between two pixels, an odd one, as in [1, 2, 1], on one.
        padding: "reflect" or "zero": what is beyond the border.
        strides: every how many-th pixel is kept, from 1 up.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, sides of at least 3 for the usual filters.
    Output shape: sides divided by `strides`, rounded up.

    Raises:
        UsageError: an argument out of range, or sides too short to be reflected.

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
        check_count("strides", strides)
        self.strides = int(strides)

    def _beyond(self) -> int:
        return len(self.kernel) // 2

    def _matrix(self, side: int) -> np.ndarray:
        weights = [k / sum(self.kernel) for k in self.kernel]
        taps = np.arange(len(weights)) - (len(weights) - 1) // 2
        starts = range(0, side, self.strides)
        return np.array([self._line(side, list(start + taps), weights) for start in starts])

    def call(self, inputs):
        if self._short(inputs.shape[1:3]):
            return self._by_matrices(inputs)
        beyond = len(self.kernel) - 1
        x = self._padded(inputs, beyond // 2, beyond - beyond // 2)
        return self._blurred(x, self.strides, gain=1.0)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side and -(-side // self.strides) for side in sides), channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "strides": self.strides}


@keras.saving.register_keras_serializable("keras_gan")
class BlurUpsample2D(_Blur):
    """Doubles the resolution: zeros between the pixels, then a blur that fills them.

    With [1, 3, 3, 1] it is bilinear interpolation between the centers of pixels, with [1, 2, 1]
    between pixels that stay where they are; unlike TensorFlow's it has a second derivative.

    Args:
        kernel: the filter of one axis, scaled to a sum of 2, so that brightness stays.
        padding: "reflect" or "zero": what is beyond the border.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`, sides of at least 2 for the usual filters.
    Output shape: sides doubled.

    Raises:
        UsageError: an argument out of range, or sides too short to be reflected.

    Reference:
        - [Karras et al., 2018](https://arxiv.org/abs/1812.04948), section 2
    """

    def _beyond(self) -> int:
        return (len(self.kernel) // 2 + 1) // 2

    def _matrix(self, side: int) -> np.ndarray:
        weights = np.array([2 * k / sum(self.kernel) for k in self.kernel])
        taps = np.arange(len(weights)) - len(weights) // 2  # on the doubled line
        rows = []
        for pixel in range(2 * side):
            on = (pixel + taps) % 2 == 0  # between them are zeros
            rows.append(self._line(side, list((pixel + taps)[on] // 2), list(weights[on])))
        return np.array(rows)

    def call(self, inputs):
        if self._short([side and 2 * side for side in inputs.shape[1:3]]):
            return self._by_matrices(inputs)
        _, height, width, channels = ops.shape(inputs)
        before = len(self.kernel) // 2  # of the doubled image
        border = self._beyond()
        x = self._padded(inputs, border, border)
        tall, wide = height + 2 * border, width + 2 * border
        x = ops.reshape(ops.stack([x, ops.zeros_like(x)], 3), (-1, tall, 2 * wide, channels))
        x = ops.reshape(ops.stack([x, ops.zeros_like(x)], 2), (-1, 2 * tall, 2 * wide, channels))
        first, beyond = 2 * border - before, len(self.kernel) - 1
        x = x[:, first : first + 2 * height + beyond, first : first + 2 * width + beyond]
        return self._blurred(x, strides=1, gain=2.0)

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side and 2 * side for side in sides), channels)


class _Equalized(keras.layers.Layer):
    """What the equalized layers share: weights of unit variance, scaled when they are used."""

    def __init__(
        self,
        use_bias: bool = True,
        activation: Any = None,
        gain: float = 1.0,
        learning_rate_multiplier: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        _check_positive("gain", gain)
        _check_positive("learning_rate_multiplier", learning_rate_multiplier)
        self.use_bias = bool(use_bias)
        self.activation: Any = keras.activations.get(activation)
        self.gain = float(gain)
        self.learning_rate_multiplier = float(learning_rate_multiplier)

    def _add_weights(self, shape: tuple) -> None:
        """A kernel of that shape, output channels last, and a bias."""
        multiplier = self.learning_rate_multiplier
        self._scale = multiplier * self.gain / math.sqrt(math.prod(shape[:-1]))
        self.kernel = self.add_weight(
            name="kernel",
            shape=shape,
            initializer=keras.initializers.RandomNormal(stddev=1 / multiplier),
        )
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=shape[-1:], initializer="zeros")

    def _scaled_kernel(self):
        return self.kernel * self._scale

    def _finished(self, x):
        if self.use_bias:
            x = x + self.bias * self.learning_rate_multiplier
        return self.activation(x)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "gain": self.gain,
            "learning_rate_multiplier": self.learning_rate_multiplier,
        }


@keras.saving.register_keras_serializable("keras_gan")
class EqualizedDense(_Equalized):
    """A dense layer at an equalized learning rate.

    Its weights begin as N(0, 1) and are multiplied by gain / sqrt(inputs) when they are used, so
    that Adam, whose steps do not know the scale of a weight, moves all layers equally fast.

    Args:
        units: number of outputs, from 1 up.
        use_bias: whether a bias is added.
        activation: a Keras activation, by default none.
        gain: standard deviation of the outputs for inputs of unit variance, above 0; sqrt(2) for
            a layer before a (leaky) ReLU.
        learning_rate_multiplier: how fast the layer learns relative to others, above 0; weights
            begin as N(0, 1 / multiplier^2), so that what it computes at first is the same.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, ..., inputs)`. Output shape: `(batch, ..., units)`.

    Raises:
        UsageError: an argument out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 4.1
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("units", units)
        self.units = int(units)

    def build(self, input_shape):
        self._add_weights((input_shape[-1], self.units))

    def call(self, inputs):
        return self._finished(ops.matmul(inputs, self._scaled_kernel()))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_gan")
class EqualizedConv2D(_Equalized):
    """A convolution at an equalized learning rate, see `EqualizedDense`.

    Args:
        filters: number of output channels, from 1 up.
        kernel_size: side of the square kernel, in pixels.
        strides: every how many-th position is computed.
        padding: "same" or "valid".
        use_bias: whether a bias is added.
        activation: a Keras activation, by default none.
        gain: as for `EqualizedDense`; the inputs of an output are the kernel's area times the
            input channels.
        learning_rate_multiplier: as for `EqualizedDense`.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: as of `keras.layers.Conv2D`.

    Raises:
        UsageError: an argument out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 4.1
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int = 3,
        strides: int = 1,
        padding: str = "same",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_count("filters", filters)
        check_count("kernel_size", kernel_size)
        check_count("strides", strides)
        if padding not in ("same", "valid"):
            raise UsageError(f"padding must be same or valid. Received: padding={padding!r}")
        self.filters = int(filters)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)
        self.padding = padding

    def build(self, input_shape):
        side = self.kernel_size
        self._add_weights((side, side, input_shape[-1], self.filters))

    def call(self, inputs):
        return self._finished(
            ops.conv(inputs, self._scaled_kernel(), self.strides, padding=self.padding)
        )

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = input_shape
        lost = self.kernel_size - 1 if self.padding == "valid" else 0
        made = (side and -(-(side - lost) // self.strides) for side in sides)
        return (batch, *made, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }


@keras.saving.register_keras_serializable("keras_gan")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, faster to train on a CPU.

    The same function with the same weights. In training its gradients are those of
    `keras_gan.convolutions` where these are faster: with channels last, padding "same", known
    sides and no dilation, those of kernels of 3 or 4 with strides 2 wherever products are in
    bfloat16, of 4 in float32 with 512 channels or more on the side of the larger pictures, and, in
    float32 on x86 CPUs with AVX2 and without AVX-512, also of fewer channels and of odd kernels
    with strides 1. Several groups are not compiled by XLA, as Keras does; else nothing differs.

    Args:
        *args, **kwargs: as of `keras.layers.Conv2D`.
    """

    def call(self, inputs, training: bool = False):  # pyright: ignore
        sides, channels = inputs.shape[1:3], inputs.shape[-1]
        if training and _halves(self, sides, channels):
            return _finish(self, convolutions.halve(*_operands(self, inputs)))
        if training and _keeps(self, sides, channels):
            return _finish(self, convolutions.keep(*_operands(self, inputs)))
        if self.groups > 1 and self.data_format == "channels_last":
            form = (self.groups, self.strides, self.padding.upper(), self.dilation_rate)
            return _finish(self, convolutions.grouped(*_operands(self, inputs), *form))
        return super().call(inputs)


@keras.saving.register_keras_serializable("keras_gan")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`, faster to train on a CPU where it doubles the sides.

    The same function with the same weights, see `Conv2D`.

    Args:
        *args, **kwargs: as of `keras.layers.Conv2DTranspose`.
    """

    def call(self, inputs, training: bool = False):  # pyright: ignore
        doubled = [side and 2 * side for side in inputs.shape[1:3]]
        if training and self.output_padding is None and _halves(self, doubled, self.filters):
            return _finish(self, convolutions.double(*_operands(self, inputs), doubled))
        return super().call(inputs)


def _halves(layer, sides, channels: int) -> bool:
    """Whether a layer with strides 2 is trained faster by `keras_gan.convolutions`: measured.

    Args:
        layer: the convolution, or the transposed one.
        sides: of the larger pictures.
        channels: of these.
    """
    if not _is_plain(layer, sides, 2) or layer.compute_dtype not in ("bfloat16", "float32"):
        return False
    if precision.in_bfloat16(layer.compute_dtype):
        least = {(3, 3): 32, (4, 4): 32}  # with few channels the products are too narrow
    elif convolutions.forwards(layer.compute_dtype):
        least = {(3, 3): 128, (4, 4): 32}
    else:
        least = {(4, 4): 4 * convolutions.PART}  # with fewer, float32 needs no parts
    return layer.kernel_size in least and channels >= least[layer.kernel_size]


def _keeps(layer, sides, channels: int) -> bool:
    """Whether a layer with strides 1, of so many input channels, is trained faster so: measured."""
    return (
        _is_plain(layer, sides, 1)
        and convolutions.forwards(layer.compute_dtype)
        and all(side % 2 for side in layer.kernel_size)
        and channels >= 16  # what goes back to fewer is too narrow
    )


def _is_plain(layer, sides, strides: int) -> bool:
    """Whether pictures of known sides, channels last, meet a kernel without holes or groups."""
    form = (layer.strides, layer.dilation_rate, layer.padding, layer.data_format)
    plain = form == ((strides,) * 2, (1, 1), "same", "channels_last")
    return plain and getattr(layer, "groups", 1) == 1 and all(sides)


def _operands(layer, inputs):
    kernel = ops.cast(ops.convert_to_tensor(layer.kernel), layer.compute_dtype)
    return ops.cast(inputs, layer.compute_dtype), kernel


def _finish(layer, outputs):
    if layer.use_bias:
        outputs = tf.nn.bias_add(outputs, ops.cast(layer.bias, outputs.dtype))
    return layer.activation(outputs) if layer.activation is not None else outputs


@keras.saving.register_keras_serializable("keras_gan")
class UpSampling2D(keras.layers.UpSampling2D):
    """`keras.layers.UpSampling2D`, many times faster to train on a CPU where it doubles the sides.

    The same function. To the nearest pixel by a factor of 2 it lays the features beside and below
    themselves; Keras gathers every pixel by its index, and adds up its gradient so.

    Args:
        *args, **kwargs: as of `keras.layers.UpSampling2D`.
    """

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        nearest = self.interpolation == "nearest" and self.data_format == "channels_last"
        if not nearest or tuple(self.size) != (2, 2) or not height or not width:
            return super().call(inputs)
        x = ops.reshape(ops.stack([inputs, inputs], 3), (-1, height, 2 * width, channels))
        return ops.reshape(ops.stack([x, x], 2), (-1, 2 * height, 2 * width, channels))


@keras.saving.register_keras_serializable("keras_gan")
class Basis2D(keras.layers.Layer):
    """A learned pattern for each channel, as strong as the channel's input: vectors to pictures.

    The generator's counterpart of a depthwise convolution as large as the picture.

    Args:
        height: of the pattern, in pixels, from 1 up.
        width: of the pattern, in pixels, from 1 up.
        **kwargs: `name`, `dtype` and the like of `keras.layers.Layer`.

    Input shape: `(batch, channels)`. Output shape: `(batch, height, width, channels)`.

    Raises:
        UsageError: a side out of range.

    Reference:
        - [Huang et al., 2025](https://arxiv.org/abs/2501.05441)
    """

    def __init__(self, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_count("height", height)
        check_count("width", width)
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


@keras.saving.register_keras_serializable("keras_gan")
class NarrowConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` to few channels, trained faster on a CPU: a generator's last layer.

    The same function with the same weights. Convolution kernels of CPUs work on blocks of output
    channels, and for three of them most of a block is idle. In training the layer multiplies every
    pixel by all of the kernel at once, one matrix product, and then adds up what falls on each
    output pixel; out of training, and so in exported models, it is the plain convolution.

    Args:
        filters: number of output channels, from 1 up; of use up to about 4.
        kernel_size: side of the square kernel, in pixels, odd.
        **kwargs: further arguments of `keras.layers.Conv2D`, without strides, dilation or groups
            and with padding "same".

    Input shape: `(batch, height, width, channels)`. Output shape: the same with `filters` channels.

    Raises:
        UsageError: a kernel that is not square and odd, or an argument that the layer has no
            form for.
    """

    def __init__(self, filters: int, kernel_size: Any, padding: str = "same", **kwargs: Any):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)
        height, width = self.kernel_size
        plain = (self.strides, self.dilation_rate, self.groups) == ((1, 1), (1, 1), 1)
        if height != width or height % 2 == 0 or not plain or self.padding != "same":
            raise UsageError(
                "NarrowConv2D takes an odd square kernel, strides 1 and padding same. Received: "
                f"kernel_size={self.kernel_size}, strides={self.strides}, padding={self.padding!r}"
            )
        if self.data_format != "channels_last":
            raise UsageError(
                f"NarrowConv2D takes channels last. Received: data_format={self.data_format!r}"
            )

    def call(self, inputs, training: bool = False):  # pyright: ignore
        if not training:
            return super().call(inputs)
        side, channels = self.kernel_size[0], inputs.shape[-1]
        taps = side * side * self.filters
        kernel = ops.cast(ops.convert_to_tensor(self.kernel), self.compute_dtype)
        kernel = ops.reshape(ops.transpose(kernel, (2, 0, 1, 3)), (1, 1, channels, taps))
        # What every pixel gives to its neighbors; then a convolution by ones lets it fall there.
        given = ops.conv(inputs, kernel, padding="same")
        ones = _falls(side, self.filters)
        outputs = ops.conv(given, ops.cast(ones, self.compute_dtype), padding="same")
        if self.use_bias:
            outputs = outputs + ops.cast(self.bias, outputs.dtype)
        return self.activation(outputs) if self.activation is not None else outputs


def _falls(side: int, filters: int) -> np.ndarray:
    """The kernel that takes output channel c at tap (i, j) from input channel (i, j, c)."""
    kernel = np.zeros((side, side, side, side, filters, filters), "float32")
    i, j, c = np.meshgrid(range(side), range(side), range(filters), indexing="ij")
    kernel[i, j, i, j, c, c] = 1
    return kernel.reshape(side, side, side * side * filters, filters)


def _at_least_float32(dtype) -> str:
    """float64 stays; in half precision sums lose their digits and squares overflow."""
    return keras.backend.result_type(dtype, "float32")


def _unit(vector):
    """A vector scaled to length 1; zeros stay zeros."""
    square = ops.sum(ops.square(vector))
    return vector * ops.rsqrt(ops.where(square > 0, square, ops.ones_like(square)))


def _positions(x):
    """`(batch, height, width, channels)` to `(batch, height * width, channels)`."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))


def is_whole(value: Any, least: int = 1) -> bool:
    """Whether it is a whole number from `least` up, and not True or a float like one."""
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return integral and int(value) >= least


def check_count(name: str, value: Any, least: int = 1) -> None:
    if not is_whole(value, least):
        raise UsageError(
            f"{name} must be a whole number from {least} up. Received: {name}={value!r}"
        )


def _check_positive(name: str, value: Any) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 < float(value) < float("inf"):
        raise UsageError(f"{name} must be a number above 0. Received: {name}={value!r}")

"""Layers for video: latents by frame, frames folded into the batch, modulation by content."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan import random_numbers
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers.noise import layer_seed

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class VideoLatents(keras.layers.Layer):
    """Splits the latents of a video into its content, its start, and the noise of each frame.

    The latents are `[content | start | frame 1 | frame 2 | ...]`. The normal numbers of a seed are
    counted, so that longer latents of a seed begin with the shorter ones: a longer video of the
    seed begins with the shorter video.

    Args:
        content_dim: latents of what is seen, at least 1.
        start_dim: latents of the state before the first frame, at least 1.
        motion_dim: latents of each frame, at least 1.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape: `(batch, content_dim + start_dim + frames * motion_dim)`. Outputs: content
    `(batch, content_dim)`, start `(batch, start_dim)`, noise `(batch, frames, motion_dim)`.

    Raises:
        UsageError: a size out of range, or latents of another length.

    Reference:
        - [Tulyakov et al., 2017](https://arxiv.org/abs/1707.04993), section 3
    """

    def __init__(self, content_dim: int, start_dim: int, motion_dim: int, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        for name, value in (
            ("content_dim", content_dim),
            ("start_dim", start_dim),
            ("motion_dim", motion_dim),
        ):
            check_integer(name, value)
            setattr(self, name, int(value))

    def length(self, frames: int) -> int:
        """Returns the number of latents of so many frames."""
        return self.content_dim + self.start_dim + frames * self.motion_dim

    def build(self, input_shape):
        self._frames(input_shape[-1])
        self.built = True

    def call(self, inputs):
        frames, first = self._frames(inputs.shape[-1]), self.content_dim + self.start_dim
        noise = ops.reshape(inputs[:, first:], (-1, frames, self.motion_dim))
        return inputs[:, : self.content_dim], inputs[:, self.content_dim : first], noise

    def compute_output_shape(self, input_shape):
        batch, frames = input_shape[0], self._frames(input_shape[-1])
        return (
            (batch, self.content_dim),
            (batch, self.start_dim),
            (batch, frames, self.motion_dim),
        )

    def _frames(self, size: int) -> int:
        frames, rest = divmod(size - self.length(0), self.motion_dim)
        if frames < 1 or rest:
            raise UsageError(
                "Latents of a video must have `content_dim` + `start_dim` + frames * `motion_dim` "
                f"= {self.length(0)} + frames * {self.motion_dim} numbers. Received: {size}"
            )
        return frames

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        own = {name: getattr(self, name) for name in ("content_dim", "start_dim", "motion_dim")}
        return {**config, **own}


@keras.saving.register_keras_serializable("keras_gan")
class FoldFrames(keras.layers.Layer):
    """Folds the frames into the batch, for layers of single pictures.

    Input shape: `(batch, frames, ...)`. Output shape: `(batch * frames, ...)`.
    """

    def call(self, inputs):
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[2:])


@keras.saving.register_keras_serializable("keras_gan")
class UnfoldFrames(keras.layers.Layer):
    """Returns frames that were folded into the batch to their videos.

    Input: a list of the pictures or vectors `(batch * frames, ...)` and of any tensor
    `(batch, frames, ...)`, of which the number of frames is read. Output shape:
    `(batch, frames, ...)`.
    """

    def call(self, inputs):
        x, like = inputs
        return ops.reshape(x, (-1, like.shape[1], *x.shape[1:]))

    def compute_output_shape(self, input_shape):
        (_, *sizes), like = input_shape
        return (like[0], like[1], *sizes)


@keras.saving.register_keras_serializable("keras_gan")
class RepeatForFrames(keras.layers.Layer):
    """Repeats a vector for each frame of its video, folded into the batch.

    Input: a list of the vectors `(batch, size)` and of any tensor `(batch, frames, ...)`, of which
    the number of frames is read. Output shape: `(batch * frames, size)`.
    """

    def call(self, inputs):
        x, like = inputs
        return ops.reshape(ops.tile(x[:, None], (1, like.shape[1], 1)), (-1, x.shape[-1]))

    def compute_output_shape(self, input_shape):
        (_, size), _ = input_shape
        return (None, size)


@keras.saving.register_keras_serializable("keras_gan")
class RepeatFrames(keras.layers.Layer):
    """Repeats each frame of a video.

    Args:
        times: number of copies of each frame, at least 1.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, ...)`. Output shape: `(batch, times * frames, ...)`.

    Raises:
        UsageError: a number out of range.
    """

    def __init__(self, times: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("times", times)
        self.times = int(times)

    def call(self, inputs):
        frames, sizes = inputs.shape[1], inputs.shape[2:]
        flat = ops.reshape(inputs, (-1, frames, 1, _size(sizes)))
        x = ops.tile(flat, (1, 1, self.times, 1))
        return ops.reshape(x, (-1, frames * self.times, *sizes))

    def compute_output_shape(self, input_shape):
        batch, frames, *sizes = input_shape
        return (batch, frames * self.times, *sizes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "times": self.times}


@keras.saving.register_keras_serializable("keras_gan")
class Modulation2D(keras.layers.Layer):
    """Scales and shifts each channel of a picture: x * (1 + scale) + shift.

    Input: a list of the pictures `(batch, height, width, channels)` and of the scales and shifts,
    one behind the other, `(batch, 2 * channels)`. Output shape: that of the pictures.

    Reference:
        - [Chen et al., 2018](https://arxiv.org/abs/1810.01365), equation 2
    """

    def call(self, inputs):
        x, factors = inputs
        channels = x.shape[-1]
        factors = ops.cast(factors, x.dtype)[:, None, None]
        return x * (1 + factors[..., :channels]) + factors[..., channels:]

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("keras_gan")
class StartState(keras.layers.Layer):
    """Replaces the state of a recurrent network by its first one, where it has not begun.

    Input: a list of the first state `(batch, size)` and of a carried state `(batch, size + 1)`,
    whose last number is 1 after the first frame and 0 before: zeros are a video that has not begun.
    Output shape: `(batch, units)`.
    """

    def call(self, inputs):
        first, carried = inputs
        begun = carried[:, -1:]
        return begun * carried[:, :-1] + (1 - begun) * first

    def compute_output_shape(self, input_shape):
        return input_shape[0]


@keras.saving.register_keras_serializable("keras_gan")
class CarriedState(keras.layers.Layer):
    """Appends a 1 to the state of a recurrent network, which marks that it has begun.

    Input shape: `(batch, size)`. Output shape: `(batch, size + 1)`, see `StartState`.
    """

    def call(self, inputs):
        return ops.concatenate([inputs, ops.ones_like(inputs[:, :1])], axis=-1)

    def compute_output_shape(self, input_shape):
        batch, units = input_shape
        return (batch, units + 1)


@keras.saving.register_keras_serializable("keras_gan")
class PickFrames(keras.layers.Layer):
    """Picks frames of a video for a discriminator of pictures: one of each equal part of it.

    In training within `layer_noise`, as in the training step of a game, the frame of each part is
    drawn for each video; elsewhere it is the middle one. In one step, the real, the generated and
    all other videos at the same place of a batch are picked alike.

    Args:
        count: number of frames, at least 1, which divides that of the video.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, ...)`. Output shape: `(batch, count, ...)`.

    Raises:
        UsageError: `count` is out of range or does not divide the number of frames.

    Reference:
        - [Clark et al., 2019](https://arxiv.org/abs/1907.06571), section 3.2
    """

    def __init__(self, count: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("count", count)
        self.count = int(count)

    def build(self, input_shape):
        frames = input_shape[1]
        if frames is None or frames % self.count:
            raise UsageError(
                "The number of picked frames must divide that of the video. "
                f"Received: {self.count} of {frames} frames"
            )
        self.built = True

    def call(self, inputs, training=False):
        frames, sizes = inputs.shape[1], inputs.shape[2:]
        part = frames // self.count
        seed = layer_seed(self.name) if training and part > 1 else None
        starts = tf.range(self.count)[None] * part
        if seed is None:
            places = starts + part // 2
        else:
            shape = (tf.shape(inputs)[0], self.count)
            places = starts + random_numbers.integers(shape, seed, part)
        # A product: the gradient of a gather cannot be compiled by XLA within a branch.
        chosen = tf.one_hot(places, frames, dtype=inputs.dtype)
        flat = ops.reshape(inputs, (-1, frames, _size(sizes)))
        return ops.reshape(ops.matmul(chosen, flat), (-1, self.count, *sizes))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.count, *input_shape[2:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


def _size(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


@keras.saving.register_keras_serializable("keras_gan")
class TemporalConv(keras.layers.Layer):
    """Convolution along the frames of a video, at each pixel by itself.

    Together with a convolution of each frame it is a (2+1)-D convolution. It is computed as a 2-D
    convolution of the frames and of all pixels in one row, which has derivatives of all orders on
    every device.

    Args:
        filters: number of output channels, at least 1.
        kernel_size: frames of the kernel, at least 1.
        strides: distance of the frames of the output in those of the input, at least 1.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, frames, height, width, channels)`. Output shape:
    `(batch, ceil(frames / strides), height, width, filters)`.

    Raises:
        UsageError: an argument out of range.

    Reference:
        - [Tran et al., 2017](https://arxiv.org/abs/1711.11248), section 3.5
    """

    def __init__(self, filters: int, kernel_size: int = 3, strides: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size)):
            check_integer(name, value)
        check_integer("strides", strides)
        self.filters, self.kernel_size = int(filters), int(kernel_size)
        self.strides = int(strides)

    def build(self, input_shape):
        shape = (self.kernel_size, 1, input_shape[-1], self.filters)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="glorot_uniform")
        self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def call(self, inputs):
        frames, height, width, channels = inputs.shape[1:]
        x = ops.reshape(inputs, (-1, frames, height * width, channels))
        layout = {"padding": "same", "data_format": "channels_last"}
        x = ops.conv(x, ops.convert_to_tensor(self.kernel), (self.strides, 1), **layout)
        x = x + ops.convert_to_tensor(self.bias)
        return ops.reshape(x, (-1, x.shape[1], height, width, self.filters))

    def compute_output_shape(self, input_shape):
        batch, frames, height, width, _ = input_shape
        return (batch, -(-frames // self.strides), height, width, self.filters)

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("filters", "kernel_size", "strides")}
        return {**super().get_config(), **own}

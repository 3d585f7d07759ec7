"""Layers for sprites: small pictures that are drawn once, and the places to which they move."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class PlaceSprites(keras.layers.Layer):
    """Draws small pictures into the frames of a video, each at its place of the frame.

    A place is the row and the column of the upper left corner in pixels, real numbers: between
    pixels, the picture is interpolated linearly. What lies outside of a frame is cut. The frames of
    all sprites are concatenated along the channels. With one matrix for the rows and one for the
    columns of each sprite, as DRAW writes, it is made of matrix products.

    Args:
        sprites: number of small pictures, at least 1.
        height: height of a frame in pixels, at least 1.
        width: width of a frame in pixels, at least 1.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Input: a list of the pictures of all sprites, concatenated along the channels,
    `(batch, rows, columns, sprites * channels)`, and of their places,
    `(batch, frames, 2 * sprites)`: the rows of all sprites, then their columns. Output shape:
    `(batch * frames, height, width, sprites * channels)`.

    Raises:
        UsageError: an argument out of range, or inputs that do not fit the number of sprites.

    Reference:
        - [Gregor et al., 2015](https://arxiv.org/abs/1502.04623), equation 29
        - [Jaderberg et al., 2015](https://arxiv.org/abs/1506.02025), equation 5
    """

    def __init__(self, sprites: int, height: int, width: int, **kwargs: Any):
        super().__init__(**kwargs)
        for name, value in (("sprites", sprites), ("height", height), ("width", width)):
            check_integer(name, value)
        self.sprites, self.height, self.width = int(sprites), int(height), int(width)

    def build(self, input_shape):
        pictures, places = input_shape
        if pictures[-1] % self.sprites or places[-1] != 2 * self.sprites:
            raise UsageError(
                f"`sprites` must divide the channels, and each needs a row and a column. Received: "
                f"sprites={self.sprites}, {pictures[-1]} channels, places of {places[-1]} numbers"
            )
        self.built = True

    def call(self, inputs):
        pictures, places = inputs
        rows, columns, channels = pictures.shape[1:]
        count, frames, size = self.sprites, places.shape[1], channels // self.sprites
        places = ops.cast(places, "float32")
        down = self._weights(places[..., :count], self.height, rows)
        right = self._weights(places[..., count:], self.width, columns)
        # (batch, sprites, rows, columns * channels), by the rows of all frames
        x = ops.reshape(pictures, (-1, rows, columns, count, size))
        x = ops.reshape(ops.transpose(x, (0, 3, 1, 2, 4)), (-1, count, rows, columns * size))
        down = ops.reshape(down, (-1, count, frames * self.height, rows))
        x = ops.matmul(ops.cast(down, x.dtype), x)
        # (batch, sprites, frames, columns, height * channels), by the columns of each frame
        x = ops.reshape(x, (-1, count, frames, self.height, columns, size))
        x = ops.transpose(x, (0, 1, 2, 4, 3, 5))
        x = ops.reshape(x, (-1, count, frames, columns, self.height * size))
        x = ops.matmul(ops.cast(right, x.dtype), x)
        x = ops.reshape(x, (-1, count, frames, self.width, self.height, size))
        x = ops.transpose(x, (0, 2, 4, 3, 1, 5))
        return ops.reshape(x, (-1, self.height, self.width, channels))

    def _weights(self, places, length: int, own: int):
        """Returns the share of each position of a sprite in each one of a frame.

        Args:
            places: first position in the frame, `(batch, frames, sprites)`.
            length: positions of a frame.
            own: positions of a sprite.

        Returns:
            `(batch, sprites, frames, length, own)`.
        """
        first = ops.transpose(places, (0, 2, 1))[..., None, None]
        there = ops.arange(length, dtype="float32")[:, None]
        here = ops.arange(own, dtype="float32")[None]
        return ops.relu(1.0 - ops.abs(there - here - first))

    def compute_output_shape(self, input_shape):
        return (None, self.height, self.width, input_shape[0][-1])

    def get_config(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("sprites", "height", "width")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("keras_gan")
class SpritePlaces(keras.layers.Layer):
    """Maps numbers to places at which sprites are in a frame, or half of their size outside.

    A place is `room / 2 + (room + size) / 2 * tanh(x)`: with x = 0 a sprite is in the middle, and
    at the limits half of it is outside of the frame.

    Args:
        rooms: height and width of a frame minus those of a sprite, in pixels.
        sizes: height and width of a sprite in pixels.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`; it computes in float32.

    Input shape and output shape: `(..., 2 * sprites)`, see `PlaceSprites`.
    """

    def __init__(self, rooms: Any, sizes: Any, **kwargs: Any):
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.rooms, self.sizes = tuple(rooms), tuple(sizes)

    def call(self, inputs):
        count = inputs.shape[-1] // 2
        parts = zip((inputs[..., :count], inputs[..., count:]), self.rooms, self.sizes, strict=True)
        return ops.concatenate(
            [room / 2 + (room + size) / 2 * ops.tanh(x) for x, room, size in parts], axis=-1
        )

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        config = {name: value for name, value in super().get_config().items() if name != "dtype"}
        return {**config, "rooms": list(self.rooms), "sizes": list(self.sizes)}

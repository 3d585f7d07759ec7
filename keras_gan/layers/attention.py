"""Self-attention over the positions of a feature map."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers.dtypes import at_least_float32
from keras_gan.layers.spectral import SpectralNormalization

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class SelfAttention2D(keras.layers.Layer):
    """Self-attention over the positions of a feature map, with a learned residual weight.

    Queries and keys have C / 8 channels, values C / 2; a 1x1 convolution maps the attended values
    back to C channels. The result is multiplied by gamma and added to the inputs. gamma starts at
    0, so that a new layer is the identity.

    Memory grows with the square of the number of positions. `pool_size=2` needs a quarter of it,
    by average pooling of the inputs of keys and values. Average pooling is used because maximum
    pooling has no second derivative under XLA.

    Args:
        pool_size: height and width of the pooling window for keys and values; 1 for no pooling.
        spectral: if True, applies `SpectralNormalization` to the four convolutions, as in the
            paper.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: the same.

    Raises:
        UsageError: `pool_size` is out of range, or larger than the feature map.

    Reference:
        - [Zhang et al., 2018](https://arxiv.org/abs/1805.08318), equations 1 to 3
    """

    def __init__(self, pool_size: int = 1, spectral: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("pool_size", pool_size)
        self.pool_size = int(pool_size)
        self.spectral = bool(spectral)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        if min(height or self.pool_size, width or self.pool_size) < self.pool_size:
            raise UsageError(
                "`pool_size` must be at most the height and the width of the feature map. "
                f"Received: pool_size={self.pool_size}, height={height}, width={width}"
            )
        narrow, half = max(channels // 8, 1), max(channels // 2, 1)
        self.query = self._convolution(narrow, channels, "query")
        self.key = self._convolution(narrow, channels, "key")
        self.value = self._convolution(half, channels, "value")
        self.projection = self._convolution(channels, half, "projection")
        self.gamma = self.add_weight(name="gamma", shape=(), initializer="zeros")

    def _convolution(self, filters: int, channels: int, name: str):
        layer: Any = keras.layers.Conv2D(
            filters,
            1,
            use_bias=False,
            data_format="channels_last",
            name=name,
            dtype=self.dtype_policy,
        )
        if self.spectral:
            layer = SpectralNormalization(layer, name=name)
        layer.build((None, None, None, channels))
        return layer

    def call(self, inputs):
        pooled = inputs
        if self.pool_size > 1:
            size = self.pool_size
            pooled = ops.average_pool(inputs, size, size, "valid", data_format="channels_last")
        query, key = self.query(inputs), self.key(pooled)
        value = _flatten_positions(self.value(pooled))
        # Equation 1: attention weights, softmax over the positions that are attended to.
        keys = ops.transpose(_flatten_positions(key), (0, 2, 1))
        scores = ops.matmul(_flatten_positions(query), keys)
        weights = ops.softmax(ops.cast(scores, at_least_float32(scores.dtype)), axis=-1)
        # Equation 2: weighted sum of the values.
        attended = ops.matmul(ops.cast(weights, value.dtype), value)
        _, height, width, _ = ops.shape(inputs)
        attended = ops.reshape(attended, (-1, height, width, value.shape[-1]))
        # Equation 3: residual connection, scaled by gamma.
        return inputs + ops.cast(self.gamma, inputs.dtype) * self.projection(attended)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "pool_size": self.pool_size, "spectral": self.spectral}


def _flatten_positions(x):
    """Reshapes `(batch, height, width, channels)` to `(batch, height * width, channels)`."""
    _, height, width, channels = ops.shape(x)
    return ops.reshape(x, (-1, height * width, channels))

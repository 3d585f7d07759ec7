"""Cosines between features and learned directions."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_integer
from keras_gan.layers.dtypes import at_least_float32

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


@keras.saving.register_keras_serializable("keras_gan")
class CosineDense(keras.layers.Layer):
    """Dense layer whose outputs are the cosines between the features and its weights.

    The features x and each column w of the kernel are divided by their lengths, so that an output
    is x . w / (|x| |w|), from -1 to 1. A vector of zeros has the outputs 0. There are no biases.

    Args:
        units: number of outputs, at least 1.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, ..., features)`. Output shape: `(batch, ..., units)`.

    Raises:
        UsageError: `units` is out of range.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("units", units)
        self.units = int(units)

    def build(self, input_shape):
        # Directions that are uniform on the sphere; their lengths do not count.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.units),
            initializer=keras.initializers.RandomNormal(stddev=1.0),
        )

    def call(self, inputs):
        x = _normalized(ops.cast(inputs, at_least_float32(inputs.dtype)), axis=-1)
        kernel = _normalized(ops.cast(self.kernel, x.dtype), axis=0)
        return ops.cast(ops.matmul(x, kernel), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def _normalized(x, axis: int):
    """Divides vectors by their lengths; those of zeros stay zeros, with a finite gradient."""
    square = ops.sum(ops.square(x), axis=axis, keepdims=True)
    return x * ops.rsqrt(ops.maximum(square, 1e-12))

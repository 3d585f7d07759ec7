"""Layers of policies, value functions and discriminators of observations and actions."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_positive

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_EPSILON = 1e-6  # added to the variance
_LOG_STD = (-5.0, 0.0)  # range of the logarithm of a standard deviation


@keras.saving.register_keras_serializable("keras_gan")
class ObservationNormalization(keras.layers.Layer):
    """Layer that subtracts a running mean and divides by a running standard deviation.

    The statistics are weights that `update_statistics` changes; a forward pass only reads them,
    so that they are frozen between two updates, and an exported network holds them. Before the
    first update the mean is 0 and the variance 1.

    Args:
        limit: normalized values are clipped to [-limit, limit], above 0.
        **kwargs: arguments of `keras.layers.Layer`.

    Raises:
        UsageError: a limit that is not above 0.

    Reference:
        [Chan et al., 1983](https://doi.org/10.1080/00031305.1983.10483115), for the update
    """

    def __init__(self, limit: float = 10.0, **kwargs: Any):
        # Observations keep their precision, and the statistics theirs, under every policy.
        super().__init__(autocast=False, **kwargs)
        check_positive("limit", limit)
        self.limit = float(limit)

    def build(self, input_shape: Any) -> None:
        shape = (input_shape[-1],)
        fixed = {"trainable": False, "dtype": "float32", "autocast": False}
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", **fixed)
        self.variance = self.add_weight(name="variance", shape=shape, initializer="ones", **fixed)
        self.count = self.add_weight(name="count", shape=(), initializer="zeros", **fixed)

    def call(self, inputs):
        scale = ops.rsqrt(self.variance + _EPSILON)
        normal = (ops.cast(inputs, "float32") - self.mean) * scale
        return ops.cast(ops.clip(normal, -self.limit, self.limit), self.compute_dtype)

    def update_statistics(self, observations: Any) -> None:
        """Adds observations `(batch, features)` to the mean and the variance."""
        x = tf.cast(observations, tf.float32)
        size = tf.cast(tf.shape(x)[0], tf.float32)
        mean, variance = tf.nn.moments(x, axes=[0])
        old, total = self.count.value, self.count.value + size
        change = mean - self.mean.value
        # Sums of squares of both parts, and of the distance of their means.
        squares = self.variance.value * old + variance * size
        squares += tf.square(change) * old * size / total
        self.mean.assign(self.mean.value + change * size / total)
        self.variance.assign(squares / total)
        self.count.assign(total)

    def get_config(self) -> dict:
        return {**super().get_config(), "limit": self.limit}


@keras.saving.register_keras_serializable("keras_gan")
class LogStd(keras.layers.Layer):
    """Layer of the logarithm of a standard deviation that does not depend on the inputs.

    It returns the same row for each row of its inputs: its weights, from -5 to 0, plus the
    logarithm of a unit of each value.

    Args:
        initial: initial value of the weights.
        units: units in which the values are, each above 0; by default 1.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, initial: float = 0.0, units: Any = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial = float(initial)
        self.units = None if units is None else [float(unit) for unit in units]

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(self.initial)
        self.values = self.add_weight(name="values", shape=(input_shape[-1],), initializer=start)

    def call(self, inputs):
        values = ops.convert_to_tensor(self.values)
        # Its gradient is that of the weights, so that weights outside of the range come back.
        row = ops.stop_gradient(ops.clip(values, *_LOG_STD)) + values - ops.stop_gradient(values)
        if self.units is not None:
            row = row + ops.log(ops.convert_to_tensor(self.units, dtype=row.dtype))
        return ops.zeros_like(inputs) + row

    def get_config(self) -> dict:
        return {**super().get_config(), "initial": self.initial, "units": self.units}


@keras.saving.register_keras_serializable("keras_gan")
class GreedyChoice(keras.layers.Layer):
    """Layer that returns the choice of the largest logit, one-hot; the first of equal ones."""

    def call(self, inputs):
        return ops.one_hot(ops.argmax(inputs, axis=-1), inputs.shape[-1], dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@keras.saving.register_keras_serializable("keras_gan")
class ToBounds(keras.layers.Layer):
    """Layer of an affine map of [-1, 1] to the bounds of each value, or back.

    Args:
        low: smallest values, one for each feature.
        high: largest values.
        inverse: True for the map of the bounds to [-1, 1].
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, low: Any, high: Any, inverse: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.low, self.high = [float(x) for x in low], [float(x) for x in high]
        self.inverse = bool(inverse)

    def call(self, inputs):
        low, high = (ops.convert_to_tensor(x, dtype=inputs.dtype) for x in (self.low, self.high))
        center, half = (low + high) / 2, (high - low) / 2
        return (inputs - center) / half if self.inverse else inputs * half + center

    def get_config(self) -> dict:
        config = {"low": self.low, "high": self.high, "inverse": self.inverse}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_gan")
class ClipToBounds(keras.layers.Layer):
    """Layer that clips each value to its bounds.

    Args:
        low: smallest values, one for each feature.
        high: largest values.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(self, low: Any, high: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.low, self.high = [float(x) for x in low], [float(x) for x in high]

    def call(self, inputs):
        low, high = (ops.convert_to_tensor(x, dtype=inputs.dtype) for x in (self.low, self.high))
        return ops.minimum(ops.maximum(inputs, low), high)

    def get_config(self) -> dict:
        return {**super().get_config(), "low": self.low, "high": self.high}


def update_statistics(model: keras.Model, observations: Any) -> None:
    """Adds observations to the statistics of every layer of a model that has such."""
    for layer in model._flatten_layers():
        if isinstance(layer, ObservationNormalization):
            layer.update_statistics(observations)

"""Dense and convolutional layers with an equalized learning rate."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_gan.arguments import check_integer, check_positive
from keras_gan.errors import UsageError

# Keras has no annotations, and type checkers infer wrong types for it.
ops: Any = keras.ops


class _Equalized(keras.layers.Layer):
    """Base class of the equalized layers: unit-variance weights, scaled in each call."""

    def __init__(
        self,
        use_bias: bool = True,
        activation: Any = None,
        gain: float = 1.0,
        learning_rate_multiplier: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        check_positive("gain", gain)
        check_positive("learning_rate_multiplier", learning_rate_multiplier)
        self.use_bias = bool(use_bias)
        self.activation: Any = keras.activations.get(activation)
        self.gain = float(gain)
        self.learning_rate_multiplier = float(learning_rate_multiplier)

    def _add_weights(self, shape: tuple) -> None:
        """Creates a kernel of this shape, output channels last, and the bias."""
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

    def _add_bias_and_activate(self, x):
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
    """Dense layer with an equalized learning rate.

    Weights are initialized from N(0, 1) and multiplied by gain / sqrt(inputs) in each call. Adam's
    updates do not depend on the scale of a weight, so all layers learn equally fast.

    Args:
        units: number of outputs, at least 1.
        use_bias: if True, adds a bias.
        activation: a Keras activation; none by default.
        gain: standard deviation of the outputs for inputs of unit variance, above 0; sqrt(2) for
            a layer before a (leaky) ReLU.
        learning_rate_multiplier: learning rate of this layer relative to the others, above 0.
            Weights are initialized from N(0, 1 / multiplier^2), so that the initial outputs do
            not depend on it.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, ..., inputs)`. Output shape: `(batch, ..., units)`.

    Raises:
        UsageError: an argument is out of range.

    Reference:
        - [Karras et al., 2017](https://arxiv.org/abs/1710.10196), section 4.1
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_integer("units", units)
        self.units = int(units)

    def build(self, input_shape):
        self._add_weights((input_shape[-1], self.units))

    def call(self, inputs):
        return self._add_bias_and_activate(ops.matmul(inputs, self._scaled_kernel()))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("keras_gan")
class EqualizedConv2D(_Equalized):
    """Convolution with an equalized learning rate, see `EqualizedDense`.

    Args:
        filters: number of output channels, at least 1.
        kernel_size: height and width of the kernel, in pixels.
        strides: subsampling factor.
        padding: "same" or "valid".
        use_bias: if True, adds a bias.
        activation: a Keras activation; none by default.
        gain: as for `EqualizedDense`, with the kernel's area times the input channels as the
            number of inputs.
        learning_rate_multiplier: as for `EqualizedDense`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Input shape: `(batch, height, width, channels)`. Output shape: as of `keras.layers.Conv2D`.

    Raises:
        UsageError: an argument is out of range.

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
        check_integer("filters", filters)
        check_integer("kernel_size", kernel_size)
        check_integer("strides", strides)
        if padding not in ("same", "valid"):
            raise UsageError(f"`padding` must be same or valid. Received: padding={padding!r}")
        self.filters = int(filters)
        self.kernel_size = int(kernel_size)
        self.strides = int(strides)
        self.padding = padding

    def build(self, input_shape):
        self._add_weights((self.kernel_size, self.kernel_size, input_shape[-1], self.filters))

    def call(self, inputs):
        return self._add_bias_and_activate(
            ops.conv(inputs, self._scaled_kernel(), self.strides, self.padding, "channels_last")
        )

    def compute_output_shape(self, input_shape):
        batch, *lengths, _ = input_shape
        removed = self.kernel_size - 1 if self.padding == "valid" else 0
        outputs = (length and -(-(length - removed) // self.strides) for length in lengths)
        return (batch, *outputs, self.filters)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
        }

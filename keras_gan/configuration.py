"""Keras's global configuration: layouts and dtypes that the library needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras

from keras_gan.errors import UsageError

# Layers and operations by which a network may exchange axes itself.
_EXCHANGING = ("Lambda", "Moveaxis", "Permute", "Swapaxes", "Transpose")


@contextlib.contextmanager
def channels_last() -> Iterator[None]:
    """Creates layers that are channels-last within the context, whatever keras.json says."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


def check_floatx() -> None:
    """Checks that metrics and optimizers keep their state in float32.

    Raises:
        UsageError: another `floatx`, of Keras's configuration file or `set_floatx`.
    """
    if keras.config.floatx() != "float32":
        raise UsageError(
            "Games keep metrics, learning rates and averages in float32. "
            f"Received: keras.config.floatx()={keras.config.floatx()!r}. Set it to float32, and "
            "use keras.config.set_dtype_policy('mixed_float16') for half precision"
        )


def check_layers(role: str, model: keras.Model) -> None:
    """Checks the dtypes of a network's weights and the layout of its layers.

    Raises:
        UsageError: weights in half precision, quantized layers, or channels-first layers.
    """
    for variable in model.variables:
        if variable.dtype in ("float16", "bfloat16"):
            raise UsageError(
                f"The {role} must keep its weights in float32, which small updates need: build it "
                f"under the dtype policy mixed_{variable.dtype}. "
                f"Received: {variable.path} of {variable.dtype}"
            )
    for layer in model._flatten_layers():
        if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
            raise UsageError(
                f"The {role} is trained in floating point: build it under the dtype policy "
                f"float32. Received: layer {layer.name!r} of the policy {layer.dtype_policy.name}"
            )
    _check_layout(role, model)


def _check_layout(role: str, model: keras.Model) -> None:
    if not getattr(model, "inputs", None):
        return  # a subclassed model may exchange the axes anywhere
    operations = [*getattr(model, "operations", ()), *model._flatten_layers()]
    if any(type(operation).__name__ in _EXCHANGING for operation in operations):
        return
    for layer in model._flatten_layers():
        own = type(layer).__module__.split(".")[0] in ("keras", "keras_gan")
        first = own and getattr(layer, "data_format", None) == "channels_first"
        if first and not isinstance(layer, keras.layers.Flatten):
            raise UsageError(
                f"Samples are channels-last, and so must be the layers of the {role}: build it "
                "with data_format='channels_last', or after "
                "keras.config.set_image_data_format('channels_last'). "
                f"Received: layer {layer.name!r} with data_format='channels_first'"
            )

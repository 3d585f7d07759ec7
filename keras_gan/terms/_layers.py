"""Access to the layers and kernels of a network, for terms."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.errors import UsageError
from keras_gan.registry import nearest

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def layers_of(network) -> list[Any]:
    """Returns the layers of a Functional or Sequential network in order; of others, none."""
    return list(network.layers) if getattr(network, "inputs", None) else []


def layer_of(network, name: str, role: str) -> Any:
    """Returns the layer of that name.

    Raises:
        UsageError: no such layer, or a subclassed network.
    """
    named = {layer.name: layer for layer in layers_of(network)}
    if name not in named:
        kind = type(network).__name__
        hint = nearest(name, named) if named else f"It is a {kind}, not Functional"
        raise UsageError(
            f"`layer` must name a layer of the {role}. Received: layer={name!r}. {hint}"
        )
    return named[name]


def last_with_kernel(network) -> Any:
    """Returns the last layer with a kernel, also if it is within that layer; None without one."""
    return next((x for x in reversed(layers_of(network)) if _has_kernel(x)), None)


def kernels(network) -> list[Any]:
    """Returns every trained kernel as a matrix with one column for each output channel."""
    matrices = []
    for layer in network._flatten_layers():
        if _is_kernel(getattr(layer, "kernel", None)):
            kernel = ops.convert_to_tensor(layer.kernel)
            if isinstance(layer, _TRANSPOSED):
                kernel = ops.swapaxes(kernel, -1, -2)
            matrices.append(ops.reshape(kernel, (-1, kernel.shape[-1])))
    return matrices


def _has_kernel(layer) -> bool:
    return any(_is_kernel(getattr(part, "kernel", None)) for part in layer._flatten_layers())


def _is_kernel(weight: Any) -> bool:
    return isinstance(weight, keras.Variable) and len(weight.shape) > 1 and weight.trainable

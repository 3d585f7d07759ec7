"""Float32 copies of models in mixed precision.

ONNX and the CPUs of servers have little support for bfloat16, and float16 is a separate step of
the export with measurements of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from export.errors import one_line
from keras_gan import UsageError


def float32_copy(model: keras.Model, build: Callable[[keras.Model], object]) -> keras.Model:
    """Returns a float32 copy of a model in mixed precision, and any other model itself.

    Args:
        model: a built model.
        build: calls the copy once, which creates its variables.

    Raises:
        UsageError: `get_config` and `from_config` make no copy, or a layer of the copy still
            computes in reduced precision.
    """
    if not _reduced_layer(model):
        return model
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("float32")  # for layers that the constructor creates
        copy = type(model).from_config(_float32_config(model.get_config()))
        build(copy)
        for new, old in zip(copy.variables, model.variables, strict=True):
            new.assign(keras.ops.cast(old.value, new.dtype))
    except Exception as error:  # the user's get_config and constructor may raise anything
        raise UsageError(
            "A network in mixed precision is exported as a float32 copy, made by get_config and "
            f"from_config. Received: model {model.name!r}, whose copy fails: {one_line(error)}"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
    if name := _reduced_layer(copy):
        raise UsageError(
            "A network is exported in float32, and its get_config must name the dtype of each "
            f"layer. Received: layer {name!r}, still in reduced precision"
        )
    return copy


def _reduced_layer(model: keras.Model) -> str | None:
    """Returns the name of the first layer that computes in float16 or bfloat16."""
    for layer in model._flatten_layers():
        if layer.compute_dtype in ("float16", "bfloat16"):
            return layer.name
    return None


def _float32_config(config: Any) -> Any:
    if isinstance(config, dict):
        if config.get("class_name") in ("DTypePolicy", "FloatDTypePolicy"):
            return {**config, "config": {**config.get("config", {}), "name": "float32"}}
        return {
            key: "float32"
            if key == "dtype" and isinstance(value, str) and "float16" in value
            else _float32_config(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_float32_config(value) for value in config)
    return config

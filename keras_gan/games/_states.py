"""States that terms and augmentations keep from step to step, as variables by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def create(game: keras.Model, owner: str, initial: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a variable of a game for each number or array of a state.

    Replicas keep the mean of the floating values that each of them assigns; other types must be
    the same on all of them.
    """
    variables = {}
    for name, value in initial.items():
        array = np.asarray(value)
        dtype = "float32" if isinstance(value, float) else array.dtype.name
        floating = keras.backend.is_float_dtype(dtype)
        variables[name] = game.add_weight(
            name=f"{owner}_{name}",
            shape=array.shape,
            dtype=dtype,
            initializer=lambda shape, dtype, array=array: tf.constant(array, dtype, shape),
            trainable=False,
            aggregation="mean" if floating else "only_first_replica",
        )
    return variables


def values(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the present values by name."""
    return {name: variable.value for name, variable in variables.items()}


def assign(variables: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Assigns finite values only, so that one NaN step cannot poison the state."""
    for name, variable in variables.items():
        value = tf.cast(new[name], variable.dtype)
        if value.dtype.is_floating:
            value = tf.where(tf.math.is_finite(value), value, variable.value)
        variable.assign(value)

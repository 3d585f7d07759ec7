"""Inputs of a network filled in TensorFlow: from seeds, by constants, or as given.

`serving.inputs.Inputs.fill` does the same in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import latents
from serving.inputs import Input

RANDOM = ("normal", "uniform")  # fills that `generate` draws from its seeds


def draws_from_seeds(inputs: Sequence[Input]) -> bool:
    """Returns whether a network has inputs that `generate` draws from seeds.

    A class is not one of them: a server cannot omit an input, so `generate` always takes it.
    """
    return any(port.fill in RANDOM for port in inputs)


def fill_inputs(
    inputs: Sequence[Input], values: Mapping[str, Any], seeds: Any = None
) -> dict[str, Any]:
    """Returns every input by its name, `(batch, ...)`.

    Args:
        inputs: the inputs of a network.
        values: tensors by name, at least of every input that is `given`.
        seeds: int64 `(batch,)`; needed for inputs that are drawn.
    """
    sizes = {
        size: tf.shape(values[port.name])[axis + 1]
        for port in inputs
        if port.name in values
        for axis, size in enumerate(port.shape)
        if isinstance(size, str)
    }
    first = seeds if seeds is not None else next(iter(values.values()))
    count = tf.shape(first)[0]
    found = {}
    for port in inputs:
        shape = [sizes[n] if isinstance(n, str) else n for n in port.shape]
        if port.name in values:
            found[port.name] = values[port.name]
        elif port.fill == "class":
            frequencies = port.meta.get("frequencies")
            found[port.name] = latents.classes_from_seeds(
                seeds, port.num_classes, frequencies, port.stream
            )
        elif port.fill == "constant":
            value = tf.constant(np.asarray(port.value, port.dtype))  # integers may be floats
            found[port.name] = tf.broadcast_to(value, tf.stack([count, *shape]))
        else:
            found[port.name] = _draw(port, seeds, shape)
    return found


def _draw(port: Input, seeds: Any, shape: list[Any]) -> tf.Tensor:
    fixed = not port.is_dynamic
    size = math.prod(shape) if fixed else tf.reduce_prod(tf.stack(shape))
    if port.fill == "normal":
        drawn = latents.normals(seeds, size, port.stream)
    else:
        low, high = port.value or (0.0, 1.0)
        drawn = latents.uniforms(seeds, size, port.stream)
        drawn = drawn * tf.constant(high - low, tf.float32) + tf.constant(low, tf.float32)
    drawn = tf.reshape(drawn, [-1, *shape] if fixed else tf.stack([-1, *shape]))
    return tf.cast(drawn, port.dtype)

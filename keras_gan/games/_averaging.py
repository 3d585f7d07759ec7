"""Moving averages of networks."""

from __future__ import annotations

import copy
import math
from typing import Any

import keras
import tensorflow as tf

from keras_gan import schedules
from keras_gan.errors import UsageError, one_line
from keras_gan.networks import update_power_iteration

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


def copy_of(network: keras.Model, role: str) -> keras.Model:
    """Returns a copy of a network with the same weights, which is not trained.

    Raises:
        UsageError: a network that cannot be copied.
    """
    try:
        average = _cloned(network)
    except Exception as error:  # from_config of layers may raise anything
        raise UsageError(
            f"The moving average of the {role} is a copy made by get_config and from_config, which "
            "a subclassed network and layers of one's own must define; or give ema_half_life=0. "
            f"Received: {type(network).__name__}: {one_line(error)}"
        ) from None
    if not average.built:
        average.build(network.input_shape)
    average.set_weights(network.get_weights())
    average.trainable = False
    return average


def _cloned(network: keras.Model) -> keras.Model:
    try:
        return keras.models.clone_model(network)
    except ValueError:  # Keras takes the functions of Lambda layers for those of a file
        return copy.deepcopy(network)


def update(
    average: keras.Model,
    live: keras.Model,
    examples: Any,
    examples_seen: Any,
    half_life: Any,
    rampup: float,
) -> None:
    """Moves the average of a network, batch statistics included, towards the network.

    Args:
        average: the moving average.
        live: the network that is trained.
        examples: number of examples of the step.
        examples_seen: number of examples since the beginning, this step included.
        half_life: number of examples after which an old weight counts 1/2, or a schedule of it.
        rampup: the half-life is at most this share of the examples seen.
    """
    examples = tf.cast(examples, "float32")
    seen = tf.cast(examples_seen, "float32")
    half_life = schedules.now(half_life, examples_seen)
    half_life = tf.minimum(half_life, seen * rampup)
    # 1 - 0.5 ** (examples / half_life), without the cancellation at a long half-life.
    step = -tf.math.expm1(-math.log(2.0) * examples / tf.maximum(half_life, 1e-8))
    for old, new in zip(average.weights, live.weights, strict=True):
        if keras.backend.is_float_dtype(old.dtype):
            old.assign_add(ops.cast(step, old.dtype) * (new - old))
        else:
            old.assign(new)
    update_power_iteration(average)

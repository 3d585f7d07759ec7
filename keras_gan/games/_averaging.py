"""Moving averages of networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gan import averages, schedules
from keras_gan.errors import UsageError, one_line
from keras_gan.networks import update_power_iteration

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_POWER_ITERATIONS = 50  # from the average of singular vectors to those of the averaged kernel


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


def update(game: Any, examples: Any) -> None:
    """Moves all averages of a game, batch statistics included, toward the trained networks.

    Args:
        game: the game after a step, with the step's examples counted.
        examples: number of examples of the step.
    """
    seen = game.examples_seen.value
    for name in game.averaged:
        average, live = getattr(game, f"average_{name}"), getattr(game, name)
        if average is not live:
            _update(average, live, examples, seen, game.ema_half_life, game.ema_rampup)
    game.power_averages.update(examples, seen)


def _update(
    average: keras.Model,
    live: keras.Model,
    examples: Any,
    examples_seen: Any,
    half_life: Any,
    rampup: float,
) -> None:
    """Moves the average of a network, batch statistics included, toward the network.

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


class PowerAverages:
    """Power-function averages of a game's averaged networks, as variables of the game.

    Args:
        game: the game.
        deviations: standard deviation of each average's profile, as a share of the training.

    Raises:
        UsageError: a deviation that is out of range or given twice, or a game without an average,
            in whose place a power-function average would be used.
    """

    def __init__(self, game: Any, deviations: Sequence[float]):
        _check(game, deviations)
        self.deviations = tuple(float(deviation) for deviation in deviations)
        self._live = {name: floating_weights(getattr(game, name)) for name in game.averaged}
        self._copies = {
            name: [_copies(game, name, deviation, live) for deviation in self.deviations]
            for name, live in self._live.items()
        }

    def update(self, examples: Any, examples_seen: Any) -> None:
        """Moves each average by 1 - (1 - examples / examples_seen)^(g + 1) toward the weights.

        Args:
            examples: number of examples of the step.
            examples_seen: number of examples since the beginning, this step included.
        """
        share = tf.cast(examples, "float32") / tf.cast(examples_seen, "float32")
        for i, deviation in enumerate(self.deviations):
            # Without the cancellation of a small share. In the first step the share is 1.
            step = -tf.math.expm1((averages.exponent(deviation) + 1) * tf.math.log1p(-share))
            for name, live in self._live.items():
                for old, new in zip(self._copies[name][i], live, strict=True):
                    old.assign_add(ops.cast(step, old.dtype) * (new - old))

    def values(self) -> dict[str, list[list[np.ndarray]]]:
        """Returns, for each network and deviation, the averaged weights."""
        return {
            name: [[v.value.numpy() for v in copy] for copy in copies]
            for name, copies in self._copies.items()
        }


def assign(game: Any, name: str, values: Sequence[np.ndarray]) -> None:
    """Assigns averaged weights of another profile to a network's average.

    Args:
        game: the game.
        name: name of the network.
        values: new values of the average's floating-point weights.

    Raises:
        UsageError: a network without an average, or weights of other shapes.
    """
    if name not in game.averaged:
        raise UsageError(
            f"`name` must be a network with a moving average: {', '.join(game.averaged)}. "
            f"Received: name={name!r}"
        )
    average = getattr(game, f"average_{name}")
    if average is getattr(game, name):
        raise UsageError(
            "Only a game with `ema_half_life` above 0 has a moving average to assign to. "
            "Received: ema_half_life=0"
        )
    variables = floating_weights(average)
    expected, given = [[tuple(np.shape(v)) for v in each] for each in (variables, values)]
    if given != expected:
        raise UsageError(
            f"`values` must have the shapes of the {len(expected)} floating-point weights of the "
            f"{name}. Received: {_difference(expected, given)}"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    # The average of singular vectors is not one of the averaged kernel.
    for _ in range(_POWER_ITERATIONS):
        update_power_iteration(average)


def _difference(expected: list[tuple], given: list[tuple]) -> str:
    """Returns how two lists of shapes differ, in words."""
    if len(given) != len(expected):
        return f"{len(given)} arrays"
    differing = zip(range(len(given)), expected, given, strict=True)
    i, wanted, got = next(each for each in differing if each[1] != each[2])
    return f"values[{i}] of shape {got} instead of {wanted}"


def floating_weights(network: keras.Model) -> list[Any]:
    """Returns the weights that can be averaged, batch statistics included."""
    return [w for w in network.weights if keras.backend.is_float_dtype(w.dtype)]


def _copies(game: Any, name: str, deviation: float, live: list[Any]) -> list[Any]:
    owner = f"average_{deviation:g}_{name}"
    initial = [weight.value.numpy() for weight in live]
    return [
        game.add_weight(
            name=f"{owner}_{i}",
            shape=value.shape,
            dtype=value.dtype.name,
            initializer=lambda shape, dtype, value=value: tf.constant(value, dtype, shape),
            trainable=False,
            # Each replica updates its own copy: the weights are the same on all of them.
            aggregation="none",
        )
        for i, value in enumerate(initial)
    ]


def _check(game: Any, deviations: Any) -> None:
    if not isinstance(deviations, Sequence) or isinstance(deviations, str):
        raise UsageError(
            "`average_deviations` must be a list of numbers. "
            f"Received: average_deviations={deviations!r}"
        )
    for deviation in deviations:
        averages.check_deviation("average_deviations", deviation)
    if len(set(deviations)) < len(deviations):
        raise UsageError(
            "`average_deviations` must name each deviation once. "
            f"Received: average_deviations={list(deviations)}"
        )
    if deviations and not game.ema_half_life:
        raise UsageError(
            "`average_deviations` needs a moving average of the game: `ema_half_life` above 0. "
            f"Received: average_deviations={list(deviations)}, ema_half_life=0"
        )

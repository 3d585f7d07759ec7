"""Ranges of layers and activations of Keras that interval arithmetic cannot find."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import keras

from keras_gan.intervals import Interval

_ACTIVATIONS = {
    keras.activations.sparse_sigmoid: (0.0, 1.0),
    keras.activations.sparse_plus: (0.0, math.inf),
    keras.activations.squareplus: (0.0, math.inf),
}


def of_activation(activation: Any) -> Interval | None:
    """Returns the range of an activation of Keras; None if arithmetic finds it."""
    found = _ACTIVATIONS.get(activation) if callable(activation) else None
    return Interval(*found, function=activation.__name__) if found else None


def of_layer(layer: Any, of_function: Callable[[Any], Interval]) -> Interval | None:
    """Returns the range of the first output of a layer that runs in a loop, or normalizes to 1.

    Returns None for other layers, and for recurrent ones with cells of a user's own.

    Args:
        layer: the layer.
        of_function: function that returns the range of an activation for any input.
    """
    if type(layer) is keras.layers.UnitNormalization:
        return Interval(-1.0, 1.0, layer.name, "unit normalization")
    if not isinstance(layer, keras.layers.RNN):
        return None
    cell = layer.cell
    while isinstance(cell, keras.layers.StackedRNNCells):
        cell = cell.cells[-1]
    if type(cell).__module__.split(".")[0] != "keras" or not hasattr(cell, "activation"):
        return None
    found = of_function(cell.activation)
    if isinstance(cell, keras.layers.SimpleRNNCell):
        gate = Interval(0.0, 1.0)
    else:
        gate = of_function(cell.recurrent_activation)
    if gate.low < 0 or gate.high > 1:
        return None
    # h = o * f(c) of an LSTM, and h = z * h + (1 - z) * f(x) of a GRU, from an initial state of 0.
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    return dataclasses.replace(found, low=low, high=high, by=layer.name)

"""The complete state of a game in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_gan.optimizers import learning_rate, optimizers_of, set_learning_rate


class GameState:
    """A copy of a game's state: networks, optimizers, average, counters, random states.

    Args:
        gan: a compiled game.
    """

    def __init__(self, gan: Any):
        self.examples_seen = gan.count("examples_seen")
        self._rates = [learning_rate(of) for of in optimizers_of(gan).values()]
        self._values = [variable.value.numpy() for variable in variables_of(gan)]

    def restore(self, gan: Any) -> None:
        """Assigns the state to the game that it was copied from."""
        for variable, value in zip(variables_of(gan), self._values, strict=True):
            variable.assign(value)
        for optimizer, rate in zip(optimizers_of(gan).values(), self._rates, strict=True):
            if not isinstance(rate, float):  # a constant rate is one of the variables
                set_learning_rate(optimizer, rate)


def given_to(gan: Any, fields: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns those further fields of the data that the game's generator asks for."""
    if not fields:
        return {}
    asked = gan.networks[gan.sampled].fields
    return {name: values for name, values in fields.items() if name in asked}


def variables_of(gan: Any) -> list[Any]:
    """Returns all variables that a training depends on, without the metrics of an epoch."""
    means = {id(variable) for metric in gan.metrics for variable in metric.variables}
    found = [*gan.variables, *gan.noise_states()]
    found += [variable for of in optimizers_of(gan).values() for variable in of.variables]
    return list(
        {id(variable): variable for variable in found if id(variable) not in means}.values()
    )

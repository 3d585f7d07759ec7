"""Construction of a game from a recipe: networks, batches, and the constructor's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from keras_gan.spec import Spec


class Construction:
    """Methods by which a recipe's networks and batches are made for a class of games.

    Class attributes:
        sampled: name of the network that generates samples.
        averaged: names of the networks that have a moving average.
    """

    sampled = "generator"
    averaged: tuple[str, ...] = ("generator",)

    @classmethod
    def network_role(cls, name: str) -> str:
        """Returns the function of an architecture that builds a network of a recipe.

        Args:
            name: name of the network in the game.
        """
        return "generator" if name in (cls.sampled, *cls.averaged) else "discriminator"

    @classmethod
    def network_spec(cls, name: str, spec: Spec, options: Mapping[str, Any]) -> Spec:
        """Returns the spec of the samples that a network of a recipe takes or generates.

        Args:
            name: name of the network in the game.
            spec: spec of the data.
            options: the recipe's arguments of the constructor.
        """
        return spec

    @classmethod
    def batch_factors(cls, options: Mapping[str, Any]) -> dict[str, int]:
        """Returns the numbers by whose product a batch must divide, by the names of the arguments.

        Args:
            options: the recipe's arguments of the constructor.
        """
        return {}

    @classmethod
    def shares(cls, options: Mapping[str, Any]) -> list[str]:
        """Returns the arguments that are shares of the training, and so depend on its length.

        Args:
            options: the recipe's arguments of the constructor.
        """
        return []


def own_arguments(game: type, base: type) -> list[str]:
    """Returns the names of the constructor's arguments that subclasses of `base` define."""
    classes = [cls for cls in game.__mro__[: game.__mro__.index(base)] if "__init__" in vars(cls)]
    parameters = [
        parameter
        for cls in classes
        for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
    ]
    return [each.name for each in parameters if each.kind != each.VAR_KEYWORD]

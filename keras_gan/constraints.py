"""Constraints on the discriminator's weights, applied after each of its steps, found by name."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_positive
from keras_gan.registry import find, registered

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class Constraint:
    """Base class of the constraints.

    A subclass defines `__call__`; its name in recipes is the class name in snake case.
    """

    def __call__(self, weight):
        """Returns the nearest allowed value of a weight, a tensor of its shape."""
        raise NotImplementedError

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Constraint:
        return cls(**config)


@keras.saving.register_keras_serializable("keras_gan")
class WeightClipping(Constraint):
    """Clips every weight of the critic to [-limit, limit], as the first Wasserstein GAN does.

    Args:
        limit: above 0; 0.01 in the paper.

    Raises:
        UsageError: a limit that is not above 0.

    Reference:
        - [Arjovsky et al., 2017](https://arxiv.org/abs/1701.07875), algorithm 1
    """

    def __init__(self, limit: float = 0.01):
        check_positive("limit", limit)
        self.limit = float(limit)

    def __call__(self, weight):
        return ops.clip(weight, -self.limit, self.limit)

    def get_config(self) -> dict:
        return {"limit": self.limit}


def names() -> dict[str, str]:
    """Returns every constraint's name with the first line of its description."""
    return registered(Constraint)


def get(constraint: str | dict | Constraint | None) -> Any:
    """Returns the constraint of a name, of a `{"name": ..., **arguments}` dictionary, or itself.

    Raises:
        UsageError: no constraint has that name, or it does not take an argument.
    """
    return None if constraint is None else find(Constraint, constraint, "constraint")

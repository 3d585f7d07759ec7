"""Distributions of actions that a policy's outputs describe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from keras_gan import random_numbers

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops

_LEAST = 1e-20  # of a uniform number whose logarithm is taken


class Categorical:
    """Choices by the softmax of logits; an action is one-hot.

    Args:
        outputs: outputs of a policy by name, with `logits` `(batch, choices)`.
    """

    needed = ("logits",)

    def __init__(self, outputs: Mapping[str, Any]):
        logits = ops.cast(outputs["logits"], "float32")
        self._log = logits - ops.logsumexp(logits, axis=-1, keepdims=True)

    @staticmethod
    def noise(shape: Any, seed: Any) -> Any:
        """Returns standard Gumbel numbers, from which `sample` draws."""
        uniform = ops.maximum(random_numbers.uniform(shape, seed), _LEAST)
        return -ops.log(ops.maximum(-ops.log(uniform), _LEAST))

    def sample(self, noise: Any) -> Any:
        """Returns actions, by the Gumbel-max trick."""
        choice = ops.argmax(self._log + noise, axis=-1)
        return ops.one_hot(choice, self._log.shape[-1], dtype="float32")

    def log_prob(self, actions: Any) -> Any:
        """Returns the logarithm of the probability of actions, `(batch,)`."""
        return ops.sum(self._log * actions, axis=-1)

    def entropy(self) -> Any:
        """Returns the entropy in nats, `(batch,)`."""
        return -ops.sum(ops.exp(self._log) * self._log, axis=-1)


class Gaussian:
    """Independent normal values; an action outside of the bounds is clipped when it is taken.

    Args:
        outputs: outputs of a policy by name, with `mean` and `log_std` `(batch, values)`.
    """

    needed = ("mean", "log_std")

    def __init__(self, outputs: Mapping[str, Any]):
        self._mean = ops.cast(outputs["mean"], "float32")
        self._log_std = ops.cast(outputs["log_std"], "float32")

    @staticmethod
    def noise(shape: Any, seed: Any) -> Any:
        """Returns standard normal numbers, from which `sample` draws."""
        return random_numbers.normal(shape, seed)

    def sample(self, noise: Any) -> Any:
        """Returns actions."""
        return self._mean + ops.exp(self._log_std) * noise

    def log_prob(self, actions: Any) -> Any:
        """Returns the logarithm of the density of actions, `(batch,)`."""
        scaled = (actions - self._mean) * ops.exp(-self._log_std)
        each = -0.5 * (ops.square(scaled) + math.log(2 * math.pi)) - self._log_std
        return ops.sum(each, axis=-1)

    def entropy(self) -> Any:
        """Returns the differential entropy in nats, `(batch,)`."""
        return ops.sum(self._log_std + 0.5 * math.log(2 * math.pi * math.e), axis=-1)


def class_of(outputs: Iterable[str]) -> type[Categorical] | type[Gaussian] | None:
    """Returns the class of distributions that outputs of these names describe; `None` for none."""
    names = set(outputs)
    return next((each for each in (Categorical, Gaussian) if names >= set(each.needed)), None)

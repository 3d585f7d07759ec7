"""Rewards that a policy gets from a discriminator's logits: one small class each, found by name.

The discriminator's logits are high for pairs of an observation and an action that look like the
expert's; with D = sigmoid(logits), D is the probability of the expert.
"""

from __future__ import annotations

from typing import Any

import keras

from keras_gan.arguments import check_number
from keras_gan.networks import mean_per_sample
from keras_gan.registry import find, registered

# Keras is not annotated, and what a type checker infers of it is wrong.
ops: Any = keras.ops


class Reward:
    """Base class of the rewards.

    Class attributes:
        unbounded: True for the loss `wasserstein` alone, whose logits are no log-odds; False for
            any other loss; None for all of them.

    A subclass defines `of`; its name in recipes is the class name in snake case. Arguments of its
    constructor must be in `get_config`, and the class must be registered with
    `keras.saving.register_keras_serializable`, so that a game can be saved.
    """

    unbounded: bool | None = False

    def of(self, logits: Any) -> Any:
        """Returns the rewards of logits `(batch,)`."""
        raise NotImplementedError

    def __call__(self, logits: Any) -> Any:
        """Returns one float32 reward for each row of logits `(batch, ...)`."""
        return self.of(mean_per_sample(ops.cast(logits, "float32")))

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Reward:
        return cls(**config)


@keras.saving.register_keras_serializable("keras_gan")
class Gail(Reward):
    """-log(1 - D), which is positive: where episodes end early, it rewards survival.

    Reference:
        [Ho and Ermon, 2016](https://arxiv.org/abs/1606.03476), algorithm 1
    """

    def of(self, logits: Any) -> Any:
        return ops.softplus(logits)


@keras.saving.register_keras_serializable("keras_gan")
class LogD(Reward):
    """log(D), which is negative: where episodes end early, it rewards an early end.

    Reference:
        [Kostrikov et al., 2018](https://arxiv.org/abs/1809.02925), section 4.1
    """

    def of(self, logits: Any) -> Any:
        return -ops.softplus(-logits)


@keras.saving.register_keras_serializable("keras_gan")
class Airl(Reward):
    """log(D) - log(1 - D), the logits themselves, which have either sign.

    Reference:
        [Fu et al., 2017](https://arxiv.org/abs/1710.11248), section 6
    """

    also_called = ("logits", "difference")

    def of(self, logits: Any) -> Any:
        return logits


@keras.saving.register_keras_serializable("keras_gan")
class Wgan(Reward):
    """The critic's values, for the loss `wasserstein` with a gradient penalty.

    Reference:
        [Xiao et al., 2019](https://arxiv.org/abs/1906.08113)
    """

    also_called = ("wasserstein", "critic")
    unbounded = True

    def of(self, logits: Any) -> Any:
        return logits


@keras.saving.register_keras_serializable("keras_gan")
class Constant(Reward):
    """The same number for every step: a control that says what the environment itself rewards.

    Args:
        value: the number.
    """

    unbounded = None

    def __init__(self, value: float = 1.0):
        check_number("value", value)
        self.value = float(value)

    def of(self, logits: Any) -> Any:
        return ops.full_like(logits, self.value)

    def get_config(self) -> dict:
        return {"value": self.value}


def names() -> dict[str, str]:
    """Returns the name of each reward with the first line of its description."""
    return registered(Reward)


def get(reward: str | dict | Reward) -> Reward:
    """Returns the reward of a name, of a dictionary of a name and arguments, or the given one.

    Raises:
        UsageError: an unknown name.
    """
    return find(Reward, reward, "reward")

"""Base class of the augmentations, and their lookup by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from keras_gan import schedules
from keras_gan.arguments import check_probability
from keras_gan.errors import UsageError
from keras_gan.registry import find, registered
from keras_gan.schedules import Schedule


class Augment:
    """Base class of the augmentations.

    A subclass defines `__call__`. Its name in recipes is the class name in snake case. Each
    argument of its constructor must be an attribute of the same name and part of `get_config`.
    """

    def __call__(self, samples, seed):
        """Augments a batch.

        Args:
            samples: `(batch, ...)`, any float dtype.
            seed: int32 or int64 tensor of 2 numbers; all randomness is a function of it.

        Returns:
            Samples of the same shape and dtype.
        """
        raise NotImplementedError

    def initial_state(self) -> dict[str, float]:
        """Returns the initial values of the state that is kept between steps, by name."""
        return {}

    def apply(self, samples, seed, state: dict[str, Any]):
        """Augments a batch by the current state.

        Args:
            samples: as in `__call__`.
            seed: as in `__call__`.
            state: float32 scalars by the names of `initial_state`, and `examples_seen`.

        Returns:
            Samples of the same shape and dtype.
        """
        return self(samples, seed)

    def mix(self, real, fake, seed, state: dict[str, Any]):
        """Returns the samples that the discriminator gets as real ones, before augmentation.

        The base class returns `real`.
        """
        return real

    def observe(self, real_margins, state: dict[str, Any]) -> dict[str, Any]:
        """Returns the new state after a discriminator step.

        Args:
            real_margins: the discriminator's logits on the samples it got as real, `(batch, ...)`,
                float32, minus the loss's `decision_threshold`: positive where it decides "real".
            state: as in `apply`.

        Returns:
            The new state. With several replicas, the mean over the replicas is used.
        """
        return state

    def measures(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns values for the training metrics, which are named `augment_NAME`."""
        return {}

    def check(self, sample_shape: tuple) -> None:
        """Raises a `UsageError` if samples of this shape cannot be augmented."""

    def get_config(self) -> dict:
        return {}

    @classmethod
    def from_config(cls, config: dict) -> Augment:
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{name: deserialize(value) for name, value in config.items()})


def names() -> dict[str, str]:
    """Returns the name of each augmentation with the first line of its description."""
    return registered(Augment)


def get(augment: str | dict | Augment | Callable | None) -> Any:
    """Returns the augmentation of a name or of a `{"name": ..., **arguments}` dictionary.

    An instance, another callable `augment(samples, seed)` and `None` are returned as they are.

    Raises:
        UsageError: the name is unknown, or the augmentation does not take an argument.
    """
    if augment is None or callable(augment):
        return augment
    return find(Augment, augment, "augmentation")


def check_images(augment: Augment, sample_shape: tuple) -> None:
    """Raises a `UsageError` unless the shape is that of images of a known size."""
    if len(sample_shape) != 3:
        raise UsageError(
            f"{type(augment).__name__} takes images (height, width, channels). "
            f"Received: samples of shape {tuple(sample_shape)}"
        )
    if None in sample_shape:
        raise UsageError(
            f"{type(augment).__name__} takes batches whose height and width are declared, such as "
            f"crops of one size. Received: samples of shape {tuple(sample_shape)}"
        )


def checked_probability(value: Any, name: str = "probability") -> Any:
    """Returns a probability as a float, or a schedule of one.

    Raises:
        UsageError: the number, or a value of the schedule, is not from 0 to 1.
    """
    value = schedules.get(value)
    check_probability(name, value, schedule=True)
    return value if isinstance(value, Schedule) else float(value)

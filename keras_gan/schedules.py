"""Schedules in images seen: numbers of a game that change while it is played.

A schedule may stand where a number does: as the learning rate or the beta_2 of an optimizer, the
weight of a penalty, the strength of an augmentation, the half-life of the averaged generator.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gan.errors import UsageError


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base class of the schedules.

    A subclass gives `at` and `get_config`; its name in recipes is the class name in snake case.
    Keras's optimizers take one for a learning rate; `GAN.compile` binds it to the images seen.
    """

    def __init__(self):
        self._clock: Any = None

    def at(self, images):
        """The value after so many images: a float32 scalar from a float32 scalar."""
        raise NotImplementedError

    def bind(self, clock: Any) -> None:
        """Gives it the variable that counts the images."""
        self._clock = clock

    def __call__(self, step):
        if self._clock is None:
            raise UsageError("A schedule in images seen belongs to an optimizer of a GAN")
        return now(self, self._clock)


def now(number: Any, clock: Any):
    """A number, or what a schedule says at the value of `clock`, images seen: float32."""
    if not isinstance(number, Schedule):
        return tf.constant(number, tf.float32)
    return number.at(tf.cast(tf.convert_to_tensor(clock), tf.float32))

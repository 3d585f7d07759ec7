"""Schedules in examples seen: numbers of a game that change while it is played.

A schedule may stand where a number does: as the learning rate or the beta_2 of an optimizer, the
weight of a penalty, the probability of an augmentation, the half-life of the averaged generator,
the share of samples that a generator learns from.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import keras
import tensorflow as tf

from keras_gan.errors import UsageError
from keras_gan.registry import find, registered


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base class of the schedules.

    A subclass gives `at` and `get_config`; its name in recipes is the class name in snake case. It
    must be registered with `keras.saving.register_keras_serializable`, so that a game can be saved.
    Keras's optimizers take one for a learning rate; `GAN.compile` binds it to the examples seen.
    """

    def __init__(self):
        self._clock: Any = None

    def at(self, examples):
        """The value after so many examples: a float32 scalar from a float32 scalar."""
        raise NotImplementedError

    def bounds(self) -> tuple[float, ...]:
        """Values between which it moves, to be checked like the number it stands for."""
        return ()

    @property
    def open_ended(self) -> bool:
        """Whether its length is left to the training that it is for."""
        return False

    def with_duration(self, examples: float) -> Schedule:
        """The same for a training of so many examples, if it is open-ended; else itself."""
        return self

    def bind(self, clock: Any) -> Schedule:
        """The same for an optimizer, with the variable that counts the examples."""
        other = copy.copy(self)
        other._clock = clock
        return other

    def __call__(self, step):
        if self._clock is None:
            raise UsageError("A schedule in examples seen belongs to an optimizer of a GAN")
        return now(self, self._clock)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k[0] != "_")
        return f"{type(self).__name__}({arguments})"


class _Ramp(Schedule):
    """From one number to another in so many examples, and then that number."""

    def __init__(self, start: float, end: float = 0.0, examples: float | None = None):
        super().__init__()
        _finite("start", start)
        _finite("end", end)
        if examples is not None:
            _length("examples", examples)
        self.start, self.end, self.examples = float(start), float(end), examples

    def left(self, part):
        """How much is left of the start after a part, 0 to 1, of the way: 1 to 0."""
        raise NotImplementedError

    def at(self, examples):
        if self.examples is None:
            raise UsageError(
                "A schedule must be told how many examples it lasts; only in a recipe may it be "
                f"left out, for the whole training. Received: examples=None in {self!r}"
            )
        left = self.left(tf.clip_by_value(examples / self.examples, 0.0, 1.0))
        return self.start * left + self.end * (1 - left)  # exact at both ends

    def bounds(self) -> tuple[float, ...]:
        return self.start, self.end

    @property
    def open_ended(self) -> bool:
        return self.examples is None

    def with_duration(self, examples: float) -> Schedule:
        return type(self)(self.start, self.end, examples) if self.open_ended else self

    def get_config(self) -> dict:
        return {"start": self.start, "end": self.end, "examples": self.examples}


@keras.saving.register_keras_serializable("keras_gan")
class Linear(_Ramp):
    """A straight line from one number to another, and then that number.

    Args:
        start: the value at the beginning.
        end: the value after `examples` examples, and from there on; 0 by default.
        examples: its length, above 0. In a recipe, left out, it is the whole training.

    Raises:
        UsageError: a number that is not finite, or a length that is not above 0.
    """

    def left(self, part):
        return 1 - part


@keras.saving.register_keras_serializable("keras_gan")
class Cosine(_Ramp):
    """Half a cosine wave from one number to another, and then that number.

    After n of N examples the value is end + (start - end) (1 + cos(pi n / N)) / 2.

    Args:
        start: the value at the beginning.
        end: the value after `examples` examples, and from there on; 0 by default.
        examples: its length, above 0. In a recipe, left out, it is the whole training.

    Raises:
        UsageError: a number that is not finite, or a length that is not above 0.

    Reference:
        - [Loshchilov and Hutter, 2016](https://arxiv.org/abs/1608.03983), without restarts
    """

    def left(self, part):
        return (1 + tf.cos(math.pi * part)) / 2


_SHAPES = {"linear": Linear, "cosine": Cosine}


@keras.saving.register_keras_serializable("keras_gan")
class WarmUp(Schedule):
    """A ramp up (or down) to a number, or to the first value of another schedule that follows it.

    The other schedule begins when the ramp ends: its examples are counted from there. With `start`
    equal to the value that it leads to, this is a delay.

    Args:
        to: the value that the ramp leads to, or a schedule of what comes then.
        examples: length of the ramp, above 0.
        start: the value at the beginning, 0 by default.
        shape: of the ramp, "linear" or "cosine".

    Raises:
        UsageError: a number that is not finite, a length that is not above 0, another shape.
    """

    def __init__(
        self,
        to: float | Schedule,
        examples: float,
        start: float = 0.0,
        shape: str = "linear",
    ):
        super().__init__()
        to = get(to)
        if not isinstance(to, Schedule):
            _finite("to", to)
        _length("examples", examples)
        _finite("start", start)
        if shape not in _SHAPES:
            raise UsageError(f"shape must be linear or cosine. Received: shape={shape!r}")
        self.to, self.examples, self.start, self.shape = to, examples, float(start), shape

    def at(self, examples):
        then = now(self.to, tf.maximum(examples - self.examples, 0.0))
        ramp = _SHAPES[self.shape](1.0, 0.0, self.examples).at(examples)
        return self.start * ramp + then * (1 - ramp)

    def bounds(self) -> tuple[float, ...]:
        return self.start, *bounds(self.to)

    @property
    def open_ended(self) -> bool:
        return isinstance(self.to, Schedule) and self.to.open_ended

    def with_duration(self, examples: float) -> Schedule:
        if not isinstance(self.to, Schedule) or not self.open_ended:
            return self
        if examples <= self.examples:
            raise UsageError(
                "A warm-up must be shorter than the training, for a schedule to follow it. "
                f"Received: examples={self.examples} of {examples}"
            )
        return WarmUp(
            self.to.with_duration(examples - self.examples), self.examples, self.start, self.shape
        )

    def get_config(self) -> dict:
        to = keras.saving.serialize_keras_object(self.to)
        return {"to": to, "examples": self.examples, "start": self.start, "shape": self.shape}

    @classmethod
    def from_config(cls, config: dict) -> WarmUp:
        return cls(**{**config, "to": keras.saving.deserialize_keras_object(config["to"])})


def _finite(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number. Received: {name}={value!r}")


def _length(name: str, value: Any) -> None:
    _finite(name, value)
    if value <= 0:
        raise UsageError(f"{name} must be above 0. Received: {name}={value!r}")


def now(number: Any, clock: Any):
    """A number, or what a schedule says at the value of `clock`, examples seen: float32."""
    if not isinstance(number, Schedule):
        return tf.constant(number, tf.float32)
    return number.at(tf.cast(tf.convert_to_tensor(clock), tf.float32))


def bounds(number: Any) -> tuple[float, ...]:
    """A number itself, or the values between which a schedule moves."""
    return number.bounds() if isinstance(number, Schedule) else (number,)


def names() -> dict[str, str]:
    """Every schedule's name with the first line of its description."""
    return registered(Schedule)


def get(schedule: float | dict | Schedule) -> Any:
    """Gives the schedule of a `{"name": ..., **arguments}` dictionary, or a number or schedule.

    Raises:
        UsageError: no schedule has that name, or it does not take an argument.
    """
    return find(Schedule, schedule, "schedule") if isinstance(schedule, dict) else schedule

"""Schedules: numbers that change with the examples seen during training.

A schedule can take the place of a number: the learning rate or beta_2 of an optimizer, the weight
of a term, the probability of an augmentation, the half-life of the averaged generator, or the
fraction of samples that the generator is trained on.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import keras
import tensorflow as tf

from keras_gan.arguments import check_number, check_positive
from keras_gan.errors import UsageError
from keras_gan.registry import find, registered


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Base class of the schedules.

    A subclass defines `at` and `get_config`. Its name in recipes is the class name in snake case.
    It must be registered with `keras.saving.register_keras_serializable`, so that a game can be
    saved. Keras's optimizers accept a schedule as the learning rate; `GAN.compile` binds it to the
    examples seen.
    """

    def __init__(self):
        self._clock: Any = None

    def at(self, examples):
        """Returns the value after a number of examples.

        Args:
            examples: float32 scalar, from 0 up.

        Returns:
            float32 scalar.
        """
        raise NotImplementedError

    def bounds(self) -> tuple[float, ...]:
        """Returns bounds of its values, to be checked like the number that it replaces."""
        return ()

    @property
    def open_ended(self) -> bool:
        """True if its length is to be set to that of the training."""
        return False

    def with_duration(self, examples: float) -> Schedule:
        """Returns a copy for a training of this many examples if it is open-ended, else itself."""
        return self

    def bind(self, clock: Any) -> Schedule:
        """Returns a copy for an optimizer, bound to the variable that counts the examples."""
        other = copy.copy(self)
        other._clock = clock
        return other

    def __call__(self, step):
        if self._clock is None:
            raise UsageError(
                "A schedule in examples seen must belong to an optimizer of a GAN. "
                f"Received: schedule={self!r}"
            )
        return now(self, self._clock)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if k[0] != "_")
        return f"{type(self).__name__}({arguments})"


class _Ramp(Schedule):
    """Base class of ramps from one number to another, constant afterward."""

    def __init__(self, start: float, end: float = 0.0, examples: float | None = None):
        super().__init__()
        check_number("start", start)
        check_number("end", end)
        if examples is not None:
            check_positive("examples", examples)
        self.start, self.end, self.examples = float(start), float(end), examples

    def start_weight(self, progress):
        """Returns the weight of `start`, from 1 to 0, at a progress from 0 to 1."""
        raise NotImplementedError

    def progress(self, examples):
        """Returns the share of the ramp after a number of examples, from 0 to 1."""
        if self.examples is None:
            raise UsageError(
                "`examples`, the length of a schedule, can be omitted in recipes only, where it "
                f"is the whole training. Received: examples=None in {self!r}"
            )
        return tf.clip_by_value(examples / self.examples, 0.0, 1.0)

    def at(self, examples):
        weight = self.start_weight(self.progress(examples))
        return self.start * weight + self.end * (1 - weight)  # exact at both ends

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
    """Linear ramp from one number to another, constant afterward.

    Args:
        start: initial value.
        end: value from `examples` examples on; 0 by default.
        examples: length of the ramp, above 0. If omitted in a recipe, it is the whole training.

    Raises:
        UsageError: a number is not finite, or the length is not above 0.
    """

    def start_weight(self, progress):
        return 1 - progress


@keras.saving.register_keras_serializable("keras_gan")
class Exponential(_Ramp):
    """Ramp from one number to another by a constant factor, constant afterward.

    After a share p of the ramp the value is start^(1 - p) end^p, such as the inverse temperature of
    RelGAN with a start of 1.

    Args:
        start: initial value, above 0.
        end: value from `examples` examples on, above 0.
        examples: length of the ramp, above 0. If omitted in a recipe, it is the whole training.

    Raises:
        UsageError: a number is not finite and above 0, or the length is not.

    Reference:
        - [Nie et al., 2019](https://openreview.net/forum?id=rJedV3R5tm)
    """

    def __init__(self, start: float, end: float, examples: float | None = None):
        check_positive("start", start)
        check_positive("end", end)
        super().__init__(start, end, examples)

    def at(self, examples):
        progress = self.progress(examples)
        return tf.pow(self.start, 1 - progress) * tf.pow(self.end, progress)


@keras.saving.register_keras_serializable("keras_gan")
class HoldLinear(_Ramp):
    """Constant for a share of its length, then a linear ramp to another number.

    Args:
        start: value in the first share.
        end: value from `examples` examples on; 0 by default.
        examples: length of both parts, above 0. If omitted in a recipe, it is the whole training.
        hold: share of the length in which the value is constant, from 0 up and below 1; half of it
            by default, as in pix2pix and CycleGAN.

    Raises:
        UsageError: a number is not finite or out of range.

    Reference:
        - [Zhu et al., 2017](https://arxiv.org/abs/1703.10593), appendix 7.1
    """

    def __init__(
        self, start: float, end: float = 0.0, examples: float | None = None, hold: float = 0.5
    ):
        super().__init__(start, end, examples)
        check_number("hold", hold, minimum=0, below=1)
        self.hold = float(hold)

    def start_weight(self, progress):
        return tf.minimum((1 - progress) / (1 - self.hold), 1.0)

    def with_duration(self, examples: float) -> Schedule:
        return HoldLinear(self.start, self.end, examples, self.hold) if self.open_ended else self

    def get_config(self) -> dict:
        return {**super().get_config(), "hold": self.hold}


@keras.saving.register_keras_serializable("keras_gan")
class Cosine(_Ramp):
    """Half a cosine wave from one number to another, constant afterward.

    After n of N examples the value is end + (start - end) (1 + cos(pi n / N)) / 2.

    Args:
        start: initial value.
        end: value from `examples` examples on; 0 by default.
        examples: length of the ramp, above 0. If omitted in a recipe, it is the whole training.

    Raises:
        UsageError: a number is not finite, or the length is not above 0.

    Reference:
        - [Loshchilov and Hutter, 2016](https://arxiv.org/abs/1608.03983), without restarts
    """

    def start_weight(self, progress):
        return (1 + tf.cos(math.pi * progress)) / 2


_SHAPES = {"linear": Linear, "cosine": Cosine}


@keras.saving.register_keras_serializable("keras_gan")
class WarmUp(Schedule):
    """Ramp to a number, or to the first value of another schedule, which then follows.

    The other schedule starts when the ramp ends and counts its examples from there. If `start`
    equals the value at the end of the ramp, this is a delay.

    Args:
        to: value at the end of the ramp, or the schedule that follows it.
        examples: length of the ramp, above 0.
        start: initial value, 0 by default.
        shape: shape of the ramp, "linear" or "cosine".

    Raises:
        UsageError: a number is not finite, the length is not above 0, or the shape is unknown.
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
            check_number("to", to)
        check_positive("examples", examples)
        check_number("start", start)
        if shape not in _SHAPES:
            raise UsageError(f"`shape` must be linear or cosine. Received: shape={shape!r}")
        self.to, self.examples, self.start, self.shape = to, examples, float(start), shape

    def at(self, examples):
        target = now(self.to, tf.maximum(examples - self.examples, 0.0))
        ramp = _SHAPES[self.shape](1.0, 0.0, self.examples).at(examples)
        return self.start * ramp + target * (1 - ramp)

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
                "A warm-up must be shorter than the training if a schedule follows it. "
                f"Received: examples={self.examples}, training.examples={examples}"
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


@keras.saving.register_keras_serializable("keras_gan")
class InverseSqrt(Schedule):
    """Falls with the square root of the examples seen, after a warm-up; it needs no length.

    After n examples the value is rate min(1, n / warm_up) / sqrt(max(1, n / decay)).

    Args:
        rate: value before the decay.
        decay_examples: number of examples from which on the value falls, above 0.
        warm_up_examples: length of a linear factor from 0 to 1 at the start; 0 for none.

    Raises:
        UsageError: a number is not finite, or a number of examples is out of range.

    Reference:
        - [Karras et al., 2024](https://arxiv.org/abs/2312.02696)
    """

    def __init__(self, rate: float, decay_examples: float, warm_up_examples: float = 0):
        super().__init__()
        check_number("rate", rate)
        check_positive("decay_examples", decay_examples)
        check_number("warm_up_examples", warm_up_examples, minimum=0)
        self.rate, self.decay_examples = float(rate), decay_examples
        self.warm_up_examples = warm_up_examples

    def at(self, examples):
        value = self.rate / tf.sqrt(tf.maximum(examples / self.decay_examples, 1.0))
        if not self.warm_up_examples:
            return value
        return value * tf.minimum(examples / self.warm_up_examples, 1.0)

    def bounds(self) -> tuple[float, ...]:
        return 0.0, self.rate

    def get_config(self) -> dict:
        return {
            "rate": self.rate,
            "decay_examples": self.decay_examples,
            "warm_up_examples": self.warm_up_examples,
        }


def now(number: Any, clock: Any):
    """Returns a number, or the value of a schedule at `clock` examples seen, as float32."""
    if not isinstance(number, Schedule):
        return tf.constant(number, tf.float32)
    return number.at(tf.cast(tf.convert_to_tensor(clock), tf.float32))


def bounds(number: Any) -> tuple[float, ...]:
    """Returns the bounds of a schedule, or the number itself."""
    return number.bounds() if isinstance(number, Schedule) else (number,)


def names() -> dict[str, str]:
    """Returns the name of each schedule with the first line of its description."""
    return registered(Schedule)


def get(schedule: float | dict | Schedule) -> Any:
    """Returns the schedule of a `{"name": ..., **arguments}` dictionary.

    A number or a schedule is returned as it is.

    Raises:
        UsageError: the name is unknown, or the schedule does not take an argument.
    """
    return find(Schedule, schedule, "schedule") if isinstance(schedule, dict) else schedule

"""Reading, setting and lowering the learning rates of a game's optimizers."""

from __future__ import annotations

from typing import Any

import keras

from keras_gan import checks


@keras.saving.register_keras_serializable("keras_gan")
class Lowered(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate schedule times a factor, as a roll back leaves it.

    Args:
        schedule: a Keras learning rate schedule.
        factor: number above 0.
    """

    def __init__(self, schedule: Any, factor: float):
        self.schedule, self.factor = schedule, float(factor)

    def __call__(self, step: Any) -> Any:
        return self.schedule(step) * self.factor

    def bind(self, clock: Any) -> Lowered:
        """Returns a copy that reads the examples seen from `clock`, if the schedule needs them."""
        bind = getattr(self.schedule, "bind", None)
        return Lowered(bind(clock) if bind else self.schedule, self.factor)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "factor": self.factor}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Lowered:
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, config["factor"])


def optimizers_of(gan: Any) -> dict[str, Any]:
    """Returns a compiled game's optimizers by the names of their players."""
    return {role: getattr(gan, f"{role}_optimizer") for role in ("generator", "discriminator")}


def learning_rate(optimizer: Any) -> Any:
    """Returns a constant learning rate as a float, otherwise the schedule."""
    rate = checks.inner(optimizer)._learning_rate
    return float(rate.value.numpy()) if isinstance(rate, keras.Variable) else rate


def set_learning_rate(optimizer: Any, rate: Any, factor: float = 1.0) -> None:
    """Sets an optimizer's learning rate to a number, or a schedule, times a factor."""
    if factor != 1:
        rate = rate * factor if isinstance(rate, float) else Lowered(rate, factor)
    checks.inner(optimizer).learning_rate = rate


def lowered_by(optimizer: Any) -> float:
    """Returns the factor by which roll backs have lowered an optimizer's schedule, or 1."""
    rate, factor = learning_rate(optimizer), 1.0
    while isinstance(rate, Lowered):
        rate, factor = rate.schedule, factor * rate.factor
    return factor

"""Keras optimizers from a recipe's sections."""

from __future__ import annotations

import inspect
import math
from typing import Any

import keras

from keras_gan import schedules, terms
from keras_gan.errors import UsageError
from keras_gan.recipe.scheduling import resolve
from keras_gan.recipe.sections import OptimizerSection
from keras_gan.recipe.signatures import check_named, check_options
from keras_gan.registry import nearest, parameters_of


def make_optimizer(section: OptimizerSection, examples: float | None = None) -> Any:
    """Returns the Keras optimizer of a section.

    Args:
        section: a checked section.
        examples: length of the training, for schedules that last as long as the training.
    """
    arguments = {"learning_rate": section.learning_rate, **section.options}
    config = resolve(arguments, examples)
    if section.lazy_interval > 1:
        defaults = parameters_of(type(keras.optimizers.get(section.name)))
        betas = {name: defaults[name][1] for name in ("beta_1", "beta_2")}
        config = terms.rescaled({**betas, **config}, section.lazy_interval)
    return keras.optimizers.get({"class_name": section.name, "config": config})


def check_optimizer(section: OptimizerSection, path: str) -> None:
    """Checks a section against the signature of the Keras optimizer that it names.

    Raises:
        UsageError: an unknown optimizer, or an argument that it does not take or refuses.
    """
    known = {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if inspect.isclass(cls) and issubclass(cls, keras.optimizers.Optimizer)
    }
    for wrapper in ("optimizer", "lossscaleoptimizer"):  # these do not define an update rule
        known.pop(wrapper, None)
    cls = known.get(section.name.lower())
    if cls is None:
        raise UsageError(
            f"{path}.name must be a Keras optimizer. Received: {section.name!r}. "
            f"{nearest(section.name.lower(), known)}"
        )
    check_options(cls, section.options, path, skip=("learning_rate", "name"))
    _check_learning_rate(section.learning_rate, f"{path}.learning_rate")
    if section.lazy_interval > 1 and not {"beta_1", "beta_2"} <= parameters_of(cls).keys():
        raise UsageError(
            f"{path}.lazy_interval rescales beta_1 and beta_2, which the optimizer must have. "
            f"Received: {path}.name={section.name!r}"
        )
    _check_numbers(cls, section.options, path)
    try:
        make_optimizer(section)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is refused by Keras: {' '.join(str(error).split())}") from None


def _check_learning_rate(rate: Any, path: str) -> None:
    """Checks a number above 0, or a schedule whose values are at least 0."""
    scheduled = isinstance(rate, dict)
    if scheduled:
        check_named(schedules.Schedule, rate, path)
    for number in schedules.bounds(resolve(rate)):
        if not math.isfinite(number) or not (number >= 0 if scheduled else number > 0):
            rule = "or equal to 0" if scheduled else "0"
            raise UsageError(f"{path}: input should be greater than {rule}. Received: {number!r}")


def _check_numbers(cls: type, options: dict[str, Any], path: str) -> None:
    """Checks numbers by their defaults, as Keras's arguments have no annotations."""
    for name, (_, default) in parameters_of(cls).items():
        value = options.get(name, 0.0)
        if isinstance(value, dict) and (isinstance(default, float) or name == "weight_decay"):
            check_named(schedules.Schedule, value, f"{path}.{name}")
            continue
        number = isinstance(value, (int, float)) and math.isfinite(value)
        optional = default is None and (value is None or isinstance(value, str))
        if not number and not optional and not isinstance(default, str):
            raise UsageError(f"{path}.{name} must be a finite number. Received: {value!r}")

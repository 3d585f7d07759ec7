"""Keras optimizers from a recipe's sections."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from keras_gan import optimizers, schedules, terms
from keras_gan.arguments import check_positive
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
    keys = OptimizerSection.model_fields
    what, skip = f"optimizer {section.name!r}", ("learning_rate", "name")
    check_options(cls, section.options, what, path, skip, keys)
    if section.lazy_interval > 1 and not {"beta_1", "beta_2"} <= parameters_of(cls).keys():
        raise UsageError(
            f"{path}.lazy_interval rescales beta_1 and beta_2, which the optimizer must have. "
            f"Received: {path}.name={section.name!r}"
        )
    arguments = {**section.options, "learning_rate": section.learning_rate}
    for name, value in arguments.items():
        if isinstance(value, dict) and optimizers.takes_schedule(cls, name):
            check_named(schedules.Schedule, value, f"{path}.{name}")
    try:
        optimizers.check_arguments(cls, resolve(arguments))
        if not isinstance(section.learning_rate, dict):
            check_positive("learning_rate", section.learning_rate)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    try:
        make_optimizer(section)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} is refused by Keras: {' '.join(str(error).split())}") from None

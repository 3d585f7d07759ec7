"""Temporary changes of a model's variables, undone on exit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np


@contextlib.contextmanager
def preserved_state(model: keras.Model) -> Iterator[None]:
    """Restores every non-trainable variable on exit, also after an error."""
    trainable = {id(variable) for variable in model.trainable_variables}
    saved = [(v, v.numpy()) for v in model.variables if id(v) not in trainable]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)


@contextlib.contextmanager
def randomized_batch_statistics(model: keras.Model) -> Iterator[bool]:
    """Randomizes moving means and variances temporarily; yields whether the model has any.

    A new model has means 0 and variances 1, with which a normalization that is lost, doubled or
    run in training mode can go unnoticed. The statistics of a trained model change in proportion:
    variances far from those of its activations would make it overflow.
    """
    statistics = [v for v in model.non_trainable_variables if _is_statistic(v)]
    saved = [(v, v.numpy()) for v in statistics]
    deviations = {v.path: np.sqrt(np.abs(value)) for v, value in saved if "var" in v.name}
    rng = np.random.default_rng(0)
    try:
        for variable, value in saved:
            if "var" in variable.name:
                changed = value * rng.uniform(0.5, 2.0, value.shape)
            else:
                deviation = deviations.get(variable.path.replace("mean", "variance"), 1.0)
                changed = value + deviation * rng.uniform(-0.5, 0.5, value.shape)
            variable.assign(changed.astype(value.dtype))
        yield bool(saved)
    finally:
        for variable, value in saved:
            variable.assign(value)


def _is_statistic(variable: Any) -> bool:
    moving = variable.name.startswith(("moving_", "running_"))
    return moving and "float" in keras.backend.standardize_dtype(variable.dtype)


@contextlib.contextmanager
def positive_weights(model: keras.Model) -> Iterator[None]:
    """Makes the weights of a model random and positive temporarily, with sums near 1.

    A positive infinity then passes through every path of the model, without zeros that hide it and
    without another infinity that cancels it.
    """
    weights = [v for v in model.variables if "float" in keras.backend.standardize_dtype(v.dtype)]
    saved = [(v, v.numpy()) for v in weights]
    rng = np.random.default_rng(0)
    try:
        for variable, value in saved:
            inputs = value.size // value.shape[-1] if value.ndim > 1 else 1
            changed = rng.uniform(0.5, 1.5, value.shape) / max(inputs, 1)
            variable.assign(changed.astype(value.dtype))
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)

"""Fully connected policy, value function and discriminator of observations and actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers.control import (
    ClipToBounds,
    GreedyChoice,
    LogStd,
    ObservationNormalization,
    ToBounds,
)
from keras_gan.spec import Spec

also_called = ("actor", "actorcritic", "ppo")
OBSERVATION = "observation"  # name of the field that a policy answers


def policy(
    spec: Spec,
    conditional: bool = False,
    widths: Sequence[int] = (64, 64),
    normalize: bool = True,
    log_std: float = -0.5,
) -> keras.Model:
    """Builds a policy from an observation `(batch, features)` to a distribution of actions.

    For choices it returns `logits`; for continuous actions `mean`, which tanh bounds, and
    `log_std`, both in the units of the environment. `samples` are the actions without randomness,
    as the data has them: the choice of the largest logit, one-hot, or the mean.

    Args:
        spec: actions, with the field `observation`.
        conditional: not supported; policies take no labels.
        widths: units of each hidden layer, with tanh.
        normalize: whether observations are normalized by running statistics, which are weights.
        log_std: initial logarithm of the standard deviation of a continuous action, of which the
            distance of the bounds is 2.

    Raises:
        UsageError: data without observations, labels, or a width below 1.
    """
    _check(spec, conditional)
    observation = _observation(spec)
    x = _hidden(_normalized(observation, normalize), widths)
    count, meta = spec.shape[0], spec.samples.meta
    # Small last weights: the first policy is nearly uniform (Andrychowicz et al., 2020).
    last = layers.Dense(count, kernel_initializer=_orthogonal(0.01), dtype="float32", name="last")(
        x
    )
    if "low" not in meta:
        greedy = GreedyChoice(dtype="float32", name="samples")(last)
        outputs = {"samples": greedy, "logits": last}
    else:
        low, high = meta["low"], meta["high"]
        half = [(b - a) / 2 for a, b in zip(low, high, strict=True)]
        # Bounded, as a mean far beyond the bounds would hide what the noise does.
        bounded = layers.Activation("tanh", dtype="float32", name="tanh")(last)
        mean = ToBounds(low, high, dtype="float32", name="mean")(bounded)
        spread = LogStd(log_std, half, dtype="float32", name="log_std")(last)
        clipped = ClipToBounds(low, high, dtype="float32", name="samples")(mean)
        outputs = {"samples": clipped, "mean": mean, "log_std": spread}
    return keras.Model(observation, outputs, name="policy")


def value(
    spec: Spec,
    conditional: bool = False,
    widths: Sequence[int] = (64, 64),
    normalize: bool = True,
) -> keras.Model:
    """Builds a value function from an observation to the expected return, `value` `(batch,)`.

    Args:
        spec: actions, with the field `observation`.
        conditional: not supported.
        widths: units of each hidden layer, with tanh.
        normalize: whether observations are normalized by running statistics, which are weights.

    Raises:
        UsageError: data without observations, labels, or a width below 1.
    """
    _check(spec, conditional)
    observation = _observation(spec)
    x = _hidden(_normalized(observation, normalize), widths)
    x = layers.Dense(1, kernel_initializer=_orthogonal(1.0), dtype="float32", name="last")(x)
    found = layers.Reshape((), dtype="float32", name="value")(x)
    return keras.Model(observation, {"value": found}, name="value")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    widths: Sequence[int] = (64, 64),
    normalize: bool = True,
) -> keras.Model:
    """Builds a discriminator from observations and actions, `samples`, to logits `(batch, 1)`.

    Args:
        spec: actions, with the field `observation`.
        conditional: not supported.
        widths: units of each hidden layer, with tanh.
        normalize: whether observations are normalized by running statistics, which are weights.

    Raises:
        UsageError: data without observations, labels, or a width below 1.
    """
    _check(spec, conditional)
    observation = _observation(spec)
    samples = keras.Input(spec.shape, name="samples")
    actions, meta = samples, spec.samples.meta
    if "low" in meta:
        actions = ToBounds(meta["low"], meta["high"], inverse=True, name="scaled_actions")(actions)
    x = layers.Concatenate(name="pair")([_normalized(observation, normalize), actions])
    logits = layers.Dense(1, dtype="float32", name="logits")(_hidden(x, widths))
    return keras.Model([observation, samples], logits, name="discriminator")


def _check(spec: Spec, conditional: bool) -> None:
    """Checks that data has actions and vectors of observations.

    Raises:
        UsageError: it has others.
    """
    if conditional:
        raise UsageError("The architecture 'policy' takes no labels. Received: condition=[labels]")
    field = spec.fields.get(OBSERVATION)
    if field is None or len(field.shape) != 1 or len(spec.shape) != 1:
        raise UsageError(
            "The architecture 'policy' needs data of actions with the field `observation`, such as "
            f"the data set trajectories. Received: fields {', '.join(spec.fields)} of shapes "
            f"{', '.join(str(each.shape) for each in spec.fields.values())}"
        )


def _observation(spec: Spec) -> Any:
    return keras.Input(spec.fields[OBSERVATION].shape, name=OBSERVATION)


def _normalized(observation: Any, normalize: bool) -> Any:
    if not normalize:
        return observation
    return ObservationNormalization(name="normalized")(observation)


def _hidden(x: Any, widths: Sequence[int]) -> Any:
    for i, width in enumerate(_parts.check_widths(widths)):
        start = _orthogonal(float(np.sqrt(2)))
        x = layers.Dense(width, "tanh", kernel_initializer=start, name=f"hidden_{i}")(x)
    return x


def _orthogonal(gain: float) -> Any:
    return keras.initializers.Orthogonal(gain)

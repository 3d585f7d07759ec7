"""Discriminators of sound: one for each of several periods and of several spectrograms.

A discriminator of period p sees the samples as a picture of p columns, in whose columns samples
are p apart. One of a resolution sees the magnitudes of a short-time Fourier transform.

Reference:
    - [Kong et al., 2020](https://arxiv.org/abs/2010.05646), section 2.3, for the periods
    - [Jang et al., 2021](https://arxiv.org/abs/2106.07889), section 2.2, for the resolutions
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _sound
from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from keras_gan.layers import Columns, Magnitudes
from keras_gan.spec import Spec

_SLOPE = 0.1


def discriminator(
    spec: Spec,
    conditional: bool = False,
    periods: Sequence[int] = (2, 3, 5, 7, 11),
    resolutions: Sequence[int] = (128, 512),
    width: int = 16,
    layers: int = 3,
    features: bool = True,
) -> keras.Model:
    """Builds a discriminator from sound `(batch, time, 1)` to a list of logits.

    Args:
        spec: audio `samples` of one channel.
        conditional: must be False: labels are not supported.
        periods: periods in samples; none for no discriminators of them.
        resolutions: windows of the Fourier transforms in samples, divisible by 4; their hop is a
            quarter of it.
        width: channels of the first layer; each strided layer doubles them.
        layers: number of strided layers.
        features: if True, the outputs are `logits` and `features`, the list of the features of
            all layers of all discriminators, for the term `feature_matching`.

    Raises:
        UsageError: data of another kind, no discriminator, or an option out of range.
    """
    _sound.check_mono(spec, "multi_period", conditional)
    check_integer("width", width)
    check_integer("layers", layers)
    _check_list("periods", periods, 1)
    _check_list("resolutions", resolutions, 4)
    if not periods and not resolutions:
        raise UsageError(
            "`periods` or `resolutions` must name at least one discriminator. "
            f"Received: periods={list(periods)}, resolutions={list(resolutions)}"
        )
    samples = keras.Input(spec.shape, name="samples")
    channels = [width * 2**i for i in range(layers)]
    logits, found = [], []
    for period in periods:
        picture = Columns(period, name=f"period_{period}")(samples)
        one = _judge(picture, channels, (5, 1), (3, 1), f"period_{period}")
        logits, found = [*logits, one[0]], [*found, *one[1]]
    for window in resolutions:
        picture = Magnitudes(window, window // 4, name=f"window_{window}")(samples)
        one = _judge(picture, channels, (3, 9), (1, 2), f"window_{window}")
        logits, found = [*logits, one[0]], [*found, *one[1]]
    outputs: Any = {"logits": logits, "features": found} if features else logits
    return keras.Model(samples, outputs, name="discriminator")


def _judge(x, channels: Sequence[int], kernel: tuple, strides: tuple, name: str):
    """Returns the logits of one discriminator, and the features of each of its layers."""
    found = []
    for i, filters in enumerate(channels, start=1):
        x = layers.Conv2D(filters, kernel, strides, "same", name=f"{name}_conv_{i}")(x)
        x = layers.LeakyReLU(_SLOPE, name=f"{name}_activation_{i}")(x)
        found.append(x)
    size = tuple(min(n, 3) for n in kernel)
    x = layers.Conv2D(1, size, padding="same", dtype="float32", name=f"{name}_logits")(x)
    return x, found


def _check_list(name: str, values: Any, divisor: int) -> None:
    fits = isinstance(values, list | tuple) and all(is_integer(n, 1) for n in values)
    if not fits or any(n % divisor for n in values):
        rule = "integers of at least 1" if divisor == 1 else f"multiples of {divisor}"
        raise UsageError(f"`{name}` must be a list of {rule}. Received: {name}={values!r}")

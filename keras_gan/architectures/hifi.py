"""HiFi-GAN's generator: transposed convolutions from mel spectrograms to sound.

The rate of the frames is multiplied in steps by transposed convolutions. After each, the mean of
several residual blocks with kernels of different lengths and growing dilations refines the result.

Reference:
    - [Kong et al., 2020](https://arxiv.org/abs/2010.05646), section 2.2 and table 5 (V3)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _sound
from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from keras_gan.layers import FramesToSamples
from keras_gan.spec import Spec

_SLOPE = 0.1
_EDGE = 7  # taps of the first and the last convolution
_FACTORS = (8, 4, 2)


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    width: int = 64,
    factors: Sequence[int] = _FACTORS,
    kernels: Sequence[int] = (3, 5, 7),
    dilations: Sequence[int] = (1, 2),
    gain: bool = False,
) -> keras.Model:
    """Builds a generator from log-mels `(batch, frames, mels)` to sound `(batch, time, 1)`.

    It takes any number of frames, and returns `hop` samples for each.

    Args:
        spec: audio `samples` of one channel, and the spectrogram that `conditions` names.
        conditional: must be False: labels are not supported.
        conditions: name of the field of kind "mel".
        width: channels at the rate of the frames; each transposed convolution halves them.
        factors: factors of the rate, each at least 2 and even; their product is the hop.
        kernels: taps of the convolutions of the residual blocks, odd.
        dilations: dilation of each convolution of a block.
        gain: multiply the samples by the loudness of their frames, interpolated.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    mel = _sound.check_task(spec, "hifi", conditional, conditions)
    check_integer("width", width)
    _check_list("factors", factors, lambda n: n % 2 == 0, "even integers of at least 2")
    _check_list("kernels", kernels, lambda n: n % 2 == 1, "odd integers of at least 1")
    _check_list("dilations", dilations, lambda n: True, "integers of at least 1")
    if math.prod(factors) != mel.hop:
        raise UsageError(
            f"The product of `factors` must be the hop of the spectrograms, {mel.hop}. "
            f"Received: factors={list(factors)}"
        )
    if width < 2 ** len(factors):
        raise UsageError(
            f"`width` must be at least {2 ** len(factors)} with {len(factors)} factors. "
            f"Received: width={width}"
        )
    reach = context(factors, kernels, dilations)
    spectrogram, x, loudness = _sound.begin(conditions, mel, reach, gain)
    x = _sound.convolve(x, width, _EDGE, "conv")
    for i, factor in enumerate(factors, start=1):
        x = layers.LeakyReLU(_SLOPE, name=f"up_{i}_activation")(x)
        x = layers.Conv1DTranspose(
            width // 2**i, 2 * factor, strides=factor, padding="same", name=f"up_{i}"
        )(x)
        x = _refined(x, kernels, dilations, f"stage_{i}")
    x = layers.LeakyReLU(_SLOPE, name="last_activation")(x)
    x = _sound.convolve(x, 1, _EDGE, "last", dtype="float32")
    if loudness is not None:
        envelope = FramesToSamples(mel.hop, name="envelope")(loudness)
        x = layers.Multiply(dtype="float32", name="gain")([x, envelope])
    samples = layers.Activation("tanh", dtype="float32", name="samples")(x)
    return keras.Model(spectrogram, samples, name="generator")


def context(factors: Sequence[int], kernels: Sequence[int], dilations: Sequence[int]) -> int:
    """Returns the number of frames on each side on which the samples of a frame depend.

    The samples of frame 0 are followed back through the layers, as the first and the last index.

    Args:
        factors: strides of the transposed convolutions, the first one first.
        kernels: taps of the residual blocks.
        dilations: dilation of each convolution of a block.
    """
    edge, inner = _EDGE // 2, sum(dilations) * (max(kernels) // 2)
    first, last = -edge, math.prod(factors) - 1 + edge
    for factor in reversed(factors):
        first, last = first - inner, last + inner
        # With 2 * factor taps, output t sums inputs i with 0 <= t + factor / 2 - factor * i.
        first = -((2 * factor - 1 - factor // 2 - first) // factor)
        last = (last + factor // 2) // factor
    return max(edge - first, last + edge)


def _refined(x, kernels: Sequence[int], dilations: Sequence[int], name: str):
    """Returns the mean of residual blocks of several kernels."""
    found = [_block(x, kernel, dilations, f"{name}_{kernel}") for kernel in kernels]
    return found[0] if len(found) == 1 else layers.Average(name=name)(found)


def _block(x, kernel: int, dilations: Sequence[int], name: str):
    for n, dilation in enumerate(dilations, start=1):
        y = layers.LeakyReLU(_SLOPE, name=f"{name}_activation_{n}")(x)
        y = _sound.convolve(y, x.shape[-1], kernel, f"{name}_conv_{n}", dilation)
        x = layers.Add(name=f"{name}_add_{n}")([x, y])
    return x


def _check_list(name: str, values: Any, fits: Callable[[int], bool], rule: str) -> None:
    is_list = isinstance(values, list | tuple) and len(values) > 0
    if not is_list or not all(is_integer(n, 1) and fits(n) for n in values):
        raise UsageError(f"`{name}` must be a list of {rule}. Received: {name}={values!r}")

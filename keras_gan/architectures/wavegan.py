"""WaveGAN: strided and transposed convolutions along time, for short sounds.

The generator maps the latents to features of few positions, and each stage multiplies their number
by its stride. The discriminator mirrors it. In training, the features of each of its stages are
shifted along time at random, so that it cannot tell generated samples by their artifacts' phase.

Reference:
    - [Donahue et al., 2018](https://arxiv.org/abs/1802.04208)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts, _sound
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import PhaseShuffle
from keras_gan.spec import Spec

_STRIDE = 4
_LEAST, _MOST = 16, 127  # positions at the lowest rate

_USES = ("projection", "concatenation")  # of the labels by the discriminator


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 100,
    width: int = 64,
    kernel: int = 25,
    upsampling: str = "transposed",
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels] to sound in [-1, 1].

    Args:
        spec: audio whose length is 16 to 127 times a power of 2, at least 2. The stages have
            strides of 4, the last one of 2 if needed: 8,192 samples are 16 * 4 * 4 * 4 * 4 * 2.
        conditional: if True, takes labels `(batch,)`; their embedding is concatenated to the
            latents.
        latent_dim: length of a latent vector.
        width: channels before the last stage; each earlier stage has twice as many.
        kernel: taps of a convolution.
        upsampling: how a stage multiplies the number of positions: "transposed" (the default), a
            transposed convolution, or "sub_pixel", a convolution with a channel for each of the
            new positions, of as many taps, divided by the stride.

    Raises:
        UsageError: data of another kind or length, or an option out of range.
    """
    strides = _strides_of(spec)
    latents = _parts.latents_input(latent_dim)
    check_integer("width", width)
    check_integer("kernel", kernel)
    _parts.check_one_of("upsampling", upsampling, tuple(_UPSAMPLINGS))
    labels = _parts.labels_input() if conditional else None
    x = _parts.latents_and_label(latents, labels, spec, latent_dim) if conditional else latents

    count = len(strides)
    base = (spec.shape[0] // math.prod(strides), width * 2 ** (count - 1))
    x = layers.Dense(base[0] * base[1], name="project")(x)
    x = layers.Reshape(base, name="reshape")(x)
    upsample = functools.partial(_UPSAMPLINGS[upsampling], kernel=kernel)
    for i, stride in enumerate(strides[:-1], start=1):
        x = layers.ReLU(name=f"stage_{i - 1}_activation")(x)
        x = upsample(x, width * 2 ** (count - 1 - i), stride, name=f"stage_{i}_up")
    x = layers.ReLU(name=f"stage_{count - 1}_activation")(x)
    # Samples are float32 under every policy, so that they have full precision.
    x = upsample(x, spec.shape[-1], strides[-1], name=f"stage_{count}_up", dtype="float32")
    samples = layers.Activation("tanh", dtype="float32", name="samples")(x)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def _transposed(x, channels: int, stride: int, kernel: int, **options: Any):
    return layers.Conv1DTranspose(channels, kernel, stride, "same", **options)(x)


def _sub_pixel(x, channels: int, stride: int, kernel: int, name: str, **options: Any):
    taps = -(-kernel // stride)
    x = layers.Conv1D(channels * stride, taps, padding="same", name=name, **options)(x)
    # The channels of a position are the new positions one after the other.
    shape = (x.shape[1] * stride, channels)
    return layers.Reshape(shape, name=f"{name}_positions", **options)(x)


_UPSAMPLINGS: dict[str, Callable] = {"transposed": _transposed, "sub_pixel": _sub_pixel}


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int = 64,
    kernel: int = 25,
    shuffle: int = 2,
    conditioning: str | None = None,
) -> keras.Model:
    """Builds a discriminator from sound in [-1, 1] [and labels] to logits `(batch, 1)`.

    Args:
        spec: audio of a length as for the generator.
        conditional: if True, takes labels `(batch,)`.
        width: channels of the first stage; each later stage has twice as many.
        kernel: taps of a convolution.
        shuffle: largest random shift of the features of a stage in positions, in training, see
            `keras_gan.layers.PhaseShuffle`; from 0, which turns it off, to 15.
        conditioning: use of the labels: "projection" (the default), the inner product of the last
            features and the label's embedding is added to the logit (Miyato and Koyama, 2018,
            https://arxiv.org/abs/1802.05637), or "concatenation", a learned channel of the class
            is appended to the sound.

    Raises:
        UsageError: data of another kind or length, or an option out of range.
    """
    strides = _strides_of(spec)
    check_integer("width", width)
    check_integer("kernel", kernel)
    check_integer("shuffle", shuffle, 0)
    if shuffle >= _LEAST:
        raise UsageError(f"`shuffle` must be at most {_LEAST - 1}. Received: shuffle={shuffle}")
    conditioning = _parts.choose_conditioning(conditioning, conditional, _USES, _USES[0])
    x = samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None
    if conditional and conditioning == "concatenation":
        x = _sound.sound_and_label(samples, labels, spec)
    for i, stride in enumerate(strides, start=1):
        channels = width * 2 ** (i - 1)
        x = layers.Conv1D(channels, kernel, stride, "same", name=f"stage_{i}_down")(x)
        x = layers.LeakyReLU(0.2, name=f"stage_{i}_activation")(x)
        if shuffle and i < len(strides):  # no convolution follows the last stage
            x = PhaseShuffle(shuffle, name=f"stage_{i}_shuffle")(x)
    features = layers.Flatten(name="features")(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if conditional and conditioning == "projection":
        logits = _parts.projection(features, logits, labels, spec)
    return keras.Model([samples, labels] if conditional else samples, logits, name="discriminator")


def _strides_of(spec: Spec) -> list[int]:
    """Returns the strides of the stages: of 4 as long as they divide the length, then one of 2.

    Raises:
        UsageError: samples other than sound, or of another length.
    """
    _sound.check_sound(spec, "wavegan")
    length, strides = spec.shape[0] or 1, []
    for stride in (_STRIDE, 2):
        while length % stride == 0 and length // stride >= _LEAST:
            length //= stride
            strides.append(stride)
    if not strides or length > _MOST:
        raise UsageError(
            f"The architecture 'wavegan' takes sounds whose length is {_LEAST} to {_MOST} times a "
            f"power of 2 (at least 2), such as 8192. Received: shape={spec.shape}"
        )
    return strides

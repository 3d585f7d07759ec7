"""Discriminators on several scales of an image, with the generator of `dcgan`.

Each discriminator judges the image at one scale: the whole image, its 2 x 2 means, the means of
those, and so on. They are one model, whose `logits` is the list of their logits. A game averages
the loss and the terms over the list.

Reference:
    - [Wang et al., 2018](https://arxiv.org/abs/1711.11585), section 3.2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.architectures.dcgan import generator
from keras_gan.layers import Conv2D
from keras_gan.spec import Spec

__all__ = ["discriminator", "generator"]


def discriminator(
    spec: Spec,
    conditional: bool = False,
    scales: int = 2,
    widths: Sequence[int] = (64, 128),
    norm: str = "none",
) -> keras.Model:
    """Builds a discriminator from images [and labels] to a list of logits `(batch, 1)`.

    Args:
        spec: images whose height and width are divisible by `2**(scales - 1)`.
        conditional: if True, takes labels `(batch,)`, by projection as in `dcgan.discriminator`.
        scales: number of scales, and of discriminators, at least 1. Each scale has half the height
            and width of the one before.
        widths: channels of each stage of one discriminator, from high to low resolution. Each
            stage halves the height and width, rounded up.
        norm: normalization of each stage but the first, "none", "layer" or "batch". Gradient
            penalties reject "batch", which couples the samples of a batch.

    Raises:
        UsageError: the height or width is not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "multi_scale")
    _parts.check_integer("scales", scales)
    _parts.check_divisible(spec, "scales - 1", scales - 1)
    _parts.check_norm(norm)
    widths = _parts.check_widths(widths)
    samples, image = _parts.image_input(data)
    inputs = [samples, _parts.labels_input()] if conditional else [samples]
    logits: list[Any] = []
    for scale in range(scales):
        if scale:
            image = layers.AveragePooling2D(2, name=f"half_{scale}")(image)
        network = _one_scale(spec, image.shape[1:], conditional, widths, norm, f"scale_{scale}")
        logits.append(network([image, *inputs[1:]] if conditional else image))
    return keras.Model(inputs if conditional else samples, logits, name="discriminator")


def _one_scale(
    spec: Spec, shape: tuple, conditional: bool, widths: Sequence[int], norm: str, name: str
) -> keras.Model:
    """Returns the discriminator of images of one size."""
    image = keras.Input(shape, name="image")
    x: Any = image
    for i, channels in enumerate(widths, start=1):
        # An odd length has a middle pixel, around which a kernel of 3 is symmetric.
        size = 3 if x.shape[1] % 2 or x.shape[2] % 2 else 4
        x = Conv2D(channels, size, 2, "same", name=f"stage_{i}_down")(x)
        if i > 1:
            x = _parts.normalize(x, norm, f"stage_{i}_norm")
        x = layers.LeakyReLU(0.2, name=f"stage_{i}_activation")(x)
    features = layers.Flatten(name="features")(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if not conditional:
        return keras.Model(image, logits, name=name)
    labels = _parts.labels_input()
    logits = _parts.projection(features, logits, labels, spec)
    return keras.Model([image, labels], logits, name=name)

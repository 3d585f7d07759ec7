"""Fully connected networks, for points and other samples without spatial structure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.spec import Spec


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 2,
    widths: Sequence[int] = (128, 128, 128),
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels `(batch,)`] to samples.

    Samples with a value range are bounded to it by tanh; for unbounded samples, the last layer
    is linear.

    Args:
        spec: samples of any kind and shape.
        conditional: if True, takes labels, whose embedding is concatenated to the latents.
        latent_dim: length of a latent vector.
        widths: units of each hidden layer.

    Raises:
        UsageError: a width is below 1, or there are no hidden layers.
    """
    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    x = _parts.latents_and_label(latents, labels, spec, latent_dim) if conditional else latents
    x = _hidden_layers(x, widths, lambda i: layers.ReLU(name=f"activation_{i}"))
    # Samples are float32 under every policy, so that they have full precision.
    x = layers.Dense(math.prod(spec.shape), dtype="float32", name="values")(x)
    if spec.value_range is not None:
        low, high = spec.value_range
        x = layers.Activation("tanh", dtype="float32", name="tanh")(x)
        if (low, high) != (-1.0, 1.0):
            scale, offset = (high - low) / 2, (high + low) / 2
            x = layers.Rescaling(scale, offset, dtype="float32", name="range")(x)
    samples = layers.Reshape(spec.shape, dtype="float32", name="samples")(x)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    widths: Sequence[int] = (128, 128, 128),
    auxiliary_classes: bool = False,
) -> keras.Model:
    """Builds a discriminator from samples [and labels `(batch,)`] to logits `(batch, 1)`.

    Args:
        spec: samples of any kind and shape.
        conditional: if True, takes labels, by projection as in `dcgan.discriminator`.
        widths: units of each hidden layer.
        auxiliary_classes: if True, adds the output `classes`, as in `dcgan.discriminator`.

    Raises:
        UsageError: a width is below 1, or there are no hidden layers.
    """
    samples = keras.Input(spec.shape, name="samples")
    x = layers.Flatten(name="flatten")(samples)
    x = _hidden_layers(x, widths, lambda i: layers.LeakyReLU(0.2, name=f"activation_{i}"))
    logits = layers.Dense(1, dtype="float32", name="logits")(x)
    labels = _parts.labels_input() if conditional else None
    if conditional:
        logits = _parts.projection(x, logits, labels, spec)
    outputs = _parts.outputs_with_classes(x, logits, spec, auxiliary_classes)
    return keras.Model([samples, labels] if conditional else samples, outputs, name="discriminator")


def _hidden_layers(x, widths: Sequence[int], activation):
    for i, width in enumerate(_parts.check_widths(widths)):
        x = activation(i)(layers.Dense(width, name=f"hidden_{i}")(x))
    return x

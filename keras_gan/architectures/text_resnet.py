"""Residual 1-D convolutions for text: all tokens of a text together, as weights.

The generator ends in a softmax over the vocabulary, and the discriminator is given these weights
or the one-hot tokens of the data. Neither samples, so that gradients pass and no pretraining is
needed.

Reference:
    - [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028), section 5.5 and appendix C
"""

from __future__ import annotations

import keras
from keras import layers

from keras_gan.architectures import _parts, _texts
from keras_gan.arguments import check_integer
from keras_gan.spec import Spec

also_called = ("wgan", "wgangp", "chargan", "textgan")

_SHARE = 0.3  # of a residual branch


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 128,
    width: int = 512,
    blocks: int = 5,
    kernel: int = 5,
) -> keras.Model:
    """Builds a generator from latents [and labels] to weights `(batch, time, vocabulary)`.

    Args:
        spec: texts of one length, of kind "text".
        conditional: if True, takes labels `(batch,)`; their embedding is concatenated to the
            latents.
        latent_dim: length of a latent vector.
        width: channels.
        blocks: number of residual blocks.
        kernel: taps of a convolution.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    length, vocabulary = _texts.check_texts(spec, "text_resnet")
    latents = _parts.latents_input(latent_dim)
    _check_sizes(width, blocks, kernel)
    labels = _parts.labels_input() if conditional else None
    x = _parts.latents_and_label(latents, labels, spec, latent_dim) if conditional else latents
    x = layers.Dense(length * width, name="project")(x)
    x = layers.Reshape((length, width), name="reshape")(x)
    for i in range(1, blocks + 1):
        x = _block(x, kernel, f"block_{i}")
    x = layers.Conv1D(vocabulary, 1, dtype="float32", name="weights")(x)
    samples = layers.Softmax(dtype="float32", name="samples")(x)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec, conditional: bool = False, width: int = 512, blocks: int = 5, kernel: int = 5
) -> keras.Model:
    """Builds a discriminator from weights of tokens [and labels] to logits `(batch, 1)`.

    Args:
        spec: texts as for the generator.
        conditional: if True, takes labels `(batch,)`; the inner product of the features and the
            label's embedding is added to the logit (Miyato and Koyama, 2018,
            https://arxiv.org/abs/1802.05637).
        width: channels.
        blocks: number of residual blocks.
        kernel: taps of a convolution.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    _texts.check_texts(spec, "text_resnet")
    _check_sizes(width, blocks, kernel)
    samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None
    x = layers.Conv1D(width, 1, name="embedding")(samples)
    for i in range(1, blocks + 1):
        x = _block(x, kernel, f"block_{i}")
    features = layers.Flatten(name="features")(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if conditional:
        logits = _parts.projection(features, logits, labels, spec)
    return keras.Model([samples, labels] if conditional else samples, logits, name="discriminator")


def _check_sizes(width: int, blocks: int, kernel: int) -> None:
    for name, value in (("width", width), ("blocks", blocks), ("kernel", kernel)):
        check_integer(name, value)


def _block(x, kernel: int, name: str):
    """Adds a share of two convolutions to their input."""
    y = x
    for i in (1, 2):
        y = layers.ReLU(name=f"{name}_activation_{i}")(y)
        y = layers.Conv1D(x.shape[-1], kernel, padding="same", name=f"{name}_conv_{i}")(y)
    y = layers.Rescaling(_SHARE, name=f"{name}_scale")(y)
    return layers.Add(name=name)([x, y])

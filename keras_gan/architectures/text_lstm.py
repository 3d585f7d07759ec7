"""Recurrent generator that samples tokens, and a discriminator of several embeddings, for text.

The generator is an LSTM whose Gumbel noise comes from its latents, so that one seed names one text.
The discriminator looks at a text through several small embeddings of the tokens, applies the same
convolutions to each, and returns a logit for each.

Reference:
    - [Nie et al., 2019](https://openreview.net/forum?id=rJedV3R5tm), RelGAN
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts, _texts
from keras_gan.arguments import check_integer, is_integer
from keras_gan.errors import UsageError
from keras_gan.layers import TextSampler
from keras_gan.spec import Spec

also_called = ("relgan", "seqgan", "leakgan", "lstmgan")


def generator(
    spec: Spec,
    conditional: bool = False,
    width: int = 64,
    embedding: int = 32,
    relaxation: str = "straight_through",
) -> keras.Model:
    """Builds a generator from latents [and labels] to weights `(batch, time, vocabulary)`.

    There is one latent for each token of the vocabulary at each step.

    Args:
        spec: texts of one length, of kind "text". If their token 0 is "", it ends a text.
        conditional: if True, takes labels `(batch,)`; their embedding is added to that of the
            token before.
        width: units of the LSTM.
        embedding: length of the vector of a token.
        relaxation: of samples in training, see `keras_gan.layers.TextSampler`: "straight_through"
            (the default) or "soft", as published.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    length, vocabulary = _texts.check_texts(spec, "text_lstm")
    sizes = {"width": width, "embedding": embedding}
    for name, value in sizes.items():
        check_integer(name, value)
    latents = keras.Input((length * vocabulary,), name="latents")
    inputs = [latents, _parts.labels_input()] if conditional else [latents]
    sizes["num_classes"] = spec.num_classes if conditional else 0
    ends = _texts.has_end(spec)
    options = {**sizes, "ends": ends, "relaxation": relaxation}
    samples_layer = TextSampler(length, vocabulary, **options, name="samples")
    samples = samples_layer(*inputs)
    return keras.Model(inputs if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    representations: int = 16,
    embedding: int = 4,
    kernels: Sequence[int] = (2, 3, 4, 5),
    width: int = 64,
    hidden: int = 100,
) -> keras.Model:
    """Builds a discriminator from weights of tokens [and labels] to logits.

    Args:
        spec: texts as for the generator.
        conditional: if True, takes labels `(batch,)`; the inner product of the mean features and
            the label's embedding is added to each logit.
        representations: number of embeddings, each with a logit of its own.
        embedding: length of the vector of a token in each.
        kernels: taps of the convolutions, each at most the length of the texts.
        width: channels of each convolution, whose maxima over time are its features.
        hidden: units of the layer before the logits.

    Returns:
        Model to logits `(batch, representations)`.

    Raises:
        UsageError: data of another kind, or an option out of range.
    """
    length, _ = _texts.check_texts(spec, "text_lstm")
    sizes = {"representations": representations, "embedding": embedding}
    for name, value in (sizes | {"width": width, "hidden": hidden}).items():
        check_integer(name, value)
    _check_kernels(kernels, length)
    samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None
    x = layers.Dense(representations * embedding, use_bias=False, name="embeddings")(samples)
    x = layers.Reshape((length, representations, embedding), name="split")(x)
    x = layers.Permute((2, 1, 3), name="by_representation")(x)
    found = []
    for taps in kernels:  # the same convolution of each representation: a kernel of height 1
        y = layers.Conv2D(width, (1, taps), activation="relu", name=f"conv_{taps}")(x)
        y = layers.MaxPooling2D((1, length - taps + 1), name=f"maximum_{taps}")(y)
        found.append(layers.Reshape((representations, width), name=f"features_{taps}")(y))
    x = layers.Concatenate(name="features")(found) if len(found) > 1 else found[0]
    x = layers.Dense(hidden, activation="relu", name="hidden")(x)
    logits = layers.Dense(1, dtype="float32", name="logit")(x)
    logits = layers.Reshape((representations,), dtype="float32", name="logits")(logits)
    if conditional:
        mean = layers.GlobalAveragePooling1D(name="mean_features")(x)
        logits = _parts.projection(mean, logits, labels, spec)
    return keras.Model([samples, labels] if conditional else samples, logits, name="discriminator")


def _check_kernels(kernels: Sequence[int], length: int) -> None:
    """Checks the convolutions.

    Raises:
        UsageError: none, or one that is longer than the texts.
    """
    is_list = isinstance(kernels, Sequence) and not isinstance(kernels, str)
    valid = is_list and bool(kernels) and len({*kernels}) == len(kernels)
    if not valid or not all(is_integer(n) and 1 <= n <= length for n in kernels):
        raise UsageError(
            f"`kernels` must be different integers from 1 to the length of the texts, {length}. "
            f"Received: kernels={kernels!r}"
        )

"""Convolutional players after DCGAN: strided and transposed convolutions, for small images.

The generator maps the latents to the smallest resolution and doubles it stage by stage; the
discriminator halves it in mirror image and has no batch statistics, so that penalties on each
sample's gradient are sound.

Reference:
    - [Radford et al., 2015](https://arxiv.org/abs/1511.06434)
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.layers import Conv2D, Conv2DTranspose
from keras_gan.spec import Spec

WIDEST = 512


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 64,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    extra_convolutions: int = 0,
    norm: str = "batch",
    conditioning: str | None = None,
) -> keras.Model:
    """Latents `(batch, latent_dim)` [and labels `(batch,)`] to images in [-1, 1].

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels.
        latent_dim: length of a latent vector.
        width: channels at full resolution, 32 by default; each halving of it has twice as many,
            at most 512.
        widths: channels of every stage, from the smallest resolution to the full one, instead
            of `width` and `depth`.
        depth: how often the resolution doubles; by default until the smaller side is 4 to 7.
        extra_convolutions: 3 x 3 convolutions at the smallest resolution, from 0 up, before it
            doubles for the first time. There they cost least and decide what is drawn.
        norm: normalization of each stage, "batch", "layer" or "none".
        conditioning: how labels come in: "concatenation" (the default), an embedding joined to
            the latents, or "batch_norm", every stage's scale and shift
            (`ConditionalBatchNormalization`).

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    _parts.check_images(spec, "dcgan")
    widths = _parts.stage_widths(spec, width, widths, depth, WIDEST)
    _parts.check_label_option("conditioning", conditioning, conditional)
    conditioning = "concatenation" if conditioning is None else conditioning
    _parts.check_one_of("conditioning", conditioning, ("concatenation", "batch_norm"))
    by_class = conditional and conditioning == "batch_norm"
    _parts.check_norm(norm, by_class)
    _parts.check_count("extra_convolutions", extra_convolutions, least=0)

    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    classes = {"labels": labels if by_class else None, "num_classes": spec.num_classes}
    x = latents
    if conditional and not by_class:
        x = _parts.latents_and_label(latents, labels, spec, latent_dim)
    base = _parts.base_of(spec, len(widths) - 1, widths[0])
    units = base[0] * base[1] * base[2]
    x = layers.Dense(units, use_bias=norm == "none", name="project")(x)
    x = layers.Reshape(base, name="reshape")(x)
    x = _parts.normalized(x, norm, "stage_0_norm", **classes)
    x = layers.ReLU(name="stage_0_activation")(x)
    for i in range(1, extra_convolutions + 1):
        x = Conv2D(widths[0], 3, padding="same", use_bias=norm == "none", name=f"stage_0_conv_{i}")(
            x
        )
        x = _parts.normalized(x, norm, f"stage_0_conv_{i}_norm", **classes)
        x = layers.ReLU(name=f"stage_0_conv_{i}_activation")(x)
    for i, channels_out in enumerate(widths[1:], start=1):
        # A kernel that its stride divides covers every pixel equally often: no checkerboard.
        x = Conv2DTranspose(
            channels_out, 4, 2, "same", use_bias=norm == "none", name=f"stage_{i}_up"
        )(x)
        x = _parts.normalized(x, norm, f"stage_{i}_norm", **classes)
        x = layers.ReLU(name=f"stage_{i}_activation")(x)
    # float32 whatever the policy: samples leave the network at full precision.
    samples = Conv2D(
        spec.shape[-1], 3, padding="same", activation="tanh", dtype="float32", name="samples"
    )(x)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    extra_halvings: int = 0,
    norm: str = "none",
    conditioning: str | None = None,
) -> keras.Model:
    """Images in [-1, 1] [and labels `(batch,)`] to logits `(batch, 1)`.

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels.
        width: channels at full resolution, as for the generator: the first stage, at half of
            it, has twice as many, the next four times, at most 512.
        widths: channels of every stage of the generator that this one mirrors, from the
            smallest resolution to the full one, instead of `width` and `depth`. The last is not
            used: the first convolution halves the resolution.
        depth: how often the generator's resolution doubles; by default until the smaller side
            is 4 to 7.
        extra_halvings: stages beyond the mirrored ones, from 0 up, each a 3 x 3 convolution of
            stride 2, twice as wide as the one before (at most 512). Sides are rounded up: 28 x
            28 images leave the mirrored stages at 7 x 7 and one stage more at 4 x 4.
        norm: normalization of each stage but the first, "none", "layer" or "batch". Penalties
            on the gradient refuse "batch", in which samples of a batch meet.
        conditioning: how labels come in: "projection" (the default), the logit gains the inner
            product of the last features and the label's embedding (Miyato and Koyama, 2018,
            https://arxiv.org/abs/1802.05637), or "concatenation", a channel of the image that the
            class has learned.

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    _parts.check_images(spec, "dcgan")
    widths = _parts.stage_widths(spec, width, widths, depth, WIDEST)[::-1]
    _parts.check_label_option("conditioning", conditioning, conditional)
    conditioning = "projection" if conditioning is None else conditioning
    _parts.check_one_of("conditioning", conditioning, ("projection", "concatenation"))
    _parts.check_norm(norm)
    _parts.check_count("extra_halvings", extra_halvings, least=0)
    samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None
    x = samples
    if conditional and conditioning == "concatenation":
        x = _parts.image_and_label(samples, labels, spec)
    mirrored = len(widths) - 1
    for _ in range(extra_halvings):
        widths.append(min(2 * widths[-1], WIDEST))
    for i, channels_out in enumerate(widths[1:], start=1):
        # An odd side has a middle, and a kernel of 3 lies symmetrically around it.
        kernel = 4 if i <= mirrored else 3
        x = Conv2D(channels_out, kernel, 2, "same", name=f"stage_{i}_down")(x)
        if i > 1:
            x = _parts.normalized(x, norm, f"stage_{i}_norm")
        x = layers.LeakyReLU(0.2, name=f"stage_{i}_activation")(x)
    features = layers.Flatten(name="features")(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if conditional and conditioning == "projection":
        logits = _parts.projection(features, logits, labels, spec)
    return keras.Model([samples, labels] if conditional else samples, logits, name="discriminator")

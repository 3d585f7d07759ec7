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
import tensorflow as tf
from keras import layers

from keras_gan.errors import UsageError
from keras_gan.layers import Conv2D, Conv2DTranspose, GroupNormalization
from keras_gan.spec import Spec

NORMS = ("none", "batch", "layer")


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 64,
    width: int = 32,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    norm: str = "batch",
) -> keras.Model:
    """Latents `(batch, latent_dim)` [and labels `(batch,)`] to images in [-1, 1].

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels; their embedding is joined to the latents.
        latent_dim: length of a latent vector.
        width: channels at full resolution; each halving of it has twice as many, at most 512.
        widths: channels of every stage, from the smallest resolution to the full one, instead
            of `width` and `depth`.
        depth: how often the resolution doubles; by default until the smaller side is 4 to 7.
        norm: normalization of each stage, "batch", "layer" or "none".

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    widths = stage_widths(spec, width, widths, depth)
    _check_norm(norm)
    scale = 2 ** (len(widths) - 1)
    height, across, channels = spec.shape

    if latent_dim < 1:
        raise UsageError(f"latent_dim must be at least 1. Received: latent_dim={latent_dim}")
    latents = keras.Input((latent_dim,), name="latents")
    inputs, x = [latents], latents
    if conditional:
        labels = keras.Input((), dtype="int32", name="labels")
        inputs.append(labels)
        embedded = layers.Embedding(spec.num_classes, latent_dim, name="label_embedding")(labels)
        x = layers.Concatenate(name="latents_and_label")([latents, embedded])
    base = (height // scale, across // scale, widths[0])
    x = layers.Dense(base[0] * base[1] * base[2], use_bias=norm == "none", name="project")(x)
    x = layers.Reshape(base, name="reshape")(x)
    x = _normalized(x, norm, "stage_0")
    for i, channels_out in enumerate(widths[1:], start=1):
        # A kernel that its stride divides covers every pixel equally often: no checkerboard.
        x = Conv2DTranspose(
            channels_out, 4, 2, "same", use_bias=norm == "none", name=f"stage_{i}_up"
        )(x)
        x = _normalized(x, norm, f"stage_{i}")
    # float32 whatever the policy: samples leave the network at full precision.
    samples = layers.Conv2D(
        channels, 3, padding="same", activation="tanh", dtype="float32", name="samples"
    )(x)
    return keras.Model(inputs if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int = 32,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    norm: str = "none",
) -> keras.Model:
    """Images in [-1, 1] [and labels `(batch,)`] to logits `(batch, 1)`.

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels, by projection: the logit gains the inner product of
            the last features and the label's embedding (Miyato and Koyama, 2018,
            https://arxiv.org/abs/1802.05637).
        width: channels at full resolution, as for the generator: the first stage, at half of
            it, has twice as many, the next four times, at most 512.
        widths: channels of every stage of the generator that this one mirrors, from the
            smallest resolution to the full one, instead of `width` and `depth`. The last is not
            used: the first convolution halves the resolution.
        depth: how often the resolution is halved; by default until the smaller side is 4 to 7.
        norm: normalization of each stage but the first, "none", "layer" or "batch". Penalties
            on the gradient refuse "batch", in which samples of a batch meet.

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    widths = stage_widths(spec, width, widths, depth)[::-1]
    _check_norm(norm)
    samples = keras.Input(spec.shape, name="samples")
    x = samples
    for i, channels_out in enumerate(widths[1:], start=1):
        x = Conv2D(channels_out, 4, 2, "same", name=f"stage_{i}_down")(x)
        activation = layers.LeakyReLU(0.2, name=f"stage_{i}_activation")
        x = _normalized(x, norm if i > 1 else "none", f"stage_{i}", activation)
    features = layers.Flatten(name="features")(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if not conditional:
        return keras.Model(samples, logits, name="discriminator")
    labels = keras.Input((), dtype="int32", name="labels")
    size = features.shape[-1]
    embedded = layers.Embedding(spec.num_classes, size, name="label_embedding")(labels)
    agreement = layers.Dot(axes=1, dtype="float32", name="projection")([features, embedded])
    logits = layers.Add(dtype="float32", name="logits_of_label")([logits, agreement])
    return keras.Model([samples, labels], logits, name="discriminator")


def stage_widths(
    spec: Spec, width: int, widths: Sequence[int] | None, depth: int | None
) -> list[int]:
    """Channels of every stage from the smallest resolution to the full one.

    Raises:
        UsageError: the sides do not divide by `2**depth`, or widths and depth disagree.
    """
    if spec.kind != "image":
        raise UsageError(f"The architecture 'dcgan' makes images. Received: kind={spec.kind!r}")
    height, across, _ = spec.shape
    if widths is not None:
        if depth not in (None, len(widths) - 1) or len(widths) < 2:
            raise UsageError(
                "widths names every stage, one more than depth. "
                f"Received: widths={list(widths)}, depth={depth}"
            )
        depth = len(widths) - 1
    elif depth is None:
        depth = _default_depth(height, across)
    if depth < 1 or height % 2**depth or across % 2**depth:
        raise UsageError(
            f"Both sides of an image must divide by {2 ** max(depth, 0)} at depth={depth}. "
            f"Received: {height} x {across} (resize with --set data.size, or set a smaller depth)"
        )
    chosen = list(widths or (min(width * 2**i, 512) for i in reversed(range(depth + 1))))
    if not all(int(w) == w and w > 0 for w in chosen):
        raise UsageError(f"Widths must be whole numbers from 1 up. Received: {chosen}")
    return chosen


def _default_depth(height: int, across: int) -> int:
    """Halvings until the smaller side is under 8: at least the 2 that the family promises."""
    depth = 2
    while min(height, across) >> depth >= 8 and not (height | across) & (2 ** (depth + 1) - 1):
        depth += 1
    return depth


def _check_norm(norm: str) -> None:
    if norm not in NORMS:
        raise UsageError(f"norm must be one of {', '.join(NORMS)}. Received: norm={norm!r}")


def _normalized(x, norm: str, name: str, activation=None):
    if norm == "batch":
        # Over the whole batch, where it is divided among devices.
        several = tf.distribute.get_strategy().num_replicas_in_sync > 1
        x = layers.BatchNormalization(momentum=0.9, synchronized=several, name=f"{name}_norm")(x)
    elif norm == "layer":  # over height, width and channels of each sample
        x = GroupNormalization(groups=1, name=f"{name}_norm")(x)
    return (activation or layers.ReLU(name=f"{name}_activation"))(x)

"""Residual players of SNGAN for 32, 48 and 64 pixels, with spectral norm and self-attention.

The tables of the paper: by default the generator and the discriminator are those for the size of
the images, and every other size follows the nearest. Up to 32 pixels all widths are equal and the
discriminator halves twice, with two further blocks; above, widths double with each halving.

Reference:
    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), tables 4 and 5
    - [Miyato and Koyama, 2018](https://arxiv.org/abs/1802.05637), for classes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers import Conv2D, SelfAttention2D, SpectralNormalization, UpSampling2D
from keras_gan.spec import Spec

SMALL = 32  # smaller sides up to this have the table for 32 pixels
WIDEST = 1024


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 128,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    norm: str = "batch",
    spectral: bool = False,
    attention: int | None = None,
    conditioning: str | None = None,
) -> keras.Model:
    """Latents `(batch, latent_dim)` [and labels `(batch,)`] to images in [-1, 1].

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels.
        latent_dim: length of a latent vector.
        width: channels: up to 32 pixels of every stage, 256 by default; above of the full
            resolution, 64 by default, and twice as many at each halving, at most 1024.
        widths: channels of every stage, from the smallest resolution to the full one, instead
            of `width` and `depth`.
        depth: how often the resolution doubles; by default until the smaller side is 4 to 7.
        norm: normalization before each activation, "batch", "layer" or "none".
        spectral: whether every kernel is normalized by its largest singular value.
        attention: height in pixels of the features that self-attention is added to.
        conditioning: how labels come in: "batch_norm", the blocks' scales and shifts
            (`ConditionalBatchNormalization`), or "concatenation", an embedding joined to the
            latents; by default the former where `norm` is "batch".

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    _parts.check_images(spec, "resnet")
    _parts.check_width(width, widths)
    _parts.check_label_option("conditioning", conditioning, conditional)
    depth = _parts.depth_of(widths, depth, spec)
    widths = _stages(spec, width, depth) if widths is None else _parts.check_widths(widths)
    if conditioning is None:
        conditioning = "batch_norm" if norm == "batch" else "concatenation"
    _parts.check_one_of("conditioning", conditioning, ("batch_norm", "concatenation"))
    by_class = conditional and conditioning == "batch_norm"
    _parts.check_norm(norm, by_class)
    base = _parts.base_of(spec, depth, widths[0])
    _check_attention(attention, [base[0] * 2**i for i in range(depth + 1)])

    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    make = _Make(spec, norm, spectral, labels if by_class else None)
    x = latents
    if conditional and not by_class:
        x = _parts.latents_and_label(latents, labels, spec, latent_dim)
    x = make.dense(x, base[0] * base[1] * base[2], "project")
    x = make.attended(layers.Reshape(base, name="reshape")(x), attention)
    for i, channels_out in enumerate(widths[1:], start=1):
        x = make.attended(_up(make, x, channels_out, f"block_{i}"), attention)
    # The paper's last normalization is the same for all classes.
    x = _parts.normalized(x, norm, "last_norm")
    x = layers.ReLU(name="last_activation")(x)
    # float32 whatever the policy: samples leave the network at full precision.
    x = make.conv(x, spec.shape[-1], 3, "to_image", dtype="float32")
    samples = layers.Activation("tanh", dtype="float32", name="samples")(x)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    halvings: int | None = None,
    norm: str = "none",
    spectral: bool = True,
    attention: int | None = None,
    conditioning: str | None = None,
) -> keras.Model:
    """Images in [-1, 1] [and labels `(batch,)`] to logits `(batch, 1)`.

    Args:
        spec: images whose sides divide by `2**halvings`.
        conditional: whether it takes labels.
        width: channels: up to 32 pixels of each of the four blocks, 128 by default; above of the
            first of five (or more), 64 by default, and twice as many in each next, at most 1024.
        widths: channels of every block, from the last to the first, as the generator's go from
            the smallest resolution to the full one.
        halvings: how many of the first blocks halve the resolution; by default 2 up to 32 pixels,
            above until the smaller side is under 4, as often as the sides and blocks allow.
        norm: normalization before each activation, "none", "layer" or "batch". Penalties on the
            gradient refuse "batch", in which samples of a batch meet.
        spectral: whether every kernel is normalized by its largest singular value.
        attention: height in pixels of the features that self-attention is added to.
        conditioning: how labels come in: "projection" (the default), the logit gains the inner
            product of the last features and the label's embedding, or "concatenation", a channel
            of the image that the class has learned.

    Raises:
        UsageError: sides that do not divide, or options out of range.
    """
    _parts.check_images(spec, "resnet")
    _parts.check_width(width, widths)
    _parts.check_label_option("conditioning", conditioning, conditional)
    conditioning = "projection" if conditioning is None else conditioning
    small = min(spec.shape[:2]) <= SMALL
    blocks = 4 if small else max(5, _halvings(spec))
    if widths is None:
        width = (128 if small else 64) if width is None else width
        widths = [width] * blocks if small else _parts.doubling(width, blocks - 1, WIDEST)
    widths = _parts.check_widths(widths)[::-1]
    if halvings is None:
        halvings = min(2 if small else _halvings(spec), len(widths))
    _check_halvings(spec, halvings, len(widths))
    _parts.check_one_of("conditioning", conditioning, ("projection", "concatenation"))
    _parts.check_norm(norm)
    heights = [spec.shape[0] // 2 ** min(i, halvings) for i in range(1, len(widths) + 1)]
    _check_attention(attention, heights)

    samples = keras.Input(spec.shape, name="samples")
    labels = _parts.labels_input() if conditional else None
    make = _Make(spec, norm, spectral)
    x = samples
    if conditional and conditioning == "concatenation":
        x = _parts.image_and_label(samples, labels, spec)
    for i, channels_out in enumerate(widths, start=1):
        x = _down(make, x, channels_out, f"block_{i}", halves=i <= halvings, first=i == 1)
        if i == len(widths) or heights[i] != heights[i - 1]:  # after the last block of its height
            x = make.attended(x, attention)
    x = layers.ReLU(name="last_activation")(make.norm_of(x, "last_norm"))
    area = _parts.area(tuple(x.shape[1:3]))
    # The sum over all positions, by way of the mean, which no half precision overflows at.
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    features = layers.Rescaling(area, dtype="float32", name="features")(x)
    logits = make.dense(features, 1, "logits", dtype="float32")
    if conditional and conditioning == "projection":
        # Glorot's bounds, as of the kernels.
        logits = _parts.projection(features, logits, labels, spec, spectral, "glorot_uniform")
    return keras.Model([samples, labels] if conditional else samples, logits, name="discriminator")


# ------------------------------------------------------------------------ blocks


@dataclasses.dataclass(frozen=True)
class _Make:
    """Applies a player's layers, with its normalization of features and of kernels."""

    spec: Spec
    norm: str
    spectral: bool
    labels: Any = None  # of a player whose normalization is that of the class

    def conv(self, x, filters: int, side: int, name: str, gain: float = 1.0, dtype: Any = None):
        """A convolution with bias; its outputs' deviation is `gain` of Glorot's."""
        kernel: Any = keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")
        layer = Conv2D(
            filters, side, padding="same", kernel_initializer=kernel, name=name, dtype=dtype
        )
        return self._normalized(layer)(x)

    def dense(self, x, units: int, name: str, dtype: Any = None):
        return self._normalized(layers.Dense(units, name=name, dtype=dtype))(x)

    def attended(self, x, attention: int | None):
        if x.shape[1] != attention:
            return x
        return SelfAttention2D(spectral=self.spectral, name="attention")(x)

    def norm_of(self, x, name: str):
        return _parts.normalized(x, self.norm, name, self.labels, self.spec.num_classes)

    def _normalized(self, layer) -> Any:
        return SpectralNormalization(layer, name=layer.name) if self.spectral else layer


_RESIDUAL_GAIN = 2**0.5  # of the two convolutions on the long way


def _up(make: _Make, inputs, channels: int, name: str):
    """Norm, ReLU, double, convolve, norm, ReLU, convolve; and a short way of one pixel's kernel."""
    x = layers.ReLU(name=f"{name}_activation_1")(make.norm_of(inputs, f"{name}_norm_1"))
    x = UpSampling2D(name=f"{name}_up")(x)
    x = make.conv(x, channels, 3, f"{name}_conv_1", _RESIDUAL_GAIN)
    x = layers.ReLU(name=f"{name}_activation_2")(make.norm_of(x, f"{name}_norm_2"))
    x = make.conv(x, channels, 3, f"{name}_conv_2", _RESIDUAL_GAIN)
    # Doubled after the convolution, which is the same at a quarter of the price.
    short = make.conv(inputs, channels, 1, f"{name}_short")
    short = UpSampling2D(name=f"{name}_short_up")(short)
    return layers.Add(name=name)([x, short])


def _down(make: _Make, inputs, channels: int, name: str, halves: bool, first: bool):
    """ReLU, convolve, ReLU, convolve, and average where it halves; the first begins without ReLU.

    The convolutions between have as many channels as come in, those of the first as leave.
    """
    x, between = inputs, inputs.shape[-1]
    if first:
        between = channels
    else:
        x = layers.ReLU(name=f"{name}_activation_1")(make.norm_of(x, f"{name}_norm_1"))
    x = make.conv(x, between, 3, f"{name}_conv_1", _RESIDUAL_GAIN)
    x = layers.ReLU(name=f"{name}_activation_2")(make.norm_of(x, f"{name}_norm_2"))
    x = make.conv(x, channels, 3, f"{name}_conv_2", _RESIDUAL_GAIN)
    short = inputs
    if halves:
        x = layers.AveragePooling2D(2, name=f"{name}_down")(x)
        # Halved before the convolution, which is the same at a quarter of the price.
        short = layers.AveragePooling2D(2, name=f"{name}_short_down")(short)
    if first or halves or inputs.shape[-1] != channels:
        short = make.conv(short, channels, 1, f"{name}_short")
    return layers.Add(name=name)([x, short])


# ------------------------------------------------------------------------ sizes


def _stages(spec: Spec, width: int | None, depth: int) -> list[int]:
    """Channels of the generator's stages from the smallest resolution to the full one."""
    if min(spec.shape[:2]) <= SMALL:
        return [256 if width is None else width] * (depth + 1)
    return _parts.doubling(64 if width is None else width, depth, WIDEST)


def _halvings(spec: Spec) -> int:
    """How often the sides can be halved until the smaller one is under 4."""
    height, across = spec.shape[:2]
    count = 0
    while min(height, across) >> count >= 4 and not (height | across) & (2 ** (count + 1) - 1):
        count += 1
    return count


def _check_halvings(spec: Spec, halvings: int, blocks: int) -> None:
    if not _parts.is_whole(halvings) or halvings > blocks:
        raise UsageError(
            f"halvings must be a whole number from 1 to the number of blocks, {blocks}. "
            f"Received: halvings={halvings!r}"
        )
    height, across = spec.shape[:2]
    if height % 2**halvings or across % 2**halvings:
        raise UsageError(
            f"Both sides of an image must divide by {2**halvings} at halvings={halvings}. "
            f"Received: {height} x {across} (resize with --set data.size, or set fewer halvings)"
        )


def _check_attention(attention: int | None, heights: Sequence[int]) -> None:
    if attention is not None and not (_parts.is_whole(attention) and attention in heights):
        raise UsageError(
            "attention must be a height that the features have, one of "
            f"{', '.join(str(h) for h in sorted(set(heights)))}. Received: attention={attention!r}"
        )

"""Residual networks of SNGAN for 32, 48 and 64 pixels, with spectral norm and self-attention.

The defaults are the paper's tables for the size of the images; other sizes follow the nearest
table. Up to 32 pixels, all widths are equal and the discriminator halves the resolution twice,
followed by two further blocks. Above, the widths double with each halving.

Reference:
    - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), tables 4 and 5
    - [Miyato and Koyama, 2018](https://arxiv.org/abs/1802.05637), for classes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers import (
    BlurUpsample2D,
    Conv2D,
    SelfAttention2D,
    SpectralNormalization,
    UpConv2D,
    UpSampling2D,
)
from keras_gan.spec import Spec

also_called = ("sngan",)
SMALL_SIZE = 32  # up to this smaller of height and width, the table for 32 pixels applies
MAX_WIDTH = 1024
_USES = ("projection", "concatenation")  # of the labels in the discriminator


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
    shortcut: str = "nearest",
    output: str = "tanh",
    conditioning: str | None = None,
    codes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels] to images in [-1, 1].

    Args:
        spec: images whose height and width are divisible by `2**depth`.
        conditional: if True, takes labels `(batch,)`.
        latent_dim: length of a latent vector.
        width: channels. Up to 32 pixels: of each stage, 256 by default. Above: at full
            resolution, 64 by default; each halving doubles them, up to 1024.
        widths: channels of each stage, from the lowest resolution to the full one, instead of
            `width` and `depth`.
        depth: number of resolution doublings; by default, until the smaller of height and width
            is 4 to 7.
        norm: normalization before each activation, "batch", "layer" or "none".
        spectral: if True, applies spectral normalization to each kernel.
        attention: height in pixels of the features with self-attention.
        shortcut: upsampling of the blocks' shortcuts, "nearest" as in the paper, or "blurred" by
            [1, 3, 3, 1], which avoids blocky images in short trainings.
        output: "tanh" as in the paper, or "clipped", which reaches -1 and 1 exactly.
        conditioning: use of the labels: "batch_norm", a scale and shift for each class in the
            blocks (`ConditionalBatchNormalization`), the default if `norm` is "batch"; or
            "concatenation", an embedding concatenated to the latents.
        codes: as of `dcgan.generator`.

    Raises:
        UsageError: the height or width is not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "resnet")
    _parts.check_width(width, widths)
    depth = _parts.choose_depth(widths, depth, spec)
    widths = _stage_widths(spec, width, depth) if widths is None else _parts.check_widths(widths)
    per_class = _has_class_norm(conditioning, conditional, norm)
    _parts.check_one_of("shortcut", shortcut, tuple(_SHORTCUTS))
    _parts.check_one_of("output", output, tuple(_OUTPUTS))
    base = _parts.base_shape(spec, depth, widths[0])
    _check_attention(attention, [base[0] * 2**i for i in range(depth + 1)])

    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    builder = _Builder(spec, norm, spectral, attention, labels if per_class else None, shortcut)
    concatenated = conditional and not per_class
    x = _parts.with_codes(latents, codes)
    x = _parts.latents_and_label(x, labels, spec, latent_dim) if concatenated else x
    image = _bounded(_upsample(builder, x, base, widths), output, _parts.image_name(data))
    samples = _parts.to_samples(image, data)
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
    auxiliary_classes: bool | str = False,
    codes: Mapping[str, Any] | None = None,
    classes_as_logits: bool = False,
) -> keras.Model:
    """Builds a discriminator from images in [-1, 1] [and labels] to logits `(batch, 1)`.

    Args:
        spec: images whose height and width are divisible by `2**halvings`.
        conditional: if True, takes labels `(batch,)`.
        width: channels. Up to 32 pixels: of each of the four blocks, 128 by default. Above: of the
            first of five (or more) blocks, 64 by default; each block doubles them, up to 1024.
        widths: channels of each block, from the last to the first, as the generator's go from the
            lowest resolution to the full one.
        halvings: number of blocks, from the first on, that halve the resolution; by default 2 up to
            32 pixels; above, until the smaller of height and width is under 4, as often as the
            size and the number of blocks allow.
        norm: normalization before each activation, "none", "layer" or "batch". Gradient penalties
            reject "batch", which couples the samples of a batch.
        spectral: if True, applies spectral normalization to each kernel.
        attention: height in pixels of the features with self-attention.
        conditioning: "projection" (the default) or "concatenation", as of `dcgan.discriminator`.
        auxiliary_classes: as of `dcgan.discriminator`.
        codes: as of `dcgan.discriminator`.
        classes_as_logits: as of `dcgan.discriminator`.

    Raises:
        UsageError: the height or width is not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "resnet")
    heads = {"auxiliary_classes": auxiliary_classes, "codes": codes}
    _parts.check_classes_as_logits(classes_as_logits, spec, conditional, **heads)
    widths = _block_widths(spec, width, widths)
    conditioning = _parts.choose_conditioning(conditioning, conditional, _USES, _USES[0])
    halvings = _choose_halvings(spec, halvings, len(widths))
    _parts.check_norm(norm)
    _check_attention(attention, _block_heights(spec, halvings, len(widths)))

    samples, x = _parts.image_input(data)
    labels = _parts.labels_input() if conditional else None
    builder = _Builder(spec, norm, spectral, attention)
    if conditional and conditioning == "concatenation":
        x = _parts.image_and_label(x, labels, spec)
    features = _sum_positions(_downsample(builder, x, widths, halvings))
    if classes_as_logits:
        outputs: Any = _parts.classes_as_logits(features, spec, builder.classes())
    else:
        logits = _logits(builder, features, labels if conditioning == "projection" else None)
        outputs = _parts.outputs_with_classes(features, logits, spec, auxiliary_classes)
        outputs = _parts.outputs_with_codes(features, outputs, codes)
    return keras.Model([samples, labels] if conditional else samples, outputs, name="discriminator")


def _has_class_norm(conditioning: str | None, conditional: bool, norm: str) -> bool:
    """Checks a generator's conditioning and norm; returns True for a norm of each class."""
    valid = ("batch_norm", "concatenation")
    default = "batch_norm" if norm == "batch" else "concatenation"
    conditioning = _parts.choose_conditioning(conditioning, conditional, valid, default)
    per_class = conditional and conditioning == "batch_norm"
    (_parts.check_class_norm if per_class else _parts.check_norm)(norm)
    return per_class


def _logits(builder: _Builder, features, labels):
    """Returns the logits, with the projection on the labels if they are given."""
    logits = builder.dense(features, 1, "logits", dtype="float32")
    if labels is None:
        return logits
    # The embedding has Glorot's bounds, like the kernels.
    options = builder.spec, builder.spectral, "glorot_uniform"
    return _parts.projection(features, logits, labels, *options)


# ------------------------------------------------------------------------ blocks


@dataclasses.dataclass(frozen=True)
class _Builder:
    """Applies layers with a network's normalization of features and of kernels."""

    spec: Spec
    norm: str
    spectral: bool
    attention: int | None
    labels: Any = None  # for class-conditional normalization, else None
    shortcut: str = "nearest"  # upsampling

    def conv(self, x, filters: int, size: int, name: str, gain: float = 1.0, dtype: Any = None):
        """Applies a convolution with bias; its initial deviation is `gain` times Glorot's."""
        options = {"padding": "same", "name": name, "dtype": dtype}
        layer = Conv2D(filters, size, kernel_initializer=_glorot(gain), **options)
        return self._normalize_kernel(layer)(x)

    def up_conv(self, x, filters: int, name: str, gain: float):
        """Doubles the resolution, and applies a 3 x 3 convolution as `conv` does."""
        layer = UpConv2D(filters, kernel_initializer=_glorot(gain), name=name)
        return self._normalize_kernel(layer)(x)

    def dense(self, x, units: int, name: str, dtype: Any = None):
        return self._normalize_kernel(layers.Dense(units, name=name, dtype=dtype))(x)

    def classes(self) -> Any:
        """Returns a layer from features to logits over the classes, named `classes`."""
        layer = layers.Dense(self.spec.num_classes, dtype="float32", name="classes")
        return self._normalize_kernel(layer)

    def attend(self, x):
        """Applies self-attention to features of the height that was chosen for it."""
        if x.shape[1] != self.attention:
            return x
        return SelfAttention2D(spectral=self.spectral, name="attention")(x)

    def normalize(self, x, name: str):
        return _parts.normalize(x, self.norm, name, self.labels, self.spec.num_classes)

    def _normalize_kernel(self, layer) -> Any:
        return SpectralNormalization(layer, name=layer.name) if self.spectral else layer


def _glorot(gain: float) -> Any:
    return keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")


_OUTPUTS = {"tanh": "tanh", "clipped": "hard_tanh"}
_SHORTCUTS = {"nearest": UpSampling2D, "blurred": BlurUpsample2D}
_RESIDUAL_GAIN = 2**0.5  # of the two 3 x 3 convolutions of a block


def _upsample(builder: _Builder, x, base: tuple[int, int, int], widths: Sequence[int]):
    """Builds the generator's layers from a vector to images without bounds, in float32."""
    x = builder.dense(x, base[0] * base[1] * base[2], "project")
    x = builder.attend(layers.Reshape(base, name="reshape")(x))
    for i, channels in enumerate(widths[1:], start=1):
        x = builder.attend(_up_block(builder, x, channels, f"block_{i}"))
    # The paper's last normalization is not class-conditional.
    x = _parts.normalize(x, builder.norm, "last_norm")
    x = layers.ReLU(name="last_activation")(x)
    return builder.conv(x, builder.spec.shape[-1], 3, "to_image", dtype="float32")


def _bounded(image, output: str, name: str):
    # Samples are float32 under every policy, so that they have full precision.
    return layers.Activation(_OUTPUTS[output], dtype="float32", name=name)(image)


def _up_block(builder: _Builder, inputs, channels: int, name: str):
    """Norm, ReLU, upsampling, 3x3, norm, ReLU, 3x3; added to a 1x1 convolution of the inputs."""
    x = layers.ReLU(name=f"{name}_activation_1")(builder.normalize(inputs, f"{name}_norm_1"))
    x = builder.up_conv(x, channels, f"{name}_conv_1", _RESIDUAL_GAIN)
    x = layers.ReLU(name=f"{name}_activation_2")(builder.normalize(x, f"{name}_norm_2"))
    x = builder.conv(x, channels, 3, f"{name}_conv_2", _RESIDUAL_GAIN)
    # A 1x1 convolution and upsampling commute; before upsampling it costs a quarter.
    short = builder.conv(inputs, channels, 1, f"{name}_short")
    short = _SHORTCUTS[builder.shortcut](name=f"{name}_short_up")(short)
    return layers.Add(name=name)([x, short])


def _downsample(builder: _Builder, x, widths: Sequence[int], halvings: int):
    """Builds the discriminator's blocks from images to the last activation."""
    heights = _block_heights(builder.spec, halvings, len(widths))
    for i, channels in enumerate(widths, start=1):
        block = _first_block if i == 1 else _down_block if i <= halvings else _plain_block
        x = block(builder, x, channels, f"block_{i}")
        if i == len(widths) or heights[i] != heights[i - 1]:  # the last block of its height
            x = builder.attend(x)
    return layers.ReLU(name="last_activation")(builder.normalize(x, "last_norm"))


def _first_block(builder: _Builder, inputs, channels: int, name: str):
    """3x3, norm, ReLU, 3x3, average pooling; added to a pooled 1x1 convolution of the inputs."""
    x = builder.conv(inputs, channels, 3, f"{name}_conv_1", _RESIDUAL_GAIN)
    x = _second_convolution(builder, x, channels, name)
    return _add_pooled(builder, inputs, x, channels, name)


def _down_block(builder: _Builder, inputs, channels: int, name: str):
    """Norm, ReLU, 3x3, norm, ReLU, 3x3, average pooling; added to a pooled 1x1 convolution."""
    x = _first_convolution(builder, inputs, name)
    x = _second_convolution(builder, x, channels, name)
    return _add_pooled(builder, inputs, x, channels, name)


def _plain_block(builder: _Builder, inputs, channels: int, name: str):
    """Norm, ReLU, 3x3, norm, ReLU, 3x3; added to the inputs, with a 1x1 where widths differ."""
    x = _first_convolution(builder, inputs, name)
    x = _second_convolution(builder, x, channels, name)
    short = inputs
    if inputs.shape[-1] != channels:
        short = builder.conv(short, channels, 1, f"{name}_short")
    return layers.Add(name=name)([x, short])


def _first_convolution(builder: _Builder, x, name: str):
    x = layers.ReLU(name=f"{name}_activation_1")(builder.normalize(x, f"{name}_norm_1"))
    return builder.conv(x, x.shape[-1], 3, f"{name}_conv_1", _RESIDUAL_GAIN)


def _second_convolution(builder: _Builder, x, channels: int, name: str):
    x = layers.ReLU(name=f"{name}_activation_2")(builder.normalize(x, f"{name}_norm_2"))
    return builder.conv(x, channels, 3, f"{name}_conv_2", _RESIDUAL_GAIN)


def _add_pooled(builder: _Builder, inputs, x, channels: int, name: str):
    x = layers.AveragePooling2D(2, name=f"{name}_down")(x)
    # A 1x1 convolution and average pooling commute; after pooling it costs a quarter.
    short = layers.AveragePooling2D(2, name=f"{name}_short_down")(inputs)
    short = builder.conv(short, channels, 1, f"{name}_short")
    return layers.Add(name=name)([x, short])


def _sum_positions(x):
    # The sum is computed as the mean times the area, so that half precision does not overflow.
    area = _parts.area(tuple(x.shape[1:3]))
    x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    return layers.Rescaling(area, dtype="float32", name="features")(x)


# ------------------------------------------------------------------------ sizes


def _is_small(spec: Spec) -> bool:
    return min(spec.shape[:2]) <= SMALL_SIZE


def _stage_widths(spec: Spec, width: int | None, depth: int) -> list[int]:
    """Returns the channels of the generator's stages, from the lowest resolution to the full."""
    if _is_small(spec):
        return [256 if width is None else width] * (depth + 1)
    return _parts.doubling_widths(64 if width is None else width, depth, MAX_WIDTH)


def _block_widths(spec: Spec, width: int | None, widths: Sequence[int] | None) -> list[int]:
    """Returns the channels of the discriminator's blocks, from the first to the last."""
    _parts.check_width(width, widths)
    if widths is not None:
        return _parts.check_widths(widths)[::-1]
    if _is_small(spec):
        return [128 if width is None else width] * 4
    blocks = max(5, _possible_halvings(spec))
    return _parts.doubling_widths(64 if width is None else width, blocks - 1, MAX_WIDTH)[::-1]


def _block_heights(spec: Spec, halvings: int, blocks: int) -> list[int]:
    """Returns the height of the features after each block."""
    return [spec.shape[0] // 2 ** min(i, halvings) for i in range(1, blocks + 1)]


def _possible_halvings(spec: Spec) -> int:
    """Returns the number of halvings until the smaller of height and width is under 4."""
    height, width = spec.shape[:2]
    count = 0
    while min(height, width) >> count >= 4 and not (height | width) & (2 ** (count + 1) - 1):
        count += 1
    return count


def _choose_halvings(spec: Spec, halvings: int | None, blocks: int) -> int:
    if halvings is None:
        halvings = min(2 if _is_small(spec) else _possible_halvings(spec), blocks)
    if not _parts.is_integer(halvings) or halvings > blocks:
        raise UsageError(
            f"`halvings` must be an integer from 1 to the number of blocks, {blocks}. "
            f"Received: halvings={halvings!r}"
        )
    _parts.check_divisible(spec, "halvings", halvings)
    return halvings


def _check_attention(attention: int | None, heights: Sequence[int]) -> None:
    if attention is not None and not (_parts.is_integer(attention) and attention in heights):
        raise UsageError(
            "`attention` must be the height of some features, one of "
            f"{', '.join(str(h) for h in sorted(set(heights)))}. Received: attention={attention!r}"
        )

"""Residual networks of R3GAN: grouped bottlenecks without normalization, for R1 and R2 penalties.

Residual blocks have C -> 2C -> 2C (grouped) -> C channels, and their last kernel is initialized
with zeros. Between the resolutions, features are resampled by the filter [1, 3, 3, 1] with zero
padding. The generator starts with a learned pattern for each channel; the discriminator ends with
one. Implemented from the paper's description and the published sizes.

Reference:
    - [Huang et al., 2025](https://arxiv.org/abs/2501.05441)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers import Basis2D, BlurPool2D, BlurUpsample2D, Conv2D
from keras_gan.spec import Spec

SLOPE = 0.2  # of the leaky ReLU
GROUP_SIZE = 16  # channels of a group, as in all presets but one
MAX_WIDTH = 768


class Preset(NamedTuple):
    """Image sizes of a preset; its widths and groups, from the lowest resolution to the full."""

    sizes: tuple[int, ...]
    widths: list[int]
    cardinalities: list[int]


# The published networks, and two more that are small enough to train on a CPU.
PRESETS: dict[str, Preset] = {
    "cifar10": Preset((32,), [768] * 4, [96] * 4),
    "ffhq-64": Preset((64,), [*[768] * 4, 384], [*[96] * 4, 48]),
    "ffhq-256": Preset((256,), [*[768] * 4, 384, 192, 96], [*[96] * 4, 48, 24, 12]),
    "imagenet-32": Preset((32,), [1536] * 4, [96] * 4),
    "imagenet-64": Preset((64,), [1536] * 5, [96] * 5),
    "cpu": Preset((28, 32), [128, 64, 32], [16, 8, 4]),
    "cpu-small": Preset((28, 32), [64, 48, 32], [8, 6, 4]),
}

# The published filter: [1, 2, 1] after [1, 1]. It is centered between two pixels, so that
# resampling commutes with mirroring.
FILTER = (1, 3, 3, 1)


def generator(
    spec: Spec,
    conditional: bool = False,
    latent_dim: int = 64,
    preset: str | None = None,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    cardinalities: Sequence[int] | None = None,
    depth: int | None = None,
    blocks_per_stage: int = 2,
    expansion: int = 2,
    codes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels] to unbounded images.

    Args:
        spec: images whose height and width are divisible by `2**depth`.
        conditional: if True, takes labels `(batch,)`; their embedding is concatenated to the
            latents.
        latent_dim: length of a latent vector.
        preset: widths and cardinalities of a published network: "cifar10", "ffhq-64", "ffhq-256",
            "imagenet-32" or "imagenet-64", for images of that size; or of a small one for images
            of 28 or 32 pixels on a CPU: "cpu" (128, 64 and 32 channels) or "cpu-small" (64, 48
            and 32).
        width: channels at full resolution, 32 by default; each halving doubles them, up to 768.
        widths: channels of each stage, from the lowest resolution to the full one, instead of
            `width` and `depth`.
        cardinalities: groups of each stage's grouped convolution; by default groups of 16
            channels, or one group where 16 does not divide them.
        depth: number of resolution doublings; by default, until the smaller of height and width
            is 4 to 7.
        blocks_per_stage: residual blocks at each resolution.
        expansion: channels within a block, as a multiple of its width.
        codes: as of `dcgan.generator`.

    Raises:
        UsageError: height, width or channels are not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "r3gan")
    stages = _stages(spec, preset, width, widths, cardinalities, depth, blocks_per_stage, expansion)
    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    x = _parts.with_codes(latents, codes)
    if conditional:
        # Initialized as a linear layer on the label's one-hot vector: N(0, 1 / fan_in).
        x = _parts.latents_and_label(
            x, labels, spec, latent_dim, _normal_of(1 / math.sqrt(spec.num_classes))
        )
    x = stages.upsample(_project(x, spec, stages.widths))
    samples = _parts.to_samples(_to_images(x, spec.shape[-1], _parts.image_name(data)), data)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


def discriminator(
    spec: Spec,
    conditional: bool = False,
    preset: str | None = None,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    cardinalities: Sequence[int] | None = None,
    depth: int | None = None,
    blocks_per_stage: int = 2,
    expansion: int = 2,
    embedding_dim: int | None = None,
    auxiliary_classes: bool | str = False,
    codes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Builds a discriminator from images [and labels] to logits `(batch, 1)`.

    It is the generator's mirror image.

    Args:
        spec: images whose height and width are divisible by `2**depth`.
        conditional: if True, takes labels `(batch,)`: the logit is then the inner product of the
            last features and the label's embedding.
        preset: as for the generator.
        width: as for the generator.
        widths: as for the generator, from the lowest resolution to the full one.
        cardinalities: as for the generator.
        depth: number of resolution halvings; by default, until the smaller of height and width
            is 4 to 7.
        blocks_per_stage: residual blocks at each resolution.
        expansion: channels within a block, as a multiple of its width.
        embedding_dim: length of the label's embedding; by default, the number of channels at the
            lowest resolution.
        auxiliary_classes: as of `dcgan.discriminator`.
        codes: as of `dcgan.discriminator`.

    Raises:
        UsageError: height, width or channels are not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "r3gan")
    stages = _stages(spec, preset, width, widths, cardinalities, depth, blocks_per_stage, expansion)
    _parts.check_label_option("embedding_dim", embedding_dim, conditional)
    embedding_dim = stages.widths[0] if embedding_dim is None else embedding_dim
    _parts.check_integer("embedding_dim", embedding_dim)
    samples, image = _parts.image_input(data)
    features = _features(stages.downsample(_conv(image, stages.widths[-1], "from_image")))
    labels = _parts.labels_input() if conditional else None
    if conditional:
        logits = _class_logits(features, labels, spec, embedding_dim)
    else:
        logits = _linear(features, 1, "logits")
    outputs = _parts.outputs_with_classes(features, logits, spec, auxiliary_classes)
    outputs = _parts.outputs_with_codes(features, outputs, codes)
    return keras.Model([samples, labels] if conditional else samples, outputs, name="discriminator")


# ------------------------------------------------------------------------ first and last layers


def _class_logits(features, labels, spec: Spec, embedding_dim: int):
    """Returns the inner product of the features and the label's embedding."""
    x = _linear(features, embedding_dim, "class_features")
    # A linear layer on the one-hot vector, at gain 1 / sqrt(embedding_dim).
    initializer = _normal_of(1 / math.sqrt(embedding_dim * spec.num_classes))
    embedded = _parts.label_embedding(spec, embedding_dim, initializer)(labels)
    return layers.Dot(axes=1, dtype="float32", name="logits")([x, embedded])


def _project(x, spec: Spec, widths: Sequence[int]):
    """Maps a vector to the lowest resolution: a linear layer and learned patterns."""
    height, width, channels = _parts.base_shape(spec, len(widths) - 1, widths[0])
    # The lowest resolution is float32 under every policy, like samples and logits: it costs
    # little, and everything after it depends on it.
    x = _linear(x, channels, "project")
    return Basis2D(height, width, dtype="float32", name="basis")(x)


def _to_images(x, channels: int, name: str):
    # Samples are float32 under every policy, so that they have full precision.
    return layers.Conv2D(
        channels,
        1,
        use_bias=False,
        kernel_initializer=_normal(),
        dtype="float32",
        name=name,
    )(x)


def _features(x):
    """Maps the lowest resolution to a vector, by a learned pattern for each channel."""
    x = layers.DepthwiseConv2D(
        x.shape[1:3],
        use_bias=False,
        depthwise_initializer=_normal_of_area(x),
        dtype="float32",
        name="head",
    )(x)
    return layers.Flatten(dtype="float32", name="features")(x)


def _linear(x, units: int, name: str):
    return layers.Dense(
        units, use_bias=False, kernel_initializer=_normal(), dtype="float32", name=name
    )(x)


# ------------------------------------------------------------------------ stages and blocks


@dataclasses.dataclass(frozen=True)
class _Stages:
    """Residual stages, with widths and groups from the lowest resolution to the full one."""

    widths: list[int]
    cardinalities: list[int]
    blocks_per_stage: int
    expansion: int

    def upsample(self, x):
        for i, channels in enumerate(self.widths):
            if i > 0:
                x = _change_width(x, channels, f"stage_{i}_widths")
                x = BlurUpsample2D(FILTER, "zero", name=f"stage_{i}_up")(x)
            x = self._stage(x, i)
        return x

    def downsample(self, x):
        for i in reversed(range(len(self.widths))):
            x = self._stage(x, i)
            if i > 0:
                x = BlurPool2D(FILTER, "zero", name=f"stage_{i}_down")(x)
                x = _change_width(x, self.widths[i - 1], f"stage_{i}_widths")
        return x

    def _stage(self, x, stage: int):
        for i in range(self.blocks_per_stage):
            x = self._block(x, self.cardinalities[stage], f"stage_{stage}_block_{i}")
        return x

    def _block(self, inputs, groups: int, name: str):
        """1x1, leaky ReLU, grouped 3x3, leaky ReLU, 1x1 of zeros; added to the inputs."""
        hidden = self.expansion * inputs.shape[-1]
        total = self.blocks_per_stage * len(self.widths)
        # Fixup's gain of the first two of a block's three layers; the last is initialized to 0.
        gain = math.sqrt(2 / (1 + SLOPE**2)) * total ** (-1 / (2 * 3 - 2))
        x = _conv(inputs, hidden, f"{name}_in", gain, use_bias=True)
        x = layers.LeakyReLU(SLOPE, name=f"{name}_activation_1")(x)
        x = Conv2D(
            hidden,
            3,
            padding="same",
            groups=groups,
            kernel_initializer=_normal(gain),
            name=f"{name}_groups",
        )(x)
        x = layers.LeakyReLU(SLOPE, name=f"{name}_activation_2")(x)
        x = _conv(x, inputs.shape[-1], f"{name}_out", gain=0.0)
        return layers.Add(name=name)([inputs, x])


def _stages(
    spec: Spec,
    preset: str | None,
    width: int | None,
    widths: Sequence[int] | None,
    cardinalities: Sequence[int] | None,
    depth: int | None,
    blocks_per_stage: int,
    expansion: int,
) -> _Stages:
    """Returns the stages that a network's options describe, or raises a `UsageError`."""
    _parts.check_integer("blocks_per_stage", blocks_per_stage)
    _parts.check_integer("expansion", expansion)
    if preset is not None:
        _check_preset(spec, preset, width, widths, cardinalities)
        _, widths, cardinalities = PRESETS[preset]
    widths = _parts.stage_widths(spec, width, widths, depth, MAX_WIDTH)
    hidden = [expansion * w for w in widths]
    if cardinalities is None:
        cardinalities = [1 if h % GROUP_SIZE else h // GROUP_SIZE for h in hidden]
    _check_cardinalities(cardinalities, hidden)
    return _Stages(widths, list(cardinalities), blocks_per_stage, expansion)


def _check_preset(
    spec: Spec,
    preset: str,
    width: int | None,
    widths: Sequence[int] | None,
    cardinalities: Sequence[int] | None,
) -> None:
    _parts.check_one_of("preset", preset, tuple(PRESETS))
    others = {"width": width, "widths": widths, "cardinalities": cardinalities}
    given = [f"{name}={value}" for name, value in others.items() if value is not None]
    if given:
        raise UsageError(
            "`preset` sets widths and cardinalities: set it or the other options to null. "
            f"Received: preset={preset!r}, {', '.join(given)}"
        )
    height, image_width = spec.shape[:2]
    if height != image_width or height not in PRESETS[preset].sizes:
        sizes = " or ".join(f"{size} x {size}" for size in PRESETS[preset].sizes)
        raise UsageError(
            f"The preset {preset!r} is for images of {sizes} (resize with --set data.size, or set "
            f"`width` instead). Received: {height} x {image_width}"
        )


def _check_cardinalities(cardinalities: Sequence[int], hidden: Sequence[int]) -> None:
    if not isinstance(cardinalities, Sequence) or len(cardinalities) != len(hidden):
        raise UsageError(
            f"`cardinalities` must have one entry for each of the {len(hidden)} stages. "
            f"Received: cardinalities={cardinalities!r}"
        )
    for groups, channels in zip(cardinalities, hidden, strict=True):
        if not _parts.is_integer(groups) or channels % groups:
            raise UsageError(
                "A stage's cardinality must divide its width times the expansion. "
                f"Received: cardinality {groups!r} for {channels} channels"
            )


def _change_width(x, channels: int, name: str):
    """Applies a 1x1 convolution if the number of channels changes."""
    return x if x.shape[-1] == channels else _conv(x, channels, name)


def _conv(x, filters: int, name: str, gain: float = 1.0, use_bias: bool = False):
    return layers.Conv2D(
        filters, 1, use_bias=use_bias, kernel_initializer=_normal(gain), name=name
    )(x)


# ------------------------------------------------------------------------ initial weights


def _normal(gain: float = 1.0) -> Any:
    """Returns the initializer N(0, gain^2 / fan_in), fan_in of a group; zeros for gain 0."""
    if gain == 0:
        return "zeros"
    return keras.initializers.VarianceScaling(gain**2, "fan_in", "untruncated_normal")


def _normal_of(deviation: float) -> Any:
    return keras.initializers.RandomNormal(stddev=deviation)


def _normal_of_area(x) -> Any:
    """Returns the initializer of a depthwise kernel, whose fan_in is its area."""
    return _normal_of(1 / math.sqrt(_parts.area(tuple(x.shape[1:3]))))

"""Residual players of R3GAN: grouped bottlenecks without normalization, for penalties R1 and R2.

Blocks of C -> 2C -> 2C in groups -> C channels are added to what comes in, and begin as nothing;
between the resolutions the image is interpolated, with [1, 3, 3, 1] and nothing beyond the border.
The generator begins with a learned pattern for each channel, the discriminator ends with one.

Made from the paper's description and the published sizes.

Reference:
    - [Huang et al., 2025](https://arxiv.org/abs/2501.05441)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers import Basis2D, BlurPool2D, BlurUpsample2D, Conv2D
from keras_gan.spec import Spec

SLOPE = 0.2  # of the leaky ReLU
GROUP = 16  # channels of a group, as in all presets but one
WIDEST = 768


class Preset(NamedTuple):
    """Widths and groups from the smallest resolution to the full one, and for which images."""

    sides: tuple[int, ...]
    widths: list[int]
    cardinalities: list[int]


# The published networks, and two of our own that a CPU can train.
PRESETS: dict[str, Preset] = {
    "cifar10": Preset((32,), [768] * 4, [96] * 4),
    "ffhq-64": Preset((64,), [*[768] * 4, 384], [*[96] * 4, 48]),
    "ffhq-256": Preset((256,), [*[768] * 4, 384, 192, 96], [*[96] * 4, 48, 24, 12]),
    "imagenet-32": Preset((32,), [1536] * 4, [96] * 4),
    "imagenet-64": Preset((64,), [1536] * 5, [96] * 5),
    "cpu": Preset((28, 32), [128, 64, 32], [16, 8, 4]),
    "cpu-small": Preset((28, 32), [64, 48, 32], [8, 6, 4]),
}

# The published filter, [1, 2, 1] after [1, 1]: between two pixels, so that the mirror image of a
# picture becomes the mirror image of what it becomes.
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
) -> keras.Model:
    """Latents `(batch, latent_dim)` [and labels `(batch,)`] to images, which no tanh bounds.

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels; their embedding is joined to the latents.
        latent_dim: length of a latent vector.
        preset: widths and cardinalities of a published network: "cifar10", "ffhq-64", "ffhq-256",
            "imagenet-32" or "imagenet-64", for images of that size; or of a small one for images
            of 28 or 32 pixels on a CPU: "cpu" (128, 64 and 32 channels) or "cpu-small" (64, 48
            and 32).
        width: channels at full resolution, 32 by default; each halving of it has twice as many,
            at most 768.
        widths: channels of every stage, from the smallest resolution to the full one, instead
            of `width` and `depth`.
        cardinalities: groups of every stage's grouped convolution; by default as many as make
            groups of 16 channels, or one where 16 does not divide them.
        depth: how often the resolution doubles; by default until the smaller side is 4 to 7.
        blocks_per_stage: residual blocks at each resolution.
        expansion: channels within a block, as a multiple of its width.

    Raises:
        UsageError: sides or channels that do not divide, or options out of range.
    """
    stages = _stages(spec, preset, width, widths, cardinalities, depth, blocks_per_stage, expansion)
    base = _parts.base_of(spec, len(stages.widths) - 1, stages.widths[0])
    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    x = latents
    if conditional:
        # As a linear layer on the label's one-hot vector begins: N(0, 1 / fan_in).
        x = _parts.latents_and_label(
            latents, labels, spec, latent_dim, _normal_of(1 / math.sqrt(spec.num_classes))
        )
    # The smallest resolution is float32 whatever the policy, as samples and logits are: it costs
    # little, and all that comes after is made of it.
    x = layers.Dense(
        base[2], use_bias=False, kernel_initializer=_normal(), dtype="float32", name="project"
    )(x)
    x = Basis2D(base[0], base[1], dtype="float32", name="basis")(x)
    for i, channels_out in enumerate(stages.widths):
        if i > 0:
            x = _matched(x, channels_out, f"stage_{i}_widths")
            x = BlurUpsample2D(FILTER, "zero", name=f"stage_{i}_up")(x)
        x = stages.blocks(x, i)
    # float32 whatever the policy: samples leave the network at full precision.
    samples = layers.Conv2D(
        spec.shape[-1],
        1,
        use_bias=False,
        kernel_initializer=_normal(),
        dtype="float32",
        name="samples",
    )(x)
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
) -> keras.Model:
    """Images [and labels `(batch,)`] to logits `(batch, 1)`, the generator's mirror image.

    Args:
        spec: images whose sides divide by `2**depth`.
        conditional: whether it takes labels: the logit is then the inner product of the last
            features and the label's embedding.
        preset: as for the generator.
        width: as for the generator.
        widths: as for the generator, from the smallest resolution to the full one.
        cardinalities: as for the generator.
        depth: how often the resolution is halved; by default until the smaller side is 4 to 7.
        blocks_per_stage: residual blocks at each resolution.
        expansion: channels within a block, as a multiple of its width.
        embedding_dim: length of the label's embedding; by default as many as the smallest
            resolution has channels.

    Raises:
        UsageError: sides or channels that do not divide, or options out of range.
    """
    stages = _stages(spec, preset, width, widths, cardinalities, depth, blocks_per_stage, expansion)
    _parts.check_label_option("embedding_dim", embedding_dim, conditional)
    embedding_dim = stages.widths[0] if embedding_dim is None else embedding_dim
    _parts.check_count("embedding_dim", embedding_dim)
    samples = keras.Input(spec.shape, name="samples")
    x = _conv(samples, stages.widths[-1], "from_image")
    for i in reversed(range(len(stages.widths))):
        x = stages.blocks(x, i)
        if i > 0:
            x = BlurPool2D(FILTER, "zero", name=f"stage_{i}_down")(x)
            x = _matched(x, stages.widths[i - 1], f"stage_{i}_widths")
    x = layers.DepthwiseConv2D(
        x.shape[1:3],
        use_bias=False,
        depthwise_initializer=_normal_of_area(x),
        dtype="float32",
        name="head",
    )(x)
    x = layers.Flatten(dtype="float32", name="features")(x)
    units = embedding_dim if conditional else 1
    logits = layers.Dense(
        units,
        use_bias=False,
        kernel_initializer=_normal(),
        dtype="float32",
        name="class_features" if conditional else "logits",
    )(x)
    if not conditional:
        return keras.Model(samples, logits, name="discriminator")
    labels = _parts.labels_input()
    # A linear layer on the one-hot vector again, at gain 1 / sqrt(embedding_dim).
    initializer = _normal_of(1 / math.sqrt(embedding_dim * spec.num_classes))
    embedded = _parts.label_embedding(spec, embedding_dim, initializer)(labels)
    logits = layers.Dot(axes=1, dtype="float32", name="logits")([logits, embedded])
    return keras.Model([samples, labels], logits, name="discriminator")


# ------------------------------------------------------------------------ stages and blocks


@dataclasses.dataclass(frozen=True)
class _Stages:
    """Widths and groups from the smallest resolution to the full one, and what is the same."""

    widths: list[int]
    cardinalities: list[int]
    blocks_per_stage: int
    expansion: int

    def blocks(self, x, stage: int):
        for i in range(self.blocks_per_stage):
            x = self._block(x, self.cardinalities[stage], f"stage_{stage}_block_{i}")
        return x

    def _block(self, inputs, groups: int, name: str):
        """1x1, leaky ReLU, 3x3 in groups, leaky ReLU, 1x1 of zeros, added to the inputs."""
        hidden = self.expansion * inputs.shape[-1]
        total = self.blocks_per_stage * len(self.widths)
        # What Fixup gives the first two of a block's three layers, whose last begins at 0.
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
    _parts.check_images(spec, "r3gan")
    _parts.check_count("blocks_per_stage", blocks_per_stage)
    _parts.check_count("expansion", expansion)
    if preset is not None:
        _check_preset(spec, preset, width, widths, cardinalities)
        _, widths, cardinalities = PRESETS[preset]
    widths = _parts.stage_widths(spec, width, widths, depth, WIDEST)
    hidden = [expansion * w for w in widths]
    if cardinalities is None:
        cardinalities = [1 if h % GROUP else h // GROUP for h in hidden]
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
            "preset names widths and cardinalities: set it or the others to null. "
            f"Received: preset={preset!r}, {', '.join(given)}"
        )
    height, across = spec.shape[:2]
    sides = PRESETS[preset].sides
    if height != across or height not in sides:
        sizes = " or ".join(f"{side} x {side}" for side in sides)
        raise UsageError(
            f"The preset {preset!r} is for images of {sizes} (resize with --set data.size, or set "
            f"width instead). Received: {height} x {across}"
        )


def _check_cardinalities(cardinalities: Sequence[int], hidden: Sequence[int]) -> None:
    if not isinstance(cardinalities, Sequence) or len(cardinalities) != len(hidden):
        raise UsageError(
            f"cardinalities names every stage, of which there are {len(hidden)}. "
            f"Received: cardinalities={cardinalities!r}"
        )
    for groups, channels in zip(cardinalities, hidden, strict=True):
        if not _parts.is_whole(groups) or channels % groups:
            raise UsageError(
                "A stage's cardinality must divide its width times the expansion. "
                f"Received: cardinality {groups!r} for {channels} channels"
            )


def _matched(x, channels: int, name: str):
    """A 1x1 convolution where the width changes."""
    return x if x.shape[-1] == channels else _conv(x, channels, name)


def _conv(x, filters: int, name: str, gain: float = 1.0, use_bias: bool = False):
    return layers.Conv2D(
        filters, 1, use_bias=use_bias, kernel_initializer=_normal(gain), name=name
    )(x)


# ------------------------------------------------------------------------ initial weights


def _normal(gain: float = 1.0) -> Any:
    """N(0, gain / sqrt(fan_in)) as its deviation, fan_in being that of a group; or zeros."""
    if gain == 0:
        return "zeros"
    return keras.initializers.VarianceScaling(gain**2, "fan_in", "untruncated_normal")


def _normal_of(deviation: float) -> Any:
    return keras.initializers.RandomNormal(stddev=deviation)


def _normal_of_area(x) -> Any:
    """For a depthwise kernel, whose fan_in is its area."""
    return _normal_of(1 / math.sqrt(_parts.area(tuple(x.shape[1:3]))))

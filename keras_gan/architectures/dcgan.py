"""Convolutional networks after DCGAN: strided and transposed convolutions, for small images.

The generator maps the latents to the lowest resolution and doubles it in each stage. The
discriminator mirrors it and halves the resolution in each stage. By default it has no batch
statistics, so that a penalty on the gradient acts on each sample by itself.

Reference:
    - [Radford et al., 2015](https://arxiv.org/abs/1511.06434)
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.layers import Conv2D, Conv2DTranspose, UpConv2D
from keras_gan.spec import Spec

MAX_WIDTH = 512

_USES = ("projection", "concatenation")  # of the labels by the discriminator


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
    upsampling: str = "transposed",
    codes: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Builds a generator from latents `(batch, latent_dim)` [and labels] to images in [-1, 1].

    Args:
        spec: images whose height and width are divisible by `2**depth`.
        conditional: if True, takes labels `(batch,)`.
        latent_dim: length of a latent vector.
        width: channels at full resolution, 32 by default; each halving doubles them, up to 512.
        widths: channels of each stage, from the lowest resolution to the full one, instead of
            `width` and `depth`.
        depth: number of resolution doublings; by default, until the smaller of height and width
            is 4 to 7.
        extra_convolutions: number of 3 x 3 convolutions at the lowest resolution, at least 0,
            before the first doubling. There they cost least and determine the content most.
        norm: normalization of each stage, "batch", "layer" or "none".
        conditioning: use of the labels: "concatenation" (the default), an embedding concatenated
            to the latents, or "batch_norm", a scale and shift for each class in each stage
            (`ConditionalBatchNormalization`).
        upsampling: how a stage doubles the resolution: "transposed" (the default), a transposed
            4 x 4 convolution with strides 2, or "nearest", nearest-neighbor upsampling and a 3 x 3
            convolution (`UpConv2D`). They train equally fast on a CPU; "nearest" leaves no
            checkerboard in large areas of one color.
        codes: None, or codes that the first latents become: `{categorical: [10], continuous: 2}`,
            the categories of each categorical code and the number of continuous ones, see
            `keras_gan.layers.LatentCodes`. The term `mutual_information` gives them a meaning.

    Raises:
        UsageError: the height or width is not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "dcgan")
    _parts.check_one_of("upsampling", upsampling, tuple(_UPSAMPLINGS))
    widths = _parts.stage_widths(spec, width, widths, depth, MAX_WIDTH)
    valid = ("concatenation", "batch_norm")
    conditioning = _parts.choose_conditioning(conditioning, conditional, valid, valid[0])
    per_class = conditional and conditioning == "batch_norm"
    (_parts.check_class_norm if per_class else _parts.check_norm)(norm)
    _parts.check_integer("extra_convolutions", extra_convolutions, minimum=0)

    latents = _parts.latents_input(latent_dim)
    labels = _parts.labels_input() if conditional else None
    stages = _GeneratorStages(spec, widths, norm, upsampling, labels if per_class else None)
    x = _parts.with_codes(latents, codes)
    if conditional and not per_class:
        x = _parts.latents_and_label(x, labels, spec, latent_dim)
    x = stages.refine(stages.project(x), extra_convolutions)
    image = stages.to_images(stages.upsample(x), _parts.image_name(data))
    samples = _parts.to_samples(image, data)
    return keras.Model([latents, labels] if conditional else latents, samples, name="generator")


_UPSAMPLINGS = {
    # A kernel size divisible by the stride covers all pixels equally often. Its weights of even
    # and odd pixels still differ, of which a checkerboard may remain.
    "transposed": functools.partial(Conv2DTranspose, kernel_size=4, strides=2, padding="same"),
    "nearest": functools.partial(UpConv2D, kernel_size=3),
}


@dataclasses.dataclass(frozen=True)
class _GeneratorStages:
    """Stages of the generator, in the order of its methods."""

    spec: Spec
    widths: Sequence[int]
    norm: str
    upsampling: str
    labels: Any  # for class-conditional normalization, else None

    def project(self, x):
        """Maps a vector to features at the lowest resolution."""
        base = _parts.base_shape(self.spec, len(self.widths) - 1, self.widths[0])
        units = base[0] * base[1] * base[2]
        x = layers.Dense(units, use_bias=self.norm == "none", name="project")(x)
        x = layers.Reshape(base, name="reshape")(x)
        return self._activate(x, "stage_0")

    def refine(self, x, count: int):
        """Applies 3 x 3 convolutions at the lowest resolution."""
        for i in range(1, count + 1):
            name = f"stage_0_conv_{i}"
            no_norm = self.norm == "none"
            x = Conv2D(self.widths[0], 3, padding="same", use_bias=no_norm, name=name)(x)
            x = self._activate(x, name)
        return x

    def upsample(self, x):
        """Doubles the resolution in each further stage."""
        for i, channels in enumerate(self.widths[1:], start=1):
            layer = _UPSAMPLINGS[self.upsampling]
            x = layer(channels, use_bias=self.norm == "none", name=f"stage_{i}_up")(x)
            x = self._activate(x, f"stage_{i}")
        return x

    def to_images(self, x, name: str):
        # Samples are float32 under every policy, so that they have full precision.
        channels = self.spec.shape[-1]
        return Conv2D(channels, 3, padding="same", activation="tanh", dtype="float32", name=name)(x)

    def _activate(self, x, name: str):
        x = _parts.normalize(x, self.norm, f"{name}_norm", self.labels, self.spec.num_classes)
        return layers.ReLU(name=f"{name}_activation")(x)


def discriminator(
    spec: Spec,
    conditional: bool = False,
    width: int | None = None,
    widths: Sequence[int] | None = None,
    depth: int | None = None,
    extra_halvings: int = 0,
    norm: str = "none",
    conditioning: str | None = None,
    auxiliary_classes: bool | str = False,
    codes: Mapping[str, Any] | None = None,
    classes_as_logits: bool = False,
) -> keras.Model:
    """Builds a discriminator from images in [-1, 1] [and labels] to logits `(batch, 1)`.

    Args:
        spec: images whose height and width are divisible by `2**depth`.
        conditional: if True, takes labels `(batch,)`.
        width: channels at full resolution, as for the generator: the first stage, at half of
            it, has twice as many, the next four times as many, up to 512.
        widths: channels of each stage of the mirrored generator, from the lowest resolution to
            the full one, instead of `width` and `depth`. The last entry is not used.
        depth: number of the generator's resolution doublings; by default, until the smaller of
            height and width is 4 to 7.
        extra_halvings: number of further stages after the mirrored ones, at least 0. Each is a
            3 x 3 convolution with stride 2 and twice the channels (up to 512). Odd sizes are
            rounded up: of 28 x 28 images, one more stage ends at 4 x 4.
        norm: normalization of each stage but the first, "none", "layer" or "batch". Gradient
            penalties reject "batch", which couples the samples of a batch.
        conditioning: use of the labels: "projection" (the default), the inner product of the last
            features and the label's embedding is added to the logit (Miyato and Koyama, 2018,
            https://arxiv.org/abs/1802.05637), or "concatenation", a learned channel of the class
            is appended to the image.
        auxiliary_classes: True or a name, for outputs of classes (docs/architectures.md).
        codes: the `codes` of the generator, for the output `codes` that predicts them.
        classes_as_logits: True for the outputs that the term `supervised` needs.

    Raises:
        UsageError: the height or width is not divisible, or an option is out of range.
    """
    data, spec = spec, _parts.as_images(spec, "dcgan")
    widths = _parts.stage_widths(spec, width, widths, depth, MAX_WIDTH)[::-1]
    conditioning = _parts.choose_conditioning(conditioning, conditional, _USES, _USES[0])
    _parts.check_norm(norm)
    _parts.check_integer("extra_halvings", extra_halvings, minimum=0)
    heads = {"auxiliary_classes": auxiliary_classes, "codes": codes}
    _parts.check_classes_as_logits(classes_as_logits, spec, conditional, **heads)
    samples, x = _parts.image_input(data)
    labels = _parts.labels_input() if conditional else None
    if conditional and conditioning == "concatenation":
        x = _parts.image_and_label(x, labels, spec)
    features = layers.Flatten(name="features")(_downsample(x, widths, extra_halvings, norm))
    if classes_as_logits:
        return keras.Model(samples, _parts.classes_as_logits(features, spec), name="discriminator")
    logits = layers.Dense(1, dtype="float32", name="logits")(features)
    if conditional and conditioning == "projection":
        logits = _parts.projection(features, logits, labels, spec)
    outputs = _parts.outputs_with_classes(features, logits, spec, auxiliary_classes)
    outputs = _parts.outputs_with_codes(features, outputs, codes)
    return keras.Model([samples, labels] if conditional else samples, outputs, name="discriminator")


def _downsample(x, widths: Sequence[int], extra_halvings: int, norm: str):
    """Applies the mirrored stages, `widths` from the full resolution on, then the extra ones."""
    mirrored = len(widths) - 1
    widths = list(widths)
    for _ in range(extra_halvings):
        widths.append(min(2 * widths[-1], MAX_WIDTH))
    for i, channels in enumerate(widths[1:], start=1):
        # An odd length has a middle pixel, around which a kernel of 3 is symmetric.
        kernel_size = 4 if i <= mirrored else 3
        x = Conv2D(channels, kernel_size, 2, "same", name=f"stage_{i}_down")(x)
        if i > 1:
            x = _parts.normalize(x, norm, f"stage_{i}_norm")
        x = layers.LeakyReLU(0.2, name=f"stage_{i}_activation")(x)
    return x

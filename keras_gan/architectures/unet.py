"""U-Net from pictures to pictures of the same size, with skip connections (pix2pix).

Strided convolutions halve the resolution level by level; nearest-neighbor upsampling and
convolutions double it again. Features of each level are concatenated on the way up, and the last
convolutions see the picture itself, so that fine detail is kept. With batch normalization,
inference uses the stored statistics, so that a picture's answer does not depend on the batch, and
large pictures can be computed in tiles.

Reference:
    - [Isola et al., 2016](https://arxiv.org/abs/1611.07004)
    - [Zhu et al., 2017](https://arxiv.org/abs/1711.11586), for the noise
    - [Odena et al., 2016](https://doi.org/10.23915/distill.00003), for the upsampling
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from keras_gan.architectures import _parts, _pictures
from keras_gan.arguments import check_integer
from keras_gan.layers import UpConv2D
from keras_gan.spec import Spec


def generator(
    spec: Spec,
    conditional: bool = False,
    conditions: Sequence[str] = (),
    widths: Sequence[int] = (32, 64, 128, 256, 256),
    norm: str = "batch",
    detail: int = 16,
    noise: int = 0,
) -> keras.Model:
    """Builds a generator from pictures `(batch, height, width, channels)` to pictures in [-1, 1].

    Height and width of a picture must be divisible by 2 to the power of the number of levels.

    Args:
        spec: pictures `samples`, and those that `conditions` names, of the same height and width.
        conditional: must be False: labels are not supported.
        conditions: names of the fields that the generator translates, concatenated.
        widths: channels of each level, from half of the full resolution to the lowest one. Of
            pictures of a known size, the levels that their height and width do not divide by are
            left out.
        norm: normalization, "batch", "instance" or "none". The first and the lowest level have
            none. With "instance", large pictures cannot be computed in tiles.
        detail: channels of two convolutions at full resolution, which see the picture beside the
            upsampled features; 0 for none, as in the paper.
        noise: number of latents, normal numbers drawn from the seed, that are appended to every
            pixel of the condition as further channels; 0 for none, and one answer to each picture.

    Raises:
        UsageError: the condition is not a picture, or an option is out of range.
    """
    _pictures.check_task(spec, "unet", conditional, conditions)
    _parts.check_one_of("norm", norm, _pictures.NORMS)
    check_integer("detail", detail, 0)
    widths = _levels(spec, _parts.check_widths(widths), ["samples", *conditions])
    pictures = _pictures.inputs(spec, conditions)
    latents = _pictures.noise_inputs(noise)
    whole = _pictures.with_noise(_pictures.joined(pictures, 2 ** len(widths)), latents)
    skips = _down(whole, widths, norm)
    x = _up(skips, widths, norm)
    x = layers.ReLU(name="up_1_activation")(x)
    if detail:
        x = _detailed(UpConv2D(detail, name="up_1")(x), whole, detail)
        x = _pictures.convolve(x, spec.shape[-1], 3, "last", dtype="float32")
    else:
        x = UpConv2D(spec.shape[-1], name="up_1", dtype="float32")(x)
    # Samples are float32 under every policy, so that they have full precision.
    samples = layers.Activation("tanh", dtype="float32", name="samples")(x)
    return keras.Model(_pictures.one_or_list([*pictures, *latents]), samples, name="generator")


def _detailed(x, whole, channels: int):
    """Returns features at full resolution: of upsampled ones, and of the picture itself."""
    own = _pictures.convolve(whole, channels, 3, "detail_1")
    x = layers.Concatenate(name="detail")([x, own])
    x = layers.LeakyReLU(0.2, name="detail_1_activation")(x)
    x = _pictures.convolve(x, channels, 3, "detail_2")
    return layers.LeakyReLU(0.2, name="detail_2_activation")(x)


def _levels(spec: Spec, widths: list[int], fields: Sequence[str]) -> list[int]:
    """Returns the widths of the levels that all known heights and widths divide by."""
    lengths = [n for name in fields for n in spec.fields[name].shape[:2] if n]
    count = len(widths)
    while count > 1 and any(n % 2**count for n in lengths):
        count -= 1
    _pictures.check_divisible(spec, "unet", fields, 2**count)
    return widths[:count]


def _down(x, widths: Sequence[int], norm: str) -> list:
    """Returns the features of each level, before their activation."""
    skips = []
    for i, channels in enumerate(widths, start=1):
        inner = 1 < i < len(widths)
        if i > 1:
            x = layers.LeakyReLU(0.2, name=f"down_{i}_activation")(x)
        bias = not inner or norm == "none"
        x = _pictures.convolve(x, channels, 4, f"down_{i}", strides=2, use_bias=bias)
        x = _pictures.normalize(x, norm, f"down_{i}_norm") if inner else x
        skips.append(x)
    return skips


def _up(skips: Sequence, widths: Sequence[int], norm: str):
    """Returns features of the first level: its own, and those that come from the lower ones."""
    x = skips[-1]
    for i in range(len(widths), 1, -1):
        x = layers.ReLU(name=f"up_{i}_activation")(x)
        x = UpConv2D(widths[i - 2], use_bias=norm == "none", name=f"up_{i}")(x)
        x = _pictures.normalize(x, norm, f"up_{i}_norm")
        x = layers.Concatenate(name=f"skip_{i - 1}")([x, skips[i - 2]])
    return x

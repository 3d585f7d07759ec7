"""Common parts of the networks from pictures to pictures: inputs, normalization, sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.arguments import check_integer
from keras_gan.errors import UsageError
from keras_gan.layers import (
    AppendVector2D,
    BicubicUpsample2D,
    Conv2D,
    DepthToSpace2D,
    DivisibleSize2D,
    GroupNormalization,
    SpectralNormalization,
)
from keras_gan.spec import Spec

NORMS = ("batch", "instance", "none")
LARGE = 128  # height or width in pixels from which networks are deeper by default


def check_task(
    spec: Spec, family: str, conditional: bool, conditions: Sequence[str], minimum: int = 1
) -> None:
    """Checks that the data and the condition are pictures.

    Args:
        spec: spec of the data.
        family: name of the architecture, for errors.
        conditional: whether labels are asked for, which is refused.
        conditions: names of the fields of the condition.
        minimum: smallest number of fields in the condition.

    Raises:
        UsageError: samples or conditions of another kind, labels, or no condition.
    """
    _parts.check_images(spec, family)
    if conditional:
        raise UsageError(
            f"The architecture {family!r} takes pictures as condition and no labels. "
            "Received: labels among its condition"
        )
    if len(conditions) < minimum:
        raise UsageError(
            f"The architecture {family!r} makes pictures from pictures: its condition must name a "
            "field of the data, as in condition: [condition]. Received: no condition"
        )
    for name in conditions:
        field = spec.fields[name]
        if not field.modality.has_pixels:
            raise UsageError(
                f"The architecture {family!r} takes pictures as condition. "
                f"Received: condition=[{name}] of kind {field.kind!r}"
            )


def inputs(spec: Spec, names: Sequence[str]) -> list[Any]:
    """Returns inputs for pictures of any height and width, by the names of their fields."""
    return [keras.Input((None, None, spec.fields[n].shape[-1]), name=n) for n in names]


def one_or_list(tensors: list) -> Any:
    return tensors[0] if len(tensors) == 1 else tensors


def concatenated(pictures: Sequence[Any], name: str) -> Any:
    """Concatenates pictures of equal height and width along their channels."""
    if len(pictures) == 1:
        return pictures[0]
    return layers.Concatenate(name=name)(pictures)


def joined(pictures: Sequence[Any], divisor: int) -> Any:
    """Concatenates the pictures that a generator takes, and checks the size of each batch."""
    return DivisibleSize2D(divisor, name="size")(concatenated(pictures, "pictures"))


def noise_inputs(noise: int) -> list[Any]:
    """Returns the input for latents, or none for a generator of one answer to each picture.

    Args:
        noise: number of latents, from 0 up.
    """
    check_integer("noise", noise, 0)
    return [keras.Input((noise,), name="latents")] if noise else []


def with_noise(pictures, latents: Sequence[Any]):
    """Appends the latents to every pixel, so that pictures keep their free height and width.

    Args:
        pictures: the pictures that a generator takes, concatenated.
        latents: the input for latents in a list, or none.
    """
    return AppendVector2D(name="noise")([pictures, *latents]) if latents else pictures


def check_divisible(spec: Spec, family: str, names: Sequence[str], factor: int) -> None:
    """Checks that a number divides all heights and widths that are known of some fields.

    Raises:
        UsageError: it does not.
    """
    for name in names:
        if any(n and n % factor for n in spec.fields[name].shape[:2]):
            size = " x ".join(str(n) for n in spec.fields[name].shape[:2])
            raise UsageError(
                f"Height and width of the pictures must be divisible by {factor} for {family!r}. "
                f"Received: {name} of {size} (resize with --set data.size)"
            )


def choose_by_size(value: int | None, name: str, spec: Spec, small: int, large: int) -> int:
    """Returns a number, by default `large` for pictures from 128 pixels on, else `small`."""
    if value is None:
        side = min([n for n in spec.shape[:2] if n], default=0)
        return large if side >= LARGE else small
    _parts.check_integer(name, value)
    return value


def normalize(x, norm: str, name: str):
    """Applies batch or instance normalization, or none."""
    if norm == "instance":
        return GroupNormalization(groups=-1, epsilon=1e-5, name=name)(x)
    return _parts.normalize(x, norm, name)


def convolve(x, filters: int, size: int, name: str, strides: int = 1, spectral=False, **options):
    """Applies a convolution that keeps, or divides by `strides`, the height and width."""
    layer = Conv2D(filters, size, strides, "same", name=name, **options)
    return (SpectralNormalization(layer, name=name) if spectral else layer)(x)


# ------------------------------------------------------------------------ enlargement


def check_enlargement(
    spec: Spec, family: str, conditional: bool, conditions: Sequence[str]
) -> None:
    """Checks that the condition is one picture, of as many channels as the samples, or of one.

    Raises:
        UsageError: it is not.
    """
    check_task(spec, family, conditional, conditions)
    channels = [spec.fields[name].shape[-1] for name in conditions]
    if len(conditions) > 1 or channels[0] not in (1, spec.shape[-1]):
        raise UsageError(
            f"The architecture {family!r} takes one picture of the channels of the samples, "
            f"{spec.shape[-1]}, or of 1. Received: condition=[{', '.join(conditions)}] of "
            f"{', '.join(map(str, channels))} channels"
        )


def choose_scale(spec: Spec, condition: str, scale: int | None) -> int:
    """Returns the factor between the sizes of the condition and of the samples.

    Raises:
        UsageError: sizes of another factor, or neither a factor nor fixed sizes.
    """
    small, large = spec.fields[condition].shape[:2], spec.shape[:2]
    known = [(a, b) for a, b in zip(small, large, strict=True) if a and b]
    if scale is None and not known:
        raise UsageError(
            "`scale` must be given where the sizes of the pictures are free. Received: scale=None"
        )
    found = known[0][1] // known[0][0] if scale is None else scale
    _parts.check_integer("scale", found)
    if any(b != found * a for a, b in known):
        raise UsageError(
            "Height and width of the samples must be `scale` times those of the condition. "
            f"Received: scale={scale}, samples of {large[0]} x {large[1]}, "
            f"{condition} of {small[0]} x {small[1]}"
        )
    return found


def enlarger(
    spec: Spec, condition: str, scale: int, width: int, body: Callable[[Any], Any]
) -> keras.Model:
    """Builds a generator whose features are all computed at the low resolution.

    Args:
        spec: spec of the data.
        condition: name of the field that the generator enlarges.
        scale: factor of height and width.
        width: channels of the features.
        body: function from features to features of the same shape, the residual blocks.
    """
    (picture,) = inputs(spec, [condition])
    head = convolve(picture, width, 3, "head")
    x = convolve(body(head), width, 3, "last")
    x = layers.Add(name="features")([head, x])
    samples = _added_to_bicubic(x, picture, scale, spec.shape[-1])
    return keras.Model(picture, samples, name="generator")


def _added_to_bicubic(x, picture, scale: int, channels: int):
    """Returns samples: the bicubic enlargement of a picture, and details from features.

    The last convolution starts at zero, so that the samples start as the enlargement.
    """
    # Samples are float32 under every policy, so that they have full precision.
    full: dict[str, Any] = {"dtype": "float32"}
    x = convolve(x, channels * scale**2, 3, "to_image", kernel_initializer="zeros", **full)
    details = DepthToSpace2D(scale, name="details", **full)(x)
    bicubic = BicubicUpsample2D(scale, name="bicubic", **full)(picture)
    return layers.Add(name="samples", **full)([bicubic, details])

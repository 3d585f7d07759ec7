"""Common parts of the networks from pictures to pictures: inputs, normalization, sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from keras_gan.architectures import _parts
from keras_gan.errors import UsageError
from keras_gan.layers import Conv2D, GroupNormalization, SpectralNormalization
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


def smallest_side(spec: Spec, names: Sequence[str]) -> int | None:
    """Returns the smallest height or width that is known of some fields; None if none is."""
    lengths = [n for name in names for n in spec.fields[name].shape[:2] if n]
    return min(lengths, default=None)


def choose_by_size(value: int | None, name: str, spec: Spec, small: int, large: int) -> int:
    """Returns a number, by default `large` for pictures from 128 pixels on, else `small`."""
    if value is None:
        side = smallest_side(spec, ["samples"])
        return large if side is not None and side >= LARGE else small
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

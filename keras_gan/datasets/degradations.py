"""Degradations of pictures, from which a network learns to restore them.

A picture is blurred, reduced by Pillow's antialiased bicubic filter, given noise and compressed as
JPEG, in this order. The strength of each is drawn from a range for each picture.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from keras_gan.arguments import is_integer, is_number
from keras_gan.errors import UsageError

FILTER = "Pillow's antialiased bicubic filter"
_BICUBIC = 2  # pixels of the reduced picture that the filter reaches in each direction
_BLOCK = 16  # pixels of a JPEG block with subsampled colors
_TRUNCATE = 4.0  # standard deviations after which a blur ends
# Smallest and largest possible strength, and the range by the name alone.
_LIMITS: dict[str, tuple[float, float, tuple[float, float]]] = {
    "blur": (0.0, 20.0, (0.5, 2.0)),
    "noise": (0.0, 100.0, (0.0, 25.0)),
    "jpeg": (1.0, 100.0, (30.0, 90.0)),
}


@dataclasses.dataclass(frozen=True)
class Degradation:
    """A degradation with ranges from which the strength is drawn.

    Args:
        scale: factor by which pictures are reduced; 1 to keep their size.
        blur: range of the standard deviation of a Gaussian blur, in pixels of the picture.
        noise: range of the standard deviation of Gaussian noise, in gray levels of 0 to 255, that
            is added to the reduced picture.
        jpeg: range of the JPEG quality, 1 to 100, of the reduced picture.
    """

    scale: int
    blur: tuple[float, float] | None = None
    noise: tuple[float, float] | None = None
    jpeg: tuple[float, float] | None = None

    def __str__(self) -> str:
        parts = [f"{name} {low:g} to {high:g}" for name, (low, high) in self.ranges.items()]
        reduced = [f"reduced by {self.scale} with {FILTER}"] if self.scale > 1 else []
        return ", ".join([*reduced, *parts])

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The ranges by name, of those that are used."""
        found = {"blur": self.blur, "noise": self.noise, "jpeg": self.jpeg}
        return {name: limits for name, limits in found.items() if limits is not None}

    @property
    def reach(self) -> int:
        """Distance in pixels at which a pixel may change the result; a multiple of the scale."""
        blur = 0.0 if self.blur is None else _TRUNCATE * self.blur[1] + 1
        reduced = (_BICUBIC if self.scale > 1 else 0) + (_BLOCK if self.jpeg else 0)
        return (int(np.ceil(blur / self.scale)) + reduced) * self.scale

    def apply(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Degrades a picture.

        Args:
            picture: uint8, `(height, width, channels)` with 1 or 3 channels; height and width are
                multiples of the scale.
            rng: generator of the strengths and the noise.

        Returns:
            uint8, `(height / scale, width / scale, channels)`.
        """
        drawn = {name: rng.uniform(*limits) for name, limits in self.ranges.items()}
        height, width, channels = picture.shape
        if "blur" in drawn:
            sigma = (drawn["blur"], drawn["blur"], 0)
            blurred = ndimage.gaussian_filter(
                picture.astype(np.float32), sigma, mode="nearest", truncate=_TRUNCATE
            )
            picture = _to_bytes(blurred)
        if self.scale > 1:
            size = (width // self.scale, height // self.scale)
            picture = _pixels(_image(picture).resize(size, Image.Resampling.BICUBIC), channels)
        if "noise" in drawn:
            noise = rng.normal(0.0, drawn["noise"], picture.shape)
            picture = _to_bytes(picture + noise)
        if "jpeg" in drawn:
            stream = io.BytesIO()
            _image(picture).save(stream, "JPEG", quality=round(drawn["jpeg"]))
            with Image.open(stream) as image:
                picture = _pixels(image, channels)
        return picture


def make(scale: Any, degradation: Any) -> Degradation:
    """Returns the degradation that options ask for.

    Args:
        scale: the option: an integer of at least 1.
        degradation: the option: `bicubic`, the name of another, or a mapping of names to ranges.

    Raises:
        UsageError: an unknown degradation, a range that is not one, or none at all with a scale
            of 1.
    """
    if not is_integer(scale):
        raise UsageError(f"`scale` must be an integer of at least 1. Received: scale={scale!r}")
    given = degradation
    if isinstance(given, str):
        given = {} if given == "bicubic" else {given: None}
    if not isinstance(given, Mapping) or not set(given) <= set(_LIMITS):
        raise UsageError(
            f"`degradation` must be bicubic, one of {', '.join(_LIMITS)}, or a mapping of those to "
            "ranges, such as {noise: [5, 20], jpeg: [40, 90]}. "
            f"Received: degradation={degradation!r}"
        )
    if scale == 1 and not given:
        raise UsageError(
            "A scale of 1 needs a degradation other than bicubic, as nothing is reduced. "
            f"Received: scale=1, degradation={degradation!r}"
        )
    return Degradation(int(scale), **{name: _range(name, value) for name, value in given.items()})


def _range(name: str, value: Any) -> tuple[float, float]:
    """Returns the range of a strength: that of the name, or a number or two numbers."""
    least, most, usual = _LIMITS[name]
    if value is None:
        return usual
    pair = (value, value) if is_number(value) else value
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and all(map(is_number, pair))
    if not is_pair or not least <= pair[0] <= pair[1] <= most:
        raise UsageError(
            f"`degradation` must state a number or a range from {least:g} to {most:g} for {name}. "
            f"Received: {name}={value!r}"
        )
    return float(pair[0]), float(pair[1])


def _image(picture: np.ndarray) -> Image.Image:
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def _pixels(image: Image.Image, channels: int) -> np.ndarray:
    return np.asarray(image).reshape(image.height, image.width, channels)


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)

"""Image conversions before feature extraction: 8 bits, channels, size."""

from __future__ import annotations

import numpy as np
import PIL.Image

from keras_gan.errors import UsageError

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's mode L


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Rounds images in [-1, 1] to 8 bits, as a picture file holds them; returns uint8 unchanged.

    Raises:
        UsageError: a value is NaN or infinite, which a picture file cannot hold.
    """
    images = np.asarray(images)
    if images.dtype == np.uint8:
        return images
    if not np.isfinite(images).all():
        raise UsageError("Images must be finite numbers. Received: NaN or infinity")
    # In float64: near the middle between two bytes, float32 rounds to the wrong one.
    return np.clip(np.round((images.astype(np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)


def to_channels(pixels: np.ndarray, channels: int | None) -> np.ndarray:
    """Converts the channels of images with values 0 to 255.

    Gray is repeated, color becomes luma, and alpha is composited on white.

    Args:
        pixels: `(count, height, width, 1, 3 or 4)`, float32.
        channels: number of channels to return; `None` leaves them as they are.
    """
    if channels is None or pixels.shape[-1] == channels:
        return pixels
    if channels not in (1, 3, 4):
        raise ValueError(f"Images must have 1, 3 or 4 channels. Received: channels={channels}")
    if pixels.shape[-1] == 4:
        alpha = pixels[..., 3:] / np.float32(255)
        pixels = pixels[..., :3] * alpha + 255 * (1 - alpha)
    if pixels.shape[-1] == 3 and channels == 1:
        return (pixels @ _LUMA)[..., None]
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    if channels == 4:
        return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    return pixels


def luma(pictures: np.ndarray) -> np.ndarray:
    """Returns the luma of color pictures, ITU-R BT.601, not rounded.

    Args:
        pictures: `(count, height, width, 3 or 4)`, any range. An alpha channel is left out.

    Returns:
        float64 `(count, height, width, 1)`, in the same range.
    """
    return (pictures[..., :3].astype(np.float64) @ _LUMA.astype(np.float64))[..., np.newaxis]


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes images with Pillow's bicubic filter, which antialiases when it reduces.

    Each channel is resized in floating point and not rounded afterward, as recommended by
    [Parmar et al., 2022](https://arxiv.org/abs/2104.11222).

    Args:
        pixels: `(count, height, width, channels)`, floating point.
        size: the new height and width.

    Returns:
        float32 `(count, *size, channels)`.
    """
    height, width = size
    resized = np.empty((len(pixels), height, width, pixels.shape[-1]), np.float32)
    for row, image in enumerate(pixels):
        for channel in range(image.shape[-1]):
            plane = PIL.Image.fromarray(np.ascontiguousarray(image[..., channel]))
            plane = plane.resize((width, height), PIL.Image.Resampling.BICUBIC)
            resized[row, ..., channel] = np.asarray(plane)
    return resized

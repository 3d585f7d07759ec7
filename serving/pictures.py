"""Images of samples: single images, grids, and scatter plots."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin

from serving import png
from serving.errors import UsageError
from serving.provenance import XMP_KEY

MAX_PIXELS = 16_384  # pixels of height or width; most viewers open no more
# Bytes up to which Pillow's search for the best filter makes smaller files in about the same time,
# in one call that keeps the interpreter lock.
_SMALL = 2**14
_GAP = 2
_WHITE = 255
PLOT = 640  # pixels of height and width of a scatter plot
_MARGIN = 36
_DOT = 2


def to_uint8(samples: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Maps samples to pixels: the value range to 0..255, rounded and clipped.

    Args:
        samples: float array `(batch, height, width, channels)`.
        value_range: smallest and largest value; `(-1, 1)` by default.

    Returns:
        uint8 array of the same shape.
    """
    low, high = value_range or (-1.0, 1.0)
    pixels = samples - np.float32(low)
    pixels /= np.float32(high - low)  # in place: new arrays would take longer than the arithmetic
    pixels *= np.float32(255.0)
    np.rint(pixels, out=pixels)
    np.clip(pixels, 0.0, 255.0, out=pixels)
    return pixels.astype(np.uint8)


def columns_for(count: int) -> int:
    """Returns the number of columns of the squarest grid."""
    return max(1, math.ceil(math.sqrt(count)))


def grid(pictures: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Arranges images in rows, with white lines between them.

    Args:
        pictures: uint8 array `(batch, height, width, channels)`.
        columns: images in a row; by default the grid is nearly square.

    Returns:
        uint8 array `(height, width, channels)`.

    Raises:
        UsageError: a grid of more than 16384 pixels in height or width.
    """
    count, height, width, channels = pictures.shape
    columns = columns or columns_for(count)
    check_grid(count, (height, width, channels), columns)
    size = grid_size(count, (height, width, channels), columns)
    canvas = np.full((*size, channels), _WHITE, np.uint8)
    for number, picture in enumerate(pictures):
        top = number // columns * (height + _GAP)
        left = number % columns * (width + _GAP)
        canvas[top : top + height, left : left + width] = picture
    return canvas


def grid_size(count: int, shape: tuple[int, ...], columns: int | None = None) -> tuple[int, int]:
    """Returns the height and width of a grid in pixels; takes the arguments of `check_grid`."""
    columns = columns or columns_for(count)
    rows = math.ceil(count / columns)
    return rows * (shape[0] + _GAP) - _GAP, columns * (shape[1] + _GAP) - _GAP


def check_grid(count: int, shape: tuple[int, ...], columns: int | None = None) -> None:
    """Checks the size of a grid before its images are generated.

    Args:
        count: number of images.
        shape: height, width and channels of each.
        columns: images in a row; by default the grid is nearly square.

    Raises:
        UsageError: a grid of more than 16384 pixels in height or width.
    """
    if max(grid_size(count, shape, columns)) + _GAP > MAX_PIXELS:
        raise UsageError(
            f"A grid must be at most {MAX_PIXELS} pixels wide and high. "
            f"Received: {count} pictures of {shape[1]} x {shape[0]}"
        )


def to_png(picture: np.ndarray, texts: Mapping[str, str] | None = None) -> bytes:
    """Encodes an image as PNG: a small one by Pillow, others by `serving.png`.

    Args:
        picture: uint8 array `(height, width, channels)` with 1, 3 or 4 channels.
        texts: text chunks by key, as `serving.provenance` returns them.
    """
    if picture.size > _SMALL:
        return png.encode(picture, texts)
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    chunks = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        if key == XMP_KEY:
            chunks.add_itxt(key, text)
        else:
            chunks.add_text(key, text)
    buffer = io.BytesIO()
    # Level 6 takes twice the time, and noise barely compresses.
    image.save(buffer, "PNG", compress_level=3, pnginfo=chunks)
    return buffer.getvalue()


def scatter(points: np.ndarray, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Plots the first two features of points, or a single feature along a line.

    Args:
        points: float array `(batch, features)`.
        value_range: smallest and largest value of the axes; by default those of the points.

    Returns:
        uint8 array `(height, width, 3)`.
    """
    finite = _in_plane(points)
    low, high = value_range or limits(points)
    image = Image.new("RGB", (PLOT, PLOT), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((_MARGIN, _MARGIN, PLOT - _MARGIN, PLOT - _MARGIN), outline="#bbbbbb")
    scale = (PLOT - 2 * _MARGIN) / (high - low)
    for x, y in (finite - low) * scale:
        if 0 <= x <= PLOT - 2 * _MARGIN and 0 <= y <= PLOT - 2 * _MARGIN:
            left, top = _MARGIN + x, PLOT - _MARGIN - y
            draw.ellipse((left - _DOT, top - _DOT, left + _DOT, top + _DOT), fill="#1f5fa8")
    draw.text((_MARGIN, PLOT - _MARGIN + 6), f"{low:.3g}", fill="#555555")
    draw.text((PLOT - _MARGIN - 24, PLOT - _MARGIN + 6), f"{high:.3g}", fill="#555555")
    return np.asarray(image)


def limits(points: np.ndarray) -> tuple[float, float]:
    """Returns the range of the axes of `scatter`, one for both, so that circles stay circles.

    Args:
        points: float array `(batch, features)`, of which those with finite values count.
    """
    shown = _in_plane(points)
    if not shown.size:
        return -1.0, 1.0
    low, high = float(shown.min()), float(shown.max())
    pad = 0.05 * (high - low) or 1.0
    return low - pad, high + pad


def _in_plane(points: np.ndarray) -> np.ndarray:
    """Returns the first two features of the points for which both are finite."""
    flat = points[:, :2] if points.shape[1] > 1 else np.pad(points, ((0, 0), (0, 1)))
    return flat[np.isfinite(flat).all(axis=1)]

"""Pictures of samples: a grid of images, a scatter plot of points."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import PIL.ImageDraw

from keras_gan.errors import UsageError

_SIZE = 512  # of a scatter plot, in pixels


def grid(samples: np.ndarray) -> PIL.Image.Image:
    """Draws samples as one picture.

    Args:
        samples: images `(count, height, width, channels)` with values in [-1, 1], drawn in rows
            as a near-square grid; or points `(count, 2)`, drawn as a scatter plot.

    Raises:
        UsageError: samples of another shape.
    """
    if samples.ndim == 2:
        return scatter(samples)
    if samples.ndim != 4 or not len(samples):
        raise UsageError(f"`samples` must be images or points. Received: shape {samples.shape}")
    pixels = np.clip(np.round((samples + 1) * 127.5), 0, 255).astype(np.uint8)
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = np.zeros((rows * columns, height, width, channels), np.uint8)
    sheet[:count] = pixels
    sheet = sheet.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * height, columns * width, channels)
    return PIL.Image.fromarray(sheet[..., 0] if channels == 1 else sheet)


def scatter(points: np.ndarray) -> PIL.Image.Image:
    """Draws the first two features of points, with a margin."""
    x = points[:, :2] if points.shape[1] > 1 else np.pad(points, ((0, 0), (0, 1)))
    x = x[np.isfinite(x).all(axis=1)]
    picture = PIL.Image.new("L", (_SIZE, _SIZE), 255)
    draw = PIL.ImageDraw.Draw(picture)
    half = 1.1 * float(np.abs(x).max(initial=1e-6))
    for across, up in (x / half + 1) / 2 * _SIZE:
        left, top = across - 1.5, _SIZE - up - 1.5
        draw.ellipse((left, top, left + 3, top + 3), fill=40)
    return picture


def png(picture: PIL.Image.Image) -> bytes:
    """Returns a picture as the content of a PNG file."""
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()

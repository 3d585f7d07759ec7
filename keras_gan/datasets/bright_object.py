"""The bright object on a dark background that the frames of videos show: its light and place."""

from __future__ import annotations

import numpy as np

DARKEST = 32  # least value of a pixel of the object, of 255
BRIGHT = (DARKEST - 0.5) / 255  # of white: what is brighter belongs to the object


def find_light(videos: np.ndarray) -> np.ndarray:
    """Returns the brightness of the object's pixels, and 0 elsewhere.

    Args:
        videos: uint8, or floating point in [-1, 1], `(count, frames, height, width, channels)`.

    Returns:
        Share of white, `(count, frames, height, width)`.
    """
    videos = np.asarray(videos)
    unit = videos / 255.0 if videos.dtype == np.uint8 else (videos.astype(np.float64) + 1) / 2
    light = unit.mean(axis=-1)
    return np.where(light > BRIGHT, light, 0.0)


def find_centroids(light: np.ndarray) -> np.ndarray:
    """Returns the centroid of the light in each frame.

    Args:
        light: see `find_light`.

    Returns:
        Row and column in pixels, float64 `(count, frames, 2)`; NaN in a frame without light.
    """
    total = light.sum(axis=(2, 3))
    rows = (light.sum(axis=3) * np.arange(light.shape[2])).sum(axis=2)
    columns = (light.sum(axis=2) * np.arange(light.shape[3])).sum(axis=2)
    with np.errstate(invalid="ignore"):
        return np.stack([rows, columns], axis=-1) / total[..., np.newaxis]

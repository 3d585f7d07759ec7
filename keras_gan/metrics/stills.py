"""Frames of videos, each judged by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

CLIPS = 256  # real videos, and generated ones, whose frames are judged


class Stills(NamedTuple):
    """Features and classes of the frames of videos, each by itself.

    Args:
        features: float32 `(videos, frames, number)`.
        classes: most probable class of each frame, int64 `(videos, frames)`.
    """

    features: np.ndarray
    classes: np.ndarray

    @classmethod
    def of(cls, videos: np.ndarray, still: Callable[[np.ndarray], Any]) -> Stills:
        """Judges the frames of videos.

        Args:
            videos: `(videos, frames, height, width, channels)` in [-1, 1].
            still: function from frames to features and class probabilities, see `Extractor`.
        """
        count, frames = videos.shape[:2]
        features, probabilities = still(videos.reshape(count * frames, *videos.shape[2:]))
        classes = probabilities.argmax(axis=1).astype(np.int64)
        return cls(features.reshape(count, frames, -1), classes.reshape(count, frames))

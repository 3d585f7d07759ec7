"""Colors of spectrograms."""

from __future__ import annotations

import numpy as np

_COLORS = np.array(
    [(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64
)


def colored(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns a spectrogram as a picture, low frequencies at its bottom.

    Args:
        values: floats `(time, bands)`.
        low: value of black; what is below is black as well.
        high: value of the lightest color.

    Returns:
        uint8 array `(bands, time, 3)`.
    """
    unit = np.clip((values - low) / (high - low), 0.0, 1.0).T[::-1]
    places = np.linspace(0.0, 1.0, len(_COLORS))
    picture = np.stack([np.interp(unit, places, channel) for channel in _COLORS.T], axis=-1)
    return np.ascontiguousarray(np.rint(picture).astype(np.uint8))

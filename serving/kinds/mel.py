"""Log-mel spectrograms: `(frames, mels)`, natural logarithms, with the definition as `mel`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from serving import pictures
from serving.errors import UsageError
from serving.kinds import _heat
from serving.kinds._kind import Kind, Meta
from serving.mel import Mel as Definition

HIGHEST = 5.0  # above it, a wave would have to exceed [-1, 1] by far
_MARGIN = 0.1  # by which values may be below the logarithm of the floor
_LIKE_LOG10 = 1e-4  # distance within which the least value is the base 10 logarithm of the floor
_SHOWN = (math.log(1e-5), 1.0)  # black and white of the preview
_WIDEST = 256  # frames that a preview shows
_ENLARGED = 2  # pixels for each mel and frame


def definition_of(meta: Meta) -> Definition | None:
    """Returns the definition of a field's spectrograms, `None` where the field has none."""
    return Definition.from_meta(meta["mel"]) if meta.get("mel") else None


class Mel(Kind):
    """Log-mel spectrograms of sound."""

    axes = ("frames", "mels")
    meta = ("mel",)
    plural = "mel spectrograms"

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        definition = definition_of(meta or {})
        if definition is not None and shape[-1] not in (None, definition.mels):
            raise UsageError(
                f"A field of kind 'mel' must have the {definition.mels} mels of its definition. "
                f"Received: shape={tuple(shape)}"
            )

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        definition = definition_of(meta)
        floor = definition.floor if definition else Definition.floor
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        least = math.log(floor)
        rule = (
            f"`{name}` must be natural logarithms of mel magnitudes, from {least:.4g} "
            f"(the floor {floor:g}) to {HIGHEST:g}"
        )
        if low < least - _MARGIN or high > HIGHEST:
            raise UsageError(
                f"{rule}; multiply log10 by 2.3026 and decibels by 0.11513. "
                f"Received: values from {low:.4g} to {high:.4g}"
            )
        # Silence is the floor itself, and its least value then shows the base of the logarithm.
        # Other values have a least one as well, which occurs once.
        if abs(low - math.log10(floor)) < _LIKE_LOG10 and np.count_nonzero(array == low) > 1:
            raise UsageError(
                f"{rule}; these look like log10: multiply them by 2.3026. "
                f"Received: values from {low:.4g} to {high:.4g}"
            )

    def examples(
        self, rng: np.random.Generator, shape: tuple[int, ...], meta: Meta
    ) -> np.ndarray | None:
        definition = definition_of(meta)
        floor = definition.floor if definition else Definition.floor
        return rng.uniform(math.log(floor), -2.0, shape)  # as loud as speech

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return pictures.grid(np.stack([_drawn(np.asarray(x)) for x in samples]), columns)


def _drawn(sample: np.ndarray) -> np.ndarray:
    """Returns a spectrogram as a picture, low frequencies at the bottom."""
    low, high = _SHOWN
    values = np.nan_to_num(sample[:_WIDEST].astype(np.float64), nan=low)
    picture = _heat.colored(values, low, high)
    return picture.repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)


KIND = Mel()

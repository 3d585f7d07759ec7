"""Log-mel spectrograms: `(frames, mels)`, with their definition `mel`, see `serving.mel`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._kind import Kind, Meta
from serving.mel import Mel

MOST = 5.0  # of a value; a full-scale tone is below


class MelSpectrogram(Kind):
    """Log-mel spectrograms."""

    axes = ("frames", "mels")
    meta = ("mel",)
    plural = "spectrograms"

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        if meta and "mel" in meta:
            Mel.from_meta(meta["mel"])

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        if "mel" not in meta or not array.size:
            return
        least = float(np.log(meta["mel"]["floor"]))
        low, high = float(array.min()), float(array.max())
        if low < least - 0.1 or high > MOST:
            raise UsageError(
                f"The input {name!r} must be natural logarithms in [{least:.4g}, {MOST:g}]; "
                f"these may be decibels or log10. Received: values from {low:.4g} to {high:.4g}"
            )

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.lines(samples, self.range_of(meta), columns)


KIND = MelSpectrogram()

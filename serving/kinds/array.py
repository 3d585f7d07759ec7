"""Arrays: samples of any shape, for data that is of no other kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving import pictures
from serving.kinds._formats import Meta
from serving.kinds._kind import FLOATS, INTEGERS, Kind


class Array(Kind):
    """Arrays of any shape; `()` for a single number."""

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        if len(shape):
            super().check(shape, meta)

    plural = "arrays"
    dtypes = (*FLOATS, *INTEGERS, "uint8", "bool")

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        flat = np.nan_to_num(samples.reshape(len(samples), -1, samples.shape[-1]))
        flat = flat[:, :512, :512]
        low, high = (meta or {}).get("value_range") or (float(flat.min()), float(flat.max()))
        limits = (low, high) if low < high else (low - 1.0, high + 1.0)
        tiles = pictures.to_uint8(flat[..., np.newaxis], limits)
        scale = max(1, 32 // max(tiles.shape[1:3]))
        return pictures.grid(tiles.repeat(scale, axis=1).repeat(scale, axis=2), columns)


KIND = Array()

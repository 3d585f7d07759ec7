"""Points: `(features,)`, values without bounds."""

from __future__ import annotations

import numpy as np

from serving import pictures
from serving.kinds._kind import Kind, Meta


class Points(Kind):
    """Points in a space of a few dimensions."""

    axes = ("features",)
    plural = "points"

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return pictures.scatter(samples, (meta or {}).get("value_range"))


KIND = Points()

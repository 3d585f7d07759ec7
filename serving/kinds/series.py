"""Series: `(time, features)`, values without bounds."""

from __future__ import annotations

import numpy as np

from serving.kinds import _plots, _tables
from serving.kinds._formats import Meta
from serving.kinds._kind import Kind


class Series(Kind):
    """Series of measurements at equal steps of time."""

    axes = ("time", "features")
    meta = ("columns",)
    plural = "series"
    formats = (_tables.CSV,)

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.lines(samples, (meta or {}).get("value_range"), columns)


KIND = Series()

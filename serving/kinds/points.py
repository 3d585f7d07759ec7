"""Points: `(features,)`, values without bounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from serving import pictures
from serving.kinds._formats import Meta
from serving.kinds._kind import Kind


class Points(Kind):
    """Points in a space of a few dimensions."""

    axes = ("features",)
    shown_as = "grid"
    plural = "points"
    is_animated = True

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return pictures.scatter(samples, (meta or {}).get("value_range"))

    def sheet_size(
        self, count: int, shape: Sequence[int], columns: int | None = None
    ) -> tuple[int, int]:
        return pictures.PLOT, pictures.PLOT

    def film(self, steps: Iterable[np.ndarray], meta: Meta | None = None) -> np.ndarray:
        """Draws points on axes that are the same at every step."""
        held = list(steps)
        value_range = (meta or {}).get("value_range") or pictures.limits(np.concatenate(held))
        return super().film(held, {"value_range": value_range})


KIND = Points()

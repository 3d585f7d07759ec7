"""Tables: rows `(columns,)` of numbers."""

from __future__ import annotations

import numpy as np

from serving.kinds import _plots, _tables
from serving.kinds._formats import Meta
from serving.kinds._kind import Kind


class Table(Kind):
    """Rows of a table."""

    axes = ("columns",)
    meta = ("columns",)
    plural = "rows"
    formats = (_tables.CSV._replace(several=True),)  # one row each

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        names = _tables.header(samples.shape[-1], meta or {})
        rows = ["  ".join(f"{name[:10]:>10}" for name in names)]
        rows += ["  ".join(f"{value:>10.4g}" for value in row) for row in samples]
        return _plots.text(rows)


KIND = Table()

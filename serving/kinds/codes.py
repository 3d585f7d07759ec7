"""Codes of a generator: `(codes,)`, a category or a number in [-1, 1] for each code.

The categorical codes come first. A category is its number, from 0. Any code may be `FROM_SEED`
instead: the seed then determines it, as if no codes were given.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._formats import Meta
from serving.kinds._kind import Kind

FROM_SEED = -2.0  # finite, so that JSON and every runtime can hold it


class Codes(Kind):
    """Categories and continuous codes, by which a generator can be steered."""

    axes = ("codes",)
    meta = ("categorical", "continuous")
    plural = "codes"
    for_samples = False

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        if not {"categorical", "continuous"} & set(meta or {}):
            return
        wanted = len((meta or {}).get("categorical") or ()) + (meta or {}).get("continuous", 0)
        if shape[0] not in (None, wanted):
            raise UsageError(
                "Codes must have one number for each categorical and each continuous code, "
                f"{wanted}. Received: {shape[0]}"
            )

    def check_given(self, array: np.ndarray, meta: Meta, name: str) -> None:
        categories = list(meta.get("categorical") or ())
        for index, column in enumerate(array.T):
            is_category = index < len(categories)
            most = categories[index] - 1 if is_category else 1
            valid = (column >= (0 if is_category else -1)) & (column <= most)
            if is_category:
                valid &= column == np.round(column)
            wrong = column[~valid & (column != FROM_SEED)]
            if wrong.size:
                rule = f"a category from 0 to {most}" if is_category else "a number from -1 to 1"
                raise UsageError(
                    f"Code {index} of the input {name!r} must be {rule}, or {FROM_SEED:g} for the "
                    f"seed's own. Received: {wrong[0]:g}"
                )

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.text([" ".join(f"{code:.2g}" for code in sample) for sample in samples])


KIND = Codes()

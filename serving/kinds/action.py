"""Actions of an agent: `(actions,)`, one-hot for a choice, or values for a continuous action."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._kind import Kind, Meta


class Action(Kind):
    """Actions: one-hot choices, or continuous values between `low` and `high`."""

    axes = ("actions",)
    meta = ("low", "high", "environment")
    plural = "actions"
    training_metrics = ("action_error",)
    shown_as = "json"

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        low, high = ((meta or {}).get(name) for name in ("low", "high"))
        if low is None and high is None:
            return
        size, pairs = shape[0], zip(low or (), high or (), strict=False)
        if not len(low or ()) == len(high or ()) == size or any(a >= b for a, b in pairs):
            raise UsageError(
                "`low` and `high` of a continuous action must be one number for each of its "
                f"values, low below high. Received: low={low}, high={high}, shape={tuple(shape)}"
            )

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        if bounds(meta) is None:
            return _plots.text([f"{row:>6}  {n}" for row, n in enumerate(samples.argmax(axis=-1))])
        rows = ("  ".join(f"{value:>10.4g}" for value in sample) for sample in samples)
        return _plots.text([f"{number:>6}{row}" for number, row in enumerate(rows)])


def bounds(meta: Meta | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the smallest and largest values of a continuous action; `None` for a choice."""
    low, high = ((meta or {}).get(name) for name in ("low", "high"))
    if low is None or high is None:
        return None
    return np.asarray(low, np.float32), np.asarray(high, np.float32)


KIND = Action()

"""Windows of long arrays, which are read like one array without a copy of each window."""

from __future__ import annotations

from typing import Any

import numpy as np


class Cuts:
    """Windows of one long array, read by their rows like an array `(count, length, ...)`.

    Windows may overlap, so that a training draws from far more of them than fit in memory. A window
    may reach beyond the part that it belongs to; those positions hold a fill value.

    Args:
        values: the long array, `(total, ...)`; also a memory map.
        starts: first position of each window, int64 `(count,)`; also below 0 or beyond the end.
        length: positions of a window.
        limits: first and last position, exclusive, of the part of `values` that each window belongs
            to, int64 `(count, 2)`.
        fill: value at positions outside of the limits, of the shape `values.shape[1:]` or a number.
    """

    def __init__(
        self,
        values: np.ndarray,
        starts: np.ndarray,
        length: int,
        limits: np.ndarray,
        fill: Any = 0,
    ) -> None:
        self.values, self.fill = values, fill
        self.starts, self.length, self.limits = starts, length, limits

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array that this is read like."""
        return (len(self.starts), self.length, *self.values.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the values."""
        return self.values.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return 1 + self.values.ndim

    @property
    def size(self) -> int:
        """Number of values in all windows."""
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        """Bytes that all windows would take as an array."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, rows: Any) -> np.ndarray:
        starts, limits = self.starts[rows], self.limits[rows]
        if np.ndim(starts) == 0:
            return self._cut(starts, limits)
        found = np.empty((len(starts), self.length, *self.values.shape[1:]), self.dtype)
        for row, (start, of) in enumerate(zip(starts, limits, strict=True)):
            self._fill(found[row], int(start), int(of[0]), int(of[1]))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Returns a copy of all windows."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def _cut(self, start: Any, limits: np.ndarray) -> np.ndarray:
        found = np.empty((self.length, *self.values.shape[1:]), self.dtype)
        self._fill(found, int(start), int(limits[0]), int(limits[1]))
        return found

    def _fill(self, window: np.ndarray, start: int, low: int, high: int) -> None:
        """Fills one window: the values within the limits, and the fill value around them."""
        first = min(max(low, start), start + self.length)
        last = max(min(high, start + self.length), first)
        window[: first - start] = self.fill
        window[first - start : last - start] = self.values[first:last]
        window[last - start :] = self.fill

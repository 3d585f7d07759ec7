"""Accumulators of features that arrive in batches: moments, or all rows."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg.blas

from keras_gan.errors import UsageError

blas: Any = scipy.linalg.blas  # creates its functions at import, unseen by type checkers


class Moments:
    """Mean and covariance of features, in memory that does not grow with their number.

    Features are collected into blocks of `block` rows. A full block is merged by its own mean and
    its scatter around that mean, all in float64. A mean far from zero therefore costs no digits,
    and the result is bit for bit the same however the rows were batched. Memory is at most
    `16 * dim * (dim + block)` bytes.

    Args:
        block: rows merged at a time, from 1. The default is large enough for fast matrix
            multiplication.

    Reference:
        - [Chan et al., 1983](https://doi.org/10.1080/00031305.1983.10483115): merging moments.
    """

    def __init__(self, block: int = 2048):
        if block < 1:
            raise UsageError(f"block must be at least 1 row. Received: block={block}")
        self.block = block
        self._count = 0  # rows merged so far; the others are in `_pending`
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0), order="F")  # the upper triangle, for BLAS
        self._pending = np.zeros((0, 0))
        self._waiting = 0

    def update(self, features: np.ndarray) -> None:
        """Adds features.

        Args:
            features: `(count, dim)`, finite numbers; float16 and float32 are summed in float64.

        Raises:
            UsageError: not a table of finite numbers, or another `dim` than before.
        """
        features = checked(features)
        if not self._pending.size:
            self._reserve(features.shape[1])
        if features.shape[1] != self.dim:
            raise UsageError(
                "Features of one set must have the same dimension. "
                f"Received: dim={features.shape[1]} after dim={self.dim}"
            )
        for start in range(0, len(features), self.block):
            self._take(features[start : start + self.block])

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._count + self._waiting

    @property
    def dim(self) -> int:
        """Number of columns, 0 before the first update."""
        return self._pending.shape[1]

    @property
    def mean(self) -> np.ndarray:
        """Mean, `(dim,)`, float64."""
        if not self.count:
            raise UsageError("A mean needs at least 1 sample. Received: 0 samples")
        return self._total()[1]

    @property
    def covariance(self) -> np.ndarray:
        """Covariance, `(dim, dim)`, float64, divided by the count minus one."""
        if self.count < 2:
            raise UsageError(f"A covariance needs at least 2 samples. Received: {self.count}")
        count, _, scatter = self._total()
        upper = np.triu(scatter)
        return (upper + np.triu(upper, 1).T) / (count - 1)

    def merge(self, other: Moments) -> None:
        """Adds the rows of other moments, which stay unchanged.

        Raises:
            UsageError: the other's features have another dimension.
        """
        if not other.count:
            return
        if not self._pending.size:
            self._reserve(other.dim)
        if other.dim != self.dim:
            raise UsageError(
                "Merged moments must have the same dimension. "
                f"Received: dim={self.dim} and dim={other.dim}"
            )
        total = _merged(self._total(), other._total())
        self._count, self._mean, self._scatter = total
        self._waiting = 0

    def save(self, path: str | pathlib.Path) -> None:
        """Writes count, mean and scatter (covariance times the count minus one) to an `.npz` file.

        The loaded moments have bit for bit the same covariance.
        """
        if not self.count:
            raise UsageError("Only moments of at least 1 sample can be saved. Received: 0 samples")
        count, mean, scatter = self._total()
        with open(path, "wb") as file:  # given a name, numpy would append .npz
            np.savez(file, count=count, mean=mean, scatter=np.triu(scatter))

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Moments:
        """Returns the moments that `save` wrote.

        Raises:
            UsageError: not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                count, mean = int(file["count"]), np.asarray(file["mean"], np.float64)
                scatter = np.asarray(file["scatter"], np.float64)
        except (KeyError, ValueError, OSError, EOFError, TypeError) as error:
            raise UsageError(
                f"Moments must be an .npz file that `save` wrote. Received: {path} ({error})"
            ) from None
        moments = cls()
        moments._reserve(len(mean))
        moments._count, moments._mean = count, mean
        moments._scatter = np.asfortranarray(scatter)
        return moments

    @classmethod
    def of(cls, features: np.ndarray | Collected | Moments) -> Moments:
        """Returns the moments of features; moments are returned unchanged."""
        if isinstance(features, Moments):
            return features
        moments = cls()
        moments.update(rows(features))
        return moments

    def _reserve(self, dim: int) -> None:
        self._pending = np.empty((self.block, dim))
        self._mean = np.zeros(dim)
        self._scatter = np.zeros((dim, dim), order="F")

    def _take(self, features: np.ndarray) -> None:
        """Appends at most one block of rows, and merges the pending rows when they fill a block."""
        room = self.block - self._waiting
        for part in (features[:room], features[room:]):
            self._pending[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            if self._waiting == self.block:
                total = self._count, self._mean, self._scatter
                self._count, self._mean, self._scatter = _merged_rows(total, self._pending)
                self._waiting = 0

    def _total(self) -> Total:
        """Returns count, mean and scatter of all rows, without changing the blocks."""
        if not self._waiting:
            return self._count, self._mean, self._scatter
        total = self._count, self._mean, self._scatter.copy(order="F")
        return _merged_rows(total, self._pending[: self._waiting].copy())


Total = tuple[int, np.ndarray, np.ndarray]  # count, mean, upper triangle of the scatter


def _merged_rows(total: Total, block: np.ndarray) -> Total:
    """Adds rows; overwrites the scatter and the rows, because copies would take a second."""
    count, mean, scatter = total
    own = block.mean(axis=0)
    block -= own
    scatter = blas.dsyrk(1.0, block.T, beta=1.0, c=scatter, overwrite_c=1)
    return _moved(count, mean, len(block), own, scatter)


def _merged(total: Total, other: Total) -> Total:
    return _moved(*total[:2], *other[:2], np.asfortranarray(total[2] + other[2]))


def _moved(
    count: int, mean: np.ndarray, more: int, other: np.ndarray, scatter: np.ndarray
) -> Total:
    """Moves the sum of two scatters from the two means to the common mean."""
    gap, whole = other - mean, count + more
    scatter = blas.dsyr(count * more / whole, gap, a=scatter, overwrite_a=1)
    return whole, mean + gap * (more / whole), scatter


class Collected:
    """All rows of features, for the metrics that compare individual samples.

    Takes `count * dim * 4` bytes (float32), and twice that while the batches are concatenated.
    """

    def __init__(self) -> None:
        self._batches: list[np.ndarray] = []

    def update(self, features: np.ndarray) -> None:
        """Adds features, `(count, dim)`, finite numbers; kept as float32.

        Raises:
            UsageError: not a table of finite numbers, or another `dim` than before.
        """
        features = checked(features)
        if features.dtype != np.float32:  # in which a number above 3.4e38 becomes infinite
            with np.errstate(over="ignore"):
                features = checked(features.astype(np.float32), "features as float32")
        else:
            features = features.copy()  # the caller may reuse its array
        if self._batches and features.shape[1] != self._batches[0].shape[1]:
            raise UsageError(
                "Features of one set must have the same dimension. Received: "
                f"dim={features.shape[1]} after dim={self._batches[0].shape[1]}"
            )
        self._batches.append(features)

    @property
    def array(self) -> np.ndarray:
        """All rows, `(count, dim)`, float32."""
        if not self._batches:
            return np.zeros((0, 0), np.float32)
        if len(self._batches) > 1:
            self._batches = [np.concatenate(self._batches)]
        return self._batches[0]

    def __len__(self) -> int:
        return sum(len(batch) for batch in self._batches)


def checked(features: np.ndarray, name: str = "features") -> np.ndarray:
    """Returns features as a checked array.

    Raises:
        UsageError: not a table of finite numbers.
    """
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.shape[1]:
        raise UsageError(
            "Features must be a table of numbers, (count, dim). "
            f"Received: {name} of shape {array.shape} and type {array.dtype}"
        )
    for start in range(0, len(array), 4096):  # avoids a copy of the whole array
        finite = np.isfinite(array[start : start + 4096])
        if not finite.all():
            raise UsageError(
                "Features must be finite numbers. Received: "
                f"{name} with NaN or infinity in row {start + int(np.argmin(finite.all(axis=1)))}"
            )
    return array


def rows(features: np.ndarray | Collected, name: str = "features", least: int = 1) -> np.ndarray:
    """Returns the checked array of features.

    Args:
        features: `(count, dim)`, or `Collected`.
        name: their name in an error.
        least: number of rows that the metric needs.

    Raises:
        UsageError: `Moments`, not a table of finite numbers, or too few rows.
    """
    if isinstance(features, Moments):
        raise UsageError(
            "This metric compares individual samples and needs the features themselves, an array "
            f"or Collected. Received: {name} as Moments"
        )
    array = features.array if isinstance(features, Collected) else checked(features, name)
    if len(array) < least:
        raise UsageError(
            f"This metric needs at least {least} real and {least} generated samples. "
            f"Received: {len(array)} {name}"
        )
    return array


def pair(
    real: np.ndarray | Collected, generated: np.ndarray | Collected, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the checked real and generated features, of the same dimension."""
    first = rows(real, "real_features", least)
    second = rows(generated, "generated_features", least)
    if first.shape[1] != second.shape[1]:
        raise UsageError(
            "Real and generated features must have the same dimension. "
            f"Received: dim={first.shape[1]} and dim={second.shape[1]}"
        )
    return first, second


def slices(count: int, size: int) -> Iterator[slice]:
    """Returns consecutive slices of at most `size` that cover `count`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def slices_of(pictures: np.ndarray, values: int) -> Iterator[slice]:
    """Returns consecutive slices of at most `values` values, or of one picture."""
    return slices(len(pictures), max(1, values // pictures[0].size))

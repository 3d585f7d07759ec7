"""Features that arrive batch by batch: their moments, or all of them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.linalg.blas

from keras_gan.errors import UsageError

blas: Any = scipy.linalg.blas  # its functions are made when imported


class Moments:
    """Mean and covariance of features, in memory that does not grow with their number.

    Features are gathered to blocks of `block` rows, and a full block is merged by its own mean and
    its scatter around that mean, all in float64: a mean far from zero cancels nothing, and the
    result is the same to the last bit however the rows were cut into batches. Memory is
    `16 * dim * (dim + block)` bytes at most.

    Args:
        block: rows that are merged at a time, from 1. The default keeps matrix multiplication
            at its speed.

    Reference:
        - [Chan et al., 1983](https://doi.org/10.1080/00031305.1983.10483115): merging moments.
    """

    def __init__(self, block: int = 2048):
        if block < 1:
            raise UsageError(f"A block has at least 1 row. Received: block={block}")
        self.block = block
        self._count = 0  # of the rows merged so far; the others wait in `_pending`
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
                "Features of one set have one dimension. "
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
        """`(dim,)`, float64."""
        if not self.count:
            raise UsageError("A mean needs at least 1 sample. Received: 0 samples")
        return self._total()[1]

    @property
    def covariance(self) -> np.ndarray:
        """`(dim, dim)`, float64, divided by the count less one."""
        if self.count < 2:
            raise UsageError(f"A covariance needs at least 2 samples. Received: {self.count}")
        count, _, scatter = self._total()
        upper = np.triu(scatter)
        return (upper + np.triu(upper, 1).T) / (count - 1)

    def merge(self, other: Moments) -> None:
        """Adds what another set has gathered; the other stays as it is.

        Raises:
            UsageError: the other's features have another dimension.
        """
        if not other.count:
            return
        if not self._pending.size:
            self._reserve(other.dim)
        if other.dim != self.dim:
            raise UsageError(
                "Moments of one dimension can be merged. "
                f"Received: dim={self.dim} and dim={other.dim}"
            )
        total = _merged(self._total(), other._total())
        self._count, self._mean, self._scatter = total
        self._waiting = 0

    def save(self, path: str | pathlib.Path) -> None:
        """Writes count, mean and scatter (covariance times the count less one) to an `.npz` file.

        What is loaded of it gives the same covariance to the last bit.
        """
        if not self.count:
            raise UsageError("Moments of at least 1 sample can be saved. Received: 0 samples")
        count, mean, scatter = self._total()
        with open(path, "wb") as file:  # numpy would add an ending of its own to a name
            np.savez(file, count=count, mean=mean, scatter=np.triu(scatter))

    @classmethod
    def load(cls, path: str | pathlib.Path) -> Moments:
        """Reads what `save` wrote.

        Raises:
            UsageError: the file holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                count, mean = int(file["count"]), np.asarray(file["mean"], np.float64)
                scatter = np.asarray(file["scatter"], np.float64)
        except (KeyError, ValueError, OSError, EOFError, TypeError) as error:
            raise UsageError(
                f"Moments are read from an .npz file that `save` wrote. Received: {path} ({error})"
            ) from None
        moments = cls()
        moments._reserve(len(mean))
        moments._count, moments._mean = count, mean
        moments._scatter = np.asfortranarray(scatter)
        return moments

    @classmethod
    def of(cls, features: np.ndarray | Collected | Moments) -> Moments:
        """The moments of features, or the moments themselves where they are given."""
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
        """Puts at most a block of rows where there is room, merging when it is full."""
        room = self.block - self._waiting
        for part in (features[:room], features[room:]):
            self._pending[self._waiting : self._waiting + len(part)] = part
            self._waiting += len(part)
            if self._waiting == self.block:
                total = self._count, self._mean, self._scatter
                self._count, self._mean, self._scatter = _merged_rows(total, self._pending)
                self._waiting = 0

    def _total(self) -> Total:
        """All rows' count, mean and scatter, without disturbing the blocks."""
        if not self._waiting:
            return self._count, self._mean, self._scatter
        total = self._count, self._mean, self._scatter.copy(order="F")
        return _merged_rows(total, self._pending[: self._waiting].copy())


Total = tuple[int, np.ndarray, np.ndarray]  # count, mean, upper triangle of the scatter


def _merged_rows(total: Total, block: np.ndarray) -> Total:
    """Adds rows; takes the scatter and the rows to itself, as new ones would cost a second."""
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
    """The sum of two scatters, around either's own mean, made that around the common mean."""
    gap, whole = other - mean, count + more
    scatter = blas.dsyr(count * more / whole, gap, a=scatter, overwrite_a=1)
    return whole, mean + gap * (more / whole), scatter


class Collected:
    """Features of which all rows are kept, for the metrics that compare samples one by one.

    Holds `count * dim * 4` bytes (float32), and twice that for the moment in which the batches are
    joined.
    """

    def __init__(self) -> None:
        self._batches: list[np.ndarray] = []

    def update(self, features: np.ndarray) -> None:
        """Adds features, `(count, dim)`, finite numbers; kept as float32.

        Raises:
            UsageError: not a table of finite numbers, or another `dim` than before.
        """
        features = checked(features)
        if features.dtype != np.float32:  # where a number above 3.4e38 becomes infinite
            with np.errstate(over="ignore"):
                features = checked(features.astype(np.float32), "features as float32")
        else:
            features = features.copy()  # the caller may fill its own anew
        if self._batches and features.shape[1] != self._batches[0].shape[1]:
            raise UsageError(
                "Features of one set have one dimension. Received: "
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
    """A table of finite numbers, or a `UsageError` that says what it is instead."""
    array = np.asarray(features)
    if array.ndim != 2 or array.dtype.kind not in "fiub" or not array.shape[1]:
        raise UsageError(
            "Features are a table of numbers, (count, dim). "
            f"Received: {name} of shape {array.shape} and type {array.dtype}"
        )
    for start in range(0, len(array), 4096):  # no copy of the whole
        finite = np.isfinite(array[start : start + 4096])
        if not finite.all():
            raise UsageError(
                "Features must be finite numbers. Received: "
                f"{name} with NaN or infinity in row {start + int(np.argmin(finite.all(axis=1)))}"
            )
    return array


def rows(features: np.ndarray | Collected, name: str = "features", least: int = 1) -> np.ndarray:
    """The array of features that a metric was given, checked.

    Args:
        features: `(count, dim)`, or what has collected it.
        name: how an error calls it.
        least: number of rows that the metric needs.
    """
    if isinstance(features, Moments):
        raise UsageError(
            "This metric compares samples one by one and needs the features themselves, an array "
            f"or Collected. Received: {name} as Moments"
        )
    array = features.array if isinstance(features, Collected) else checked(features, name)
    if len(array) < least:
        raise UsageError(
            f"This metric needs at least {least} samples of either side. "
            f"Received: {len(array)} {name}"
        )
    return array


def pair(
    real: np.ndarray | Collected, generated: np.ndarray | Collected, least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides' features, checked, of one dimension."""
    first = rows(real, "real_features", least)
    second = rows(generated, "generated_features", least)
    if first.shape[1] != second.shape[1]:
        raise UsageError(
            "Both sides' features have one dimension. "
            f"Received: dim={first.shape[1]} and dim={second.shape[1]}"
        )
    return first, second


def slices(count: int, size: int) -> Iterator[slice]:
    """Ranges of at most `size` that cover `count`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))

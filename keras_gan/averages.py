"""Power-function averages, and the reconstruction of other averages from them.

A power-function average of exponent g at time T weights the weights of time t by
p(t) = (g + 1) t^g / T^(g + 1). Its deviation, the standard deviation of t / T under p, is the share
of the training that it averages over. Stored averages of two exponents, at several times, are a
basis in which the profile of any other deviation is found by least squares.

Reference:
    - [Karras et al., 2024](https://arxiv.org/abs/2312.02696), section 3 and appendix C
"""

from __future__ import annotations

import dataclasses
import io
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.arguments import check_number
from keras_gan.errors import UsageError, one_line
from keras_gan.files import delete_leftovers, write_atomically, write_errors

NARROWEST = 0.001  # an average of about the last 0.1 % of the training
WIDEST = 0.28  # just below 12 ** -0.5, the deviation of the exponent 0: all times alike
_KEPT = 16  # most snapshots of a run
_SNAPSHOT = re.compile(r"examples-(\d+)\.npz$")
# Bounds the coefficients, by which the rounding errors of the stored averages are multiplied.
_RIDGE = 1e-11

# Averages of the networks by name: for each deviation the arrays of the weights.
Averages = Mapping[str, Sequence[Sequence[np.ndarray]]]


# ------------------------------------------------------------------------ profiles


def check_deviation(name: str, deviation: Any) -> None:
    """Raises a `UsageError` unless a number can be the deviation of a power-function average."""
    check_number(name, deviation, minimum=NARROWEST, below=WIDEST)


def exponent(deviation: float) -> float:
    """Returns g of (g + 1)^(1/2) (g + 2)^(-1) (g + 3)^(-1/2) = deviation.

    Args:
        deviation: from 0.001 up and below 0.28.
    """
    square = deviation**-2.0
    # (g + 2)^2 (g + 3) = deviation^-2 (g + 1)
    return float(np.roots([1.0, 7.0, 16.0 - square, 12.0 - square]).real.max())


def inner_product(time: float, g: float, other_time: float, other_g: float) -> float:
    """Returns the integral of the product of two profiles.

    Args:
        time: end of the first profile, above 0.
        g: exponent of the first profile.
        other_time: end of the second profile, above 0.
        other_g: exponent of the second profile.
    """
    # Of the two, only the power of the one that ends later differs from 1 where the other ends.
    first, last, power = min(time, other_time), max(time, other_time), other_g
    if time > other_time:
        power = g
    return (g + 1) * (other_g + 1) / (g + other_g + 1) * (first / last) ** power / last


def coefficients(
    times: Sequence[float], exponents: Sequence[float], deviation: float, end: float
) -> tuple[np.ndarray, float]:
    """Returns the factors by which stored averages add up to that of a deviation.

    They minimize the integral of the squared difference of the profiles, and sum to 1, so that
    weights that did not change stay as they are.

    Args:
        times: number of examples at which each average was stored, above 0 and at most `end`.
        exponents: exponent of each stored average.
        deviation: the wanted deviation.
        end: number of examples at which the wanted average ends.

    Returns:
        The factors, and the difference of the profiles as a share of the wanted one, both by their
        root mean squares.
    """
    basis = list(zip(np.asarray(times, float) / end, exponents, strict=True))
    g = exponent(deviation)
    products = np.array([[inner_product(*a, *b) for b in basis] for a in basis])
    wanted = np.array([inner_product(*a, 1.0, g) for a in basis])
    scale = np.diag(products) ** -0.5
    size = len(basis)
    # Lagrange's conditions of the least squares, for profiles of unit length.
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = products * np.outer(scale, scale) + _RIDGE * np.eye(size)
    system[:size, size] = system[size, :size] = scale
    found = np.linalg.solve(system, np.append(wanted * scale, 1.0))[:size] * scale
    length = inner_product(1.0, g, 1.0, g)
    square = found @ products @ found - 2 * found @ wanted + length
    return found, float(np.sqrt(max(square, 0.0) / length))


# ------------------------------------------------------------------------ reconstruction


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Stored averages of one time.

    Args:
        examples_seen: the time.
        deviations: the deviation of each average.
        read: returns the averages.
    """

    examples_seen: int
    deviations: tuple[float, ...]
    read: Callable[[], Averages]


def reconstruct(
    snapshots: Iterable[Snapshot], deviation: float, end: float | None = None
) -> tuple[dict[str, list[np.ndarray]], float]:
    """Returns the average of a deviation that was not stored, and the error of its profile.

    Args:
        snapshots: stored averages.
        deviation: standard deviation of the average's profile, as a share of the training: from
            0.001 up and below 0.28.
        end: number of examples at which the average ends; by default the last snapshot's. Later
            snapshots are not used.

    Returns:
        The weights of each network, and the error of `coefficients`.

    Raises:
        UsageError: a deviation out of range, or no snapshot up to the end.
    """
    check_deviation("deviation", deviation)
    ordered = sorted(snapshots, key=lambda snapshot: snapshot.examples_seen)
    used = [s for s in ordered if s.examples_seen and (end is None or s.examples_seen <= end)]
    if not used:
        raise UsageError(
            "A reconstruction needs averages stored up to its end. Received: "
            f"{len(ordered)} snapshots, {'end=' + str(end) if end else 'none after a step'}"
        )
    each = [(s.examples_seen, exponent(d)) for s in used for d in s.deviations]
    times, exponents = zip(*each, strict=True)
    end = used[-1].examples_seen if end is None else end
    factors, error = coefficients(times, exponents, deviation, end)
    remaining = iter(factors)
    total = _Sum()
    for snapshot in used:
        stored, given = snapshot.read(), [next(remaining) for _ in snapshot.deviations]
        for name, copies in stored.items():
            for factor, arrays in zip(given, copies, strict=True):
                total.add(name, factor, arrays)
    return total.values(), error


class _Sum:
    """Sums of arrays with factors.

    A sum of nonnegative arrays, such as variances, stays nonnegative.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[np.ndarray]] = {}
        self._least: dict[str, list[float]] = {}
        self._last: dict[str, list[np.ndarray]] = {}

    def add(self, name: str, factor: float, arrays: Sequence[np.ndarray]) -> None:
        sums = self._sums.setdefault(name, [np.zeros(a.shape) for a in arrays])
        least = self._least.setdefault(name, [0.0] * len(arrays))
        for i, array in enumerate(arrays):
            sums[i] += factor * array.astype(np.float64)
            least[i] = min(least[i], float(array.min(initial=0.0)))
        self._last[name] = list(arrays)

    def values(self) -> dict[str, list[np.ndarray]]:
        return {
            name: [
                np.where((total < 0) & (least == 0), last, total).astype(last.dtype)
                for total, least, last in zip(
                    sums, self._least[name], self._last[name], strict=True
                )
            ]
            for name, sums in self._sums.items()
        }


# ------------------------------------------------------------------------ snapshots


class SnapshotFolder:
    """Snapshots of a training in the folder `averages/` of its run, at most 16.

    They lie at multiples of an interval that doubles as the training goes on. It depends on the
    number of examples alone, so that a training needs no length and a resumed one has the
    snapshots of an uninterrupted one.

    Args:
        path: the folder, which is made when it is needed.
        every: the smallest interval, in examples.
    """

    def __init__(self, path: pathlib.Path, every: int = 1):
        self.path, self.every = path, every

    def is_due(self, seen: int) -> bool:
        """Returns whether a snapshot belongs to a number of examples."""
        return seen % self._interval(seen) == 0

    def save(self, seen: int, deviations: Sequence[float], averages: Averages) -> pathlib.Path:
        """Writes a snapshot, and deletes those that the interval now leaves out.

        Args:
            seen: number of examples seen.
            deviations: the deviation of each average.
            averages: the averages of the networks by name.
        """
        arrays: dict[str, Any] = {
            f"{name}/{i}/{k}": array
            for name, copies in averages.items()
            for i, copy in enumerate(copies)
            for k, array in enumerate(copy)
        }
        arrays["deviations"] = np.array(deviations, np.float64)
        content = io.BytesIO()
        np.savez(content, **arrays)
        with write_errors(self.path):
            self.path.mkdir(exist_ok=True)
        path = self.path / f"examples-{seen:09d}.npz"
        write_atomically(path, content.getvalue())
        interval = self._interval(seen)
        self._delete(lambda other: other != seen and other % interval > 0)
        with write_errors(self.path):
            delete_leftovers(self.path)
        return path

    def drop_after(self, seen: int) -> None:
        """Deletes the snapshots of examples that a resume or a roll back has discarded."""
        self._delete(lambda other: other > seen)

    def snapshots(self) -> list[Snapshot]:
        """Returns the snapshots in order, without their weights.

        Raises:
            UsageError: a snapshot that cannot be read.
        """
        return [
            Snapshot(
                seen,
                tuple(_read(file, lambda content: content["deviations"].tolist())),
                lambda file=file: _read(file, _averages_of),
            )
            for seen, file in self._files().items()
        ]

    def _delete(self, is_unwanted: Callable[[int], bool]) -> None:
        for other, file in self._files().items():
            if is_unwanted(other):
                with write_errors(file):
                    file.unlink(missing_ok=True)

    def _interval(self, seen: int) -> int:
        interval = self.every
        while seen // interval >= _KEPT:
            interval *= 2
        return interval

    def _files(self) -> dict[int, pathlib.Path]:
        """Returns the files by number of examples, in order."""
        found = {}
        for file in self.path.glob("examples-*.npz"):
            if match := _SNAPSHOT.search(file.name):
                found[int(match[1])] = file
        return dict(sorted(found.items()))


def _read(file: pathlib.Path, read: Callable[[Any], Any]) -> Any:
    try:
        with np.load(file) as content:
            return read(content)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"A snapshot of averages must be whole. Received: {file}: {one_line(error)}"
        ) from None


def _averages_of(content: Any) -> Averages:
    found: dict[str, dict[int, dict[int, np.ndarray]]] = {}
    for key in content.files:
        if key != "deviations":
            name, i, k = key.rsplit("/", 2)
            found.setdefault(name, {}).setdefault(int(i), {})[int(k)] = content[key]
    return {
        name: [[arrays[k] for k in sorted(arrays)] for _, arrays in sorted(copies.items())]
        for name, copies in found.items()
    }

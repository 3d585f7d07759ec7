"""Arguments of a client's calls: checks, and the requests they are split into."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import numpy as np

from serving import interpolation
from serving.errors import UsageError
from serving.seeds import check_seeds, latents_from_seeds

_NUMBERS = (int, float, np.integer, np.floating)


class SampleArguments(TypedDict, total=False):
    """Keyword arguments of `generate` and `pictures`, beside the seeds."""

    seed: int | None
    count: int | None
    labels: Any
    truncation: float
    interpolate: Sequence[int] | None
    around: int | None
    radius: float
    model: str | None
    version: int | None


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """Checked arguments of a call: seeds, or seeds to interpolate between.

    Args:
        seeds: int64 array `(batch,)`; not used with `stations`.
        labels: one class for all samples, a list of one for each, or `None`.
        truncation: factor on the latents.
        stations: int64 array of the seeds to interpolate between, or `None`.
        count: number of points of an interpolation.
        around: seed whose neighbors are asked for, or `None`.
        radius: distance of the neighbors, 0 to 1.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
    """

    seeds: np.ndarray
    labels: Any = None
    truncation: float = 1.0
    stations: np.ndarray | None = None
    count: int = 1
    around: int | None = None
    radius: float = 0.3
    model: str | None = None
    version: int | None = None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.count if self.stations is not None else len(self.seeds)

    @property
    def is_plain(self) -> bool:
        """True if seeds and labels alone describe the samples."""
        return self.stations is None and self.around is None and self.truncation == 1

    def split(self, size: int) -> Iterator[SampleRequest]:
        """Splits the seeds into requests of at most `size`; an interpolation stays whole."""
        if self.stations is not None or len(self.seeds) <= size:
            yield self
            return
        for start in range(0, len(self.seeds), size):
            rows = slice(start, start + size)
            labels = self.labels[rows] if isinstance(self.labels, list) else self.labels
            yield dataclasses.replace(self, seeds=self.seeds[rows], labels=labels)

    def latents(self, size: int) -> np.ndarray:
        """Returns the latent vectors, equal to those that `keras-gan serve` computes."""
        if self.stations is not None:
            z = interpolation.interpolate(latents_from_seeds(self.stations, size), self.count)
        elif self.around is not None:
            center = latents_from_seeds([self.around], size)[0]
            z = interpolation.around(center, latents_from_seeds(self.seeds, size), self.radius)
        else:
            z = latents_from_seeds(self.seeds, size)
        return z * np.float32(self.truncation)

    def label_seeds(self) -> np.ndarray:
        """Returns the seeds that determine the labels if the caller names none."""
        if self.stations is not None:
            return np.repeat(self.stations[:1], self.count)
        if self.around is not None:
            return np.full(len(self.seeds), self.around, np.int64)
        return self.seeds


def check_arguments(
    seeds: Any = None,
    seed: int | None = None,
    count: int | None = None,
    labels: Any = None,
    truncation: float = 1.0,
    interpolate: Any = None,
    around: int | None = None,
    radius: float = 0.3,
    model: str | None = None,
    version: int | None = None,
) -> SampleRequest:
    """Checks the arguments of `Client.generate`, which documents them.

    Raises:
        UsageError: an argument out of its range, or a combination that names no samples.
    """
    _check_combination(seeds, seed, count, interpolate, around)
    _check_ranges(count, truncation, radius)
    if seeds is None:
        first = check_seeds(0 if seed is None else seed)
        if len(first) != 1:
            raise UsageError(f"`seed` must be one integer. Received: seed={seed!r:.80}")
        seeds = range(int(first[0]), int(first[0]) + int(count or 1))
    if interpolate is not None and len(check_seeds(interpolate)) == 0:
        raise UsageError(
            f"`interpolate` must name at least one seed. Received: interpolate={interpolate!r}"
        )
    request = SampleRequest(
        check_seeds(seeds),
        truncation=float(truncation),
        stations=None if interpolate is None else check_seeds(interpolate),
        count=int(count or 1),
        around=None if around is None else int(check_seeds(around)[0]),
        radius=float(radius),
        model=model,
        version=version,
    )
    return dataclasses.replace(request, labels=_check_labels(labels, request.batch))


def _check_combination(seeds: Any, seed: Any, count: Any, stations: Any, center: Any) -> None:
    """Checks that exactly one way of naming samples is used."""
    ways = {"seeds": seeds, "seed or count": seed if seed is not None else count}
    ways = {"interpolate": stations} if stations is not None else ways
    if center is not None and seeds is None and seed is None:
        ways["seed or count"] = count or 1
    named = [name for name, value in ways.items() if value is not None]
    if len(named) != 1 or (stations is not None and (seeds, seed, center) != (None,) * 3):
        raise UsageError(
            "Samples must be named by `seeds`, by `seed` and `count`, or by `interpolate` and "
            f"`count`. Received: seeds={seeds!r:.80}, seed={seed!r}, count={count!r}, "
            f"interpolate={stations!r:.80}, around={center!r}"
        )


def _check_ranges(count: Any, truncation: Any, radius: Any) -> None:
    if count is not None and not (isinstance(count, int | np.integer) and count >= 1):
        raise UsageError(f"`count` must be at least 1. Received: count={count!r}")
    if not (isinstance(truncation, _NUMBERS) and math.isfinite(truncation) and truncation >= 0):
        raise UsageError(
            f"`truncation` must be finite and at least 0. Received: truncation={truncation!r}"
        )
    if not (isinstance(radius, _NUMBERS) and 0 <= radius <= 1):
        raise UsageError(f"`radius` must be between 0 and 1. Received: radius={radius!r}")


def _check_labels(labels: Any, batch: int) -> Any:
    """Returns one label, or a list of one for each sample, as plain Python values."""
    if not isinstance(labels, Sequence | np.ndarray) or isinstance(labels, str):
        return labels
    if len(labels) not in (1, batch):
        raise UsageError(
            f"`labels` must hold one label, or one for each of the {batch} samples. "
            f"Received: {len(labels)} labels"
        )
    plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
    return plain[0] if len(plain) == 1 else plain

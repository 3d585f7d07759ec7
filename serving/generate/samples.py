"""Samples of a `/v1/generate` request: by seeds, around a sample, or along a walk.

A request's samples are numbered from 0. The classes here map a range of numbers to the inputs of
the generator, and a number to its description in responses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from serving import interpolation
from serving.bundle import Bundle
from serving.checks import (
    MAX_SEED,
    check_integer,
    check_label_count,
    check_number,
    check_seed_list,
)
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.seeds import latents_from_seeds

_MAX_COUNT = 2**31
_WALK_COUNT = 8
_RADIUS = 0.3
_MAX_CACHED = 8  # latents that a walk keeps


class SeedSamples:
    """Samples of consecutive or of listed seeds.

    Args:
        bundle: the generator.
        truncation: factor on the latents.
        first: seed of the first sample.
        count: number of samples.
        seeds: int64 array `(count,)`; by default `first`, `first + 1`, ...
    """

    def __init__(
        self,
        bundle: Bundle,
        truncation: float,
        first: int = 0,
        count: int = 1,
        seeds: np.ndarray | None = None,
    ):
        self.bundle = bundle
        self.truncation = truncation
        self.first_seed: int | None = first  # None if the samples have no seeds of their own
        self.count = count
        self._first = first
        self._seeds = seeds
        self._labels: np.ndarray | None = None  # (count,); None for those of the seeds

    def set_labels(self, labels: Any) -> None:
        """Sets the class ids or names that the request gives.

        Args:
            labels: one for all samples, a list with one for each, or `None` for the default.

        Raises:
            UsageError: the wrong number of labels, or one that is not a class of the generator.
        """
        if labels is None:
            return
        if isinstance(labels, list):
            # Before the elements are read: a body can hold millions.
            check_label_count(len(labels), self.count)
            wrong = any(isinstance(x, bool | list | dict | None) for x in labels)
        else:
            wrong = isinstance(labels, bool | dict)
        if wrong:
            raise UsageError(
                f"`labels` must be class ids or names. Received: labels={short_repr(labels)}"
            )
        if isinstance(labels, list) and len(labels) == 1:
            labels = labels[0]
        size = self.count if isinstance(labels, list) else 1
        ids = self.bundle.label_ids(np.empty(size), labels)
        if ids is not None:
            self._labels = np.broadcast_to(ids, self.count)

    def seeds(self, first: int, last: int) -> np.ndarray:
        """Returns the seeds of samples `first` to `last - 1`."""
        if self._seeds is not None:
            return self._seeds[first:last]
        return np.arange(self._first + first, self._first + last, dtype=np.int64)

    def labels(self, first: int, last: int) -> np.ndarray | None:
        """Returns the class ids of samples `first` to `last - 1`; `None` without classes."""
        if self._labels is not None:
            return self._labels[first:last]
        if not self.bundle.num_classes:
            return None
        return self.seeds(first, last) % self.bundle.num_classes

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        labels = None if self._labels is None else self._labels[first:last]
        return SampleJob(last - first, self.seeds(first, last), None, labels, self.truncation)

    def descriptions(self, first: int, last: int) -> list[dict[str, Any]]:
        """Returns the JSON fields that identify samples `first` to `last - 1`."""
        found = self._origins(first, last)
        labels = self.labels(first, last)
        if labels is not None:
            for fields, label in zip(found, labels.tolist(), strict=True):
                fields["label"] = label
        return found

    def _origins(self, first: int, last: int) -> list[dict[str, Any]]:
        return [{"seed": seed} for seed in self.seeds(first, last).tolist()]

    def facts(self, number: int) -> dict[str, Any]:
        """Returns the provenance of one sample."""
        facts = self._origin(number)
        labels = self.labels(number, number + 1)
        if labels is not None:
            facts["label"] = int(labels[0])
        return facts | self._truncation()

    def facts_of_all(self) -> dict[str, Any]:
        """Returns the provenance of all samples together."""
        return self._all_origins() | self._truncation()

    def _origin(self, number: int) -> dict[str, Any]:
        return {"seed": int(self.seeds(number, number + 1)[0])}

    def _all_origins(self) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        if self._seeds is not None:
            facts["seeds"] = ", ".join(map(str, self._seeds[:1024]))
        else:
            facts["first_seed"] = self._first
        facts["count"] = self.count
        return facts

    def _truncation(self) -> dict[str, Any]:
        return {} if self.truncation == 1 else {"truncation": f"{self.truncation:g}"}


class LatentSamples(SeedSamples):
    """Samples whose latents are computed here instead of drawn from their seeds by the engine."""

    _origin_seed = 0  # whose default label all samples have

    def set_labels(self, labels: Any) -> None:
        """Sets the labels; by default those of the center or of the first seed."""
        if labels is None and self.bundle.num_classes:
            own = np.array([self._origin_seed], np.int64) % self.bundle.num_classes
            self._labels = np.broadcast_to(own, self.count)
        else:
            super().set_labels(labels)

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        latents = self._latents(first, last).astype(np.float32) * np.float32(self.truncation)
        return SampleJob(last - first, None, latents, self.labels(first, last))

    def _latents(self, first: int, last: int) -> np.ndarray:
        raise NotImplementedError


class NeighborSamples(LatentSamples):
    """Samples around a center, each in the direction of a seed.

    Args:
        bundle: the generator.
        truncation: factor on the latents.
        center: seed of the center.
        radius: 0 generates the center, 1 the seeds' own samples.
        first: as for `SeedSamples`.
        count: as for `SeedSamples`.
        seeds: as for `SeedSamples`.
    """

    def __init__(
        self,
        bundle: Bundle,
        truncation: float,
        center: int,
        radius: float,
        first: int = 0,
        count: int = 1,
        seeds: np.ndarray | None = None,
    ):
        super().__init__(bundle, truncation, first, count, seeds)
        self._origin_seed = self._center = center
        self._radius = radius

    def _latents(self, first: int, last: int) -> np.ndarray:
        dim = self.bundle.latent_dim
        center = latents_from_seeds([self._center], dim)[0]
        latents = latents_from_seeds(self.seeds(first, last), dim)
        return interpolation.around(center, latents, self._radius)

    def _origins(self, first: int, last: int) -> list[dict[str, Any]]:
        common = {"around": self._center, "radius": self._radius}
        return [fields | common for fields in super()._origins(first, last)]

    def _origin(self, number: int) -> dict[str, Any]:
        return super()._origin(number) | self._neighborhood()

    def _all_origins(self) -> dict[str, Any]:
        return super()._all_origins() | self._neighborhood()

    def _neighborhood(self) -> dict[str, Any]:
        return {"around": self._center, "radius": f"{self._radius:g}"}


class WalkSamples(LatentSamples):
    """Samples along a walk from seed to seed on the sphere, both ends included.

    Args:
        bundle: the generator.
        truncation: factor on the latents.
        stations: seeds to pass through, at least two.
        count: number of samples.
    """

    def __init__(self, bundle: Bundle, truncation: float, stations: tuple[int, ...], count: int):
        super().__init__(bundle, truncation, 0, count)
        self.first_seed = None
        self._stations = stations
        self._origin_seed = stations[0]
        self._station_latents: dict[int, np.ndarray] = {}

    def _latents(self, first: int, last: int) -> np.ndarray:
        return np.stack([self._between(number) for number in range(first, last)])

    def _between(self, number: int) -> np.ndarray:
        leg, t = interpolation.place(number, self.count, len(self._stations))
        a = self._latents_of_station(self._stations[leg])
        b = self._latents_of_station(self._stations[leg + 1])
        return interpolation.slerp(a, b, t)

    def _latents_of_station(self, seed: int) -> np.ndarray:
        cached = self._station_latents
        if seed not in cached:
            if len(cached) > _MAX_CACHED:
                cached.clear()
            latents = latents_from_seeds([seed], self.bundle.latent_dim)
            cached[seed] = latents[0].astype(np.float64)
        return cached[seed]

    def _origins(self, first: int, last: int) -> list[dict[str, Any]]:
        found = []
        for number in range(first, last):
            leg, t = interpolation.place(number, self.count, len(self._stations))
            found.append({"from": self._stations[leg], "to": self._stations[leg + 1], "at": t})
        return found

    def _origin(self, number: int) -> dict[str, Any]:
        leg, t = interpolation.place(number, self.count, len(self._stations))
        a, b = self._stations[leg], self._stations[leg + 1]
        return {"between_seeds": f"{a}, {b} at {t:g}"}

    def _all_origins(self) -> dict[str, Any]:
        return {
            "between_seeds": ", ".join(map(str, self._stations[:64])),
            "count": self.count,
        }


def read_samples(bundle: Bundle, given: dict[str, Any], truncation: float) -> SeedSamples:
    """Checks the fields that choose the samples, and returns the samples.

    Args:
        bundle: the generator.
        given: the request's fields, without those that are null.
        truncation: checked factor on the latents.

    Raises:
        UsageError: a value that is not allowed, or fields that exclude each other.
    """
    if "interpolate" in given:
        return _read_walk(bundle, given, truncation)
    center = check_integer("around", given["around"], 0, MAX_SEED) if "around" in given else None
    radius = check_number("radius", given["radius"], 0, 1) if "radius" in given else _RADIUS
    chosen = _read_seeds(given)
    if center is None:
        return SeedSamples(bundle, truncation, *chosen)
    return NeighborSamples(bundle, truncation, center, radius, *chosen)


def _read_seeds(given: dict[str, Any]) -> tuple[int, int, np.ndarray | None]:
    """Returns the first seed, the number of samples, and the seeds if the request lists them."""
    if "seeds" in given:
        if "seed" in given or "count" in given:
            other = "seed" if "seed" in given else "count"
            raise UsageError(
                "`seeds` excludes `seed` and `count`. "
                f"Received: seeds={short_repr(given['seeds'])}, {other}={short_repr(given[other])}"
            )
        seeds = check_seed_list("seeds", given["seeds"])
        return int(seeds[0]), len(seeds), seeds
    first = check_integer("seed", given["seed"], 0, MAX_SEED) if "seed" in given else 0
    count = 1
    if "count" in given:
        count = check_integer("count", given["count"], 1, _MAX_COUNT)
        if first + count > 2**63:
            raise UsageError(
                f"A seed must be at least 0 and below 2**63. Received: seed={first}, count={count}"
            )
    return first, count, None


def _read_walk(bundle: Bundle, given: dict[str, Any], truncation: float) -> WalkSamples:
    if others := given.keys() & {"seeds", "seed", "around", "radius"}:
        other = min(others)
        raise UsageError(
            "`interpolate` excludes `seeds`, `seed`, `around` and `radius`. "
            f"Received: {other}={short_repr(given[other])}"
        )
    walk = given["interpolate"]
    stations = tuple(check_seed_list("interpolate", walk).tolist())
    if len(stations) < 2:
        raise UsageError(
            f"`interpolate` must name 2 seeds or more. Received: interpolate={short_repr(walk)}"
        )
    count = _WALK_COUNT
    if "count" in given:
        count = check_integer("count", given["count"], 2, _MAX_COUNT)
    return WalkSamples(bundle, truncation, stations, count)

"""Samples of a `/v1/generate` request: by seeds, from given inputs, around a sample, on a walk.

A request's samples are numbered from 0. The classes here map a range of numbers to the inputs of
the network, and a number to its description in responses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving import interpolation
from serving.bundle import Bundle
from serving.checks import (
    MAX_SEED,
    check_boolean,
    check_integer,
    check_label_count,
    check_number,
    check_seed_list,
)
from serving.engine import SampleJob
from serving.errors import UsageError, short_repr
from serving.inputs import Input, draw, resolve

_MAX_COUNT = 2**31
_WALK_COUNT = 8
_RADIUS = 0.3
_MAX_CACHED = 8  # latents that a walk keeps
_OF_WALKS = frozenset(("loop", "easing"))
_NONE_GIVEN: Mapping[str, np.ndarray] = {}


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
        self.given: Mapping[str, np.ndarray] = _NONE_GIVEN  # (count, ...) by input
        self.sizes: dict[str, int] = {}  # that the given inputs give to names of sizes

    def set_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets the inputs that the request gives.

        Args:
            arrays: `(batch, ...)` by name, with one sample for all or one for each.

        Raises:
            UsageError: an unknown or missing input, or one that does not fit.
        """
        inputs = self.bundle.inputs
        given = inputs.check_given(arrays, self.count)
        self.sizes = inputs.check_sizes(given)
        if inputs.classes is not None and inputs.classes.name in given:
            self._labels = given.pop(inputs.classes.name)
        self.given = given

    def set_labels(self, labels: Any) -> None:
        """Sets the class ids or names that the request gives.

        Args:
            labels: one for all samples, a list with one for each, or `None` for the default.

        Raises:
            UsageError: the wrong number of labels, or one that is not a class of the generator.
        """
        if labels is None:
            return
        if self._labels is not None:
            raise UsageError(
                "`labels` and the input of classes exclude each other. "
                f"Received: labels={short_repr(labels)}"
            )
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
        return self.bundle.inputs.own_classes(self.seeds(first, last))

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        labels = None if self._labels is None else self._labels[first:last]
        seeds = self.seeds(first, last)
        if not self.given:
            return SampleJob(last - first, seeds, _NONE_GIVEN, labels, self.truncation)
        return self._job(seeds, first, last, labels)

    def _job(
        self,
        seeds: np.ndarray | None,
        first: int,
        last: int,
        labels: np.ndarray | None,
        drawn: Mapping[str, np.ndarray] = _NONE_GIVEN,
    ) -> SampleJob:
        """Returns a job with its part of the given inputs, and with inputs that are drawn here."""
        given = {name: array[first:last] for name, array in self.given.items()} | dict(drawn)
        job = SampleJob(last - first, seeds, given, labels, self.truncation)
        job.sizes = tuple(self.sizes.items())
        return job

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


class UnseededSamples(SeedSamples):
    """Samples of a network without random inputs: one for each of the given inputs."""

    def __init__(self, bundle: Bundle, truncation: float, count: int):
        super().__init__(bundle, truncation, 0, count)
        self.first_seed = None

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        return self._job(None, first, last, None)

    def labels(self, first: int, last: int) -> np.ndarray | None:
        """Returns `None`: such a network has no labels."""

    def _origins(self, first: int, last: int) -> list[dict[str, Any]]:
        return [{} for _ in range(first, last)]

    def _origin(self, number: int) -> dict[str, Any]:
        return {}

    def _all_origins(self) -> dict[str, Any]:
        return {"count": self.count}


class LatentSamples(SeedSamples):
    """Samples whose normal inputs are computed here instead of drawn by the engine.

    All normal inputs move together. Other random inputs keep the values of one seed.
    """

    _origin_seed = 0  # whose label and other random inputs all samples have

    def set_inputs(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets the inputs that the request gives, of which one that moves is left."""
        super().set_inputs(arrays)
        names = [port.name for port in self.bundle.inputs.normal]
        if all(name in self.given for name in names):
            raise UsageError(
                "`interpolate` and `around` need a normal input that is not given. "
                f"Received: inputs={', '.join(names)}"
            )

    def set_labels(self, labels: Any) -> None:
        """Sets the labels; by default those of the center or of the first seed."""
        if labels is not None or self._labels is not None:
            super().set_labels(labels)
            return
        own = self.bundle.label_ids(np.array([self._origin_seed], np.int64))
        if own is not None:
            self._labels = np.broadcast_to(own, self.count)

    def job(self, first: int, last: int) -> SampleJob:
        """Returns the job that generates samples `first` to `last - 1`."""
        inputs = self.bundle.inputs
        factor = np.float32(1.0 if "truncation" in inputs.by_name else self.truncation)
        drawn = {}
        for port in inputs.normal:
            if port.name not in self.given:
                latents = self._latents(port, first, last).astype(np.float32) * factor
                shape = resolve(port, self.sizes)
                drawn[port.name] = latents.reshape(last - first, *shape).astype(port.dtype)
        seeds = np.full(last - first, self._origin_seed, np.int64)
        return self._job(seeds, first, last, self.labels(first, last), drawn)

    def _latents(self, port: Input, first: int, last: int) -> np.ndarray:
        """Returns the values of an input for some samples, `(last - first, size)`."""
        raise NotImplementedError

    def _draw(self, port: Input, seeds: np.ndarray) -> np.ndarray:
        """Returns the values of an input for seeds, `(batch, size)`."""
        shape = resolve(port, self.sizes)
        return draw(port, seeds, shape).reshape(len(seeds), math.prod(shape))


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

    def _latents(self, port: Input, first: int, last: int) -> np.ndarray:
        center = self._draw(port, np.array([self._center], np.int64))[0]
        latents = self._draw(port, self.seeds(first, last))
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
    """Samples along a walk from seed to seed on the sphere.

    Args:
        bundle: the generator.
        truncation: factor on the latents.
        stations: seeds to pass through, at least two.
        path: place of each sample between them.
    """

    def __init__(
        self,
        bundle: Bundle,
        truncation: float,
        stations: tuple[int, ...],
        path: interpolation.Path,
    ):
        super().__init__(bundle, truncation, 0, path.count)
        self.first_seed = None
        self._stations = stations
        self._path = path
        self._origin_seed = stations[0]
        self._station_latents: dict[tuple[str, int], np.ndarray] = {}

    def set_labels(self, labels: Any) -> None:
        """Sets the labels: one for all, one for each sample, or one for each station.

        A sample has the label of its nearest station.
        """
        if isinstance(labels, list) and len(labels) == len(self._stations):
            labels = [labels[self._path.nearest(number)] for number in range(self.count)]
        super().set_labels(labels)

    def _latents(self, port: Input, first: int, last: int) -> np.ndarray:
        return np.stack([self._between(port, number) for number in range(first, last)])

    def _between(self, port: Input, number: int) -> np.ndarray:
        before, after, t = self._path.place(number)
        a = self._latents_of_station(port, self._stations[before])
        b = self._latents_of_station(port, self._stations[after])
        return interpolation.slerp(a, b, t)

    def _latents_of_station(self, port: Input, seed: int) -> np.ndarray:
        cached = self._station_latents
        if (port.name, seed) not in cached:
            if len(cached) > _MAX_CACHED:
                cached.clear()
            latents = self._draw(port, np.array([seed], np.int64))[0]
            cached[port.name, seed] = latents.astype(np.float64)
        return cached[port.name, seed]

    def _origins(self, first: int, last: int) -> list[dict[str, Any]]:
        found = []
        for number in range(first, last):
            before, after, t = self._path.place(number)
            found.append({"from": self._stations[before], "to": self._stations[after], "at": t})
        return found

    def _origin(self, number: int) -> dict[str, Any]:
        before, after, t = self._path.place(number)
        return {"between_seeds": f"{self._stations[before]}, {self._stations[after]} at {t:g}"}

    def _all_origins(self) -> dict[str, Any]:
        return {
            "between_seeds": ", ".join(map(str, self._stations[:64])),
            "count": self.count,
        }


def read_samples(
    bundle: Bundle, given: dict[str, Any], truncation: float, most: int = 1
) -> SeedSamples:
    """Checks the fields that choose the samples, and returns the samples.

    Args:
        bundle: the generator.
        given: the request's fields, without those that are null.
        truncation: checked factor on the latents.
        most: largest number of samples of a given input, the default number of samples.

    Raises:
        UsageError: a value that is not allowed, or fields that exclude each other.
    """
    if not bundle.inputs.normal and (paths := given.keys() & {"interpolate", "around"}):
        name = min(paths)
        raise UsageError(
            f"`{name}` needs a model with normal inputs. "
            f"Received: {name}={short_repr(given[name])} for {bundle.name!r}"
        )
    if "interpolate" not in given and not _OF_WALKS.isdisjoint(given):
        name = min(_OF_WALKS & given.keys())
        raise UsageError(
            f"`{name}` needs `interpolate`. Received: {name}={short_repr(given[name])}"
        )
    for name in ("seeds", "seed"):
        if name in given:
            bundle.inputs.check_seeded(name, given[name])
    if "interpolate" in given:
        return _read_walk(bundle, given, truncation, most)
    center = check_integer("around", given["around"], 0, MAX_SEED) if "around" in given else None
    radius = check_number("radius", given["radius"], 0, 1) if "radius" in given else _RADIUS
    if center is None and "radius" in given:
        raise UsageError(f"`radius` needs `around`. Received: radius={radius:g}")
    chosen = _read_seeds(given, most)
    if not bundle.inputs.seeded:
        return UnseededSamples(bundle, truncation, chosen[1])
    if center is None:
        return SeedSamples(bundle, truncation, *chosen)
    return NeighborSamples(bundle, truncation, center, radius, *chosen)


def _read_seeds(given: dict[str, Any], most: int) -> tuple[int, int, np.ndarray | None]:
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
    count = most
    if "count" in given:
        count = check_integer("count", given["count"], 1, _MAX_COUNT)
    if first + count > 2**63:
        raise UsageError(
            f"A seed must be at least 0 and below 2**63. Received: seed={first}, count={count}"
        )
    return first, count, None


def _read_walk(bundle: Bundle, given: dict[str, Any], truncation: float, most: int) -> WalkSamples:
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
    count = most if most > 1 else _WALK_COUNT
    if "count" in given:
        count = check_integer("count", given["count"], 2, _MAX_COUNT)
    loop = "loop" in given and check_boolean("loop", given["loop"])
    easing = given.get("easing", "linear")
    path = interpolation.Path(len(stations), count, loop, easing)
    return WalkSamples(bundle, truncation, stations, path)

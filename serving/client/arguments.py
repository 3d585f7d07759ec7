"""Arguments of a client's calls: checks, and the requests they are split into."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from serving import interpolation
from serving.checks import check_truncation, describe_sample, is_integer, is_real
from serving.client.given import GivenFile, read_value
from serving.errors import UsageError, short_repr
from serving.inputs import Inputs, draw, resolve
from serving.labels import several
from serving.seeds import check_seeds

_RADIUS = 0.3


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """Checked arguments of a call: seeds, or seeds to interpolate between, and given inputs.

    Args:
        seeds: int64 array `(batch,)`; not used with `stations`.
        labels: one class for all samples, a list of one for each, or `None`.
        truncation: value of the input `truncation`, else factor on the normal inputs.
        stations: int64 array of the seeds to interpolate between, or `None`.
        count: number of points of an interpolation.
        loop: the interpolation returns to its first seed, and ends one step before it.
        easing: speed of the interpolation, see `interpolation.Path`.
        around: seed whose neighbors are asked for, or `None`.
        radius: distance of the neighbors, 0 to 1.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
        given: arrays `(batch, ...)` or `(1, ...)`, and files of one sample, by input name.
        is_seeded: the caller has named or counted seeds; else they count up from 0.
        names_seeds: argument with which the caller has named seeds, or `None`.
    """

    seeds: np.ndarray
    labels: Any = None
    truncation: float = 1.0
    stations: np.ndarray | None = None
    count: int = 1
    loop: bool = False
    easing: str = "linear"
    around: int | None = None
    radius: float = _RADIUS
    model: str | None = None
    version: int | None = None
    given: Mapping[str, np.ndarray | GivenFile] = dataclasses.field(default_factory=dict)
    is_seeded: bool = True
    names_seeds: str | None = None

    @property
    def batch(self) -> int:
        """Number of samples."""
        return self.count if self.stations is not None else len(self.seeds)

    @property
    def is_plain(self) -> bool:
        """True if seeds, labels and given inputs alone describe the samples."""
        return self.stations is None and self.around is None and self.truncation == 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The given arrays by input name."""
        return {key: x for key, x in self.given.items() if isinstance(x, np.ndarray)}

    @property
    def files(self) -> dict[str, GivenFile]:
        """The given files by input name."""
        return {key: x for key, x in self.given.items() if isinstance(x, GivenFile)}

    def fitted(self, inputs: Inputs) -> SampleRequest:
        """Returns the request for a network, without the numbers of samples that need no seeds.

        Raises:
            UsageError: seeds or a truncation that have no effect on the network.
        """
        inputs.check_truncation(self.truncation, self.given)
        if inputs.seeded:
            return self
        if self.names_seeds is not None:
            named = self.seeds if self.stations is None else self.stations
            inputs.check_seeded(self.names_seeds, named.tolist())
        return dataclasses.replace(self, is_seeded=False)

    def describe(self, row: int) -> str:
        """Describes what a sample was made from, for a warning or an error."""
        seeds = self.seeds if self.stations is None and self.is_seeded else None
        return describe_sample(row, seeds, None, self.truncation)

    def split(self, size: int) -> Iterator[SampleRequest]:
        """Splits the samples into requests of at most `size`; an interpolation stays whole."""
        if self.stations is not None or len(self.seeds) <= size:
            yield self
            return
        for start in range(0, len(self.seeds), size):
            rows = slice(start, start + size)
            labels = self.labels[rows] if isinstance(self.labels, list) else self.labels
            given = dict(self.given)
            given |= {key: x[rows] for key, x in self.arrays.items() if len(x) == self.batch}
            yield dataclasses.replace(self, seeds=self.seeds[rows], labels=labels, given=given)

    def feeds(self, inputs: Inputs, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Returns every input by name, equal to those that `keras-gan serve` computes.

        Args:
            inputs: of the network.
            labels: class ids `(batch,)`, or `None` for the seeds' own.
        """
        feeds = inputs.check_given(self.arrays, self.batch)
        if self.stations is not None or self.around is not None:
            sizes = inputs.named_sizes(feeds)
            factor = 1.0 if "truncation" in inputs.by_name else self.truncation
            for port in inputs.normal:
                if port.name not in feeds:
                    feeds[port.name] = self._path(port, resolve(port, sizes)) * np.float32(factor)
        return inputs.fill(self.label_seeds(), labels, self.truncation, feeds)

    def _path(self, port: Any, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the values of a normal input on the way between seeds, or around one."""

        def values(seeds: Any) -> np.ndarray:
            return draw(port, np.asarray(seeds, np.int64), shape).reshape(len(seeds), -1)

        if self.stations is not None:
            found = interpolation.interpolate(
                values(self.stations), self.count, self.loop, self.easing
            )
        else:
            center = values([self.around])[0]
            found = interpolation.around(center, values(self.seeds), self.radius)
        return found.reshape(len(found), *shape)

    def label_seeds(self) -> np.ndarray:
        """Returns the seeds of the inputs that an interpolation keeps, labels among them."""
        if self.stations is not None:
            return np.repeat(self.stations[:1], self.count)
        if self.around is not None:
            return np.full(len(self.seeds), self.around, np.int64)
        return self.seeds


def check_arguments(
    seeds: Any = None,
    labels: Any = None,
    truncation: float = 1.0,
    *,
    seed: int | None = None,
    count: int | None = None,
    interpolate: Any = None,
    loop: bool = False,
    easing: str = "linear",
    around: int | None = None,
    radius: float | None = None,
    model: str | None = None,
    version: int | None = None,
    inputs: Mapping[str, Any] | None = None,
    **given: Any,
) -> SampleRequest:
    """Checks the arguments of `Client.generate`, which documents them.

    Raises:
        UsageError: an argument out of its range, or a combination that names no samples.
    """
    values = {
        name: read_value(name, value) for name, value in ({**(inputs or {}), **given}).items()
    }
    named = {"seeds": seeds, "seed": seed, "interpolate": interpolate, "around": around}
    names_seeds = next((name for name, value in named.items() if value is not None), None)
    is_seeded = names_seeds is not None or count is not None
    _check_ranges(count, radius, around)
    _check_walk(interpolate, loop, easing)
    if is_seeded or not values:
        _check_combination(seeds, seed, count, interpolate, around)
    else:
        count = max((len(x) for x in values.values() if isinstance(x, np.ndarray)), default=1)
    if seeds is None:
        first = 0 if seed is None else _one_seed("seed", seed)
        seeds = range(first, first + int(count or 1))
    if interpolate is not None and len(check_seeds(interpolate)) == 0:
        raise UsageError(
            f"`interpolate` must name at least one seed. Received: interpolate={interpolate!r}"
        )
    request = SampleRequest(
        check_seeds(seeds),
        truncation=check_truncation(truncation),
        stations=None if interpolate is None else check_seeds(interpolate),
        count=int(count or 1),
        loop=bool(loop),
        easing=easing,
        around=None if around is None else _one_seed("around", around),
        radius=_RADIUS if radius is None else float(radius),
        model=model,
        version=version,
        given=values,
        is_seeded=is_seeded,
        names_seeds=names_seeds,
    )
    _check_counts(request)
    return dataclasses.replace(request, labels=_check_labels(labels, request.batch))


def _one_seed(name: str, value: Any) -> int:
    found = check_seeds(value)
    if len(found) != 1:
        raise UsageError(f"`{name}` must be one integer. Received: {name}={short_repr(value)}")
    return int(found[0])


def _check_counts(request: SampleRequest) -> None:
    for name, array in request.arrays.items():
        if len(array) not in (1, request.batch):
            raise UsageError(
                f"The input {name!r} must have one sample for all or one for each of "
                f"{request.batch}. Received: {len(array)}"
            )


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


def _check_walk(stations: Any, loop: Any, easing: Any) -> None:
    """Checks the arguments that describe an interpolation."""
    if not isinstance(loop, bool | np.bool_):
        raise UsageError(f"`loop` must be True or False. Received: loop={loop!r:.80}")
    interpolation.Path(1, 1, easing=easing)  # refuses an unknown easing
    given = {"loop": loop, "easing": easing != "linear" and easing}
    named = [f"{name}={value!r}" for name, value in given.items() if value]
    if named and stations is None:
        raise UsageError(f"`loop` and `easing` need `interpolate`. Received: {', '.join(named)}")


def _check_ranges(count: Any, radius: Any, around: Any) -> None:
    if count is not None and not (is_integer(count) and count >= 1):
        raise UsageError(
            f"`count` must be an integer of at least 1. Received: count={short_repr(count)}"
        )
    if radius is None:
        return
    if not (is_real(radius) and 0 <= radius <= 1):
        raise UsageError(
            f"`radius` must be a number from 0 to 1. Received: radius={short_repr(radius)}"
        )
    if around is None:
        raise UsageError(f"`radius` needs `around`. Received: radius={radius:g}")


def _check_labels(labels: Any, batch: int) -> Any:
    """Returns one label, or a list of one for each sample, as plain Python values."""
    found = several(labels)
    if found is None:
        return labels.item() if isinstance(labels, np.ndarray | np.generic) else labels
    if len(found) not in (1, batch):
        raise UsageError(
            f"`labels` must hold one label, or one for each of the {batch} samples. "
            f"Received: {len(found)} labels"
        )
    plain = [label.item() if isinstance(label, np.generic) else label for label in found]
    return plain[0] if len(plain) == 1 else plain

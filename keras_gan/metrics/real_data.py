"""Samples of data: data sets, arrays and files."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from keras_gan import datasets
from keras_gan.datasets import arrays
from keras_gan.errors import UsageError
from keras_gan.metrics.pairs import answered_field, with_sizes
from keras_gan.metrics.samples import BATCH, Batch, Conditions, Samples
from keras_gan.registry import parameters_of
from keras_gan.spec import Spec
from serving import kinds
from serving.value_ranges import is_unclear

_OVERSHOOT = 0.5  # a generator without a final tanh exceeds the range of its data a little


def open_data(
    data: Any, options: dict[str, Any] | None = None, like: Spec | None = None
) -> datasets.Source:
    """Opens the samples to compare with.

    Args:
        data: a `Source`; a name or path for `keras_gan.datasets.open`; an array, or a pair of
            samples and labels, none of which is held out.
        options: the data set's options, or those of `keras_gan.datasets.from_arrays`.
        like: description of the samples that an array whose kind is not known is to be like.
    """
    if isinstance(data, datasets.Source):
        return data
    if not isinstance(data, np.ndarray | tuple):
        return datasets.open(data, **(options or {}))
    try:
        return _from_arrays(data, options or {})
    except datasets.UnknownKindError:
        if like is None:
            raise
    return _from_arrays(data, _options_like(like))


def _from_arrays(data: Any, options: dict[str, Any]) -> datasets.Source:
    x, y = data if isinstance(data, tuple) else (data, None)
    given = {"held_out": 0, "keep_ids": True, **options}
    is_float = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    kind = given.get("kind")
    kind = kind.get("samples") if isinstance(kind, Mapping) else kind
    if is_float and "value_range" not in given and _is_clipped(x.shape[1:], kind):
        x, given["value_range"] = _clip(x), (-1.0, 1.0)
    return datasets.from_arrays(x, y, **given)


def _options_like(like: Spec) -> dict[str, Any]:
    """Returns the options by which arrays are read as samples of the data to compare with."""
    names = parameters_of(arrays.open).keys() - {"value_range"}
    meta = like.samples.meta
    return {"kind": like.kind, **{name: meta[name] for name in names & meta.keys()}}


def _is_clipped(shape: tuple[int, ...], kind: str | None) -> bool:
    """Returns whether floats of a kind, by default that of their shape, are in [-1, 1]."""
    return kinds.get(kind or kinds.of_shape(shape)).value_range == (-1.0, 1.0)


def _clip(images: np.ndarray) -> np.ndarray:
    """Clips floating-point images to [-1, 1], as a game's samples are."""
    if not np.isfinite(images).all():
        raise UsageError("Images must be finite numbers. Received: NaN or infinity")
    low, high = (float(f(images)) if images.size else 0.0 for f in (np.min, np.max))
    _check_range(low, high, "")
    return np.clip(images, -1.0, 1.0)


def _check_range(low: float, high: float, origin: str) -> None:
    if is_unclear(low, high, (-1.0, 1.0), _OVERSHOOT):
        raise UsageError(
            "Floating-point images must be in [-1, 1], with negative values; give others as uint8 "
            f"or in [-1, 1]. Received: {origin}values from {low:g} to {high:g}"
        )


def open_whole(source: str, module: ModuleType, like: Spec | None) -> datasets.Source:
    """Opens files of samples with nothing held out.

    Args:
        source: path of a folder, a .npz or a .npy file.
        module: the module of `keras_gan.datasets` that opens it.
        like: description of the data to compare with. Pictures in a folder are decoded to its
            size and channels.
    """
    parameters = inspect.signature(module.open).parameters
    options: dict[str, Any] = {}
    resizes = {"size", "channels"} <= parameters.keys()
    if like is not None and like.modality.has_pixels and resizes:
        options = {"size": list(like.shape[:2]), "channels": like.shape[2]}
    if "keep_ids" in parameters:  # labels of samples are class ids of the data
        options["keep_ids"] = True
    try:
        return _open_clipped(source, options)
    except datasets.UnknownKindError:
        if like is None:
            raise
    return _open_clipped(source, _options_like(like))


def _open_clipped(source: str, options: dict[str, Any]) -> datasets.Source:
    """Opens files of samples, and clips floats that exceed [-1, 1] a little."""
    try:
        return _open_all(source, options)
    except datasets.UnknownRangeError as error:
        _check_range(error.low, error.high, f"{source}: ")
    # Floats that exceed [-1, 1] a little: read them in a wider range, then clip.
    wide = _open_all(source, {**options, "value_range": (-1 - _OVERSHOOT, 1 + _OVERSHOOT)})
    samples, labels = zip(*map(wide.arrays, wide.split_names), strict=True)
    known = [part for part in labels if part is not None]
    x = np.concatenate(samples)
    clipped = _from_arrays((x, np.concatenate(known)) if known else x, _options_like(wide.spec))
    clipped.description = wide.description  # which names the file
    return clipped


def _open_all(source: str, options: dict[str, Any]) -> datasets.Source:
    """Opens files of samples, holding out only what they hold out themselves."""
    try:
        return datasets.open(source, **options, held_out=0)
    except datasets.OwnSplitsError:
        return datasets.open(source, **options)


def from_data(source: datasets.Source, split: str) -> Samples:
    """Returns the samples of a split (`"train"`, `"held_out"`), or of `"all"` together.

    A smaller count takes a fixed random choice, because files are often in the order of their
    classes.
    """
    splits = source.split_names if split == "all" else (split,)
    sizes = [source.count(name) for name in splits]
    starts = np.cumsum([0, *sizes])
    total = int(starts[-1])

    def rows(index: np.ndarray) -> Batch:
        parts = []
        for name, start, size in zip(splits, starts, sizes, strict=False):
            inside = index[(index >= start) & (index < start + size)] - start
            if len(inside):
                parts.append(source.rows(name, inside))
        samples = np.concatenate([part[0] for part in parts])
        in_bytes = source.spec.modality.has_pixels
        samples = source.to_uint8(samples) if in_bytes else source.values(samples)
        labels = [part[1] for part in parts if part[1] is not None]
        return samples, np.concatenate(labels) if labels else None

    def read(count: int) -> Iterator[Batch]:
        chosen = choose(total, count)
        for start in range(0, count, BATCH):
            yield rows(chosen[start : start + BATCH])

    def digest(count: int) -> str:
        content = hashlib.sha256(f"{source.spec} {count}".encode())
        for samples, labels in read(count):
            content.update(np.ascontiguousarray(samples).data)
            if labels is not None:
                content.update(np.ascontiguousarray(labels).data)
        return content.hexdigest()

    protocol: dict[str, Any] = {"source": source.description, "split": split}
    if source.resized is not None:
        protocol |= {"decoded_to": list(source.spec.shape), "decoded_by": source.resized}
    return Samples(source.spec, total, read, protocol, digest)


def split_spec(source: datasets.Source, split: str) -> Spec:
    """Returns the spec of a split's examples, with their sizes where those of the data are free.

    Raises:
        UsageError: all examples together, if the splits have pictures of different sizes.
    """
    names = source.split_names if split == "all" else (split,)
    first = np.arange(1)
    specs = [
        with_sizes(source.spec, source.field_rows(name, first))
        for name in names
        if source.count(name)
    ]
    if any(spec != specs[0] for spec in specs):
        shapes = " and ".join(str(spec.shape) for spec in specs)
        raise UsageError(
            "All samples can be compared only if the splits have samples of one shape; name a "
            f"split. Received: split='all' with samples of {shapes}"
        )
    return specs[0]


def is_paired(source: datasets.Source, split: str) -> bool:
    """Returns whether a split holds pairs: row i of the samples answers row i of a field."""
    return split == "held_out" and source.paired and answered_field(source.spec) is not None


def conditions_of(source: datasets.Source, split: str, count: int) -> Conditions:
    """Returns the fields of a split besides the samples, repeated if there are more numbers.

    Args:
        source: the data.
        split: a split's name, or `"all"`.
        count: number of real samples. In a split of pairs the first fields are those of as many
            samples of `from_data`, in their order. In other splits the order is random and fixed,
            so that a part of the samples is not of one class.
    """
    splits = source.split_names if split == "all" else (split,)
    names = tuple(name for name in source.spec.fields if name != "samples")

    sizes = [source.count(name) for name in splits]
    starts = np.cumsum([0, *sizes])
    total = int(starts[-1])
    order = choose(total, min(count, total)) if is_paired(source, split) else _shuffled(total)

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        rows, fields = order[numbers % len(order)], {}
        for split_name, start, size in zip(splits, starts, sizes, strict=False):
            inside = np.flatnonzero((rows >= start) & (rows < start + size))
            part = source.field_rows(split_name, rows[inside] - start)
            for name in names:
                values = source.values(part[name], name)
                empty = np.empty((len(rows), *values.shape[1:]), values.dtype)
                fields.setdefault(name, empty)[inside] = values
        return fields

    return Conditions(names, read, answered_field(source.spec))


def choose(total: int, count: int) -> np.ndarray:
    """Returns the indices of `count` of `total` samples, in ascending order."""
    if count == total:
        return np.arange(total)
    return np.sort(_shuffled(total)[:count])


def _shuffled(total: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(total)

"""Checks of stored arrays against the fields that they hold, before the first training step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.arguments import is_number
from keras_gan.datasets.cuts import Cuts
from keras_gan.datasets.splits import Split
from keras_gan.errors import UsageError
from keras_gan.spec import Field, Spec
from serving.value_ranges import Range, leaves

_SCAN_BYTES = 2**26  # values are checked in pieces of this size


def check_splits(
    splits: Mapping[str, Split], spec: Spec, raw_ranges: Mapping[str, Range | None]
) -> None:
    """Checks dtype, shape, range and finiteness of every array of every split.

    Args:
        splits: the splits by name.
        spec: the fields that they must hold.
        raw_ranges: smallest and largest value that each field's arrays may hold.

    Raises:
        UsageError: an array that does not fit its field.
    """
    checked: set[int] = set()  # splits may share their arrays
    for name, part in splits.items():
        _check_fields(name, part, spec)
        for field_name, array in part.arrays.items():
            if field_name != "labels" and id(array) not in checked:
                field = spec.fields[field_name]
                limits = raw_ranges[field_name]
                _check_array(f"{name} {field_name}", array, field, limits)
                _check_values(name, field_name, array, field, limits)
                checked.add(id(array))
        _check_labels(name, part, spec)


def check_range(value_range: Any) -> Range | None:
    """Returns the option `value_range` once it is checked; `None` if it is not given.

    Raises:
        UsageError: it is not a pair of numbers in ascending order.
    """
    if value_range is None:
        return None
    is_pair = isinstance(value_range, Sequence) and len(value_range) == 2
    if not is_pair or not all(map(is_number, value_range)) or value_range[0] >= value_range[1]:
        raise UsageError(
            "`value_range` must be [smallest, largest], two numbers in ascending order. "
            f"Received: value_range={value_range!r}"
        )
    return float(value_range[0]), float(value_range[1])


def raw_range(field: Field, array: np.ndarray) -> Range | None:
    """Returns the range that a stored array may have by default; `None` if it is unbounded."""
    if holds_ids(field, array):
        return None
    stored = field.modality.stored.get(array.dtype.name)
    return stored or field.meta.get("value_range") or field.kind_range


def holds_ids(field: Field, array: np.ndarray) -> bool:
    """Returns whether an array holds ids of which a field has weights, such as token ids."""
    is_whole = np.issubdtype(array.dtype, np.integer)
    return is_whole and array.ndim == len(field.shape) and field.modality.is_distribution


def one_hot(ids: np.ndarray, field: Field) -> np.ndarray:
    """Returns ids as weights along a field's last axis, `(..., weights)`: 1 at the id, else 0."""
    weights = np.zeros((*ids.shape, field.shape[-1] or 1), field.dtype)
    np.put_along_axis(weights, ids[..., np.newaxis].astype(np.int64), 1, axis=-1)
    return weights


def _check_fields(name: str, part: Split, spec: Spec) -> None:
    """Checks that a split has all fields, with one row for each sample."""
    if (part.labels is None) != (spec.num_classes == 0):
        raise UsageError(
            "A data set must have labels in all of its splits or in none. "
            f"Received: num_classes={spec.num_classes} and {name} "
            f"{'without' if part.labels is None else 'with'} labels"
        )
    if part.arrays.keys() != spec.fields.keys():
        raise UsageError(
            f"Every split must have the fields {', '.join(spec.fields)}. "
            f"Received: {name} with {', '.join(part.arrays)}"
        )
    for field_name, array in part.others.items():
        if field_name not in part.independent and len(array) != len(part.samples):
            raise UsageError(
                f"There must be one value of `{field_name}` for each sample. Received: "
                f"{len(part.samples)} samples and {len(array)} values in {name}"
            )


def _check_array(name: str, array: np.ndarray, field: Field, limits: Range | None) -> None:
    """Checks the shape and the dtype of a stored array."""
    if holds_ids(field, array):
        return
    shape = tuple(array.shape[1:])
    if not field.accepts_shape(shape):
        raise UsageError(
            f"Each value of a field must have the field's shape, {field.shape}. "
            f"Received: {name} of shape {shape}"
        )
    dtype = array.dtype
    is_float = np.issubdtype(dtype, np.floating)
    is_whole = np.issubdtype(dtype, np.integer) or dtype == np.bool_
    wants_float = "float" in field.dtype
    # Pixels of any dtype are mapped from a stated range.
    has_pixels = "uint8" in field.modality.stored
    is_mapped = is_whole and has_pixels and limits not in (None, field.kind_range)
    is_known = is_mapped or dtype.name in field.modality.stored
    if not (is_float if wants_float else is_whole) and not is_known:
        wanted = (*field.modality.stored, "floating point" if wants_float else "integers")
        raise UsageError(
            f"Values of kind {field.kind!r} must be {' or '.join(wanted)}. "
            f"Received: {name} of dtype={dtype}"
        )


def _check_values(
    name: str, field_name: str, array: np.ndarray, field: Field, limits: Range | None
) -> None:
    """Checks that values are finite and within their range."""
    ids = _number_of_ids(field, array)
    if ids:
        _check_ids(f"{name} {field_name}", array, ids)
        return
    is_float = np.issubdtype(array.dtype, np.floating)
    if not is_float and limits == field.modality.stored.get(array.dtype.name):
        return  # the dtype cannot hold a value outside this range
    for first, piece in _pieces(array):
        finite = np.isfinite(piece)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            where = (first + int(at[0]), *(int(i) for i in at[1:]))
            raise UsageError(
                f"Values of `{field_name}` must be finite. "
                f"Received: {piece[tuple(at)]} in {name} at index {where}"
            )
        if limits is not None and leaves(piece.min(), piece.max(), limits):
            raise UsageError(
                f"Values of `{field_name}` must lie within value_range={list(limits)}. "
                f"Received: values from {piece.min():g} to {piece.max():g} in {name}"
            )
        try:
            field.modality.check_given(piece, field.meta, field_name)
        except UsageError as error:
            raise UsageError(f"{error} in {name}") from None


def _number_of_ids(field: Field, array: np.ndarray) -> int:
    """Returns the number of ids that an array of ids may have; 0 for any number and other data."""
    if holds_ids(field, array):
        return field.shape[-1] or 0
    if field.modality.is_ids(field.shape):
        return len(field.meta.get("vocabulary", ()))
    return field.meta.get("num_classes", 0)


def _check_ids(name: str, array: np.ndarray, count: int) -> None:
    if array.size and not (array.min() >= 0 and array.max() < count):
        raise UsageError(
            f"Ids must be integers from 0 to {count - 1}. "
            f"Received: {name} from {array.min()} to {array.max()}"
        )


def _check_labels(name: str, part: Split, spec: Spec) -> None:
    """Checks the class ids of the rows that belong to a split."""
    if part.labels is None:
        return
    if part.labels.shape != (len(part.samples),):
        raise UsageError(
            "There must be one label for each sample. Received: "
            f"{len(part.samples)} samples and labels of shape {part.labels.shape} in {name}"
        )
    used = part.labels if part.index is None else part.labels[part.index]
    if len(used) and not (used.min() >= 0 and used.max() < spec.num_classes):
        raise UsageError(
            f"Labels must be class ids from 0 to {spec.num_classes - 1}. "
            f"Received: labels from {used.min()} to {used.max()} in {name}"
        )


def _pieces(array: np.ndarray | Cuts) -> Iterator[tuple[int, np.ndarray]]:
    if isinstance(array, Cuts):
        array = array.values  # windows may overlap by far more than fits in memory
    step = max(1, _SCAN_BYTES // max(1, array.nbytes // max(1, len(array))))
    for first in range(0, len(array), step):
        yield first, array[first : first + step]

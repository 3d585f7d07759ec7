"""Conversion of arrays to the fields of a data set: kind, layout, dtype, class ids."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_gan.datasets import levels
from keras_gan.datasets.classes import check_class_count
from keras_gan.datasets.values import check_range
from keras_gan.errors import UsageError
from keras_gan.spec import Field, label_field
from serving import kinds, value_ranges
from serving.kinds import image
from serving.value_ranges import Range

_CHANNELS = tuple(image.MODES)


class UnknownRangeError(UsageError):
    """Error for floating-point values whose range is neither stated nor [-1, 1].

    Args:
        message: the error's line.
        low: smallest value.
        high: largest value.
    """

    def __init__(self, message: str, low: float, high: float):
        super().__init__(message)
        self.low, self.high = low, high


class UnknownKindError(UsageError):
    """Error for samples whose kind is neither stated nor follows from their shape."""


@dataclasses.dataclass(frozen=True)
class FieldOptions:
    """Options for reading arrays as fields.

    Every option but `layout` is for `samples`, or a mapping from names of fields to values.

    Args:
        kind: kind of the field; found from the array by default.
        layout: `"NHWC"`, or `"NCHW"` for images with the channels first.
        value_range: smallest and largest stored value.
        meta: metadata by name, see `keras_gan.spec.Field`.
    """

    kind: Any = None
    layout: str = "NHWC"
    value_range: Any = None
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def check_names(self, names: Sequence[str]) -> None:
        """Checks that options by field name only name fields that exist."""
        for option, value in (("kind", self.kind), ("value_range", self.value_range)):
            self._check_names(option, value, names)
        for option, value in self.meta.items():
            self._check_names(option, value, names)

    def kind_of(self, name: str) -> str | None:
        """Returns the kind given for a field."""
        return _option_of(self.kind, name)

    def range_of(self, name: str) -> Range | None:
        """Returns the range given for a field's stored values.

        Raises:
            UsageError: it is not a pair of numbers in ascending order.
        """
        return check_range(_option_of(self.value_range, name))

    def meta_of(self, name: str) -> dict[str, Any]:
        """Returns the metadata given for a field."""
        given = {key: _option_of(value, name) for key, value in self.meta.items()}
        return {key: value for key, value in given.items() if value is not None}

    @staticmethod
    def _check_names(option: str, value: Any, names: Sequence[str]) -> None:
        unknown = sorted(set(value) - set(names)) if isinstance(value, Mapping) else []
        if unknown:
            raise UsageError(
                f"`{option}` must name fields of the data set, {', '.join(names)}. "
                f"Received: {option}={value!r}"
            )


def to_array(x: Any, name: str, field_name: str, options: FieldOptions) -> np.ndarray:
    """Checks the dtype and rank of an array and returns it with channels last, floats as float32.

    Args:
        x: the array.
        name: name of the array in errors, such as `x_test`.
        field_name: name of the field.
        options: how it is read.

    Raises:
        UsageError: something other than an array, or an array that fits no kind.
    """
    if not isinstance(x, np.ndarray):
        raise UsageError(f"Samples must be a numpy array. Received: {name} of type {type(x)}")
    kind = options.kind_of(field_name)
    if kind is None and field_name == "samples":
        _check_inferable(x, name)
    modality = kinds.get(kind or infer_kind(x, field_name))
    is_float = np.issubdtype(x.dtype, np.floating)
    if is_float and x.dtype != np.float32 and not isinstance(x, np.memmap):
        x = x.astype(np.float32)
    return _to_nhwc(x, options.layout, name) if modality.has_pixels else x


def to_field(x: np.ndarray, name: str, options: FieldOptions, largest: int = 0) -> Field:
    """Returns the field that a converted array holds.

    Args:
        x: what `to_array` returned.
        name: name of the field.
        options: how it is read.
        largest: largest id in all splits, of an array of ids.

    Raises:
        UsageError: options that do not fit the kind, or values whose range is unclear.
    """
    kind = options.kind_of(name) or infer_kind(x, name)
    modality, given = kinds.get(kind), options.range_of(name)
    shape, meta = x.shape[1:], options.meta_of(name)
    if "num_classes" in modality.meta:
        check_class_count(1 + largest, name)
        return label_field(1 + largest)
    if modality.is_distribution and modality.is_ids(shape) and _is_whole(x):
        tokens = len(meta.get("vocabulary", ())) or 1 + largest
        check_class_count(tokens, name)
        shape = (*shape, tokens)  # one-hot in batches
        return Field(kind, shape, meta=meta | {"value_range": modality.value_range})
    value_range = modality.range_for(shape)
    if value_range is None and given is not None:
        ranged = [key for key in kinds.names() if kinds.get(key).value_range is not None]
        raise UsageError(
            f"`value_range` is for {', '.join(ranged)} only. Received: value_range={list(given)} "
            f"for {name} of kind {kind!r}"
        )
    if value_range is not None:
        meta["value_range"] = value_range
    for key in modality.assumed.keys() - meta.keys():
        meta[key] = modality.assumed[key]
        warnings.warn(
            f"The field {name!r} of kind {kind!r} has no {key}: {meta[key]:g} Hz is assumed. "
            f"State it with the option {key} (--set data.{key}=HZ)",
            stacklevel=2,
        )
    field = Field(kind, shape, _batch_dtype(x.dtype, modality.dtypes_of(shape)), meta)
    if value_range is not None and given is None and x.dtype.name not in modality.stored:
        _check_normalized(x, modality.plural, value_range)
    return field


def find_ranges(arrays: Mapping[str, np.ndarray], options: FieldOptions) -> dict[str, Range]:
    """Returns the range of each field's stored values that is stated, or found from integers.

    Args:
        arrays: converted arrays of the training samples by the names of their fields.
        options: how they are read.
    """
    ranges = {}
    for name, x in arrays.items():
        if name == "labels":
            continue
        limits = options.range_of(name)
        kind = options.kind_of(name) or infer_kind(x, name)
        if limits is None and _has_levels(kind):
            limits = levels.range_of_array(x, f"`{name}`")
        if limits is not None:
            ranges[name] = limits
    return ranges


def _has_levels(kind: str) -> bool:
    """Returns whether samples of a kind are made of pixels, which 8 bits usually hold."""
    return "uint8" in kinds.get(kind).stored


def _is_whole(x: np.ndarray) -> bool:
    return np.issubdtype(x.dtype, np.integer)


def infer_kind(x: np.ndarray, name: str) -> str:
    """Returns the kind that an array of a field has, by `kinds.of_shape`.

    Integers of one axis are class ids. Samples of three axes, and of two in uint8, are read as
    images, whose checks say what is wrong with them.
    """
    shape = x.shape[1:]
    if not shape and _is_whole(x):
        return "label"
    if name == "samples" and len(shape) == 2:
        shape = (*shape, 1)
    kind = kinds.of_shape(shape, x.dtype.name)
    return "image" if name == "samples" and len(shape) == 3 else kind


def _option_of(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name)
    return value if name == "samples" else None


def _check_inferable(x: np.ndarray, name: str) -> None:
    """Checks that the kind of samples follows from their dtype and rank."""
    is_float = np.issubdtype(x.dtype, np.floating)
    if x.dtype.kind not in "biuf":
        raise UsageError(
            f"Samples must be integers, floating point or Boolean. Received: {name}.dtype={x.dtype}"
        )
    shape = x.shape[1:]
    images = len(shape) == 3 or (len(shape) == 2 and not is_float)
    ambiguous = len(shape) == 2 or kinds.of_shape(shape, x.dtype.name) == kinds.UNKNOWN
    if ambiguous and not images:
        raise UnknownKindError(
            f"Samples of the shape {shape} need the option kind (--set data.kind=KIND), one of "
            f"{', '.join(kinds.fitting(shape))}; only uint8 images (count, height, width), images "
            "and video with channels, and floating-point points (count, features) do not. "
            f"Received: {name}.shape={x.shape}, dtype={x.dtype}"
        )


def _to_nhwc(x: np.ndarray, layout: str, name: str) -> np.ndarray:
    if layout not in ("NHWC", "NCHW"):
        raise UsageError(f'`layout` must be "NHWC" or "NCHW". Received: layout={layout!r}')
    if x.ndim not in (3, 4):
        raise UsageError(
            "Images must have the shape (count, height, width) or (count, height, width, "
            f"channels). Received: {name}.shape={x.shape}"
        )
    if x.ndim == 3:
        if x.shape[-1] in _CHANNELS and x.shape[1] != x.shape[2]:
            raise UsageError(
                "Images must have a first dimension that counts them; write "
                f"{name}[np.newaxis] for a single one. Received: {name}.shape={x.shape}"
            )
        return x[..., np.newaxis]
    if layout == "NCHW":
        return np.moveaxis(x, 1, -1)
    if x.shape[-1] not in _CHANNELS and x.shape[1] in _CHANNELS:
        raise UsageError(
            'Images must have their channels last; write layout: "NCHW" for images with the '
            f"channels first. Received: {name}.shape={x.shape}"
        )
    return x


def _check_normalized(x: np.ndarray, plural: str, value_range: Range) -> None:
    """Refuses floating-point values whose range would have to be guessed."""
    if not np.issubdtype(x.dtype, np.floating):
        return  # another dtype is refused later, by name
    low, high = (float(f(x)) if x.size else 0.0 for f in (np.nanmin, np.nanmax))
    least, most = value_range
    if not np.isfinite([low, high]).all():
        return  # values that are not finite are refused later, with their index
    if not value_ranges.is_unclear(low, high, value_range):
        return
    if least == 0:
        raise UnknownRangeError(
            f"Floating-point {plural} must be in [{least:g}, {most:g}], or have their range "
            f"stated as value_range: [smallest, largest]. Received: values from {low:g} to "
            f"{high:g}",
            low,
            high,
        )
    usual = value_ranges.usual_range(low, high)
    if usual and 1 < high <= levels.DARK:
        usual = (0.0, high)  # few levels, such as the digits of scikit-learn, from 0 to 16
    advice = f"[{usual[0]:g}, {usual[1]:g}]" if usual else "[smallest, largest]"
    raise UnknownRangeError(
        f"Floating-point {plural} must be in [-1, 1], with negative values, or have their range "
        f"stated: write value_range: {advice}. Received: values from {low:g} to {high:g}",
        low,
        high,
    )


def _batch_dtype(stored: np.dtype, dtypes: tuple[str, ...]) -> str:
    """Returns the dtype of stored values in a batch.

    It is the kind's default unless the kind allows a dtype closer to the stored one.
    """
    if np.issubdtype(stored, np.floating):
        return "float32"  # refused later where only integers are allowed
    is_wide = stored.itemsize > 4 or stored.name == "uint32"
    wanted = stored.name if stored.name in ("uint8", "bool") else "int64" if is_wide else "int32"
    is_open = "int32" in dtypes and dtypes[0] != "int32"  # neither ids nor measurements alone
    return wanted if is_open else dtypes[0]

"""Checks of data and of the arguments of `generate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import latents
from keras_gan.errors import UsageError
from keras_gan.networks import fields_of
from serving import kinds

# ------------------------------------------------------------------------ data


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Requirements of a game on its data.

    Args:
        sample_shape: shape of a sample.
        num_classes: number of classes of the labels; 0 if labels are not used.
        asked: other fields that the data must have, each with who asks for it.
        multiple: a batch must divide by this number.
        multiple_of: what that number is, for errors.
        kind: kind of the samples, where it is known; otherwise their shape decides.
    """

    sample_shape: tuple
    num_classes: int = 0
    asked: Mapping[str, str] = dataclasses.field(default_factory=dict)
    multiple: int = 1
    multiple_of: str = ""
    kind: str | None = None

    @property
    def image(self) -> bool:
        """True for samples that are checked as images: pixels in [-1, 1]."""
        kind = self.kind or kinds.of_shape(self.sample_shape)
        return len(self.sample_shape) == 3 and kinds.get(kind).has_pixels

    def dividing(self, multiple: int, multiple_of: str) -> DataSpec:
        """Returns the same for batches that must divide by a number."""
        return dataclasses.replace(self, multiple=multiple, multiple_of=multiple_of)

    def check_size(self, size: int) -> None:
        """Checks that a batch divides into the parts that the steps see."""
        if size % self.multiple:
            raise UsageError(
                f"A batch must divide by {self.multiple_of} = {self.multiple}, because each "
                f"discriminator step sees its own part. Received: a batch of {size}"
            )


def data(x: Any, y: Any, spec: DataSpec, batch_size: int = 1) -> None:
    """Checks data: arrays as a whole, data sets by their first batch.

    Args:
        x: data set, array, or dictionary of arrays.
        y: labels beside an array, or None.
        spec: what the game needs.
        batch_size: of arrays.

    Raises:
        UsageError: the first thing that does not fit.
    """
    if isinstance(x, tf.data.Dataset):
        fields = _first_batch(x, spec)
    elif isinstance(x, (np.ndarray, tf.Tensor, dict)):
        fields = fields_of((x, y))
        _declared(fields, spec, batched=True)
        size = len(fields["samples"])
        if not size:
            raise UsageError("There must be samples to train on. Received: an array of none")
        if spec.multiple > 1:
            spec.check_size(batch_size)
            spec.check_size(size % batch_size)
    elif x is None:
        raise UsageError("fit needs data: a data set, or an array of samples. Received: x=None")
    else:
        return  # a generator or PyDataset: its batches cannot be seen without using them up
    values(np.asarray(fields["samples"]), image=spec.image)
    for name in spec.asked:
        values(np.asarray(fields[name]), image=False, name=f"Values of {name!r}")
    if spec.num_classes:
        class_ids(np.asarray(fields["labels"]), spec.num_classes)


def _first_batch(dataset: tf.data.Dataset, spec: DataSpec) -> dict[str, Any]:
    element: Any = dataset.element_spec
    parts = element if isinstance(element, tuple) else (element,)
    tensors = [*(parts[0].values() if isinstance(parts[0], dict) else parts[:1]), *parts[1:]]
    fits = 1 <= len(parts) <= 2 and all(isinstance(part, tf.TensorSpec) for part in tensors)
    if not fits or "samples" not in fields_of(element):
        raise UsageError(
            "A data set must give batches x, (x, y), or a dictionary with `samples`, of tensors. "
            f"Received: {' '.join(str(element).split())}"
        )
    declared = fields_of(element)
    _declared(declared, spec)
    size = declared["samples"].shape[0]
    if spec.multiple > 1 and size is None:
        raise UsageError(
            f"With {spec.multiple_of} = {spec.multiple} every batch must be of one known size: use "
            "batch(size, drop_remainder=True). Received: batches of unknown size"
        )
    spec.check_size(size or 0)
    batch = next(iter(dataset.take(1)), None)
    if batch is None:
        raise UsageError(
            "The data set must have at least one batch. Received: none (are there fewer "
            "samples than batch_size, with drop_remainder?)"
        )
    return fields_of(batch)


def _declared(fields: dict[str, Any], spec: DataSpec, batched: bool = False) -> None:
    """Checks fields, types, ranks and shapes, as far as they are declared."""
    if "samples" not in fields:
        raise UsageError(
            "Data by name must have the field 'samples'. "
            f"Received: {', '.join(fields) or 'no fields'}"
        )
    x = fields["samples"]
    dtype = getattr(x.dtype, "name", str(x.dtype))
    if dtype != "float32":
        hint = " (uint8 images: x / 127.5 - 1)" if dtype == "uint8" else ""
        raise UsageError(f"Samples must be float32{hint}. Received: {dtype}")
    shape = tuple(x.shape)
    if not tf.TensorShape((None, *spec.sample_shape)).is_compatible_with(shape):
        unbatched = tf.TensorShape(spec.sample_shape).is_compatible_with(shape)
        hint = "; the data set is not batched" if unbatched and not batched else ""
        raise UsageError(
            f"Samples must have the shape {('batch', *spec.sample_shape)} that the networks are "
            f"built for{hint}. Received: {shape}"
        )
    for name, who in spec.asked.items():
        if name not in fields:
            raise UsageError(
                f"The {who} asks for the field {name!r}, which the data does not have. "
                f"Received: {', '.join(fields)}"
            )
    if spec.num_classes:
        _declared_labels(fields.get("labels"), spec.num_classes)


def _declared_labels(y: Any, num_classes: int) -> None:
    if y is None:
        raise UsageError(
            f"A conditional game of {num_classes} classes needs (x, y), with y class ids. "
            "Received: x alone"
        )
    dtype = tf.as_dtype(y.dtype)
    if not dtype.is_integer or len(y.shape) != 1:
        raise UsageError(
            "Labels must be integer class ids of shape (batch,), not one-hot. "
            f"Received: {dtype.name} of shape {tuple(y.shape)}"
        )


def values(x: np.ndarray, image: bool, name: str = "Samples") -> None:
    """Checks that values are finite, and those of images in [-1, 1].

    Raises:
        UsageError: they are not.
    """
    if not np.isfinite(x).all():
        bad = int(np.size(x) - np.isfinite(x).sum())
        raise UsageError(f"{name} must be finite numbers. Received: {bad} NaN or infinite values")
    if image and (x.min() < -1.001 or x.max() > 1.001):
        raise UsageError(
            "Images must have values in [-1, 1] (from 0..255: x / 127.5 - 1). "
            f"Received: values from {x.min():g} to {x.max():g}"
        )


def class_ids(y: np.ndarray, num_classes: int) -> None:
    """Checks that class ids are from 0 to num_classes - 1.

    Raises:
        UsageError: they are not.
    """
    if y.size and (y.min() < 0 or y.max() >= num_classes):
        raise UsageError(
            f"Labels must be class ids from 0 to {num_classes - 1}. "
            f"Received: ids from {y.min()} to {y.max()}"
        )


# ------------------------------------------------------------------------ generate


def labels(given: Any, seeds: np.ndarray, num_classes: int) -> np.ndarray | None:
    """Returns class ids `(count,)` for the samples of a conditional game, None of any other.

    Raises:
        UsageError: labels without classes, of another shape or type, or out of range.
    """
    if not num_classes:
        if given is not None:
            raise UsageError(
                f"`labels` cannot be used: the generator has no classes. Received: labels={given!r}"
            )
        return None
    if given is None:
        return np.asarray(latents.labels_from_seeds(seeds, num_classes))
    array = np.asarray(given)
    if array.dtype.kind not in "iu" or array.shape not in ((), (len(seeds),)):
        raise UsageError(
            f"`labels` must be one class id, or one for each of the {len(seeds)} seeds. "
            f"Received: shape {array.shape}, {array.dtype}"
        )
    class_ids(array, num_classes)
    return np.broadcast_to(array, (len(seeds),))


def given_fields(
    fields: Mapping[str, Any], asked: Mapping[str, tf.TensorSpec], count: int
) -> dict[str, Any]:
    """Returns the given fields of a generator as arrays with one row for each sample.

    Args:
        fields: arrays by name; one row serves for all samples.
        asked: shape and dtype of the fields that the generator asks for.
        count: number of samples.

    Raises:
        UsageError: one that is missing, not asked for, or of another length, shape or dtype.
    """
    for name in asked:
        if name not in fields:
            raise UsageError(
                f"The generator needs the field {name!r}: pass {name}=..., one for each seed. "
                f"Received: {', '.join(fields) or 'no fields'}"
            )
    arrays = {}
    for name, value in fields.items():
        if name not in asked:
            raise UsageError(
                f"The generator takes these fields: {', '.join(asked) or 'none'}. "
                f"Received: {name}=..."
            )
        array = _given(name, np.asarray(value), asked[name])
        if array.shape[0] not in (1, count):
            raise UsageError(
                f"`{name}` must have one row for each of the {count} seeds, or one for all. "
                f"Received: shape {array.shape}"
            )
        arrays[name] = np.broadcast_to(array, (count, *array.shape[1:]))
    return arrays


def _given(name: str, array: np.ndarray, spec: tf.TensorSpec) -> np.ndarray:
    """Returns the values of a field in its dtype.

    Raises:
        UsageError: another shape, a dtype of another sort, NaN or infinity.
    """
    shape, wanted = tf.TensorShape(array.shape), tf.as_dtype(spec.dtype)
    is_whole = array.dtype.kind in "iub"
    if not (is_whole or (array.dtype.kind == "f" and wanted.is_floating)):
        raise UsageError(f"`{name}` must be of dtype {wanted.name}. Received: {array.dtype}")
    if array.ndim == 0 or not spec.shape.is_compatible_with(shape):
        expected = ", ".join("any" if size is None else str(size) for size in spec.shape[1:])
        raise UsageError(
            f"`{name}` must have rows of shape ({expected}). Received: shape {array.shape}"
        )
    values(array, image=False, name=f"Values of {name!r}")
    return array.astype(wanted.as_numpy_dtype)

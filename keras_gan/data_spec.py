"""Requirements of a game on its data, and the checks of arrays and batches against them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gan import data_ranges
from keras_gan.errors import UsageError
from keras_gan.networks import fields_of
from keras_gan.spec import Field
from serving import kinds, value_ranges
from serving.errors import short_repr

ENOUGH = 16  # samples by which a stream's range is judged
_SHOWN = 10  # class ids in a warning


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """Requirements of a game on its data.

    Args:
        sample_shape: shape of a sample.
        num_classes: number of classes of the labels; 0 if the networks are not given labels.
        asked: other fields that the data must have, each with who asks for it.
        shapes: shapes of those of them of which a network states one, without the batch.
        multiple: a batch must be a multiple of this number.
        multiple_of: what that number is, for errors.
        replicas: number of replicas that share a batch.
        kind: kind of the samples, if it is stated; their range then counts as stated as well.
            Otherwise samples with the shape of an image count as images.
        output_range: smallest and largest value that the generator can return, of which one may
            be infinite; None if it has no bounds.
        seen: the values that were seen, which checks of training data add to.
        label_classes: number of classes of labels that only terms read, where -1 stands for an
            unlabeled example; 0 if no term does. The field `labels` is then among those `asked`.
        stated: kind and properties of those that are asked for, as far as networks state them.
    """

    sample_shape: tuple
    num_classes: int = 0
    asked: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shapes: Mapping[str, tuple] = dataclasses.field(default_factory=dict)
    multiple: int = 1
    multiple_of: str = ""
    replicas: int = 1
    kind: str | None = None
    output_range: value_ranges.Range | None = (-1.0, 1.0)
    seen: data_ranges.SeenValues | None = dataclasses.field(default=None, compare=False)
    label_classes: int = 0
    stated: Mapping[str, Field] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Names of the fields that a batch must have."""
        return ["samples", *self.asked, *(["labels"] if self.num_classes else [])]

    @property
    def modality(self) -> kinds.Kind:
        """The kind of the samples, by their shape if it is not stated."""
        return kinds.get(self.kind or kinds.of_shape(self.sample_shape))

    @property
    def value_range(self) -> value_ranges.Range | None:
        """Range of the samples: that of a stated kind, or of images; otherwise None.

        A generator of images that ends in [0, 255] is for data in [0, 255].
        """
        modality = self.modality
        checked = self.kind is not None or modality.has_pixels
        usual = modality.range_for(self.sample_shape) if checked else None
        if usual is None or self.kind is not None or not self.is_wide(usual):
            return usual
        return self.output_range

    def is_wide(self, usual: value_ranges.Range) -> bool:
        """Returns True if the generator's range is finite and too wide for a usual one."""
        own = self.output_range or usual
        return value_ranges.WIDEST * (usual[1] - usual[0]) < own[1] - own[0] < np.inf

    def dividing(self, multiple: int, multiple_of: str) -> DataSpec:
        """Returns the same for batches that must be a multiple of a number."""
        return dataclasses.replace(self, multiple=multiple, multiple_of=multiple_of)

    def check_size(self, size: int) -> None:
        """Checks that a batch divides into the parts that the steps and the replicas see."""
        if size % self.multiple:
            raise UsageError(
                f"A batch must be a multiple of {self.multiple_of} = {self.multiple}, because each "
                f"discriminator step sees its own part. Received: a batch of {size}"
            )
        if size < self.replicas:
            raise UsageError(
                "A batch must have a sample for each replica"
                f"{f' ({self.replicas})' if self.replicas > 1 else ''}; use "
                f"batch(size, drop_remainder=True). Received: a batch of {size}"
            )


# ------------------------------------------------------------------------ fields


def read_fields(batch: Any) -> dict[str, Any]:
    """Returns the fields of a batch, or of the declaration of batches, by name.

    Raises:
        UsageError: weights of samples, labels given twice, or something other than x, (x, y) or a
            dictionary of fields.
    """
    parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
    if len(parts) == 3:
        refuse_weights(sample_weight=parts[2])
    named = parts[0] if parts and isinstance(parts[0], Mapping) else {}
    values = [*named.values(), *parts[1:]] if named else [*parts]
    fits = 1 <= len(parts) <= 3 and all(map(_is_tensor, values)) and parts[0] is not None
    fields = fields_of(parts) if fits else {}
    if not fits or "samples" not in fields:
        raise UsageError(
            "Batches must be x, (x, y), or a dictionary with `samples`, of tensors. "
            f"Received: {_describe(batch)}"
        )
    if "labels" in named and len(parts) > 1 and parts[1] is not None:
        raise UsageError(
            "Labels must be given once: as `y`, or in the dictionary `x`. Received: both"
        )
    return {name: value for name, value in fields.items() if value is not None}


def refuse_weights(**weights: Any) -> None:
    """Raises a `UsageError` if weights of samples or classes are given."""
    for name, value in weights.items():
        if value is not None:
            raise UsageError(
                f"`{name}` cannot be used: a game compares batches of real and generated samples, "
                "which have no weights. Draw examples more or less often instead, for instance "
                f"with tf.data.Dataset.sample_from_datasets. Received: {name} of type "
                f"{type(value).__name__}"
            )


def _is_tensor(value: Any) -> bool:
    """Returns whether a value is a dense array, or declares one; absent values are as well."""
    ragged = isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.RaggedTensorSpec))
    is_spec = isinstance(value, tf.TypeSpec)
    if is_spec and not isinstance(value, tf.TensorSpec):
        return value.value_type is type(None)
    return value is None or (hasattr(value, "shape") and hasattr(value, "dtype") and not ragged)


def _describe(batch: Any) -> str:
    """Returns the structure of a batch in one line."""
    if batch is None:
        return "None"
    if isinstance(batch, tf.TypeSpec) or _is_tensor(batch):
        spec = batch if isinstance(batch, tf.TypeSpec) else (batch.dtype, tuple(batch.shape))
        return " ".join(str(spec).split())
    if isinstance(batch, Mapping):
        return "{" + ", ".join(f"{k!r}: {_describe(v)}" for k, v in batch.items()) + "}"
    if isinstance(batch, (tuple, list)) and len(batch) <= 4:
        inner = ", ".join(map(_describe, batch))
        return f"({inner})" if isinstance(batch, tuple) else f"[{inner}]"
    return f"{type(batch).__name__} {short_repr(batch)}"


def check_declared(fields: Mapping[str, Any], spec: DataSpec, batched: bool = False) -> None:
    """Checks fields, types, ranks and shapes, as far as they are declared.

    Args:
        fields: arrays or declarations of tensors by name.
        spec: what the game needs.
        batched: whether the first axis is known to be that of a batch.

    Raises:
        UsageError: the first thing that does not fit.
    """
    x = fields["samples"]
    dtype = getattr(x.dtype, "name", str(x.dtype))
    if dtype != "float32":
        hint = " (uint8 images: x / 127.5 - 1)" if dtype == "uint8" else ""
        hint = ' (x.astype("float32"))' if dtype in ("float64", "float16") else hint
        raise UsageError(f"Samples must be float32{hint}. Received: {dtype}")
    shape = tf.TensorShape(x.shape)
    if not shape.is_compatible_with((None, *spec.sample_shape)):
        unbatched = shape.is_compatible_with(spec.sample_shape)
        hint = "; the data set is not batched" if unbatched and not batched else ""
        raise UsageError(
            f"Samples must have the shape {('batch', *spec.sample_shape)} that the networks are "
            f"built for{hint}. Received: {tuple(shape)}"
        )
    for name, who in spec.asked.items():
        if name not in fields:
            raise UsageError(
                f"The {who} asks for the field {name!r}, which the data does not have. "
                f"Received: {', '.join(fields)}"
            )
        _check_field(name, fields[name], spec.shapes.get(name), who)
    if spec.num_classes or spec.label_classes:
        _check_labels(fields.get("labels"), spec.num_classes)


def _check_field(name: str, value: Any, expected: tuple | None, who: str) -> None:
    dtype, shape = tf.as_dtype(value.dtype), tf.TensorShape(value.shape)
    if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
        raise UsageError(f"Values of {name!r} must be numbers. Received: dtype {dtype.name}")
    if expected is not None and not shape.is_compatible_with((None, *expected)):
        raise UsageError(
            f"Values of {name!r} must have the shape {('batch', *expected)} that the {who} takes. "
            f"Received: {tuple(shape)}"
        )


def _check_labels(y: Any, num_classes: int) -> None:
    if y is None:  # labels that only a term asks for have been found
        raise UsageError(
            f"A conditional game of {num_classes} classes needs (x, y), with y class ids. "
            "Received: x alone"
        )
    dtype, shape = tf.as_dtype(y.dtype), tf.TensorShape(y.shape)
    if dtype.is_integer and shape.is_compatible_with((None,)):
        return
    if shape.rank is None or shape.rank == 1:
        hint = ' (whole numbers: y.astype("int32"))'
    else:
        hint = " (y[:, 0])" if shape[-1] == 1 else " (y.argmax(axis=1))"
    received = f"{dtype.name} of shape {shape if shape.rank is None else tuple(shape)}"
    raise UsageError(
        f"Labels must be integer class ids of shape (batch,), not one-hot{hint}. "
        f"Received: {received}"
    )


# ------------------------------------------------------------------------ values


def to_array(name: str, value: Any) -> np.ndarray:
    """Returns the values of a field as an array.

    Raises:
        UsageError: masked values, which would become data.
    """
    if np.ma.is_masked(value):
        raise UsageError(
            f"`{name}` must have no masked values, which a game cannot leave out: fill them, as "
            f"with x.filled(0), or remove their examples. Received: {np.ma.count_masked(value)} "
            f"masked values of {value.size}"
        )
    return np.asarray(value)


def extremes(x: np.ndarray, name: str = "Samples") -> tuple[float, float]:
    """Returns the smallest and the largest value; both are 0 if there are no values.

    Raises:
        UsageError: NaN or infinity.
    """
    if not x.size:
        return 0.0, 0.0
    low, high = float(x.min()), float(x.max())  # NaN if there is one
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(np.size(x) - np.isfinite(x).sum())
        raise UsageError(f"{name} must be finite numbers. Received: {bad} NaN or infinite values")
    return low, high


def check_partly_labeled(y: np.ndarray, num_classes: int) -> None:
    """Checks that class ids are from 0 to num_classes - 1, or -1 for unlabeled examples.

    Raises:
        UsageError: they are not.
    """
    if y.size and (y.min() < -1 or y.max() >= num_classes):
        raise UsageError(
            f"Labels must be class ids from 0 to {num_classes - 1}, or -1 for an unlabeled "
            f"example. Received: ids from {y.min()} to {y.max()}"
        )


def check_some_labeled(used: np.ndarray, num_classes: int) -> None:
    """Checks that data of few labels has any, and warns of classes that have none.

    Args:
        used: the class ids that occur in the data, and -1.
        num_classes: number of classes.

    Raises:
        UsageError: no label at all.
    """
    known = used[used >= 0]
    if not len(known):
        raise UsageError("At least one example must have a label. Received: -1 for all examples")
    if len(known) < num_classes:
        warnings.warn(
            "Each class should have a labeled example, or it is never predicted. Received: labels "
            f"of {len(known)} of {num_classes} classes",
            stacklevel=3,
        )


def check_ids(y: np.ndarray, num_classes: int, whole: bool = False) -> None:
    """Checks that class ids are from 0 to num_classes - 1.

    Args:
        y: class ids.
        num_classes: number of classes.
        whole: whether these are all ids of the data.

    Raises:
        UsageError: they are not.
    """
    if not y.size or (y.min() >= 0 and y.max() < num_classes):
        return
    hint = ""
    if y.min() == -1:
        hint = ", without -1, which only the term 'supervised' takes for an unlabeled example"
    elif y.min() == 1 and y.max() == num_classes:
        hint = " (ids that start at 1: y - 1)"
    elif whole and y.min() >= 0 and len(np.unique(y)) <= num_classes:
        hint = " (ids with gaps: np.unique(y, return_inverse=True)[1])"
    raise UsageError(
        f"Labels must be class ids from 0 to {num_classes - 1}{hint}. "
        f"Received: ids from {y.min()} to {y.max()}"
    )


def warn_unused(used: Iterable[int], num_classes: int) -> None:
    """Warns of classes that no example has."""
    unused = sorted(set(range(num_classes)) - set(map(int, used)))
    if not unused:
        return
    named = ", ".join(map(str, unused[:_SHOWN])) + ", ..." * (len(unused) > _SHOWN)
    hint = "; if the ids start at 1, give y - 1" if unused == [0] else ""
    warnings.warn(
        f"The data should have examples of each of the {num_classes} classes: `generate` draws all "
        f"of them by default, and a class without examples is not learned{hint}. Received: no "
        f"examples of the class ids {named}, num_classes={num_classes}",
        stacklevel=3,
    )


# ------------------------------------------------------------------------ arrays and batches


def check_arrays(fields: Mapping[str, np.ndarray], spec: DataSpec) -> np.ndarray | None:
    """Checks whole arrays and returns the class ids that occur, None without labels.

    Raises:
        UsageError: the first thing that does not fit.
    """
    check_declared(fields, spec, batched=True)
    if not len(fields["samples"]):
        raise UsageError("There must be samples to train on. Received: an array of none")
    _check_lengths(fields, spec)
    low, high = _check_values(fields, spec, whole=True)
    data_ranges.check_sign(low, high, spec)
    data_ranges.warn_unreached(low, high, spec)
    _check_stated(fields, spec)
    return np.unique(fields["labels"]) if spec.num_classes or spec.label_classes else None


def _check_lengths(fields: Mapping[str, np.ndarray], spec: DataSpec) -> None:
    count = len(fields["samples"])
    for name in spec.names:
        if len(fields[name]) != count:
            raise UsageError(
                f"There must be one value of `{name}` for each sample. Received: {count} samples "
                f"and {len(fields[name])} values"
            )


def _check_values(
    fields: Mapping[str, np.ndarray], spec: DataSpec, whole: bool = False
) -> tuple[float, float]:
    low, high = extremes(fields["samples"])
    data_ranges.check_range(low, high, spec)
    if spec.seen is not None:
        stated = spec.value_range if spec.kind is not None else None
        spec.seen.add(*(stated or (low, high)))
    for name in spec.asked:
        extremes(fields[name], f"Values of {name!r}")
    if spec.num_classes:
        check_ids(fields["labels"], spec.num_classes, whole)
    if spec.label_classes:
        check_partly_labeled(fields["labels"], spec.label_classes)
    return low, high


def _check_stated(fields: Mapping[str, np.ndarray], spec: DataSpec) -> None:
    """Checks fields whose kind a network states, such as the base of logarithms."""
    for name, field in spec.stated.items():
        field.modality.check_given(fields[name], field.meta, name)


class BatchCheck:
    """Checks the batches of one stream against the needs of a game, in their order.

    Args:
        spec: what the game needs.
        length: number of batches in one pass, if it is known.
    """

    def __init__(self, spec: DataSpec, length: int | None = None):
        self.spec, self.length = spec, length
        self.count = 0  # batches
        self.complete = True  # whether it sees all batches; some streams cannot be looked into
        self.seen = np.zeros(spec.num_classes, bool)
        self._samples, self._low, self._high, self._judged = 0, np.inf, -np.inf, False
        self._fields: tuple[str, ...] = ()  # of the first batch
        self._places: set[str] = set()  # Keras reads the first batches of a PyDataset twice

    def __call__(self, fields: Mapping[str, Any], place: str = "") -> None:
        """Checks the next batch.

        Args:
            fields: its fields by name.
            place: name of the batch in errors; by default its number.

        Raises:
            UsageError: the first thing that does not fit, and the batch.
        """
        number = self.count % self.length if self.length else self.count
        self.count += 1
        try:
            self._check(fields, place)
        except UsageError as error:
            raise UsageError(f"{error}, in {place or f'batch {number + 1}'}") from None

    def _check(self, fields: Mapping[str, Any], place: str) -> None:
        spec = self.spec
        self._fields = self._fields or tuple(fields)
        if set(fields) != set(self._fields):
            raise UsageError(
                f"All batches must have the fields of the first one, {', '.join(self._fields)}. "
                f"Received: {', '.join(fields)}"
            )
        arrays = {name: to_array(name, fields[name]) for name in spec.names if name in fields}
        check_declared(arrays, spec)
        size = len(arrays["samples"])
        spec.check_size(size)
        _check_lengths(arrays, spec)
        low, high = _check_values(arrays, spec)
        if spec.num_classes:
            self.seen[arrays["labels"]] = True
        if not self._judged:
            _check_stated(arrays, spec)
        if not self._judged and place not in self._places:
            self._places |= {place} if place else set()
            self._samples += size
            self._low, self._high = min(self._low, low), max(self._high, high)
            if self._samples >= ENOUGH:
                self.judge()

    @property
    def enough(self) -> bool:
        """True if the range of the samples has been judged."""
        return self._judged

    def judge(self) -> None:
        """Judges the range of the samples that have been seen.

        Raises:
            UsageError: it seems to be [0, 1].
        """
        self._judged = True
        if self._samples:
            data_ranges.check_sign(self._low, self._high, self.spec)
            data_ranges.warn_unreached(self._low, self._high, self.spec)

    def rewind(self) -> None:
        """Counts the batches from the first one again."""
        self.count = 0

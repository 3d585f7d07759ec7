"""Fields of a data set: kind, shape, dtype and metadata of each tensor of an example."""

from __future__ import annotations

import dataclasses
import functools
import numbers
from collections.abc import Mapping
from typing import Any

from keras_gan.arguments import is_integer, is_number
from keras_gan.errors import UsageError
from serving import kinds

Shape = tuple[int | None, ...]
UNLABELED = -1  # label of an example whose class is not known


@dataclasses.dataclass(frozen=True)
class Field:
    """One named tensor of an example, without the batch axis.

    Args:
        kind: a name in `serving.kinds`: `"image"`, `"points"`, `"audio"`, `"mel"`, `"video"`,
            `"series"`, `"text"`, `"table"`, `"label"`, `"action"`, or `"array"` for tensors of any
            other form.
        shape: shape of one value; `None` on an axis of any length. Images are
            `(height, width, channels)` with 1, 3 or 4 channels; points `(features,)`; audio
            `(time, channels)`; series `(time, features)`; video
            `(frames, height, width, channels)`; text `(time, vocabulary)`, weights of the tokens,
            or `(time,)`, token ids; table rows `(columns,)`; labels `()`.
        dtype: dtype in a batch; by default float32, and int32 for labels and token ids.
        meta: metadata by name, as the kind allows: `value_range` (smallest and largest value),
            `num_classes` and `class_names` (labels, ids being `0..num_classes-1`),
            `sample_rate` (audio, in Hz), `frame_rate` (video, in Hz), `columns` (names, of
            tables and series), `vocabulary` (tokens in the order of their ids), `mel` (definition
            of mel spectrograms, the arguments of `serving.mel.Mel`), `low` and `high` (bounds of
            continuous actions).

    Raises:
        UsageError: an unknown kind, or a shape, dtype or metadata that does not fit the kind.
    """

    kind: str
    shape: Shape
    dtype: str = ""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        kinds.get(self.kind)
        # Lists come from JSON; tuples keep equal fields equal.
        meta = {name: _frozen(value) for name, value in self.meta.items() if value is not None}
        object.__setattr__(self, "shape", tuple(map(_to_int, self.shape)))
        object.__setattr__(self, "meta", meta)
        self._check_shape()
        dtypes = self.modality.dtypes_of(self.shape)
        object.__setattr__(self, "dtype", self.dtype or dtypes[0])
        if self.dtype not in dtypes:
            raise UsageError(
                f"A field of kind {self.kind!r} and shape {self.shape} must have one of the "
                f"dtypes {', '.join(dtypes)}. Received: dtype={self.dtype!r}"
            )
        _check_meta(meta)

    @property
    def modality(self) -> kinds.Kind:
        """All that is known of the field's kind."""
        return kinds.get(self.kind)

    @property
    def kind_range(self) -> tuple[float, float] | None:
        """The range of the field's kind in batches; `None` where values are unbounded."""
        return self.modality.range_for(self.shape)

    def accepts_shape(self, shape: Shape) -> bool:
        """Returns whether one value may have this shape, in which `None` is any length."""
        return len(shape) == len(self.shape) and all(
            wanted is None or size is None or wanted == size
            for wanted, size in zip(self.shape, shape, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the field as plain JSON values."""
        meta = {name: _plain(value) for name, value in self.meta.items()}
        return {"kind": self.kind, "shape": list(self.shape), "dtype": self.dtype, "meta": meta}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Field:
        """Makes a field of what `to_json` returned."""
        return cls(content["kind"], content["shape"], content["dtype"], content["meta"])

    def _check_shape(self) -> None:
        self.modality.check(self.shape, self.meta)
        columns = self.meta.get("columns", ())
        if columns and self.shape[-1] not in (None, len(columns)):
            raise UsageError(
                f"`columns` must name each of the {self.shape[-1]} features. "
                f"Received: {len(columns)} names"
            )


@dataclasses.dataclass(frozen=True, init=False)
class Spec:
    """The fields of a data set's examples, by name.

    `Spec(kind, shape, value_range, num_classes, class_names)` describes samples and, with
    classes, their labels; `Spec(fields={...})` describes any fields. The first field is
    `samples`; `labels` is of kind `"label"`; others have names of their own, such as `condition`
    and `mask`.

    Args:
        kind: kind of the samples, see `Field`.
        shape: shape of one sample.
        value_range: smallest and largest value of a sample; `(-1.0, 1.0)` for images, `None`
            where values are unbounded.
        num_classes: number of classes, class ids being `0..num_classes-1`; 0 for data without
            labels.
        class_names: name of each class, in the order of the ids; empty if they have none.
        fields: all fields by name, instead of the other arguments.

    Raises:
        UsageError: a field that does not fit its kind, no field `samples`, or names that do not
            fit the classes.
    """

    fields: dict[str, Field]

    def __init__(
        self,
        kind: str | None = None,
        shape: Shape = (),
        value_range: tuple[float, float] | None = None,
        num_classes: int = 0,
        class_names: tuple[str, ...] = (),
        *,
        fields: Mapping[str, Field] | None = None,
    ) -> None:
        if fields is None:
            meta = {} if value_range is None else {"value_range": value_range}
            fields = {"samples": Field(kind or "", shape, meta=meta)}
            if num_classes or class_names:
                fields["labels"] = label_field(num_classes, class_names)
        elif kind is not None or shape or value_range or num_classes or class_names:
            raise UsageError(
                "A spec is made of `fields` or of the other arguments, not of both. "
                f"Received: kind={kind!r}, shape={shape}, value_range={value_range}, "
                f"num_classes={num_classes}, class_names={class_names}, fields={list(fields)}"
            )
        object.__setattr__(self, "fields", _check_fields(fields))

    def __hash__(self) -> int:
        return hash(tuple(self.fields.items()))

    @property
    def samples(self) -> Field:
        """The field of the samples."""
        return self.fields["samples"]

    def class_name(self, label: int) -> str:
        """Returns the name of a class, or its id if the classes have no names."""
        return self.class_names[label] if self.class_names else str(label)

    @property
    def kind(self) -> str:
        """Kind of the samples."""
        return self.samples.kind

    @property
    def modality(self) -> kinds.Kind:
        """All that is known of the samples' kind."""
        return self.samples.modality

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample. A length that varies is `None`."""
        return self.samples.shape  # type: ignore[return-value]

    @property
    def value_range(self) -> tuple[float, float] | None:
        """Smallest and largest value of a sample; `None` where values are unbounded."""
        return self.samples.meta.get("value_range")

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return self.fields["labels"].meta["num_classes"] if "labels" in self.fields else 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the ids; empty if they have none."""
        return self.fields["labels"].meta.get("class_names", ()) if "labels" in self.fields else ()

    def packed(self, count: int) -> Spec:
        """Returns the input spec of a discriminator that judges `count` samples together.

        The samples of a pack are concatenated along the last axis.
        """
        if count == 1:
            return self
        *leading, last = self.shape
        if last is None:
            raise UsageError(
                "Samples can be packed only if their last axis has a fixed length. "
                f"Received: shape={self.shape}, count={count}"
            )
        samples = self.samples
        packed = _PackedField(samples.kind, (*leading, count * last), samples.dtype, samples.meta)
        return Spec(fields={**self.fields, "samples": packed})

    def with_classes(self, num_classes: int, class_names: tuple[str, ...] = ()) -> Spec:
        """Returns the spec with other classes; without labels if `num_classes` is 0."""
        fields = {name: field for name, field in self.fields.items() if name != "labels"}
        if num_classes or class_names:
            fields["labels"] = label_field(num_classes, class_names)
        return Spec(fields=fields)

    def to_json(self) -> dict[str, Any]:
        """Returns the spec as plain JSON values: `{"fields": {name: field}}`."""
        return {"fields": {name: field.to_json() for name, field in self.fields.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Spec:
        """Makes a spec of what `to_json` returned.

        Also reads the form that runs recorded before there were fields: the arguments of the
        constructor by name.
        """
        if "fields" not in content:
            return cls(**{name: _frozen(value) for name, value in content.items()})
        fields = content["fields"]
        return cls(fields={name: Field.from_json(field) for name, field in fields.items()})


class _PackedField(Field):
    """A field of packed samples: its channels are those of all samples of a pack."""

    def _check_shape(self) -> None:
        """Accepts any number of channels and columns: the packed field has been checked."""


def label_field(num_classes: int, class_names: tuple[str, ...] = (), dtype: str = "int32") -> Field:
    """Returns the field of class ids `0..num_classes-1`.

    Raises:
        UsageError: names that do not fit the number of classes.
    """
    meta: dict[str, Any] = {"num_classes": num_classes}
    if class_names:
        meta["class_names"] = tuple(class_names)
    return Field("label", (), dtype, meta)


def infer_spec(
    shape: Shape,
    num_classes: int = 0,
    class_names: tuple[str, ...] = (),
    value_range: tuple[float, float] | None = None,
) -> Spec:
    """Returns the spec of samples of which only the shape is known, see `kinds.of_shape`.

    Args:
        shape: shape of one sample.
        num_classes: number of classes; 0 for samples without labels.
        class_names: name of each class.
        value_range: smallest and largest value of kinds that have such; by default the kind's.
    """
    kind = kinds.of_shape(shape)
    limits = kinds.get(kind).value_range
    if limits is not None:
        limits = value_range or limits
    return Spec(kind, shape, limits, num_classes, class_names if num_classes else ())


def sample_kinds() -> list[str]:
    """Returns the names of the kinds that a data set's samples may have."""
    return [name for name in kinds.names() if kinds.get(name).for_samples]


def _check_fields(fields: Mapping[str, Field]) -> dict[str, Field]:
    """Checks the names of fields and puts `samples` first."""
    if "samples" not in fields:
        raise UsageError(f"A spec must have a field `samples`. Received: fields={list(fields)}")
    if not fields["samples"].modality.for_samples:
        raise UsageError(
            f"Samples must be of a kind that can be generated, {', '.join(sample_kinds())}. "
            f"Received: kind={fields['samples'].kind!r}"
        )
    for name in fields["samples"].modality.needed:
        if name not in fields["samples"].meta:
            raise UsageError(
                f"Samples of kind {fields['samples'].kind!r} must state {name!r} (data.{name} in a "
                f"recipe). Received: meta={dict(fields['samples'].meta)}"
            )
    labels = fields.get("labels")
    if labels is not None and "num_classes" not in labels.meta:
        raise UsageError(
            "The field `labels` must be of kind 'label' and state its num_classes. "
            f"Received: labels={labels}"
        )
    # A fixed order keeps the recorded digest of the same data the same.
    first = [name for name in ("samples", "labels") if name in fields]
    return {name: fields[name] for name in (*first, *sorted(set(fields) - set(first)))}


def _check_meta(meta: Mapping[str, Any]) -> None:
    """Checks the values of metadata; the kind has checked their names."""
    for name, (rule, fits) in _META.items():
        if name in meta and not fits(meta[name]):
            raise UsageError(f"`{name}` must be {rule}. Received: {name}={meta[name]!r}")


def _is_range(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and all(map(is_number, value))
    return is_pair and value[0] < value[1]


def _is_positive(value: Any) -> bool:
    return is_number(value) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _is_vocabulary(value: Any) -> bool:
    return _are_names(value) and 0 < len(value) == len(set(value))


# Rule and check of each metadata entry.
_META = {
    "value_range": ("two numbers in ascending order", _is_range),
    "stored_range": ("two numbers in ascending order", _is_range),
    "num_classes": ("an integer of at least 0", functools.partial(is_integer, minimum=0)),
    "class_names": ("a list of strings", _are_names),
    "sample_rate": ("a positive number, in Hz", _is_positive),
    "frame_rate": ("a positive number, in Hz", _is_positive),
    "columns": ("a list of strings", _are_names),
    "vocabulary": ("a list of different strings, at least one", _is_vocabulary),
}


def _to_int(size: Any) -> Any:
    return int(size) if isinstance(size, numbers.Integral) else size


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, tuple) else value

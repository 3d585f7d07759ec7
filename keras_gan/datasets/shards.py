"""Fields of prepared data sets: the TFDS feature of each field, and the record beside the shards.

The features of TensorFlow Datasets describe images, points and labels. Other kinds, further fields
and metadata such as a sample rate are recorded in `fields.json` in the data set's folder.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets.source import Source
from keras_gan.datasets.splits import Split
from keras_gan.datasets.tfds_folders import import_tfds, read_examples
from keras_gan.errors import UsageError
from keras_gan.spec import Spec
from serving.value_ranges import Range

_FILE = "fields.json"
_SCHEMA_VERSION = 1
# Names of the TFDS features from which samples of these kinds are read back without a record.
_FEATURES = {"image": "image", "points": "features"}


@dataclasses.dataclass(frozen=True)
class Record:
    """The fields of a prepared data set.

    Args:
        spec: the fields of an example in a batch.
        features: the name of the TFDS feature that holds each field.
        raw_ranges: smallest and largest stored value of the fields that have a range.
    """

    spec: Spec
    features: Mapping[str, str]
    raw_ranges: Mapping[str, Range]

    def without_labels(self) -> Record:
        """Returns the record of the same data set, opened without labels."""
        return dataclasses.replace(self, spec=self.spec.with_classes(0))


def record_of(source: Source) -> Record:
    """Returns the record of a data set that is about to be written."""
    spec = source.spec
    names = {"samples": _FEATURES.get(spec.kind, "samples"), "labels": "label"}
    features = {name: names.get(name, name) for name in spec.fields}
    if len(set(features.values())) < len(features):
        raise UsageError(
            f"A field must not have the name of a feature, {', '.join(names.values())}. "
            f"Received: fields={list(spec.fields)}"
        )
    stored = {
        # PNG files hold 8 bits, whatever the range of the array.
        name: (0.0, 255.0) if spec.fields[name].modality.has_pixels else limits
        for name, limits in source.raw_ranges.items()
        if limits is not None
    }
    return Record(spec, features, stored)


def is_plain(spec: Spec) -> bool:
    """Returns whether TFDS features describe all fields, so that no record is needed."""
    plain = Spec(spec.kind, spec.shape, spec.samples.kind_range, spec.num_classes, spec.class_names)
    return _FEATURES.get(spec.kind) is not None and spec == plain


def features_of(source: Source, record: Record) -> Any:
    """Returns the TFDS features of a data set."""
    features = import_tfds().features
    columns: dict[str, Any] = {}
    for name, array in source.field_rows("train", np.arange(1)).items():
        field, shape = record.spec.fields[name], array.shape[1:]
        if name == "labels":
            names = field.meta.get("class_names")
            classes = {"names": list(names)} if names else {"num_classes": source.spec.num_classes}
            column = features.ClassLabel(**classes)
        elif field.modality.has_pixels:
            column = features.Image(shape=shape, encoding_format="png")
        elif is_plain(record.spec):
            column = features.Tensor(shape=shape, dtype=np.float32)
        else:
            encoding = "bytes" if shape else "none"  # bytes keep the dtype and take least space
            column = features.Tensor(shape=shape, dtype=_stored(array).dtype, encoding=encoding)
        columns[record.features[name]] = column
    return features.FeaturesDict(columns)


def to_example(source: Source, record: Record, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an example as its features are written, images as uint8 arrays."""
    example = {}
    for name, value in fields.items():
        field = record.spec.fields[name]
        if name == "labels":
            written: Any = int(value)
        elif field.modality.has_pixels:
            written = source.field_to_uint8(name, value)
        else:
            written = _stored(np.asarray(value))
        example[record.features[name]] = written
    return example


def write_record(record: Record, folder: Path) -> None:
    """Writes a record into the folder of a prepared data set."""
    content = {
        "schema_version": _SCHEMA_VERSION,
        "spec": record.spec.to_json(),
        "features": dict(record.features),
        "raw_ranges": {name: list(limits) for name, limits in record.raw_ranges.items()},
    }
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def read_record(folder: Path) -> Record | None:
    """Reads the record of a prepared data set; `None` if it has none.

    Raises:
        UsageError: a damaged record.
    """
    path = folder / _FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["schema_version"] != _SCHEMA_VERSION:
            raise ValueError(f"schema_version={content['schema_version']}")
        ranges = {name: (low, high) for name, (low, high) in content["raw_ranges"].items()}
        spec = Spec.from_json(content["spec"])
        features = {name: content["features"][name] for name in spec.fields}
        return Record(spec, features, ranges)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"The record of a prepared data set's fields must be whole and of schema_version "
            f"{_SCHEMA_VERSION}. Received: {path}: {error}"
        ) from error


def read_split(builder: Any, split: str, record: Record) -> Split:
    """Reads all fields of one split into memory.

    Raises:
        UsageError: damaged shards.
    """
    batches = list(read_examples(builder, split=split, batch_size=1024))
    fields = {
        name: np.concatenate([batch[record.features[name]] for batch in batches])
        for name in record.spec.fields
    }
    labels = fields.pop("labels", None)
    labels = None if labels is None else labels.astype(np.int32)
    return Split(fields.pop("samples"), labels, others=fields)


def _stored(array: np.ndarray) -> np.ndarray:
    """Returns an array in a dtype that TensorFlow Datasets can write."""
    is_float = np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if is_float else array

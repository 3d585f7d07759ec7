"""TFRecord files of `tf.train.Example` for TensorFlow Datasets, written without TensorFlow."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from serving import kinds
from serving.inputs import Input, Port
from serving.kinds import Format

SPLIT = "train"
VERSION = "1.0.0"
_MASK = 0xA282EAD8  # added to checksums, as the CRC of data that holds its own CRC is weak


def _table() -> np.ndarray:
    """Computes the table of CRC-32C: Castagnoli's polynomial, reflected, by byte."""
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1)
    return values.astype(np.uint32)


_TABLE = _table()
_BYTES_PER_COLUMN = 40  # a plain loop handles as many in the time of one numpy operation


def crc32c(messages: Sequence[bytes]) -> np.ndarray:
    """Returns the CRC-32C of each message.

    All messages advance together by one byte, longest first: a loop over bytes in Python would be
    a hundred times slower than the encoding of the pictures. A few long messages are faster in a
    plain loop.

    Reference:
        RFC 3720, appendix B.4.
    """
    sizes = np.array([len(message) for message in messages], np.int64)
    order = np.argsort(-sizes, kind="stable")
    found = np.full(len(messages), 0xFFFFFFFF, np.uint32)
    if not len(messages):
        return found
    if sizes.sum() < _BYTES_PER_COLUMN * sizes.max():
        return np.array([_crc32c(message) for message in messages], np.uint32)
    columns = np.zeros((int(sizes.max()), len(messages)), np.uint8)
    for row, number in enumerate(order):
        columns[: sizes[number], row] = np.frombuffer(messages[number], np.uint8)
    # Entry i is the number of messages of more than i bytes.
    ends = np.cumsum(np.bincount(sizes, minlength=len(columns) + 1)[::-1])[::-1][1:]
    for column, active in zip(columns, ends, strict=True):
        state = found[:active]
        found[:active] = _TABLE[(state ^ column[:active]) & np.uint32(0xFF)] ^ (state >> 8)
    result = np.empty_like(found)
    result[order] = ~found
    return result


def _crc32c(message: bytes) -> int:
    table, state = _TABLE.tolist(), 0xFFFFFFFF
    for byte in message:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state ^ 0xFFFFFFFF


def masked(checksums: np.ndarray) -> np.ndarray:
    """Masks checksums as TFRecord stores them: rotated by 15 bits, plus a constant."""
    return ((checksums >> 15) | (checksums << 17)) + np.uint32(_MASK)


def records(messages: Sequence[bytes]) -> bytes:
    """Encodes messages as TFRecord: length, its checksum, message, its checksum."""
    lengths = [struct.pack("<Q", len(message)) for message in messages]
    heads = masked(crc32c(lengths)).tolist()
    tails = masked(crc32c(messages)).tolist()
    framed = zip(lengths, heads, messages, tails, strict=True)
    return b"".join(
        b"".join((length, struct.pack("<I", head), message, struct.pack("<I", tail)))
        for length, head, message, tail in framed
    )


def example(features: Mapping[str, bytes | int | np.ndarray]) -> bytes:
    """Serializes a `tf.train.Example`, features in the order of their names.

    Args:
        features: bytes, an integer, or an array, which is flattened; floats are written as
            float32, integers as int64.
    """
    return _field(1, b"".join(_entry(name, features[name]) for name in sorted(features)))


def _entry(name: str, value: bytes | int | np.ndarray) -> bytes:
    if isinstance(value, bytes):
        feature = _field(1, _field(1, value))
    elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
        feature = _field(2, _field(1, np.ascontiguousarray(value, "<f4").tobytes()))
    elif isinstance(value, np.ndarray):
        numbers = value.astype(np.int64).ravel().tolist()
        feature = _field(3, _field(1, b"".join(_varint(x % 2**64) for x in numbers)))
    else:
        feature = _field(3, _field(1, _varint(value)))
    return _field(1, _field(1, name.encode()) + _field(2, feature))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)


# ------------------------------------------------------------------- TensorFlow Datasets


def dataset_name(model: str) -> str:
    """Returns a model's name in the form that TensorFlow Datasets requires."""
    return re.sub(r"\W+", "_", model.lower()).strip("_") or "samples"


def file_name(model: str, shard: int, shards: int) -> str:
    """Returns the file name of a shard, which contains the number of shards."""
    return f"{dataset_name(model)}-{SPLIT}.tfrecord-{shard:05d}-of-{shards:05d}"


def picture_format(port: Port) -> Format | None:
    """Returns the format of samples that are stored as pictures, which is PNG; else `None`."""
    form = kinds.get(port.kind).all_formats().get("png")
    return form if form and form.encode else None


def metadata(
    model: str,
    outputs: Sequence[Port],
    classes: Input | None,
    *,
    is_seeded: bool = True,
    lengths: Iterable[int],
    size: int,
    description: str,
) -> dict[str, str]:
    """Returns the files that `tfds.builder_from_directory` reads beside the shards, by name.

    Args:
        model: name of the model.
        outputs: of the network, the samples first; images are stored as PNG.
        classes: its input of classes, or `None`.
        is_seeded: the samples have seeds.
        lengths: number of samples in each shard.
        size: bytes of all shards.
        description: of the data set.
    """
    first, *others = outputs
    features: dict[str, Any] = {port.name: _numbers(port) for port in others}
    if is_seeded:
        features["seed"] = _python("scalar.Scalar", tensor=_tensor("int64"))
    if picture_format(first):
        image = {"dtype": "uint8", "shape": _dimensions(_fixed(first))}
        features["image"] = _python("image_feature.Image", image=image)
    else:
        features["sample"] = _numbers(first)
    files = {}
    if classes is not None:
        label = {"numClasses": str(classes.num_classes)}
        features["label"] = _python("class_label_feature.ClassLabel", classLabel=label)
        if names := classes.meta.get("class_names"):
            files["label.labels.txt"] = "".join(f"{name}\n" for name in names)
    content = _python("features_dict.FeaturesDict", featuresDict={"features": features})
    lengths = list(lengths)
    split = {
        "name": SPLIT,
        "numBytes": str(size),
        "shardLengths": [str(length) for length in lengths],
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    }
    info = {
        "name": dataset_name(model),
        "version": VERSION,
        "description": description,
        "fileFormat": "tfrecord",
        "splits": [split],
    }
    # dataset_info.json is written last: a reader that finds it finds all other files.
    files["features.json"] = json.dumps(content, indent=2, sort_keys=True) + "\n"
    files["dataset_info.json"] = json.dumps(info, indent=2, sort_keys=True) + "\n"
    return files


def _python(place: str, **content: Any) -> dict[str, Any]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{place}", **content}


def _numbers(port: Port) -> dict[str, Any]:
    dtype = "float32" if np.dtype(port.dtype).kind == "f" else "int64"
    return _python("tensor_feature.Tensor", tensor=_tensor(dtype, _fixed(port)))


def _fixed(port: Port) -> tuple[int, ...]:
    """Returns the shape of a port without named sizes, which have no place in a record."""
    return tuple(n for n in port.sizes if n is not None)


def _tensor(dtype: str, shape: Sequence[int] = ()) -> dict[str, Any]:
    return {"dtype": dtype, "encoding": "none", "shape": _dimensions(shape)}


def _dimensions(shape: Sequence[int]) -> dict[str, list[str]]:
    return {"dimensions": [str(size) for size in shape]} if shape else {}

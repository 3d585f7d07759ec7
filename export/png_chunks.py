"""Provenance in the PNG files of `generate_png`: the generating model and the seed.

TensorFlow's encoder writes only pixels, so string operations that every server has insert the
chunks after the header. Chunks that all images share are a constant; the text and the checksum of a
seed are computed in the graph. `keras-gan sample` writes the same texts, of
`serving/provenance.py`.
"""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np
import tensorflow as tf

from serving.provenance import XMP_KEY, provenance

_HEADER = 8 + 25  # bytes of PNG's signature and of its first chunk, IHDR
_DIGITS = 19  # digits of the largest int64


def provenance_chunks(model: str, sha256: str) -> bytes:
    """Returns the chunks that all images of a model share.

    Args:
        model: name of the model.
        sha256: SHA-256 of its `model.onnx`.
    """
    texts = provenance(model, sha256)
    xmp = texts.pop(XMP_KEY)
    plain = [_chunk(b"tEXt", f"{key}\0{text}".encode("latin-1")) for key, text in texts.items()]
    # Keyword, no compression, no language, no translated keyword; then the text.
    return b"".join([*plain, _chunk(b"iTXt", f"{XMP_KEY}\0\0\0\0\0{xmp}".encode())])


def add_chunks(png: tf.Tensor, chunks: bytes, numbers: dict[str, tf.Tensor]) -> tf.Tensor:
    """Inserts chunks after the header of PNG files.

    Args:
        png: strings `(batch,)`.
        chunks: chunks that all files share.
        numbers: int64 `(batch,)` by the keyword of the text chunk for each, such as `Seed`.
    """
    own = [part for key, values in numbers.items() for part in _number_chunk(key, values)]
    head = tf.strings.substr(png, 0, _HEADER)
    rest = tf.strings.substr(png, _HEADER, 2**31 - 1)
    return tf.strings.join([head, tf.constant(chunks), *own, rest])


def _number_chunk(key: str, values: tf.Tensor) -> list[tf.Tensor]:
    """Returns the parts of a tEXt chunk for each number: length, content, checksum."""
    start = b"tEXt" + key.encode("latin-1") + b"\0"
    text = tf.strings.as_string(values)
    length = tf.strings.length(text)
    checksum = tf.fill(tf.shape(values), tf.constant(_state(start), tf.int64))
    for place in range(_DIGITS):  # from the left; digits after the end are masked
        digit = tf.strings.to_number(
            tf.strings.substr(tf.strings.join([text, "0" * _DIGITS]), place, 1), tf.int64
        )
        checksum = tf.where(place < length, _next(checksum, digit + ord("0")), checksum)
    checksum = tf.bitwise.invert(checksum) & tf.constant(2**32 - 1, tf.int64)
    return [
        *_big_endian(tf.cast(length, tf.int64) + (len(start) - 4)),
        tf.constant(start),
        text,
        *_big_endian(checksum),
    ]


def _next(checksum: tf.Tensor, byte: tf.Tensor) -> tf.Tensor:
    """Updates a CRC-32 by one byte."""
    index = tf.bitwise.bitwise_and(
        tf.bitwise.bitwise_xor(checksum, byte), tf.constant(255, tf.int64)
    )
    shifted = tf.bitwise.right_shift(checksum, tf.constant(8, tf.int64))
    return tf.bitwise.bitwise_xor(tf.gather(tf.constant(_table()), index), shifted)


def _big_endian(values: tf.Tensor) -> list[tf.Tensor]:
    """Returns the four bytes of numbers as strings of length 1."""
    letters = tf.constant([bytes([byte]) for byte in range(256)])
    shifts = (tf.constant(shift, tf.int64) for shift in (24, 16, 8, 0))
    low = tf.constant(255, tf.int64)
    return [
        tf.gather(letters, tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, shift), low))
        for shift in shifts
    ]


def _state(content: bytes) -> int:
    """Returns the state of a CRC-32 after some bytes, before the final inversion."""
    return zlib.crc32(content) ^ 0xFFFFFFFF


@functools.cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.int64)
    for _ in range(8):
        table = np.where(table & 1, 0xEDB88320 ^ (table >> 1), table >> 1)
    return table


def _chunk(kind: bytes, content: bytes) -> bytes:
    length, checksum = (
        struct.pack(">I", len(content)),
        struct.pack(">I", zlib.crc32(kind + content)),
    )
    return length + kind + content + checksum

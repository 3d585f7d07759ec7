"""File formats of samples, with those that every kind has: npy, npz and JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from serving import extras
from serving.errors import UsageError, one_line

Meta = Mapping[str, Any]
MAX_UNPACKED = 2**28  # bytes of the arrays in a compressed file


class Lines(NamedTuple):
    """Form of a file that has one line for each of several samples.

    Args:
        write: function from a sample, its meta and its facts, such as its seed and label, to its
            line, without the line break.
        to_file: function from a line to the file of its sample alone.
        is_json: every line is a JSON object, so that another one can end a stream.
    """

    write: Callable[[np.ndarray, Meta, Mapping[str, Any]], bytes]
    to_file: Callable[[bytes], bytes]
    is_json: bool = False


class Format(NamedTuple):
    """File format of one sample of a kind.

    Args:
        name: name in requests and on the command line, also the file's ending.
        media_type: Content-Type of a file.
        encode: function from a sample, its meta and texts to keep in the file, to bytes; `None`
            for a format that is only read.
        decode: function from bytes, the wanted shape and meta to a sample; `None` for a format
            that is only written.
        endings: further file endings of the format.
        several: `encode` also takes several samples `(batch, ...)`, for one file of all.
        any_value: files also hold NaN and infinity.
        module: module that writing needs beside the packages of every server.
        extra: extra of this package that installs it.
        lines: how a file holds several samples, one on each line; `None` if it cannot.
    """

    name: str
    media_type: str
    encode: Callable[[np.ndarray, Meta, Mapping[str, str]], bytes] | None = None
    decode: Callable[[bytes, Sequence[int | None], Meta], np.ndarray] | None = None
    endings: tuple[str, ...] = ()
    several: bool = False
    any_value: bool = False
    module: str = ""
    extra: str = ""
    lines: Lines | None = None

    @property
    def is_written(self) -> bool:
        """True if files can be written here."""
        return self.encode is not None and extras.is_installed(self.module)


def _to_npy(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, sample, allow_pickle=False)
    return buffer.getvalue()


def _from_npy(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        sample = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # such as a MemoryError for the shape in a forged header
        line = one_line(error)
        raise UsageError(f"A .npy file must be readable by numpy. Received: {line}") from None
    if not isinstance(sample, np.ndarray):
        raise UsageError("A .npy file must hold one array. Received: an archive of several")
    return numeric(sample)


def _to_npz(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, samples=sample)
    return buffer.getvalue()


def _from_npz(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            size = sum(entry.file_size for entry in archive.zip.infolist())
            if size > MAX_UNPACKED:
                raise UsageError(
                    f"A .npz file must hold at most {MAX_UNPACKED} bytes. Received: {size} bytes"
                )
            arrays = {name: archive[name] for name in archive.files}
    except UsageError:
        raise
    except Exception as error:  # zipfile, zlib and numpy have many
        line = one_line(error)
        raise UsageError(f"A .npz file must be readable by numpy. Received: {line}") from None
    if len(arrays) != 1:
        raise UsageError(
            f"A .npz file must hold one array here. Received: {', '.join(arrays) or 'none'}"
        )
    return numeric(next(iter(arrays.values())))


def _to_json(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    return json.dumps(sample.tolist(), separators=(",", ":")).encode()


def _from_json(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    try:
        value = json.loads(content)
        return numeric(np.asarray(value))
    except UsageError:
        raise
    except (ValueError, RecursionError, OverflowError) as error:
        line = one_line(error)
        raise UsageError(f"A JSON file must hold numbers in lists. Received: {line}") from None


def numeric(array: np.ndarray) -> np.ndarray:
    """Returns an array as float32, or as it is if it holds integers.

    Raises:
        UsageError: values that are not finite numbers.
    """
    if array.dtype.kind in "iu":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype.kind != "f":
        raise UsageError(f"Values must be numbers. Received: dtype={array.dtype}")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UsageError("Values must be finite float32 numbers. Received: NaN or infinity")
    return array


COMMON = (
    Format("npy", "application/x-npy", _to_npy, _from_npy, several=True, any_value=True),
    Format("npz", "application/x-npz", _to_npz, _from_npz, several=True, any_value=True),
    Format("json", "application/json", _to_json, _from_json, several=True),
)

"""Reading of IDX files, the format of MNIST and Fashion-MNIST."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from keras_gan.errors import UsageError


def read(path: Path, rank: int, sha256: str | None = None) -> np.ndarray:
    """Reads a gzip-compressed IDX file of unsigned bytes.

    Args:
        path: the file.
        rank: number of dimensions that the array must have.
        sha256: required hash of the uncompressed content; not checked by default.

    Raises:
        UsageError: a file that is missing, damaged or of another format.
    """
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(
            f"An IDX file must be whole and readable. Received: {path}: {error}"
        ) from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise UsageError(
            f"The file must be the published one, but its checksum differs. Received: {path}"
        )
    header = 4 + 4 * rank
    # Magic number: two zero bytes, 8 for unsigned bytes, the number of dimensions.
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < header:
        raise UsageError(
            f"The file must be an IDX file of bytes with {rank} dimensions. Received: {path}, "
            f"which starts with {content[:4]!r}"
        )
    shape = np.frombuffer(content, ">u4", rank, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=header)
    if values.size != shape.prod():
        raise UsageError(
            f"An IDX file must hold as many values as its header states, {shape.prod()}. "
            f"Received: {path} with {values.size}"
        )
    return values.reshape(shape)

"""16-bit PCM and the headers of WAV files, whole and streamed."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

FULL_SCALE = 32767  # of the integer for 1; that for -1 is -32767
UNKNOWN = 0xFFFFFFFF  # size in the header of a stream, whose end is that of the response
_PCM = 1


def to_pcm16(samples: np.ndarray) -> tuple[bytes, int]:
    """Encodes samples as little-endian integers of 16 bits, rounded and clipped.

    Args:
        samples: finite floats `(time, channels)`, with values in [-1, 1] where nothing is clipped.

    Returns:
        The bytes, and the number of values outside [-1, 1].
    """
    scaled = np.asarray(samples, np.float64) * FULL_SCALE
    clipped = int(np.count_nonzero(np.abs(scaled) > FULL_SCALE))
    if clipped:
        scaled = np.clip(scaled, -FULL_SCALE, FULL_SCALE)
    return np.rint(scaled).astype("<i2").tobytes(), clipped


def wav_header(
    rate: int, channels: int, size: int | None, texts: Mapping[str, str] | None = None
) -> bytes:
    """Returns all of a WAV file of 16-bit samples that comes before them.

    Args:
        rate: sampling rate in Hz.
        channels: number of channels.
        size: bytes of the samples; `None` for a stream, with 0xFFFFFFFF in both places.
        texts: texts to keep in the file as one comment.
    """
    form = struct.pack("<HHIIHH", _PCM, channels, rate, 2 * channels * rate, 2 * channels, 16)
    chunks = b"WAVE" + _chunk(b"fmt ", form) + _information(texts or {})
    data = UNKNOWN if size is None else size
    whole = UNKNOWN if size is None else len(chunks) + 8 + size
    return b"RIFF" + struct.pack("<I", whole) + chunks + b"data" + struct.pack("<I", data)


def _information(texts: Mapping[str, str]) -> bytes:
    """Returns a LIST chunk with the texts as one comment, or nothing."""
    if not texts:
        return b""
    comment = "; ".join(f"{key}={text}" for key, text in texts.items() if "<" not in text)
    return _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode("utf-8") + b"\0"))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

"""WAV files: reading of all common encodings, as a whole or by parts, and writing of 16 bits."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.errors import UsageError

_PCM, _FLOAT, _A_LAW, _MU_LAW, _EXTENSIBLE = 1, 3, 6, 7, 0xFFFE
# Sizes in the header of a file that was written to a pipe: its sound ends with the file. 0 stands
# for the same if anything but whole chunks follows.
_STREAMED = ((0x7FFFE000, 0x7FFFFFFF), (0xFFFFE000, 0xFFFFFFFF))
_OVERSHOOT = 2.0  # beyond it, samples are taken for those of another range
_PEAK = 32767.0  # of 16 bits: 1.0 becomes 32767 and -1.0 becomes -32767
_MOST_CHUNKS = 1_000  # of a file; sound editors write fewer than 20
_SHOWN_CHUNKS = 8  # names in an error
_CANCELED = 0.01  # power of the mean of all channels, by that of independent channels


@dataclasses.dataclass(frozen=True)
class WavHeader:
    """Facts from the header of a WAV file.

    Args:
        rate: sampling rate in Hz.
        channels: number of channels.
        frames: samples of each channel that the file holds.
        begin: position of the first byte of sound.
        code: number of the encoding: 1 integers, 3 floats, 6 A-law, 7 mu-law.
        width: bytes of each sample.
        missing: samples of each channel that the header announces and the file lacks.
    """

    rate: int
    channels: int
    frames: int
    begin: int
    code: int
    width: int
    missing: int = 0


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """Reads a WAV file of integers of 8 to 32 bits, floats, A-law or mu-law.

    Returns:
        float64 array `(time, channels)`, integers in [-1, 1], and the sampling rate in Hz.

    Raises:
        UsageError: not a WAV file, damaged, or of another encoding.
    """
    header = read_header(content)
    values = read_frames(content, header, 0, header.frames)
    if not np.isfinite(values).all():
        raise UsageError("A WAV file must hold finite numbers. Received: NaN or infinity")
    return values, header.rate


def is_wav(content: Any) -> bool:
    """Returns whether bytes begin like a WAV file."""
    return content[:4] in (b"RIFF", b"RF64", b"BW64") and content[8:12] == b"WAVE"


def read_header(content: Any) -> WavHeader:
    """Reads the header of a WAV file.

    Args:
        content: the file, as bytes or as a `mmap`.

    Raises:
        UsageError: not a WAV file, damaged, or of another encoding.
    """
    if not is_wav(content):
        raise UsageError(f"A WAV file must begin with RIFF and WAVE. Received: {content[:12]!r}")
    places = _chunks(content)
    begin, size = places.get(b"data", (0, 0))
    form = b""
    if b"fmt " in places:
        at, length = places[b"fmt "]
        form = bytes(content[at : at + length])
    if len(form) < 16 or not begin:
        raise UsageError(
            f"A WAV file must have the chunks fmt and data. Received: {_shown(list(places))}"
        )
    code, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from("<H", form, 24)[0]
    # Integers of 20 or 24 bits may be the upper bits of 3 or 4 bytes.
    width = block // channels if channels and block >= channels * bits / 8 else (bits + 7) // 8
    if not channels or not rate or (code, width) not in _READERS:
        raise UsageError(
            "A WAV file must hold integers of 8 to 32 bits, floats of 32 or 64, A-law or mu-law. "
            f"Received: format {code} of {bits} bits, {channels} channels, {rate} Hz"
        )
    if block not in (0, channels * width):
        raise UsageError(
            "The samples of a WAV file must be as long as its header says. "
            f"Received: {block} bytes for {channels} channels of {bits} bits"
        )
    there = len(content) - begin
    frame = channels * width
    frames = min(size, there) // frame
    return WavHeader(int(rate), channels, frames, begin, code, width, size // frame - frames)


def read_frames(content: Any, header: WavHeader, first: int, last: int) -> np.ndarray:
    """Reads a part of a WAV file.

    Args:
        content: the file, as bytes or as a `mmap`.
        header: its header.
        first: position of the first sample.
        last: position behind the last one.

    Returns:
        float64 array `(last - first, channels)`, integers in [-1, 1]; floats as they are.
    """
    size = header.channels * header.width
    data = bytes(content[header.begin + first * size : header.begin + last * size])
    return _READERS[header.code, header.width](data).reshape(-1, header.channels)


def to_one_channel(samples: np.ndarray) -> tuple[np.ndarray, int | None]:
    """Returns the mean of the channels; the loudest one where they cancel each other.

    Args:
        samples: float array `(time, channels)`.

    Returns:
        The samples `(time, 1)`, and the position of the channel that was taken, `None` for the
        mean.
    """
    if samples.shape[1] == 1:
        return samples, None
    mean = samples.mean(axis=1, keepdims=True)
    loudest = find_canceled(np.square(samples).sum(axis=0), float(np.square(mean).sum()))
    return (mean, None) if loudest is None else (samples[:, loudest : loudest + 1], loudest)


def find_canceled(energies: np.ndarray, mean_energy: float) -> int | None:
    """Returns the position of the loudest channel if the channels cancel each other, else `None`.

    The energy of the mean of `n` independent channels is the sum of their energies divided by
    `n**2`. They cancel each other where their mean has less than 1 % of that.

    Args:
        energies: sum of squares of each channel, `(channels,)`.
        mean_energy: sum of squares of the mean of the channels.
    """
    independent = float(energies.sum()) / len(energies) ** 2
    return int(energies.argmax()) if mean_energy < _CANCELED * independent else None


def write_wav(samples: np.ndarray, rate: int, texts: Mapping[str, str] | None = None) -> bytes:
    """Returns a WAV file of 16 bits.

    Args:
        samples: int16 array `(time, channels)`, see `to_pcm16`.
        rate: sampling rate in Hz.
        texts: texts that become one comment.
    """
    channels = samples.shape[-1]
    form = struct.pack("<HHIIHH", _PCM, channels, rate, 2 * channels * rate, 2 * channels, 16)
    data = np.asarray(samples, "<i2").tobytes()
    chunks = _chunk(b"fmt ", form) + _information(texts or {}) + _chunk(b"data", data)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def check_samples(samples: np.ndarray) -> None:
    """Checks that samples are those of a sound in [-1, 1], which resampling may have exceeded.

    Args:
        samples: array of finite values.

    Raises:
        UsageError: no samples, or some outside [-2, 2].
    """
    if not samples.size:
        raise UsageError("A sound must have samples. Received: 0 samples")
    low, high = float(samples.min()), float(samples.max())
    if max(-low, high) > _OVERSHOOT:
        raise UsageError(
            "The samples of a sound must be in [-1, 1]. "
            f"Received: values from {low:.4g} to {high:.4g}"
        )


def to_pcm16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns samples as integers of 16 bits, and the number of those that had to be clipped.

    They are rounded, and those outside of [-1, 1] are clipped; nothing wraps around. 1.0 becomes
    32767 and -1.0 becomes -32767.

    Args:
        samples: array of finite values.
    """
    values = np.rint(np.asarray(samples, np.float64) * _PEAK)
    clipped = int(np.count_nonzero(np.abs(values) > _PEAK))
    return np.clip(values, -_PEAK, _PEAK).astype(np.int16), clipped


def _chunks(content: Any) -> dict[bytes, tuple[int, int]]:
    """Returns the position and the size of each chunk of a file by its name.

    The size is the stated one, which a truncated file lacks; that of streamed sound goes on to the
    end of the file.
    """
    places: dict[bytes, tuple[int, int]] = {}
    at = 12
    for _ in range(_MOST_CHUNKS):
        head = _chunk_head(content, at)
        if head is None:
            break
        name, size = head
        if name == b"data" and size == 0xFFFFFFFF and b"ds64" in places:
            size = _long_size(content, *places[b"ds64"])
        streamed = name == b"data" and _is_streamed(content, at + 8, size)
        if streamed:
            size = len(content) - at - 8
        places.setdefault(name, (at + 8, size))
        if streamed:
            break
        at = _behind(content, at + 8 + size, size)
    return places


def _chunk_head(content: Any, at: int) -> tuple[bytes, int] | None:
    """Returns name and stated size of the chunk at a position, `None` if there is none."""
    name = bytes(content[at : at + 4])
    if at + 8 > len(content) or not _is_name(name):
        return None
    return name, struct.unpack_from("<I", content, at + 4)[0]


def _behind(content: Any, end: int, size: int) -> int:
    """Returns the position of the chunk behind one of a size.

    A chunk of odd size is followed by a byte of padding, which some programs leave out.
    """
    return end + 1 if size % 2 and not _is_name(bytes(content[end : end + 4])) else end


def _long_size(content: Any, begin: int, size: int) -> int:
    """Returns the size of the sound in a chunk ds64."""
    there = min(size, len(content) - begin)
    if there < 16:
        raise UsageError(
            f"The chunk ds64 of a WAV file must have 16 bytes or more. Received: {there} bytes"
        )
    return struct.unpack_from("<Q", content, begin + 8)[0]


def _shown(names: list[bytes]) -> str:
    more = ["..."] if len(names) > _SHOWN_CHUNKS else []
    return ", ".join([name.decode().strip() for name in names[:_SHOWN_CHUNKS]] + more) or "none"


def _is_name(content: bytes) -> bool:
    return len(content) == 4 and all(32 <= byte < 127 for byte in content)


def _is_streamed(content: Any, begin: int, size: int) -> bool:
    """Returns whether sound of a stated size goes on to the end of the file."""
    if size == 0:
        return begin < len(content) and not _are_chunks(content, begin)
    return any(low <= size <= high for low, high in _STREAMED)


def _are_chunks(content: Any, at: int) -> bool:
    """Returns whether the rest of a file is whole chunks, the last perhaps without its padding."""
    for _ in range(_MOST_CHUNKS):
        head = _chunk_head(content, at)
        if head is None:
            break
        at = _behind(content, at + 8 + head[1], head[1])
    return 0 <= at - len(content) <= 1


def _information(texts: Mapping[str, str]) -> bytes:
    """Returns a LIST chunk with the texts as one comment, or nothing."""
    if not texts:
        return b""
    comment = "; ".join(f"{key}={text}" for key, text in texts.items() if "<" not in text)
    return _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode("utf-8") + b"\0"))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _from_24_bits(data: bytes) -> np.ndarray:
    parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    values = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
    return (values - (values >> 23 << 24)) / 2.0**23


def _mu_law() -> np.ndarray:
    """Returns the values of all 256 codes (ITU-T G.711, table 2a)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent, mantissa = (code >> 4 & 7).astype(int), (code & 15).astype(int)
    magnitude = ((2 * mantissa + 33) << exponent) - 33
    return np.where(code & 128, -magnitude, magnitude) / 2.0**13


def _a_law() -> np.ndarray:
    """Returns the values of all 256 codes (ITU-T G.711, table 1a)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent, mantissa = (code >> 4 & 7).astype(int), (code & 15).astype(int)
    magnitude = np.where(
        exponent > 0, (2 * mantissa + 33) << np.maximum(exponent - 1, 0), 2 * mantissa + 1
    )
    return np.where(code & 128, magnitude, -magnitude) / 2.0**12


_A_LAW_VALUES, _MU_LAW_VALUES = _a_law(), _mu_law()
_READERS = {
    (_PCM, 1): lambda data: np.frombuffer(data, np.uint8) / 128.0 - 1.0,
    (_PCM, 2): lambda data: np.frombuffer(data, "<i2") / 2.0**15,
    (_PCM, 3): _from_24_bits,
    (_PCM, 4): lambda data: np.frombuffer(data, "<i4") / 2.0**31,
    (_FLOAT, 4): lambda data: np.frombuffer(data, "<f4").astype(np.float64),
    (_FLOAT, 8): lambda data: np.frombuffer(data, "<f8").astype(np.float64),
    (_A_LAW, 1): lambda data: _A_LAW_VALUES[np.frombuffer(data, np.uint8)],
    (_MU_LAW, 1): lambda data: _MU_LAW_VALUES[np.frombuffer(data, np.uint8)],
}

"""Audio: `(time, channels)`, values in [-1, 1], with `sample_rate` in Hz."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from serving.errors import UsageError
from serving.kinds import _plots
from serving.kinds._kind import Format, Kind, Meta

SAMPLE_RATE = 16_000  # Hz, where the field names none
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def rate_of(meta: Meta) -> int:
    """Returns the sampling rate of a field in Hz; 16,000 where it names none."""
    return int(meta.get("sample_rate") or SAMPLE_RATE)


def _to_wav(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    low, high = KIND.range_of(meta)
    unit = (sample.astype(np.float64) - low) / (high - low) * 2.0 - 1.0
    data = np.rint(np.clip(unit, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
    rate, channels = rate_of(meta), sample.shape[-1]
    form = struct.pack("<HHIIHH", _PCM, channels, rate, 2 * channels * rate, 2 * channels, 16)
    chunks = _chunk(b"fmt ", form) + _information(texts) + _chunk(b"data", data)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _information(texts: Mapping[str, str]) -> bytes:
    """Returns a LIST chunk with the texts as one comment, or nothing."""
    if not texts:
        return b""
    comment = "; ".join(f"{key}={text}" for key, text in texts.items() if "<" not in text)
    return _chunk(b"LIST", b"INFO" + _chunk(b"ICMT", comment.encode("utf-8") + b"\0"))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _from_wav(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    samples, rate = read_wav(content)
    wanted = rate_of(meta)
    if "sample_rate" in meta and rate != wanted:
        raise UsageError(f"A WAV file must have {wanted} Hz here. Received: {rate} Hz")
    channels = shape[-1] if len(shape) == 2 else None
    if channels == 1 and samples.shape[1] > 1:
        samples = samples.mean(axis=1, keepdims=True)
    return _from_unit(samples, meta)


def _from_unit(samples: np.ndarray, meta: Meta) -> np.ndarray:
    """Returns float64 samples in [-1, 1] as float32 values in the range of the field."""
    low, high = KIND.range_of(meta)
    return ((samples + 1.0) / 2.0 * (high - low) + low).astype(np.float32)


def read_wav(content: bytes) -> tuple[np.ndarray, int]:
    """Reads a WAV file of 8, 16, 24 or 32 bit integers or of 32 or 64 bit floats.

    Returns:
        float64 array `(time, channels)` with values in [-1, 1], and the sampling rate in Hz.

    Raises:
        UsageError: not a WAV file, damaged, or of another encoding.
    """
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise UsageError(f"A WAV file must begin with RIFF and WAVE. Received: {content[:12]!r}")
    chunks, at = {}, 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], struct.unpack_from("<I", content, at + 4)[0]
        chunks.setdefault(name, content[at + 8 : at + 8 + size])
        at += 8 + size + size % 2
    form, data = chunks.get(b"fmt ", b""), chunks.get(b"data")
    if len(form) < 16 or data is None:
        raise UsageError(
            "A WAV file must have the chunks fmt and data. "
            f"Received: {', '.join(name.decode('latin-1').strip() for name in chunks) or 'none'}"
        )
    code, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", form)
    if code == _EXTENSIBLE and len(form) >= 26:
        code = struct.unpack_from("<H", form, 24)[0]
    if not channels or not rate or (code, bits) not in _READERS:
        raise UsageError(
            "A WAV file must hold integers of 8 to 32 bits or floats of 32 or 64. "
            f"Received: format {code} of {bits} bits, {channels} channels, {rate} Hz"
        )
    whole = len(data) // (channels * bits // 8) * channels * bits // 8
    values = _READERS[code, bits](data[:whole])
    if not np.isfinite(values).all():
        raise UsageError("A WAV file must hold finite numbers. Received: NaN or infinity")
    return values.reshape(-1, channels), int(rate)


def _from_24_bits(data: bytes) -> np.ndarray:
    parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
    values = parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16
    return (values - (values >> 23 << 24)) / 2.0**23


_READERS = {
    (_PCM, 8): lambda data: np.frombuffer(data, np.uint8) / 128.0 - 1.0,
    (_PCM, 16): lambda data: np.frombuffer(data, "<i2") / 2.0**15,
    (_PCM, 24): _from_24_bits,
    (_PCM, 32): lambda data: np.frombuffer(data, "<i4") / 2.0**31,
    (_FLOAT, 32): lambda data: np.frombuffer(data, "<f4").astype(np.float64),
    (_FLOAT, 64): lambda data: np.frombuffer(data, "<f8").astype(np.float64),
}


class Audio(Kind):
    """Sound: waveforms."""

    axes = ("time", "channels")
    value_range = (-1.0, 1.0)
    meta = ("sample_rate",)
    assumed = {"sample_rate": SAMPLE_RATE}
    plural = "audio clips"
    stored = {"int16": (-32768.0, 32768.0)}
    # Waveforms of equal sound differ by their phases: sounds are compared by spectrograms.
    training_metrics = ("mel_patch_distance", "sliced_wasserstein")
    pair_metrics = (
        "log_mel_l1",
        "mr_stft",
        "mcd",
        "f0_error",
        "level_error",
        "stoi",
        "pesq",
    )
    features = "spectrum"
    formats = (
        Format("wav", "audio/wav", _to_wav, _from_wav),
        Format("wave", "audio/x-wav", None, _from_wav),
    )

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        rate = (meta or {}).get("sample_rate")
        if rate is not None and not (type(rate) in (int, float) and 0 < rate < 2**31):
            raise UsageError(f"`sample_rate` must be in Hz, above 0. Received: sample_rate={rate}")

    def answers(self, name: str, kind: Kind) -> bool:
        return kind.name == name == "mel"

    def from_stored(self, array: np.ndarray, meta: Meta) -> np.ndarray:
        return _from_unit(array / 2.0**15, meta)

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        return _plots.lines(samples, self.range_of(meta), columns)


KIND = Audio()

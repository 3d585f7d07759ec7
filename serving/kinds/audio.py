"""Audio: `(time, channels)`, values in [-1, 1], with `sample_rate` in Hz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from serving import pictures
from serving.errors import UsageError
from serving.kinds import _waves
from serving.kinds._formats import Format, Meta
from serving.kinds._kind import Kind
from serving.resample import HIGHEST_RATE
from serving.wav import read_wav, to_one_channel, to_pcm16, write_wav

SAMPLE_RATE = 16_000  # Hz, where the field names none


def rate_of(meta: Meta) -> int:
    """Returns the sampling rate of a field in Hz; 16,000 where it names none."""
    return int(meta.get("sample_rate") or SAMPLE_RATE)


def _to_wav(sample: np.ndarray, meta: Meta, texts: Mapping[str, str]) -> bytes:
    return write_wav(to_pcm16(_to_unit(sample, meta))[0], rate_of(meta), texts)


def _to_unit(sample: np.ndarray, meta: Meta) -> np.ndarray:
    """Returns values in the range of the field as float64 in [-1, 1]."""
    low, high = KIND.range_of(meta)
    return (sample.astype(np.float64) - low) / (high - low) * 2.0 - 1.0


def peak_headers(samples: np.ndarray, clipped: int) -> dict[str, str]:
    """Returns headers with the largest magnitude of samples, and how many 16 bits cannot hold.

    Args:
        samples: finite values, in [-1, 1] where nothing is clipped.
        clipped: number of the values that were clipped.
    """
    peak = float(np.abs(samples).max()) if samples.size else 0.0
    return {"x-peak": f"{peak:.4f}", "x-clipped": str(clipped)}


def _from_wav(content: bytes, shape: Sequence[int | None], meta: Meta) -> np.ndarray:
    samples, rate = read_wav(content)
    wanted = rate_of(meta)
    if "sample_rate" in meta and rate != wanted:
        raise UsageError(f"A WAV file must have {wanted} Hz here. Received: {rate} Hz")
    channels = shape[-1] if len(shape) == 2 else None
    if channels == 1:
        samples = to_one_channel(samples)[0]
    return _from_unit(samples, meta)


def _from_unit(samples: np.ndarray, meta: Meta) -> np.ndarray:
    """Returns float64 samples in [-1, 1] as float32 values in the range of the field."""
    low, high = KIND.range_of(meta)
    return ((samples + 1.0) / 2.0 * (high - low) + low).astype(np.float32)


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
    previews = ("wav",)
    formats = (
        Format("wav", "audio/wav", _to_wav, _from_wav),
        Format("wave", "audio/x-wav", None, _from_wav),
    )

    def check(self, shape: Sequence[int | None], meta: Meta | None = None) -> None:
        super().check(shape, meta)
        rate = (meta or {}).get("sample_rate")
        if rate is not None and not (type(rate) in (int, float) and 1 <= rate <= HIGHEST_RATE):
            raise UsageError(
                f"`sample_rate` must be in Hz, from 1 to {HIGHEST_RATE}. "
                f"Received: sample_rate={rate!r}"
            )

    def as_sound(
        self, shape: Sequence[int | None], meta: Meta | None = None
    ) -> tuple[int | None, int | None, float] | None:
        return shape[0], shape[1], rate_of(meta or {})

    def to_sound(self, samples: np.ndarray, meta: Meta | None = None) -> np.ndarray:
        return samples

    def answers(self, name: str, kind: Kind) -> bool:
        return kind.name == name == "mel"

    def from_stored(self, array: np.ndarray, meta: Meta) -> np.ndarray:
        return _from_unit(array / 2.0**15, meta)

    def headers(self, sample: np.ndarray, meta: Meta) -> Mapping[str, str]:
        unit = _to_unit(sample, meta)
        return peak_headers(unit, to_pcm16(unit)[1])

    def sheet(
        self, samples: np.ndarray, meta: Meta | None = None, columns: int | None = None
    ) -> np.ndarray:
        rate = max(1, round(rate_of(meta or {})))
        unit = _to_unit(np.asarray(samples), meta or {})
        return pictures.grid(np.stack([_waves.cell(sample, rate) for sample in unit]), columns)

    def check_sheet(self, count: int, shape: Sequence[int], columns: int | None = None) -> None:
        pictures.check_grid(count, (_waves.HEIGHT, _waves.WIDTH, 3), columns)


KIND = Audio()

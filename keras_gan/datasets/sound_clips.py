"""Decoding of one clip: channels, sampling rate, level, and the facts of the report."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_gan.datasets.sound_files import NO_SAMPLES, CorruptSound, Sound
from serving.resample import resampled_blocks
from serving.wav import find_canceled

NORMALIZE = ("peak", "none")
PEAK = 0.95  # of a clip after normalization
SILENT = 1e-3  # peak, -60 dBFS, below which sound counts as silence
_TRIM = 0.02  # share of the peak below which the start and the end of a clip are trimmed
_FULL_SCALE = 1.0 - 2.0**-14  # magnitude from which on a stored value counts as clipped
_ENVELOPE, _PIECE = 0.005, 0.02  # seconds: of the envelope for trimming, and of pieces of silence
_BLOCK = 2**20  # samples that are in memory together
_IN_MEMORY = 2**22  # values of a file that are read once and kept
_ON_DISK = 2**24  # values of a clip beyond which it is kept in a file while it is decoded


@dataclasses.dataclass(frozen=True)
class ClipOptions:
    """Form of the decoded clips.

    Args:
        rate: sampling rate in Hz.
        channels: 1, or 2.
        normalize: `"peak"`, which removes a constant offset and scales the peak to 0.95, or
            `"none"`.
    """

    rate: int
    channels: int = 1
    normalize: str = "peak"


@dataclasses.dataclass(frozen=True)
class Clip:
    """A decoded clip.

    Args:
        samples: int16, `(time, channels)`; none of a silent clip.
        first: first position that is louder than 2 % of the peak.
        last: position behind the last one.
        source_rate: sampling rate of the file in Hz.
        silent: samples in pieces of 20 ms that stay below -60 dBFS.
        clipped: values of the file at or beyond full scale.
        values: values of the file.
        missing: samples that a truncated file lacks.
        opposite: whether the loudest channel is read, as the channels cancel each other.
    """

    samples: np.ndarray
    first: int
    last: int
    source_rate: int
    silent: int
    clipped: int
    values: int
    missing: int
    opposite: bool


def decode(sound: Sound, options: ClipOptions) -> Clip:
    """Decodes an opened file of sound, a long one block by block.

    Raises:
        CorruptSound: values that are not finite, or none where the header announces some.
    """
    read = sound.read
    if sound.frames * sound.channels <= _IN_MEMORY:
        whole = read(0, sound.frames)
        read = lambda first, last: whole[first:last]  # noqa: E731
    found = _scan(read, sound.frames)
    if found.frames < sound.frames:  # compressed files show only then that they are truncated
        if not found.frames:
            raise CorruptSound(NO_SAMPLES)
        missing = sound.missing + sound.frames - found.frames
        sound = dataclasses.replace(sound, frames=found.frames, missing=missing)
    louder = find_canceled(found.energy, found.mean_energy) if options.channels == 1 else None
    mix = _mixer(sound.channels, options.channels, louder)
    values = _resampled(lambda a, b: mix(read(a, b)), sound, options)
    mean, peak = _level(values)
    made = _Level(mean, peak)
    facts: dict[str, Any] = {
        "source_rate": sound.rate,
        "clipped": found.clipped,
        "values": sound.frames * sound.channels,
        "missing": sound.missing,
        "opposite": louder is not None,
    }
    if peak < SILENT:
        empty = np.zeros((0, options.channels), np.int16)
        return Clip(empty, 0, 0, silent=len(values), **facts)
    first, last = _loud_part(values, made, options.rate)
    silent = _count_silent(values, made, options.rate)
    return Clip(_to_int16(values, made, options.normalize), first, last, silent=silent, **facts)


@dataclasses.dataclass(frozen=True)
class _Level:
    """Mean of each channel, and the largest distance from it."""

    mean: np.ndarray
    peak: float


@dataclasses.dataclass(frozen=True)
class _Content:
    """Samples that a file holds, its clipped values, energy of each channel and of their mean."""

    frames: int
    clipped: int
    energy: np.ndarray
    mean_energy: float


def _scan(read: Callable[[int, int], np.ndarray], frames: int) -> _Content:
    """Reads a file once, up to the samples that its header announces.

    Raises:
        CorruptSound: values that are not finite.
    """
    there, clipped, energy, mean_energy = 0, 0, np.zeros(1), 0.0
    for first in range(0, frames, _BLOCK):
        block = read(first, min(frames, first + _BLOCK))
        if not np.isfinite(block).all():
            raise CorruptSound("NaN or infinite values")
        clipped += int(np.count_nonzero(np.abs(block) >= _FULL_SCALE))
        energy = energy + np.square(block).sum(axis=0)
        mean_energy += float(np.square(block.mean(axis=1)).sum())
        there += len(block)
        if there < min(frames, first + _BLOCK):
            break
    return _Content(there, clipped, energy, mean_energy)


def _mixer(stored: int, wanted: int, louder: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from a block of a file to the wanted channels."""
    if louder is not None:
        return lambda block: block[:, louder : louder + 1]
    if wanted == 1:
        return lambda block: block.mean(axis=1, keepdims=True)
    if stored == 1:
        return lambda block: block.repeat(wanted, axis=1)
    return lambda block: block[:, :wanted]  # of more channels the first two are left and right


def _resampled(
    read: Callable[[int, int], np.ndarray], sound: Sound, options: ClipOptions
) -> np.ndarray:
    """Returns the clip as float32 values, in memory or in a temporary file."""
    count = -(-sound.frames * options.rate // sound.rate)
    shape = (count, options.channels)
    values = _array(shape, np.float32)
    at = 0
    for block in resampled_blocks(read, sound.frames, sound.rate, options.rate):
        values[at : at + len(block)] = block
        at += len(block)
    return values[:at]


def _array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Returns an array in memory, or a large one in a temporary file."""
    if np.prod(shape) <= _ON_DISK:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the map keeps it after it is closed
        return np.memmap(file, dtype, "w+", shape=shape)


def _pieces(values: np.ndarray, multiple: int = 1):
    """Yields the position and the values of blocks whose lengths are multiples of a number."""
    step = max(1, _BLOCK // multiple) * multiple
    for first in range(0, len(values), step):
        yield first, np.asarray(values[first : first + step])


def _level(values: np.ndarray) -> tuple[np.ndarray, float]:
    total = np.zeros(values.shape[1])
    for _, piece in _pieces(values):
        total += piece.sum(axis=0, dtype=np.float64)
    mean = total / max(1, len(values))
    peak = max((float(np.abs(piece - mean).max()) for _, piece in _pieces(values)), default=0.0)
    return mean, peak


def _peaks(values: np.ndarray, level: _Level, length: int) -> np.ndarray:
    """Returns the peak of each piece of a length; the last one may be shorter."""
    found = [np.zeros(0)]
    for _, piece in _pieces(values, length):
        loudest = np.abs(piece - level.mean).max(axis=1)
        padded = np.pad(loudest, (0, -len(loudest) % length))
        found.append(padded.reshape(-1, length).max(axis=1))
    return np.concatenate(found)


def _loud_part(values: np.ndarray, level: _Level, rate: int) -> tuple[int, int]:
    length = max(1, round(_ENVELOPE * rate))
    loud = np.flatnonzero(_peaks(values, level, length) >= _TRIM * level.peak)
    return int(loud[0]) * length, min(len(values), int(loud[-1] + 1) * length)


def _count_silent(values: np.ndarray, level: _Level, rate: int) -> int:
    length = max(1, round(_PIECE * rate))
    silent = np.count_nonzero(_peaks(values, level, length) < SILENT)
    return min(len(values), int(silent) * length)


def _to_int16(values: np.ndarray, level: _Level, normalize: str) -> np.ndarray:
    found = _array(values.shape, np.int16)
    offset, gain = (level.mean, PEAK / level.peak) if normalize == "peak" else (0.0, 1.0)
    for first, piece in _pieces(values):
        scaled = np.rint((piece - offset) * (gain * 2.0**15))
        found[first : first + len(piece)] = np.clip(scaled, -(2**15), 2**15 - 1)
    return found

"""Samples of decoded clips: whole clips of one length, or windows of their loud parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from keras_gan.datasets import cached
from keras_gan.datasets.cuts import Cuts
from keras_gan.datasets.sound_clips import SILENT
from keras_gan.datasets.sound_store import Place, Store
from serving.mel import Mel

LONGEST = 2**16  # samples of the length that is chosen
WINDOW = 2**13  # samples of the windows that are chosen
_QUIET = 0.01  # share of the level of the loudest window of a clip, -40 dB, below which it is quiet
_MOST_WINDOWS = 2**20  # overlapping windows of a data set
_FINEST = 256  # windows that begin within the length of one
_FRAMES = 2**10  # frames of a spectrogram that are computed together


@dataclasses.dataclass(frozen=True)
class Plan:
    """Layout, length and spectrograms of the samples that are cut out of clips.

    Args:
        one_shot: whether a sample is a whole clip without its silent ends, else a window.
        length: samples, a multiple of `grain`.
        align: place of clips shorter than that: `"center"`, or `"start"`.
        mel: definition of the spectrograms, or `None`.
    """

    one_shot: bool
    length: int
    align: str
    mel: Mel | None

    @property
    def grain(self) -> int:
        """Distance in samples to which the starts of samples are rounded."""
        return self.mel.hop if self.mel else 1


@dataclasses.dataclass(frozen=True)
class Windows:
    """Windows of some clips.

    Args:
        clips: clip of each window.
        starts: first position in the clip, also below 0.
        apart: rows of windows that do not overlap.
        quiet: share of the windows that were left out as quiet.
    """

    clips: np.ndarray
    starts: np.ndarray
    apart: np.ndarray
    quiet: float = 0.0


def bounds(store: Store, one_shot: bool) -> np.ndarray:
    """Returns the first and the last position of the used part of each clip, `(clips, 2)`."""
    if one_shot:
        return np.stack([store.column("first"), store.column("last")], axis=1)
    counts = store.column("count")
    return np.stack([np.zeros_like(counts), counts], axis=1)


def place_clips(store: Store, rows: np.ndarray, plan: Plan) -> Windows:
    """Returns one sample for each clip, without its silent ends.

    Clips longer than a sample are cut at their end. Shorter ones are padded with zeros at both
    ends, or at the end.
    """
    lengths = np.diff(bounds(store, True)[rows], axis=1)[:, 0]
    missing = np.maximum(0, plan.length - lengths) if plan.align == "center" else 0 * lengths
    # Rounded toward the end of the clip's own grid, on which its spectrogram is.
    starts = -(missing // 2 // plan.grain) * plan.grain
    return Windows(rows, starts, np.arange(len(rows)))


def cut_windows(store: Store, rows: np.ndarray, plan: Plan, dense: bool) -> Windows:
    """Returns the windows of clips that are not quiet, which may overlap if they are dense."""
    step = step_of(int(store.column("count")[rows].sum()), plan) if dense else plan.length
    clips, starts, apart, every, last_end, at = [], [], [], 0, 0, 0
    for row in rows:
        offsets, is_loud = _loud(store.clip(row), plan.length, step)
        every += len(offsets)
        loud = offsets[is_loud]
        last_end = 0
        for number, offset in enumerate(loud):
            if offset >= last_end:
                apart.append(at + number)
                last_end = offset + plan.length
        at += len(loud)
        clips.append(np.full(len(loud), row))
        starts.append(loud)
    joined = [
        np.concatenate([np.zeros(0, np.int64), *of]).astype(np.int64) for of in (clips, starts)
    ]
    quiet = 1.0 - len(joined[0]) / max(1, every)
    return Windows(joined[0], joined[1], np.array(apart, np.int64), quiet)


def step_of(total: int, plan: Plan) -> int:
    """Returns the distance between the starts of dense windows, which divides their length.

    Args:
        total: samples of all clips.
        plan: their length.
    """
    least = max(plan.grain, plan.length // _FINEST, total // _MOST_WINDOWS)
    steps = (n for n in range(plan.grain, plan.length + 1, plan.grain) if plan.length % n == 0)
    return next((n for n in steps if n >= least), plan.length)


def _loud(clip: np.ndarray, length: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where windows of a clip may begin, and whether each is loud."""
    pieces = len(clip) // step
    energy = np.zeros(pieces + 1)
    size = max(1, 2**20 // step)
    mean = np.mean(clip, dtype=np.float64)
    for first in range(0, pieces, size):
        part = clip[first * step : min(pieces, first + size) * step]
        squares = np.square((part - mean) / 2.0**15).mean(axis=1)
        energy[first + 1 : first + 1 + len(part) // step] = squares.reshape(-1, step).sum(axis=1)
    total = np.cumsum(energy)
    windows = np.maximum(0.0, total[length // step :] - total[: len(total) - length // step])
    level = np.sqrt(windows / length)
    offsets = np.arange(len(windows)) * step
    least = max(SILENT, _QUIET * level.max(initial=0.0))
    return offsets, level >= least


def to_cuts(store: Store, windows: Windows, plan: Plan) -> Cuts:
    """Returns windows as an array of samples `(count, length, channels)`."""
    limits = bounds(store, plan.one_shot)[windows.clips]
    begin = store.starts[windows.clips]
    starts = begin + limits[:, 0] + windows.starts
    return Cuts(store.samples, starts, plan.length, limits + begin[:, np.newaxis])


@dataclasses.dataclass(frozen=True)
class Spectrograms:
    """Spectrograms of whole clips one after the other.

    Args:
        values: float32, `(total, mels)`.
        starts: position of frame 0 of each clip.
        limits: first and last position of each clip, `(clips, 2)`: with the frames beside it that
            still hear its ends.
        silence: value of a frame of silence, `(mels,)`.
    """

    values: np.ndarray
    starts: np.ndarray
    limits: np.ndarray
    silence: np.ndarray

    def cut(self, windows: Windows, plan: Plan) -> Cuts:
        """Returns the spectrograms of windows `(count, frames, mels)`."""
        starts = self.starts[windows.clips] + windows.starts // plan.grain
        limits = self.limits[windows.clips]
        return Cuts(self.values, starts, plan.length // plan.grain, limits, self.silence)


def spectrograms(store: Store, plan: Plan, mel: Mel, place: Place) -> Spectrograms:
    """Computes the spectrograms of whole clips, in memory or in the cache."""
    used = bounds(store, plan.one_shot)
    margin = mel.margin
    counts = -(-np.diff(used, axis=1)[:, 0] // mel.hop) + 2 * margin
    ends = np.cumsum(counts)
    limits = np.stack([ends - counts, ends], axis=1)
    shape = (int(ends[-1]), mel.mels)
    values = _in_memory_or_cache(store, plan, mel, place, shape)
    silence = mel(np.zeros(mel.hop))[0]
    return Spectrograms(values, limits[:, 0] + margin, limits, silence)


def _in_memory_or_cache(
    store: Store, plan: Plan, mel: Mel, place: Place, shape: tuple[int, int]
) -> np.ndarray:
    needed = 4 * shape[0] * shape[1]
    if needed <= place.memory_limit:
        values = np.empty(shape, np.float32)
        _compute(values, store, plan, mel)
        return values
    definition = "-".join(f"{value:g}" for value in mel.to_meta().values())
    folder = place.folder("mel", "one-shot" if plan.one_shot else "windows", definition)
    if not _file(folder).is_file():
        with cached.writing(folder, needed, "spectrograms", "fewer mels") as partial:
            array = np.lib.format.open_memmap(_file(partial), "w+", np.float32, shape)
            _compute(array, store, plan, mel)
            array.flush()
            del array
    return np.load(_file(folder), mmap_mode="r", allow_pickle=False)


def _file(folder: Path) -> Path:
    return folder / "mel.npy"


def _compute(values: np.ndarray, store: Store, plan: Plan, mel: Mel) -> None:
    at = 0
    for row, (first, last) in enumerate(bounds(store, plan.one_shot)):
        for block in _frames(store.clip(row)[first:last, 0], mel):
            values[at : at + len(block)] = block
            at += len(block)


def _frames(clip: np.ndarray, mel: Mel) -> Iterator[np.ndarray]:
    """Yields the frames of a clip, and those beside it that hear its ends, block by block."""
    end = mel.frames(len(clip)) + mel.margin
    for first in range(-mel.margin, end, _FRAMES):
        yield mel.part(clip, first, min(end, first + _FRAMES), scale=2.0**15)

"""Decoded clips one after the other in one array, in memory or in the cache."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import cached, decoding
from keras_gan.datasets.sound_clips import Clip, ClipOptions, decode
from keras_gan.datasets.sound_files import CorruptSound, Sound
from keras_gan.errors import UsageError

VERSION = 2  # of the cache files and of the decoding; part of the cache key
_CHUNK = 16  # clips decoded per batch of tasks
_COLUMNS = ("item", "count", "first", "last", "source_rate", "silent", "clipped", "values")
_COLUMNS += ("missing", "opposite")


@dataclasses.dataclass(frozen=True)
class Item:
    """One clip to decode.

    Args:
        name: its name in messages.
        open: function that opens it, such as `sound_files.opened` of a path.
        label: class id, -1 without labels.
        split: position in `decoding.SPLITS`.
        group: name of the group that is held out or trained on as a whole; by default the clip.
    """

    name: str
    open: Callable[[], contextlib.AbstractContextManager[Sound]]
    label: int = -1
    split: int = 0
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where decoded clips are kept, and what is done about damaged files.

    Args:
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: largest size in bytes of the clips that are kept in memory.
        cache: folder for larger ones; the user's cache folder by default.
        key: identifies the clips in the cache: equal keys stand for equal clips.
        always: whether they are kept in the cache whatever their size.
    """

    skip_corrupt: bool
    memory_limit: int
    cache: Any
    key: str = ""
    always: bool = False

    def needs_file(self, size: int) -> bool:
        """Returns whether an array of a size in bytes is kept in the cache."""
        return self.always or size > self.memory_limit

    def folder(self, *more: str) -> Path:
        """Returns the folder in the cache."""
        name = "-".join([f"sound-v{VERSION}", self.key, *more])
        return decoding.cache_folder(self.cache) / name


@dataclasses.dataclass(frozen=True)
class Store:
    """Decoded clips.

    Args:
        samples: int16, `(total, channels)`: the clips one after the other.
        table: int64 `(clips, columns)`: facts of each clip, see `column`.
        skipped: one line for each damaged file that was left out.
        silent: names of the clips that were left out as silent.
        options: form of the clips.
    """

    samples: np.ndarray
    table: np.ndarray
    skipped: list[str]
    silent: list[str]
    options: ClipOptions

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> np.ndarray:
        """Returns one fact of each clip: `item`, `count` and the facts of `Clip` by name."""
        return self.table[:, _COLUMNS.index(name)]

    @functools.cached_property
    def starts(self) -> np.ndarray:
        """First position of each clip in `samples`."""
        counts = self.column("count")
        return np.cumsum(counts) - counts

    def clip(self, row: int) -> np.ndarray:
        """Returns the samples of one clip."""
        start = int(self.starts[row])
        return self.samples[start : start + int(self.column("count")[row])]


class Clips:
    """Clips of any length, read by their rows, for digests of their content."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        return len(self._store)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._store.clip(row)


def read_all(items: Sequence[Item], capacity: int, options: ClipOptions, place: Place) -> Store:
    """Decodes all clips, or reads them from the cache.

    Args:
        items: the clips.
        capacity: upper bound of the number of samples of all clips together.
        options: form of the clips.
        place: where they are kept.

    Raises:
        UsageError: a damaged file (unless `skip_corrupt`), no clip that is not silent, or too
            little space on the disk.
    """
    decoding.check_memory_limit(place.memory_limit)
    shape = (capacity, options.channels)
    needed = 2 * capacity * options.channels
    if not place.needs_file(needed):
        return _fill(np.empty(shape, np.int16), items, options, place)
    folder = place.folder()
    return _read_cache(folder, options) or _write_cache(folder, shape, items, options, place)


def _fill(array: np.ndarray, items: Sequence[Item], options: ClipOptions, place: Place) -> Store:
    """Decodes into `array` and returns the part of it that was filled."""

    def read(item: Item) -> Clip | str:
        try:
            with item.open() as sound:
                return decode(sound, options)
        except CorruptSound as error:
            return str(error)

    rows, skipped, silent, at = [], [], [], 0
    results = zip(items, decoding.in_threads(read, items, _CHUNK), strict=True)
    for number, (item, clip) in enumerate(
        decoding.progress(results, len(items), "Decoding sounds")
    ):
        if isinstance(clip, str):
            if not place.skip_corrupt:
                raise refuse_corrupt(item.name, clip)
            skipped.append(f"{item.name}: {clip}")
            continue
        if not len(clip.samples):
            silent.append(item.name)
            continue
        count = len(clip.samples)
        array[at : at + count] = clip.samples
        at += count
        facts = {**vars(clip), "item": number, "count": count}
        rows.append([int(facts[name]) for name in _COLUMNS])
    table = np.array(rows, np.int64).reshape(-1, len(_COLUMNS))
    return Store(array[:at], table, skipped, silent, options)


def refuse_corrupt(name: str, reason: str) -> UsageError:
    """Returns the error for a damaged file."""
    return UsageError(
        "Every sound must be whole and readable (skip_corrupt=true skips damaged ones). "
        f"Received: {name}: {reason}"
    )


def _write_cache(
    folder: Path,
    shape: tuple[int, int],
    items: Sequence[Item],
    options: ClipOptions,
    place: Place,
) -> Store:
    needed = 2 * shape[0] * shape[1]
    with cached.writing(folder, needed, "sounds", "a lower sample_rate") as partial:
        array = np.lib.format.open_memmap(partial / "samples.npy", "w+", np.int16, shape)
        store = _fill(array, items, options, place)
        array.flush()
        skipped, silent = (np.array(of, np.str_) for of in (store.skipped, store.silent))
        np.savez(partial / "clips.npz", table=store.table, skipped=skipped, silent=silent)
        del array, store
    found = _read_cache(folder, options)
    if found is None:
        raise UsageError(
            f"The cache folder must keep what is written to it. Received: {folder} unreadable"
        )
    return found


def _read_cache(folder: Path, options: ClipOptions) -> Store | None:
    if not folder.is_dir():
        return None
    try:
        samples = np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False)
        with np.load(folder / "clips.npz", allow_pickle=False) as clips:
            table = clips["table"]
            skipped, silent = ([str(x) for x in clips[name]] for name in ("skipped", "silent"))
    except (OSError, ValueError, KeyError):
        shutil.rmtree(folder, ignore_errors=True)  # damaged: decode again
        return None
    total = int(table[:, _COLUMNS.index("count")].sum())
    return Store(samples[:total], table, skipped, silent, options)

"""Decoding of many images, in threads, into one array in memory or on disk."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from keras_gan.arguments import is_integer
from keras_gan.datasets import cached, images, levels
from keras_gan.datasets.values import check_range
from keras_gan.errors import UsageError
from serving.value_ranges import Range

SPLITS = ("train", "held_out")
CHUNK = 256  # images decoded per batch of tasks, in order
LOOKED_AT = 16  # images whose values are looked at
_VERSION = 1  # of the cache files and of the decoding; part of the cache key


@dataclasses.dataclass(frozen=True)
class Item:
    """One image file to decode.

    Args:
        name: its name in errors.
        file: path or content.
        label: class id, -1 without labels.
        split: position in `SPLITS`.
        half: 0 for the whole image, 1 for its left half, 2 for its right half.
    """

    name: str
    file: Path | bytes
    label: int = -1
    split: int = 0
    half: int = 0


@dataclasses.dataclass(frozen=True)
class Decoded:
    """Images as an array, with the label and the split of each row.

    Args:
        samples: uint8, `(count, height, width, channels)`; a memory map if large.
        labels: int32, `(count,)`, -1 without labels.
        splits: int32, `(count,)`, positions in `SPLITS`.
        items: int32, `(count,)`, position of each row's file among the items.
        skipped: one line for each file left out.
    """

    samples: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    items: np.ndarray
    skipped: list[str]


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """Size and channels of decoded images, and where they are kept.

    Args:
        size: height and width.
        channels: 1, 3 or 4.
        frames: whether every frame of an animation is a sample.
        skip_corrupt: whether damaged files are skipped instead of refused.
        memory_limit: largest size in bytes of an array that is kept in memory.
        cache: folder for larger arrays; the user's cache folder by default.
        key: identifies the content in the cache: equal keys stand for equal files.
        levels: stored values that become black and white.
    """

    size: tuple[int, int]
    channels: int
    frames: bool
    skip_corrupt: bool
    memory_limit: int
    cache: str | os.PathLike[str] | None
    key: str
    levels: images.Levels = images.WHOLE_RANGE

    noun = "image"  # of what a file holds, for errors

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return (*self.size, self.channels)

    @property
    def chunk(self) -> int:
        """Number of files that are decoded together, whose samples are in memory together."""
        return CHUNK

    def decode(self, item: Item) -> list[np.ndarray]:
        """Decodes the samples of a file.

        Raises:
            CorruptImage: a damaged file.
        """
        return images.decode(
            item.file, self.size, self.channels, self.frames, self.levels, item.half
        )


@dataclasses.dataclass(frozen=True)
class GivenOptions:
    """Options of a data set of images, as they are given: `None` where they follow from the files.

    Args:
        size: height and width, in any form that `images.check_size` takes.
        channels: 1, 3 or 4.
        value_range: stored values that become black and white.
        skip_corrupt, memory_limit, cache: see `DecodeOptions`.
    """

    size: Any
    channels: int | None
    value_range: Any
    skip_corrupt: bool
    memory_limit: int
    cache: str | os.PathLike[str] | None


def decode_all(items: Iterable[Item], capacity: int, options: DecodeOptions) -> Decoded:
    """Decodes all images, or reads them from the cache.

    Args:
        items: the files; not read if the cache has them.
        capacity: upper bound of the number of samples in the files.
        options: size, channels and place of the result.

    Raises:
        UsageError: a damaged file (unless `skip_corrupt`), or too little space on the disk.
    """
    check_memory_limit(options.memory_limit)
    shape = (capacity, *options.shape)
    needed = int(np.prod(shape, dtype=np.int64))
    if needed <= options.memory_limit:
        return _fill(np.empty(shape, np.uint8), items, options)
    folder = cache_folder(options.cache) / f"v{_VERSION}-{options.key}"
    return _read_cache(folder) or _write_cache(folder, shape, needed, items, options)


def cache_key(files: Sequence[Path], *settings: Any) -> str:
    """Returns a key of the size and the time of files, and of all else that the images follow from.

    Args:
        files: files from which the images are made.
        *settings: plain values.
    """
    status = [os.stat(file) for file in files]
    content = [
        [str(file.resolve()) for file in files],
        [(s.st_size, s.st_mtime_ns) for s in status],
    ]
    return hashlib.sha256(json.dumps([*content, *settings]).encode()).hexdigest()[:32]


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """Returns the folder that keeps decoded images between runs."""
    if given is not None:
        return Path(os.path.expanduser(given))
    if "XDG_CACHE_HOME" in os.environ:
        base = Path(os.environ["XDG_CACHE_HOME"])
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path.home() / ".cache"
    return base / "keras_gan" / "datasets"


def check_memory_limit(limit: int) -> None:
    """Checks that `memory_limit` is a number of bytes."""
    if not is_integer(limit, 0):
        raise UsageError(
            "`memory_limit` must be a number of bytes, an integer of at least 0. "
            f"Received: memory_limit={limit!r}"
        )


def progress(items: Iterable, total: int, text: str) -> Iterable:
    """Yields items, with a progress bar if standard error is a terminal."""
    console = Console(stderr=True)
    return track(items, text, total, console=console, disable=not sys.stderr.isatty())


def in_threads(function, items: Iterable, chunk: int = CHUNK) -> Iterator:
    """Maps a function over items in threads, in order, one chunk of results in memory.

    The threads end before a chunk's results are handed out. A caller that stops in the middle
    leaves this generator to the garbage collector, which may run inside `Thread.start` of another
    thread: joining threads there waits for a lock that this very thread holds.
    """
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, chunk)):
        with images.strict_pillow(), concurrent.futures.ThreadPoolExecutor() as pool:
            results = list(pool.map(function, batch))
        yield from results


def find_levels(
    shallow: Sequence[Path | bytes],
    deep: Sequence[Path | bytes],
    value_range: Any,
    name: str,
    state: str = levels.STATE,
) -> images.Levels:
    """Returns the levels of images, from a sample of them.

    Args:
        shallow: files with 8 bits a channel.
        deep: files with more.
        value_range: the option: smallest and largest stored value; of the deep ones if there are
            any.
        name: name of the images in messages.
        state: how to state another range, see `levels.range_of_values`.

    Raises:
        UsageError: a range that is not one, or values whose range cannot be known.
    """
    stated = check_range(value_range)
    if stated is not None:
        return images.Levels(deep=stated) if deep else images.Levels(shallow=stated)
    found = images.WHOLE_RANGE
    if extremes := _sampled(deep, math.inf):
        low, high, is_float = extremes
        which = f"images of more than 8 bits in {name}"
        if is_float:
            limits = levels.range_of_floats(low, high, which, state)
        else:
            limits = levels.range_of_values(low, high, 16, which, False, state)
        found = dataclasses.replace(found, deep=limits)
    if extremes := _sampled(shallow, levels.DARK):
        limits = levels.range_of_values(*extremes[:2], 8, f"images in {name}", state=state)
        found = dataclasses.replace(found, shallow=limits)
    return found


def find_levels_of_files(
    found: Iterable[tuple[Path, images.Header]],
    value_range: Any,
    name: str,
    state: str = levels.STATE,
) -> images.Levels:
    """Returns the levels of files with their headers, see `find_levels`."""
    files: dict[bool, list[Path]] = {False: [], True: []}
    for file, header in found:
        files[header.is_deep].append(file)
    return find_levels(files[False], files[True], value_range, name, state)


def whole_range(is_deep: bool) -> Range:
    """Returns the range of 16 or 8 bits, by which version 0.1.0 read all images."""
    return levels.SIXTEEN_BITS if is_deep else levels.EIGHT_BITS


def _sampled(files: Sequence[Path | bytes], enough: float) -> tuple[float, float, bool] | None:
    """Returns the extremes of evenly spaced images, until one exceeds a value."""
    low, high, is_float = math.inf, -math.inf, False
    for at in np.unique(np.linspace(0, len(files) - 1, min(LOOKED_AT, len(files))).astype(int)):
        with contextlib.suppress(images.CorruptImage):  # refused or skipped when it is decoded
            least, most, of_floats = images.extremes(files[at])
            low, high, is_float = min(low, least), max(high, most), is_float or of_floats
        if high > enough:
            break
    return None if high < low else (low, high, is_float)


def refuse_corrupt(name: str, reason: object, noun: str = DecodeOptions.noun) -> UsageError:
    """Returns the error for a damaged file."""
    return UsageError(
        f"Every {noun} must be whole and readable (skip_corrupt=true skips damaged ones). "
        f"Received: {name}: {reason}"
    )


def _fill(array: np.ndarray, items: Iterable[Item], options: DecodeOptions) -> Decoded:
    """Decodes into `array` and returns the part of it that was filled."""

    def decode(item: Item) -> tuple[Item, list[np.ndarray], str]:
        try:
            return item, options.decode(item), ""
        except images.CorruptImage as error:
            return item, [], str(error)

    rows, skipped = [], []
    decoded = progress(
        in_threads(decode, items, options.chunk), len(array), f"Decoding {options.noun}s"
    )
    for position, (item, frames, reason) in enumerate(decoded):
        if reason and not options.skip_corrupt:
            raise refuse_corrupt(item.name, reason, options.noun)
        if reason:
            skipped.append(f"{item.name}: {reason}")
        for pixels in frames:
            array[len(rows)] = pixels
            rows.append((item.label, item.split, position))
    labels, splits, positions = np.array(rows, np.int32).reshape(-1, 3).T
    return Decoded(array[: len(rows)], labels, splits, positions, skipped)


def _write_cache(
    folder: Path, shape: tuple[int, ...], needed: int, items: Iterable[Item], options: DecodeOptions
) -> Decoded:
    with cached.writing(folder, needed, f"{options.noun}s", "a smaller size") as partial:
        array = np.lib.format.open_memmap(partial / "samples.npy", "w+", np.uint8, shape)
        decoded = _fill(array, items, options)
        array.flush()
        np.savez(
            partial / "rows.npz",
            labels=decoded.labels,
            splits=decoded.splits,
            items=decoded.items,
            skipped=np.array(decoded.skipped, np.str_),
        )
        del array, decoded
    decoded = _read_cache(folder)
    if decoded is None:
        raise UsageError(
            f"The cache folder must keep what is written to it. Received: {folder} unreadable"
        )
    return decoded


def _read_cache(folder: Path) -> Decoded | None:
    if not folder.is_dir():
        return None
    try:
        samples = np.load(folder / "samples.npy", mmap_mode="r", allow_pickle=False)
        with np.load(folder / "rows.npz", allow_pickle=False) as rows:
            labels, splits, items = rows["labels"], rows["splits"], rows["items"]
            skipped = [str(line) for line in rows["skipped"]]
    except (OSError, ValueError, KeyError):
        # Damaged, or written by a version that kept less: decode again.
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Decoded(samples[: len(labels)], labels, splits, items, skipped)

"""Sounds in a folder (WAV; with the extra `audio` FLAC, Ogg, Opus, MP3, AIFF), by class.

All subfolders are searched, and splits and classes are found in them as the data set `folder` does.
A sample is a whole sound, trimmed and padded to one length, or a window of a loud part of a longer
one. Also read are one file of sound, and a .npz file of waveforms.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets import array_files, decoding, folder_files, folder_layout, images
from keras_gan.datasets import sound_files as files
from keras_gan.datasets.classes import check_labels
from keras_gan.datasets.sound_files import CorruptSound, Sound
from keras_gan.datasets.sound_source import Found, SoundOptions, make
from keras_gan.datasets.sound_store import Item, Place, refuse_corrupt
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.errors import UsageError
from serving.resample import HIGHEST_RATE

KIND = "audio"
READS_FOLDERS = True  # a recipe with this source takes the folder of --data, and keeps its options
FORM = "the path of a folder of sounds or of a sound"
_SAMPLES = ("samples", "x", "audio", "waves", "data")  # names of the array of a .npz file
_LABELS = ("labels", "y")


def open(
    path: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    length: int | None = None,
    layout: str = "auto",
    align: str = "center",
    normalize: str = "peak",
    channels: int = 1,
    mel: Mapping[str, Any] | None = None,
    samples: str = "wave",
    labels: bool = True,
    held_out: float | None = None,
    split_by: str = "file",
    group_pattern: str | None = None,
    skip_corrupt: bool = False,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens sounds, decodes and resamples all of them, to 16 bits in memory.

    Args:
        path: a folder, a file of sound, or a .npz file with an array `samples`, `(count, time)` or
            `(count, time, channels)`, int16 or floating point, and perhaps `labels`, `sample_rate`.
        sample_rate: of the samples in Hz, up to 768,000; by default the commonest of the files, at
            most 16,000. Of a .npz file without a `sample_rate` it is also the stored one.
        length: samples of one example, at least 2; a multiple of the hop with `mel`. By default the
            power of two that 95 % of the trimmed sounds fit into, to 65,536; of windows to 8,192.
        layout: `"one_shot"`, each sound without its silent ends as one sample; `"windows"`, random
            parts that are not quiet; `"auto"`, one_shot if 95 % fit into `length` or 65,536.
        align: place of a one-shot sound that is shorter than a sample: `"center"`, or `"start"`.
        normalize: `"peak"` removes a constant offset and scales each peak to 0.95; or `"none"`.
        channels: 1, the mean of the channels, or the loudest of those that cancel each other; or 2.
        mel: options of `serving.mel.Mel` but the sampling rate, such as `{hop: 64}`. Each example
            then has the field `mel`: the part of the log-mel spectrogram of the whole sound.
        samples: `"wave"`, or `"mel"`: the spectrogram that `mel` defines is the sample itself.
        labels: whether subfolders are classes.
        held_out: share of the sounds to hold out, 0.1 by default, each with all copies of it. Not
            allowed, like the next two, for a folder that has its own splits.
        split_by: `"file"`, or `"folder"`, which never separates the sounds of one folder.
        group_pattern: a regular expression, see `keras_gan.datasets.folder`.
        skip_corrupt: whether damaged files, also those with NaN, are skipped instead of refused.
        memory_limit: largest size in bytes of the sounds, and of their spectrograms, in memory.
        cache: folder for larger ones, which later runs use again; by default the user's.

    Raises:
        UsageError: no sounds, a damaged file, a missing extra, or an option outside its range.
    """
    options = SoundOptions(
        sample_rate, length, layout, align, normalize, channels, mel, held_out, split_by,
        group_pattern, samples,
    )  # fmt: skip
    options.check()
    root = Path(os.path.expanduser(path))
    if root.suffix == ".npz":
        return make(*_from_arrays(root, options, labels, Place(skip_corrupt, memory_limit, cache)))
    found = _from_folder(root, labels, skip_corrupt)
    # Of those with a readable header alone: the cache refers to them by their positions.
    key = decoding.cache_key([Path(item.name) for item in found.items], skip_corrupt)
    return make(found, options, Place(skip_corrupt, memory_limit, cache, key))


def parse(source: str) -> dict[str, Any] | None:
    """Returns the options that a data set's name stands for: the path of sounds."""
    path = Path(os.path.expanduser(source))
    is_file = path.suffix.lower() in files.SUFFIXES and path.is_file()
    return {"path": source} if is_file or (path.is_dir() and _holds_sounds(path)) else None


def _holds_sounds(root: Path) -> bool:
    """Returns whether more of the first files of a folder are sounds than images."""
    counts = {"sounds": 0, "images": 0}
    pictures = images.suffixes()
    for _, names in folder_files.look(root):
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            counts["sounds"] += suffix in files.SUFFIXES
            counts["images"] += suffix in pictures
    return counts["sounds"] > counts["images"]


def _from_folder(root: Path, labels: bool, skip_corrupt: bool) -> Found:
    """Returns the sounds of a folder, or one file; the names of the items are their paths."""
    if root.is_file():
        listed, layout, lines = [(root.name,)], None, []
        root = root.parent
    else:
        layout, others = folder_layout.read(root, files.WANTED, labels, skip_corrupt, stacklevel=3)
        listed = layout.files
        lines = [*layout.lines, *([f"left out: {others}"] if others else [])]
    paths = [root.joinpath(*parts) for parts in listed]
    items = [
        Item(str(path), lambda path=path: files.opened(path), label, split)
        for path, label, split in zip(
            paths,
            layout.label_of if layout else [-1] * len(paths),
            layout.split_of if layout else [0] * len(paths),
            strict=True,
        )
    ]
    names = layout.classes if layout else ()
    classes = tuple(os.fsencode(name).decode("utf-8", "backslashreplace") for name in names)
    where = str(root) if layout else str(paths[0])
    found = read_headers(f"audio: {where}", items, skip_corrupt, lines, classes)
    return dataclasses.replace(found, has_splits=bool(layout and layout.has_splits))


def read_headers(
    name: str,
    items: list[Item],
    skip_corrupt: bool,
    lines: list[str],
    classes: tuple[str, ...] = (),
) -> Found:
    """Returns sounds with the sampling rate and the length of each.

    Raises:
        UsageError: a damaged file, unless damaged files are skipped; or no other one.
    """

    def read(item: Item) -> tuple[int, int] | str:
        try:
            with item.open() as sound:
                return sound.rate, sound.frames
        except CorruptSound as error:
            return str(error)

    kept, headers, damaged = [], [], []
    results = zip(items, decoding.in_threads(read, items), strict=True)
    for item, header in decoding.progress(results, len(items), "Reading headers"):
        if not isinstance(header, str):
            kept.append(item)
            headers.append(header)
        elif skip_corrupt:
            damaged.append(f"{item.name}: {header}")
        else:
            raise refuse_corrupt(item.name, header)
    if not kept:
        raise UsageError(
            f"Sounds must be readable. Received: 0 of {len(items):,} files, such as {damaged[0]}"
        )
    return Found(name, kept, headers, classes, False, tuple(lines), tuple(damaged))


def _from_arrays(
    file: Path, options: SoundOptions, labels: bool, place: Place
) -> tuple[Found, SoundOptions, Place]:
    """Returns the waveforms of a .npz file, with the options and the place for them."""
    arrays = array_files.read(file, place.memory_limit)
    waves = next((arrays[name] for name in _SAMPLES if name in arrays), None)
    is_float = waves is not None and np.issubdtype(waves.dtype, np.floating)
    if waves is None or waves.ndim not in (2, 3) or not (is_float or waves.dtype == np.int16):
        received = {name: f"{a.dtype} {a.shape}" for name, a in arrays.items()}
        raise UsageError(
            "A .npz file of sounds must have an array `samples`, (count, time) or (count, time, "
            f"channels), int16 or floating point. Received: {file} with {received}"
        )
    if not len(waves):
        raise UsageError(
            "A .npz file of sounds must hold one sound or more. "
            f"Received: {file} with an array of shape {waves.shape}"
        )
    rate = _rate_of_arrays(file, arrays, options)
    ids = next((arrays[name] for name in _LABELS if labels and name in arrays), None)
    if ids is None:
        numbers, classes = np.full(len(waves), -1), ()
    else:
        names, numbers = np.unique(check_labels(ids, len(waves), "labels"), return_inverse=True)
        classes = tuple(map(str, names))
    items = [
        Item(f"{file}[{row}]", lambda wave=wave: _of_array(wave, rate), int(label))
        for row, (wave, label) in enumerate(zip(waves, numbers, strict=True))
    ]
    found = read_headers(f"audio: {file}", items, place.skip_corrupt, [], classes)
    key = decoding.cache_key([file], place.skip_corrupt)
    return found, options, Place(place.skip_corrupt, place.memory_limit, place.cache, key)


def _rate_of_arrays(file: Path, arrays: Mapping[str, np.ndarray], options: SoundOptions) -> int:
    """Returns the sampling rate of a .npz file."""
    stored = arrays.get("sample_rate", options.sample_rate)
    if stored is None or np.size(stored) != 1:
        raise UsageError(
            "`sample_rate` must be given for a .npz file without an array of that name. "
            f"Received: {file}"
        )
    rate = np.asarray(stored).item()
    if type(rate) not in (int, float) or not (1 <= rate <= HIGHEST_RATE and rate % 1 == 0):
        raise UsageError(
            f"`sample_rate` of a .npz file must be a whole number of Hz from 1 to {HIGHEST_RATE}. "
            f"Received: {file} with sample_rate={rate!r}"
        )
    return int(rate)


@contextlib.contextmanager
def _of_array(wave: np.ndarray, rate: int) -> Iterator[Sound]:
    values = wave[:, np.newaxis] if wave.ndim == 1 else wave
    scale = 2.0**15 if values.dtype == np.int16 else 1.0
    read = lambda first, last: values[first:last] / scale  # noqa: E731
    yield files.checked(Sound(rate, values.shape[1], len(values), read))

"""Drums, loops and notes of Sonic Pi, by the family of their name (Debian package, CC0)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_gan.arguments import is_number
from keras_gan.datasets import audio, decoding, sound_files
from keras_gan.datasets.sound_files import Sound
from keras_gan.datasets.sound_source import SoundOptions, make
from keras_gan.datasets.sound_store import Item, Place
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.errors import UsageError
from serving.nearest_names import find_nearest

KIND = audio.KIND
ROOT = Path("/usr/share/sonic-pi/samples")
FOLDER_OPTIONS = (
    "sample_rate",
    "length",
    "layout",
    "align",
    "normalize",
    "mel",
    "samples",
    "held_out",
)


def open(
    *,
    families: Sequence[str] | None = None,
    speeds: Sequence[float] = (1.0,),
    sample_rate: int | None = 16_000,
    length: int | None = None,
    layout: str = "one_shot",
    align: str = "start",
    normalize: str = "peak",
    mel: Mapping[str, Any] | None = None,
    samples: str = "wave",
    labels: bool = True,
    held_out: float | None = None,
    root: str | os.PathLike[str] = ROOT,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Opens the samples of Sonic Pi; their classes are the families of their names.

    Debian's package sonic-pi-samples and the extra `audio` must be installed, as they are FLAC
    files. The family of `bd_haus.flac` is `bd`. The sounds are in the public domain (CC0).

    Args:
        families: names of the families to read, such as `[bd, sn]`; all by default.
        speeds: speeds at which each sound is played, from 0.25 to 4. Twice the speed is an octave
            higher and half as long. All speeds of a sound are in the same split.
        sample_rate: see `keras_gan.datasets.audio`, as all of the following; the files have 44,100
            Hz.
        length: samples of one example.
        layout: `"one_shot"`, `"windows"` or `"auto"`.
        align: `"start"`, or `"center"`.
        normalize: `"peak"` or `"none"`.
        mel: options of the spectrograms, such as `{hop: 64}`.
        samples: `"wave"`, or `"mel"`: the spectrogram that `mel` defines is the sample itself.
        labels: whether the families are classes.
        held_out: share of the sounds to hold out, 0.1 by default.
        root: folder of the samples.
        memory_limit: see `keras_gan.datasets.folder`.
        cache: see there.

    Raises:
        UsageError: the package or the extra is not installed, an unknown family, or an option out
            of range.
    """
    options = SoundOptions(
        sample_rate, length, layout, align, normalize, 1, mel, held_out, samples=samples
    )
    options.check()
    _check_speeds(speeds)
    chosen, wanted = _chosen(Path(os.path.expanduser(root)), families)
    classes = wanted if labels and len(wanted) > 1 else ()
    items = _items(chosen, speeds, classes)
    found = audio.read_headers("sonic-pi-samples", items, False, [], classes)
    return make(found, options, Place(False, memory_limit, cache, _key(chosen, speeds)))


def _items(files: Sequence[Path], speeds: Sequence[float], classes: tuple[str, ...]) -> list[Item]:
    """Returns each sound at each speed."""
    return [
        Item(
            str(file) if speed == 1.0 else f"{file} at {speed:g} times the speed",
            lambda file=file, speed=speed: _played(file, speed),
            classes.index(_family(file)) if classes else -1,
            group=str(file) if len(speeds) > 1 else "",
        )
        for file in files
        for speed in speeds
    ]


def _key(files: Sequence[Path], speeds: Sequence[float]) -> str:
    return "-".join([decoding.cache_key(files), *(f"{speed:g}" for speed in speeds)])


def _check_speeds(speeds: Sequence[float]) -> None:
    is_list = isinstance(speeds, Sequence) and not isinstance(speeds, str) and len(speeds) > 0
    if not is_list or not all(is_number(x) and 0.25 <= x <= 4.0 for x in speeds):
        raise UsageError(f"`speeds` must be numbers from 0.25 to 4. Received: speeds={speeds!r}")
    if len(set(speeds)) < len(speeds):
        raise UsageError(f"`speeds` must be different. Received: speeds={speeds!r}")


@contextlib.contextmanager
def _played(file: Path, speed: float) -> Iterator[Sound]:
    """Opens a sound at a speed: as one of another sampling rate, which is then resampled."""
    with sound_files.opened(file) as sound:
        yield dataclasses.replace(sound, rate=round(sound.rate * speed))


def _chosen(root: Path, families: Sequence[str] | None) -> tuple[list[Path], tuple[str, ...]]:
    """Returns the files of some families, and the names of those.

    Raises:
        UsageError: no files, or an unknown family.
    """
    files = sorted(root.glob("*.flac"))
    if not files:
        raise UsageError(
            "The sounds of Debian's package sonic-pi-samples must be installed (apt install "
            f"sonic-pi-samples). Received: no .flac files in {root}"
        )
    known = Counter(_family(file) for file in files)
    wanted = tuple(sorted(known)) if families is None else tuple(families)
    for name in wanted:
        if name not in known:
            near = find_nearest(str(name), known)
            raise UsageError(
                f"`families` must be among {', '.join(sorted(known))}"
                + (f" (did you mean {near!r}?)" if near else "")
                + f". Received: {name!r}"
            )
    return [file for file in files if _family(file) in wanted], wanted


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of these sounds."""
    return "audio"


def _family(file: Path) -> str:
    return file.stem.partition("_")[0]

"""English digits spoken by 92 voices of espeak-ng, 8 kHz, 8,190 clips (Debian package)."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_gan.arguments import check_integer, is_integer
from keras_gan.datasets import audio
from keras_gan.datasets.sound_files import CorruptSound, Sound
from keras_gan.datasets.sound_source import Found, SoundOptions, make
from keras_gan.datasets.sound_store import Item, Place
from keras_gan.datasets.source import MEMORY_LIMIT, Source
from keras_gan.errors import UsageError, one_line
from serving import wav

KIND = audio.KIND
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# With "en-gb", espeak-ng ignores the voice and says nothing about it.
ACCENTS = ("en", "en-us", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029")
FOLDER_OPTIONS = ("sample_rate", "length", "layout", "normalize", "mel", "samples")
_PROGRAM = "espeak-ng"
# Variants that are effects on other voices, not voices.
_EFFECTS = ("AnxiousAndy", "Demonic", "Mr serious", "UniRobot", "anikaRobot", "croak", "fast")
_EFFECTS += ("whisper", "whisperf")
_RATE, _LONGEST = 22_050, 3  # Hz, and seconds of a word, of espeak-ng


def open(
    *,
    voices: int | None = None,
    speeds: Sequence[int] = (120, 155, 190),
    pitches: Sequence[int] = (30, 50, 70),
    sample_rate: int | None = 8_000,
    length: int | None = 8_192,
    mel: Mapping[str, Any] | None = None,
    samples: str = "wave",
    labels: bool = True,
    held_out: float | None = 0.2,
    memory_limit: int = MEMORY_LIMIT,
    cache: str | os.PathLike[str] | None = None,
) -> Source:
    """Speaks the digits with every voice, speed and pitch, and trims and centers the clips.

    Debian's package espeak-ng must be installed. The clips are made when the data set is opened for
    the first time, in about 90 seconds of one core, and kept in the cache folder. Clips that equal
    an earlier one are left out. Voices of one family, such as klatt and klatt2, are all held out
    or all trained on. Each voice speaks with six accents of English in turn. espeak-ng is under
    the GPL; the clips are for training on the machine that makes them, not to be distributed.

    Args:
        voices: number of voices, at least 2 and the first in alphabetical order; all by default.
        speeds: words per minute, from 80 to 450.
        pitches: pitches, from 0 to 99.
        sample_rate: see `keras_gan.datasets.audio`, as all of the following.
        length: samples of one clip. With 8,192, 1.02 seconds, few clips are cut.
        mel: options of the spectrograms, such as `{hop: 64}`.
        samples: `"wave"`, or `"mel"`: the spectrogram that `mel` defines is the sample itself.
        labels: whether batches come with the digit as class.
        held_out: share of the clips to hold out, as whole families of voices.
        memory_limit: largest size in bytes of the spectrograms that are kept in memory.
        cache: the cache folder; by default the user's.

    Raises:
        UsageError: espeak-ng is not installed, or an option out of range.
    """
    options = SoundOptions(
        sample_rate, length, "one_shot", mel=mel, held_out=held_out, samples=samples
    )
    options.check()
    _check_range("speeds", speeds, 80, 450)
    _check_range("pitches", pitches, 0, 99)
    if voices is not None:
        check_integer("voices", voices, 2)
    version, names = _installed()
    names = names[:voices]
    found = _find(names, speeds, pitches, labels)
    content = json.dumps([version, names, list(speeds), list(pitches), ACCENTS])
    key = "digits-" + hashlib.sha256(content.encode()).hexdigest()[:24]
    return make(found, options, Place(False, memory_limit, cache, key, always=True))


def folder_source(section: Mapping[str, Any]) -> str:
    """Returns the data set that reads a folder in place of these clips."""
    return "audio"


def family_of(voice: str) -> str:
    """Returns the family of a voice: its name without a number."""
    return re.sub(r"\d+$", "", voice.lower())


def _installed() -> tuple[str, list[str]]:
    """Returns the version of espeak-ng and the names of its voices."""
    program = shutil.which(_PROGRAM)
    if program is None:
        raise UsageError(
            "The program of Debian's package espeak-ng must be installed (apt install espeak-ng). "
            f"Received: no {_PROGRAM} on the PATH"
        )
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version, _, place = done.stdout.strip().partition("Data at:")
    folder = Path(place.strip()) / "voices" / "!v"
    names = [file.name for file in folder.glob("*") if file.name not in _EFFECTS]
    if not names:
        raise UsageError(
            f"The voices of espeak-ng must be installed (apt install espeak-ng-data). Received: "
            f"none in {folder}"
        )
    return version, sorted(names)


def _find(
    names: Sequence[str], speeds: Sequence[int], pitches: Sequence[int], labels: bool
) -> Found:
    items = []
    for at, voice in enumerate(names):
        for number, (speed, pitch) in enumerate(itertools.product(speeds, pitches)):
            accent = ACCENTS[(at + number) % len(ACCENTS)]
            for digit, word in enumerate(DIGITS):
                arguments = ("-v", f"{accent}+{voice}", "-s", str(speed), "-p", str(pitch))
                items.append(
                    Item(
                        f"{word} by {voice}, {accent}, {speed} words per minute, pitch {pitch}",
                        lambda a=arguments, w=word: _spoken(a, w),
                        digit if labels else -1,
                        group=family_of(voice),
                    )
                )
    return Found(
        f"spoken-digits: {len(names)} voices of espeak-ng",
        items,
        [(_RATE, _RATE * _LONGEST)] * len(items),
        DIGITS if labels else (),
        drop_copies=True,
    )


@contextlib.contextmanager
def _spoken(arguments: Sequence[str], word: str) -> Iterator[Sound]:
    """Speaks a word."""
    done = subprocess.run(
        [_PROGRAM, *arguments, "--stdout", word], capture_output=True, check=False, timeout=60
    )
    try:
        header = wav.read_header(done.stdout)  # its sizes are those of a pipe
    except UsageError as error:
        raise CorruptSound(
            done.stderr.decode(errors="replace").strip() or one_line(error)
        ) from error
    frames = min(header.frames, header.rate * _LONGEST)
    yield Sound(
        header.rate,
        header.channels,
        frames,
        lambda first, last: wav.read_frames(done.stdout, header, first, last),
    )


def _check_range(name: str, values: Sequence[int], low: int, high: int) -> None:
    is_list = isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0
    if not is_list or not all(is_integer(v, low) and v <= high for v in values):
        raise UsageError(
            f"`{name}` must be whole numbers from {low} to {high}. Received: {name}={values!r}"
        )

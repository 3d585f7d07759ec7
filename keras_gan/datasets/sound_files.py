"""Files of sound: WAV by the package's own reader, other formats by the package soundfile."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_gan.datasets.folder_files import Wanted
from keras_gan.errors import UsageError, one_line
from serving import wav
from serving.resample import HIGHEST_RATE

_WAV = (".wav", ".wave")
# Formats of libsndfile 1.2.
_OTHERS = (
    ".flac",
    ".ogg",
    ".oga",
    ".opus",
    ".mp3",
    ".aif",
    ".aiff",
    ".aifc",
    ".au",
    ".snd",
    ".caf",
)
SUFFIXES = _WAV + _OTHERS
_MAGIC = (b"fLaC", b"OggS", b"FORM", b"ID3", b"caff", b".snd")
_MOST_CHANNELS = 64
NO_SAMPLES = "it holds no samples"


class CorruptSound(Exception):
    """A damaged file, or one that is not sound; the message is the reason in one line."""


class MissingReader(UsageError):
    """A format that only the extra `audio` reads, which is not installed."""


@dataclasses.dataclass(frozen=True)
class Sound:
    """An opened file of sound.

    Args:
        rate: sampling rate in Hz.
        channels: number of channels.
        frames: samples of each channel.
        read: function from the first and the last position, exclusive, to float64 samples
            `(time, channels)`, fewer where a truncated file ends.
        missing: samples that a truncated file lacks, as far as its header shows.
    """

    rate: int
    channels: int
    frames: int
    read: Callable[[int, int], np.ndarray]
    missing: int = 0


@contextlib.contextmanager
def opened(file: Path) -> Iterator[Sound]:
    """Opens a file of sound.

    Raises:
        CorruptSound: a damaged file, or one that is not sound.
        MissingReader: a format other than WAV, and the package soundfile is not installed.
    """
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                raise CorruptSound("the file is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found = _wav(content)
                if found is not None:
                    yield checked(found)
                    return
        with _other(file) as found:
            yield checked(found)
    except OSError as error:
        raise CorruptSound(one_line(error)) from error


def checked(sound: Sound) -> Sound:
    """Returns an opened sound.

    Raises:
        CorruptSound: no samples, or a sampling rate or a number of channels out of range.
    """
    if not sound.frames:
        raise CorruptSound(NO_SAMPLES)
    if not (1 <= sound.rate <= HIGHEST_RATE and 1 <= sound.channels <= _MOST_CHANNELS):
        raise CorruptSound(f"{sound.channels} channels of {sound.rate} Hz")
    return sound


def is_sound(file: Path) -> bool:
    """Returns whether a file is sound, by its first bytes."""
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    return wav.is_wav(head) or head.startswith(_MAGIC[:2] + _MAGIC[3:]) or head[8:11] == b"AIF"


WANTED = Wanted("sounds", lambda: SUFFIXES, is_sound, "files such as .wav, .flac or .ogg")


def _wav(content: Any) -> Sound | None:
    """Returns the sound of a WAV file; `None` for another format or encoding."""
    if not wav.is_wav(content):
        return None
    try:
        header = wav.read_header(content)
    except UsageError as error:
        if _soundfile() is not None:  # it reads further encodings, such as ADPCM
            return None
        raise CorruptSound(_reason(error)) from error
    return Sound(
        header.rate,
        header.channels,
        header.frames,
        lambda first, last: wav.read_frames(content, header, first, last),
        header.missing,
    )


@contextlib.contextmanager
def _other(file: Path) -> Iterator[Sound]:
    """Opens a file by libsndfile."""
    soundfile = _soundfile()
    if soundfile is None:
        if file.suffix.lower() in _WAV and not is_sound(file):
            raise CorruptSound("the file does not begin with RIFF and WAVE")
        raise MissingReader(
            "Sound of other formats than WAV is read by the package soundfile: pip install "
            f"'keras-gan[audio]'. Received: {file}"
        )
    try:
        with soundfile.SoundFile(str(file)) as stream:

            def read(first: int, last: int) -> np.ndarray:
                stream.seek(first)
                return stream.read(last - first, dtype="float64", always_2d=True)

            yield Sound(stream.samplerate, stream.channels, stream.frames, read)
    except soundfile.SoundFileError as error:
        raise CorruptSound(_reason(error)) from error


def _soundfile() -> Any:
    """Returns the package soundfile, or `None` if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: without libsndfile
        return None
    return soundfile


def _reason(error: BaseException) -> str:
    """Returns the message of an error in one line, without the rule of ours."""
    return one_line(error).partition("Received: ")[2] or one_line(error)

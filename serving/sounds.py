"""Sounds and spectrograms that users send to a vocoder: any WAV file to one channel at its rate.

A file comes from a stranger. Its format is decided by its content, its length is checked by its
header before anything is decoded, and whatever cannot be read is one line.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from serving import kinds
from serving.errors import TooLargeError, UsageError
from serving.inputs import check_array
from serving.resample import resample
from serving.vocoding import Clip, Vocoder
from serving.wav import check_samples, is_wav, read_header, read_wav, to_one_channel

MAX_SECONDS = 300.0  # of a sound over HTTP, by default
FORMATS = "a WAV file or a spectrogram as .npy"
_NPY = b"\x93NUMPY"


class RateError(UsageError):
    """Sound of another sampling rate than the network's."""


class SpectrogramError(UsageError):
    """Values that are no natural logarithms of magnitudes."""


class Sound(NamedTuple):
    """A sound in memory.

    Args:
        clip: the sound or the spectrogram.
        notes: what reading changed, one sentence each.
    """

    clip: Clip
    notes: tuple[str, ...] = ()


def read(
    content: bytes, vocoder: Vocoder, resampled: bool = True, max_seconds: float = float("inf")
) -> Sound:
    """Reads a sound or a spectrogram for a vocoder.

    Args:
        content: a WAV file, or the .npy file of a spectrogram `(frames, mels)`.
        vocoder: the network.
        resampled: resample a sound of another rate; otherwise it is refused.
        max_seconds: largest length.

    Raises:
        RateError: a sound of another rate that is not to be resampled.
        TooLargeError: more than `max_seconds`.
        SpectrogramError: values that are no natural logarithms of magnitudes.
        UsageError: neither format, a damaged file, one without samples.
    """
    if content[:6] == _NPY:
        port = vocoder.source
        mel = kinds.get(port.kind).decode(content, "npy", _any_size(content), port.meta)
        return Sound(from_mel(mel, vocoder, max_seconds))
    if not is_wav(content):
        received = f"{len(content)} bytes that begin with {content[:8]!r}" if content else "0 bytes"
        raise UsageError(f"A sound must be {FORMATS}. Received: {received}")
    header = read_header(content)
    if header.rate != vocoder.sample_rate and not resampled:
        raise RateError(
            f"A sound must have {vocoder.sample_rate} Hz, the sampling rate of the network. "
            f"Received: {header.rate} Hz"
        )
    check_seconds(header.frames / header.rate, max_seconds)
    samples, rate = read_wav(content)
    return from_samples(samples, rate, vocoder)


def from_samples(samples: np.ndarray, rate: int, vocoder: Vocoder) -> Sound:
    """Converts samples to one channel at the sampling rate of a vocoder.

    Args:
        samples: finite floats `(time, channels)` in [-1, 1], which resampling may have exceeded.
        rate: their sampling rate in Hz.
        vocoder: the network.

    Raises:
        UsageError: no samples, or some outside [-2, 2].
    """
    check_samples(samples)
    mono, loudest = to_one_channel(samples)
    channels, notes = samples.shape[1], ()
    if loudest is not None:
        notes = (f"Channel {loudest + 1} of {channels} was used, because the channels cancel out.",)
    elif channels > 1:
        notes = (f"The {channels} channels were mixed to one.",)
    if rate != vocoder.sample_rate:
        mono = resample(mono, rate, vocoder.sample_rate)
        notes += (f"The sound was resampled from {rate} to {vocoder.sample_rate} Hz.",)
    return Sound(Clip(vocoder, np.ascontiguousarray(mono[:, 0], np.float32)), notes)


def from_mel(mel: np.ndarray, vocoder: Vocoder, max_seconds: float = float("inf")) -> Clip:
    """Checks a spectrogram.

    Args:
        mel: floats `(frames, mels)`, or `(1, frames, mels)`.
        vocoder: the network.
        max_seconds: largest length.

    Raises:
        TooLargeError: more than `max_seconds`.
        SpectrogramError: values that are no natural logarithms of magnitudes.
        UsageError: another shape.
    """
    mels = vocoder.mel.mels
    frames = mel[0] if mel.ndim == 3 and len(mel) == 1 else mel
    if frames.ndim != 2 or frames.shape[1] != mels or not len(frames):
        turned = frames.ndim == 2 and frames.shape[0] == mels
        hint = "; this one may be transposed" if turned else ""
        raise UsageError(
            f"A spectrogram must have the shape (frames, {mels}) with 1 frame or more{hint}. "
            f"Received: shape={mel.shape}"
        )
    check_seconds(vocoder.seconds(len(frames)), max_seconds)
    try:
        checked = check_array(vocoder.source, frames[np.newaxis])
    except UsageError as error:
        raise SpectrogramError(str(error)) from None
    return Clip(vocoder, mel=checked[0])


def check_seconds(seconds: float, max_seconds: float) -> None:
    """Checks the length of a sound.

    Raises:
        TooLargeError: more than `max_seconds`.
    """
    if seconds > max_seconds:
        raise TooLargeError(
            f"A sound must be at most {max_seconds:g} s long. Received: {seconds:.6g} s"
        )


def _any_size(content: bytes) -> tuple[None, ...]:
    """Returns a shape of any sizes, of the rank in the header of an .npy file."""
    head = content[:256].partition(b"'shape':")[2].partition(b")")[0]
    return (None,) * (3 if head.count(b",") == 2 else 2)

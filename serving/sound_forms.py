"""Sounds in Python: paths, arrays of samples, spectrograms; each to a clip for a vocoder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from serving import file_contents, sounds
from serving.errors import UsageError, short_repr
from serving.vocoding import Clip, Vocoder


def open_clip(sound: Any, sample_rate: int | None, vocoder: Vocoder) -> Clip:
    """Reads a sound or a spectrogram in any of its forms.

    Args:
        sound: path of a WAV or .npy file; floats `(time,)` or `(time, channels)` in [-1, 1]; or a
            spectrogram `(frames, mels)`.
        sample_rate: sampling rate of an array of samples in Hz; by default the vocoder's.
        vocoder: the network.

    Raises:
        UsageError: a sound of another form, a file that cannot be read.
    """
    if isinstance(sound, str | os.PathLike):
        return read_file(Path(sound), vocoder).clip
    array = np.asarray(sound)
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or not array.size:
        raise UsageError(
            "A sound must be a path, floats (time,) or (time, channels), or a spectrogram (frames, "
            f"mels). Received: {type(sound).__name__} of dtype {array.dtype}, shape={array.shape}"
        )
    if not np.isfinite(array).all():
        raise UsageError("A sound must hold finite numbers. Received: NaN or infinity")
    if is_spectrogram(array, vocoder):
        return sounds.from_mel(array, vocoder)
    rate = vocoder.sample_rate if sample_rate is None else sample_rate
    if type(rate) is not int or rate < 1:
        raise UsageError(
            "`sample_rate` must be an integer above 0, in Hz. "
            f"Received: sample_rate={short_repr(sample_rate)}"
        )
    columns = array[:, np.newaxis] if array.ndim == 1 else array
    return sounds.from_samples(columns, rate, vocoder).clip


def is_spectrogram(array: np.ndarray, vocoder: Vocoder) -> bool:
    """Checks whether an array is a spectrogram rather than samples with channels."""
    return array.ndim == 2 and vocoder.mel.mels > 1 and array.shape[1] == vocoder.mel.mels


def read_file(path: Path, vocoder: Vocoder) -> sounds.Sound:
    """Reads the file of a sound or of a spectrogram, see `sounds.read`.

    Raises:
        UsageError: the file cannot be read, or as for `sounds.read`.
    """
    return sounds.read(file_contents.read(path, "A sound"), vocoder)

"""Sounds that a client sends to be vocoded, and the form of what returns."""

from __future__ import annotations

import dataclasses
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from serving import file_contents
from serving.checks import check_integer
from serving.client.http_types import Response, ServerError
from serving.errors import UsageError, short_repr
from serving.output_files import write_to
from serving.vocoding import MAX_FRAMES
from serving.wav import check_samples, read_wav, to_pcm16, write_wav

MEDIA_TYPE = "application/octet-stream"  # the server reads the format from the content


@dataclasses.dataclass(frozen=True)
class SentSound:
    """A sound, or a spectrogram, to turn into sound.

    Args:
        content: the file that is sent, empty for samples whose rate only the server knows.
        samples: samples `(time, channels)` of an array, else `None`.
        sample_rate: their sampling rate in Hz, or `None` for the model's.
        is_file: the given sound is the bytes of a file, and so is the returned one.
        to: file to write, or `None`.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
        resample: resample a sound of another rate.
        is_streamed: the answer is read while it is computed.
        chunk: frames of each part of a stream, or `None` for the server's default.
    """

    content: bytes
    samples: np.ndarray | None
    sample_rate: int | None
    is_file: bool
    to: Path | None
    model: str | None
    version: int | None
    resample: bool
    is_streamed: bool = False
    chunk: int | None = None

    def to_wav(self, rate: int) -> bytes:
        """Returns the file to send, with samples at the rate of the model if they name none.

        Warns if samples beyond [-1, 1] were clipped to the 16 bits of the file.
        """
        if self.samples is None:
            return self.content
        pcm, clipped = to_pcm16(self.samples)
        if clipped:
            warnings.warn(
                f"{clipped} of {pcm.size} samples were beyond [-1, 1] and were clipped.",
                stacklevel=2,
            )
        return write_wav(pcm, self.sample_rate or rate)

    def restore(self, response: Response) -> Any:
        """Returns the sound in the form of the given one; writes a file if asked.

        Args:
            response: of the server.

        Raises:
            ServerError: an answer that is not a sound.
            UsageError: the file cannot be written.
        """
        try:
            samples, _ = read_wav(response.body)
        except UsageError as error:
            raise ServerError(f"An answer must be a WAV file. {error}", response.status) from error
        if self.to is not None:
            write_to(self.to, response.body)
        return response.body if self.is_file else to_one_channel(samples)


def to_one_channel(samples: np.ndarray) -> np.ndarray:
    """Returns the samples of an answer, float32 `(time,)`.

    Args:
        samples: those of its WAV file, `(time, 1)`.
    """
    # 16 bits have 32768 steps below 0; this server writes -1 as -32767.
    return (samples[:, 0] * 32768 / 32767).astype(np.float32)


def check_sound(
    sound: Any,
    to: str | os.PathLike[str] | None = None,
    *,
    model: str | None = None,
    version: int | None = None,
    sample_rate: int | None = None,
    resample: bool = False,
) -> SentSound:
    """Checks the arguments of `Client.vocode`, and encodes a spectrogram that is not a file.

    Raises:
        UsageError: no sound and no spectrogram, samples outside [-2, 2], or another ending of `to`
            than `.wav`.
    """
    target = None if to is None else Path(to)
    if target is not None and target.suffix.lower() != ".wav":
        raise UsageError(f"`to` must end in .wav. Received: to={short_repr(str(target))}")
    options = (sample_rate, isinstance(sound, bytes | bytearray | memoryview), target, model)
    return SentSound(*_encode(sound), *options, version, resample)


def check_stream(sound: Any, chunk: int | None = None, **options: Any) -> SentSound:
    """Checks the arguments of `Client.vocode_chunks`.

    Args:
        sound: as for `check_sound`; so are the options, without `to`.
        chunk: frames of a part, or `None`.

    Raises:
        UsageError: as for `check_sound`, or a `chunk` that is not allowed.
    """
    if chunk is not None:
        check_integer("chunk", chunk, 1, MAX_FRAMES)
    sent = check_sound(sound, None, **options)
    return dataclasses.replace(sent, is_streamed=True, chunk=chunk)


def _encode(sound: Any) -> tuple[bytes, np.ndarray | None]:
    """Returns the file to send, or the samples."""
    if isinstance(sound, bytes | bytearray | memoryview):
        return bytes(sound), None
    if isinstance(sound, str | os.PathLike):
        return file_contents.read(sound, "`sound`", "sound"), None
    array = np.asarray(sound)
    if array.dtype.kind != "f" or array.ndim not in (1, 2) or not np.isfinite(array).all():
        raise UsageError(
            "`sound` must be a file, finite floats (time,) or (time, channels), or a spectrogram "
            f"(frames, mels). Received: sound={short_repr(sound)}"
        )
    if array.ndim == 2 and array.shape[1] > 2:
        buffer = io.BytesIO()
        np.save(buffer, array.astype(np.float32), allow_pickle=False)
        return buffer.getvalue(), None
    check_samples(array)
    return b"", array[:, np.newaxis] if array.ndim == 1 else array

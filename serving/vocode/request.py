"""The checked `/v1/vocode` request: which model, which sound, how it is answered, by when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from serving import provenance, sounds
from serving.checks import check_boolean
from serving.engine import SampleJob
from serving.errors import TooLargeError, UsageError, short_repr
from serving.http_types import WAV, HTTPError, Request, Response, header_lines, notes_header
from serving.kinds.audio import peak_headers
from serving.limits import Settings
from serving.started_streams import Started
from serving.vocoding import Vocoder, check_chunk
from serving.wav import to_pcm16, write_wav


class VocodeRequest:
    """A request to turn a sound or a spectrogram into sound.

    Args:
        served: version of the model, a vocoder.
        fields: the request's fields by name.
        request: the request.
        settings: settings of the server.

    Raises:
        UsageError: a field that is not allowed.
    """

    def __init__(self, served: Any, fields: dict[str, Any], request: Request, settings: Settings):
        self.served = served
        self.vocoder: Vocoder = served.vocoder
        self.is_streamed = _read_boolean("stream", fields)
        self._resampled = _read_boolean("resample", fields)
        self._max_seconds = settings.max_seconds
        if self.is_streamed:
            self.chunk = check_chunk(self.vocoder, fields.get("chunk"))
        elif "chunk" in fields:
            raise UsageError(
                f"`chunk` needs `stream`. Received: chunk={short_repr(fields['chunk'])}"
            )
        self._timeout = settings.timeout_of(fields)
        self.deadline = request.start + self._timeout
        names = [port.name for port in served.bundle.outputs]
        self._index = names.index(self.vocoder.target.name)

    def read(self, content: bytes) -> sounds.Sound:
        """Decodes the sound; takes time for a long one.

        Args:
            content: the file that was sent.

        Raises:
            UsageError: no sound and no spectrogram, or one that is damaged.
            TooLargeError: one that is too long.
            HTTPError: 422 for another sampling rate, or values that are no natural logarithms.
        """
        try:
            return sounds.read(content, self.vocoder, self._resampled, self._max_seconds)
        except sounds.RateError as error:
            message = f"{error}; resample=1 resamples it"
            raise HTTPError(422, message) from None
        except sounds.SpectrogramError as error:
            raise HTTPError(422, str(error)) from None
        except TooLargeError as error:
            raise TooLargeError(f"{error} (--max-seconds of the server)") from None

    def job(self, array: np.ndarray, use: Callable[[np.ndarray], Any]) -> SampleJob:
        """Returns the job that runs one chunk.

        Args:
            array: its spectrogram, `(1, frames, mels)`.
            use: called in the worker with the output; returns the job's result.
        """
        given = {self.vocoder.source.name: array}
        # A stream may run longer than a request; each of its chunks gets a deadline of its own.
        deadline = time.monotonic() + self._timeout if self.is_streamed else self.deadline
        job = SampleJob(1, None, given, deadline=deadline)
        job.sizes = tuple(self.served.bundle.inputs.check_sizes(given).items())
        job.encode = lambda job, outputs: use(outputs[self._index])
        return job

    def respond(self, samples: np.ndarray, notes: tuple[str, ...]) -> Response:
        """Returns the response with the whole sound, `(time,)`."""
        rate = self.vocoder.sample_rate
        pcm, clipped = to_pcm16(samples[:, np.newaxis])
        headers = self.served.headers + header_lines(peak_headers(samples, clipped))
        content = write_wav(pcm, rate, self._texts())
        return Response(200, content, WAV, headers + notes_header(notes))

    def respond_streamed(self, pieces: Started, notes: tuple[str, ...]) -> Response:
        """Returns the response with a stream."""
        return Response(200, b"", WAV, self.served.headers + notes_header(notes), pieces)

    def header(self) -> bytes:
        """Returns the header of a stream."""
        return _streamed_header(self.vocoder.sample_rate, self._texts())

    def encode(self, samples: np.ndarray) -> bytes:
        """Returns the bytes of a part of a stream, `(time,)`."""
        return to_pcm16(samples)[0].astype("<i2").tobytes()

    def _texts(self) -> dict[str, str]:
        bundle = self.served.bundle
        return provenance.voiced(bundle.name, bundle.sha256)


def _read_boolean(name: str, fields: dict[str, Any]) -> bool:
    return name in fields and check_boolean(name, fields[name])


def _streamed_header(rate: int, texts: dict[str, str]) -> bytes:
    """Returns the header of a WAV file of unknown length: both sizes are 0xFFFFFFFF."""
    empty = write_wav(np.zeros((0, 1), np.int16), rate, texts)
    return empty[:4] + b"\xff" * 4 + empty[8:-4] + b"\xff" * 4

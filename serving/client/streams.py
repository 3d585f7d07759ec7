"""Streams of sound: arrays of samples from an answer that the server still computes."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
from collections.abc import AsyncGenerator, Generator
from typing import Any

import numpy as np

from serving.client.endpoint import Retries
from serving.client.http_types import ServerError
from serving.client.sounds import to_one_channel
from serving.errors import UsageError
from serving.wav import WavHeader, is_wav, read_frames, read_header

_FAILURES = (OSError, EOFError, http.client.HTTPException)
_START = 12  # bytes by which a WAV file is known
_MAX_HEADER = 2**16  # bytes before the samples


class _Decoder:
    """Decoder of a WAV file that arrives by pieces.

    Args:
        retries: describes failures.

    Attributes:
        sample_rate: in Hz; 0 before the header has arrived.
    """

    def __init__(self, retries: Retries):
        self.sample_rate = 0
        self._retries = retries
        self._header: WavHeader | None = None
        self._rest = b""  # the part of a header, or of a sample
        self._count = 0

    def decode(self, piece: bytes) -> np.ndarray:
        """Returns the samples that a piece completes, float32 `(time,)`; perhaps none.

        Raises:
            ServerError: not a WAV file.
        """
        content, self._rest = self._rest + piece, b""
        header = self._header
        if header is None:
            if len(content) < _START or not _has_header(content):
                self._rest = content
                return np.empty(0, np.float32)
            header, content = self._begin(content)
        count, rest = divmod(len(content), header.channels * header.width)
        self._rest = content[len(content) - rest :]
        self._count += count
        return to_one_channel(read_frames(content, header, 0, count))

    def _begin(self, content: bytes) -> tuple[WavHeader, bytes]:
        """Reads the header; returns it and the bytes behind it."""
        try:
            header = read_header(content)
        except UsageError as error:
            raise ServerError(f"An answer must be a WAV file. {error}", 200) from error
        self.sample_rate = header.rate
        self._header = dataclasses.replace(header, begin=0)
        return self._header, content[header.begin :]

    def finish(self) -> None:
        """Checks that the stream has ended behind a whole sample.

        Raises:
            ServerError: it has ended within the header or within a sample.
        """
        if self._header is None:
            self._begin(self._rest)
        elif self._rest:
            raise self.interrupted(EOFError())

    def interrupted(self, error: BaseException) -> ServerError:
        """Describes a stream that has failed."""
        return self._retries.interrupted(error, f"{self._count} samples")


def _has_header(content: bytes) -> bool:
    """Returns whether the header is complete, or never will be."""
    if not is_wav(content) or len(content) > _MAX_HEADER:
        return True
    try:
        read_header(content)
    except UsageError:
        return False
    return True


class SoundStream:
    """Sound from a server: an iterator of parts of any length, in order, each float32 `(time,)`.

    The connection is closed at the end of a `with` block, by `close`, or as the stream is deleted,
    and the server then stops working on the sound. After the last part it is kept for other calls.

    Args:
        pieces: those of a WAV file; waits for the first samples.
        retries: describes failures.

    Attributes:
        sample_rate: sampling rate of the sound in Hz.

    Raises:
        ServerError: the stream fails, also of every later part.
    """

    def __init__(self, pieces: Generator[bytes, None, None], retries: Retries):
        decoder = _Decoder(retries)
        self._parts = _decode(pieces, decoder)
        self._first = next(self._parts, None)
        self.sample_rate = decoder.sample_rate

    def __iter__(self) -> SoundStream:
        return self

    def __next__(self) -> np.ndarray:
        first, self._first = self._first, None
        return next(self._parts) if first is None else first

    def close(self) -> None:
        """Ends the stream."""
        self._first = None
        self._parts.close()

    def __enter__(self) -> SoundStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decode(
    pieces: Generator[bytes, None, None], decoder: _Decoder
) -> Generator[np.ndarray, None, None]:
    with contextlib.closing(pieces):
        try:
            for piece in pieces:
                if len(samples := decoder.decode(piece)):
                    yield samples
        except _FAILURES as error:
            raise decoder.interrupted(error) from error
        decoder.finish()


class AsyncSoundStream:
    """`SoundStream` for asyncio: an asynchronous iterator, closed by `async with` or `aclose`.

    Attributes:
        sample_rate: sampling rate of the sound in Hz.
    """

    def __init__(self, parts: AsyncGenerator[np.ndarray, None], first: Any, sample_rate: int):
        self._parts = parts
        self._first = first
        self.sample_rate = sample_rate

    @classmethod
    async def start(cls, pieces: AsyncGenerator[bytes, None], retries: Retries) -> AsyncSoundStream:
        """Waits for the first samples; takes the arguments of `SoundStream`."""
        decoder = _Decoder(retries)
        parts = _decode_later(pieces, decoder)
        first = await anext(parts, None)
        return cls(parts, first, decoder.sample_rate)

    def __aiter__(self) -> AsyncSoundStream:
        return self

    async def __anext__(self) -> np.ndarray:
        first, self._first = self._first, None
        return await anext(self._parts) if first is None else first

    async def aclose(self) -> None:
        """Ends the stream."""
        self._first = None
        await self._parts.aclose()

    async def __aenter__(self) -> AsyncSoundStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _decode_later(
    pieces: AsyncGenerator[bytes, None], decoder: _Decoder
) -> AsyncGenerator[np.ndarray, None]:
    async with contextlib.aclosing(pieces):
        try:
            async for piece in pieces:
                if len(samples := decoder.decode(piece)):
                    yield samples
        except _FAILURES as error:
            raise decoder.interrupted(error) from error
        decoder.finish()

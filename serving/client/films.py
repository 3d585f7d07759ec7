"""Videos of any number of frames: the checked arguments, and frames as they arrive."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import io
from collections.abc import AsyncGenerator, Generator
from typing import Any

import numpy as np

from serving.checks import check_integer, check_truncation
from serving.client.endpoint import Retries
from serving.client.http_types import Exchange, Request, Response, ServerError, to_json
from serving.errors import UsageError, short_repr
from serving.labels import several
from serving.seeds import check_seeds
from serving.video_rules import MAX_FRAMES

_FAILURES = (OSError, EOFError, http.client.HTTPException)
_MAX_HEADER = 2**10  # bytes before the frames
_PREFIX = 10  # bytes of a .npy file before its description


@dataclasses.dataclass(frozen=True)
class FilmRequest:
    """A video to stream.

    Args:
        seed: its seed.
        frames: number of frames.
        label: id or name of the class, or `None` for that of the seed.
        truncation: factor on the latents.
        model: name of a model, or `None`.
        version: its version, or `None` for the newest.
    """

    seed: int
    frames: int
    label: Any = None
    truncation: float = 1.0
    model: str | None = None
    version: int | None = None

    def fields(self, name: str | None) -> dict[str, Any]:
        """Returns the fields of the request.

        Args:
            name: of the model, or `None` for a server that has one.
        """
        label = self.label.item() if isinstance(self.label, np.generic) else self.label
        fields: dict[str, Any] = {"seed": self.seed, "frames": self.frames, "format": "npy"}
        optional = {"model": name, "version": self.version, "labels": label}
        fields |= {key: value for key, value in optional.items() if value is not None}
        fields |= {} if self.truncation == 1 else {"truncation": self.truncation}
        return fields | {"stream": True}


def check_film(
    seed: Any = 0,
    frames: Any = None,
    label: Any = None,
    truncation: float = 1.0,
    *,
    model: str | None = None,
    version: int | None = None,
) -> FilmRequest:
    """Checks the arguments of `Client.frames`, which documents them.

    Raises:
        UsageError: an argument out of its range.
    """
    check_integer("frames", frames, 1, MAX_FRAMES)
    seeds = check_seeds(seed)
    if len(seeds) != 1 or several(label) is not None:
        raise UsageError(
            "A video has one seed and one label. "
            f"Received: seed={short_repr(seed)}, label={short_repr(label)}"
        )
    return FilmRequest(int(seeds[0]), frames, label, check_truncation(truncation), model, version)


def ask(session: Any, wanted: FilmRequest) -> Exchange[Response]:
    """Asks for the stream of a video.

    Args:
        session: session of a client.
        wanted: the video.

    Raises:
        UsageError: another server than `keras-gan serve`.
    """
    server = yield from session.connect(wanted.model)
    if server.protocol != "keras_gan":
        raise UsageError(
            "`frames` needs keras-gan serve; `generate` makes clips on any server. "
            f"Received: a server with the protocol {server.protocol}"
        )
    body = to_json(wanted.fields(wanted.model or server.name))
    headers = {"Content-Type": "application/json"}
    where = f"{server.path}/v1/generate"
    return (yield Request("POST", where, body, headers, is_streamed=True))


class _Decoder:
    """Decoder of a .npy file that arrives by pieces.

    Args:
        retries: describes failures.
    """

    def __init__(self, retries: Retries):
        self._retries = retries
        self._shape: tuple[int, ...] | None = None
        self._rest = b""
        self._count = 0

    def decode(self, piece: bytes) -> Generator[np.ndarray, None, None]:
        """Yields the frames that a piece completes, float32 `(height, width, channels)`."""
        self._rest += piece
        if self._shape is None and not self._begin():
            return
        size = (self._shape or ())[1:]
        step = 4 * int(np.prod(size))
        count = len(self._rest) // step
        found = np.frombuffer(self._rest, "<f4", count * step // 4).reshape(count, *size)
        self._rest = self._rest[count * step :]
        for frame in found:
            self._count += 1
            yield frame.astype(np.float32)

    def _begin(self) -> bool:
        """Reads the header; returns False as long as it is not complete."""
        content = self._rest
        known = content[:6] == b"\x93NUMPY"[: len(content)]
        size = _PREFIX + int.from_bytes(content[8:10], "little")
        if known and (len(content) < _PREFIX or (len(content) < size <= _MAX_HEADER)):
            return False
        try:
            file = io.BytesIO(content)
            np.lib.format.read_magic(file)
            shape, ordered, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            raise ServerError(f"An answer must be a .npy file. Received: {error}", 200) from error
        if len(shape) != 4 or ordered or dtype != np.dtype("<f4") or 0 in shape:
            raise ServerError(
                "An answer must hold frames (frames, height, width, channels) of float32. "
                f"Received: shape={shape}, dtype={dtype}",
                200,
            )
        self._shape, self._rest = shape, content[file.tell() :]
        return True

    def finish(self) -> None:
        """Checks that all frames have arrived.

        Raises:
            ServerError: the stream has ended before.
        """
        if self._shape is None or self._count != self._shape[0] or self._rest:
            raise self.interrupted(EOFError())

    def interrupted(self, error: BaseException) -> ServerError:
        """Describes a stream that has failed."""
        return self._retries.interrupted(error, f"{self._count} frames")


class FilmStream:
    """A video from a server: an iterator of frames, each float32 `(height, width, channels)`.

    The connection is closed at the end of a `with` block, by `close`, or as the stream is deleted,
    and the server then ends the video. It waits for the first frame, because only a connection that
    is read from can be closed.

    Args:
        pieces: those of a .npy file.
        retries: describes failures.

    Raises:
        ServerError: the stream fails.
    """

    def __init__(self, pieces: Generator[bytes, None, None], retries: Retries):
        self._frames = _decode(pieces, retries)
        self._first: np.ndarray | None = next(self._frames, None)

    def __iter__(self) -> FilmStream:
        return self

    def __next__(self) -> np.ndarray:
        first, self._first = self._first, None
        return next(self._frames) if first is None else first

    def close(self) -> None:
        """Ends the video."""
        self._first = None
        self._frames.close()

    def __enter__(self) -> FilmStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _decode(
    pieces: Generator[bytes, None, None], retries: Retries
) -> Generator[np.ndarray, None, None]:
    decoder = _Decoder(retries)
    with contextlib.closing(pieces):
        try:
            for piece in pieces:
                yield from decoder.decode(piece)
        except _FAILURES as error:
            raise decoder.interrupted(error) from error
        decoder.finish()


class AsyncFilmStream:
    """`FilmStream` for asyncio: an asynchronous iterator, closed by `async with` or `aclose`."""

    def __init__(self, frames: AsyncGenerator[np.ndarray, None], first: np.ndarray | None):
        self._frames, self._first = frames, first

    @classmethod
    async def start(cls, pieces: AsyncGenerator[bytes, None], retries: Retries) -> AsyncFilmStream:
        """Waits for the first frame; takes the arguments of `FilmStream`."""
        frames = _decode_later(pieces, retries)
        return cls(frames, await anext(frames, None))

    def __aiter__(self) -> AsyncFilmStream:
        return self

    async def __anext__(self) -> np.ndarray:
        first, self._first = self._first, None
        return await anext(self._frames) if first is None else first

    async def aclose(self) -> None:
        """Ends the video."""
        self._first = None
        await self._frames.aclose()

    async def __aenter__(self) -> AsyncFilmStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _decode_later(
    pieces: AsyncGenerator[bytes, None], retries: Retries
) -> AsyncGenerator[np.ndarray, None]:
    decoder = _Decoder(retries)
    async with contextlib.aclosing(pieces):
        try:
            async for piece in pieces:
                for frame in decoder.decode(piece):
                    yield frame
        except _FAILURES as error:
            raise decoder.interrupted(error) from error
        decoder.finish()

"""Client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import io
import itertools
import time
from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from serving.classification import Classification
from serving.client import films, texts
from serving.client.acting import act, check_acted
from serving.client.arguments import check_arguments
from serving.client.base import IDLE_CONNECTIONS, ClientBase
from serving.client.endpoint import BUSY, accept
from serving.client.films import AsyncFilmStream
from serving.client.http_types import Exchange, Request, Response, ServerError, T
from serving.client.sounds import check_sound, check_stream
from serving.client.streams import AsyncSoundStream
from serving.client.texts import AsyncTextStream, read_texts
from serving.client.uploads import check_classified, check_upload

_PIECE = 2**16  # bytes that are read at a time


class AsyncClient(ClientBase):
    """`Client` for asyncio: the same calls, awaited; any number of them run concurrently.

    A call that is cancelled closes its connection, so that the server stops working on it.

    Args:
        url, token, timeout, retries, protocol, bundle, batch_size: as for `Client`.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 60.0, **options: Any):
        super().__init__(url, token, timeout, **options)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def generate(self, seeds: Any = None, **arguments: Any) -> np.ndarray:
        """Returns samples as `Client.generate` does, with the same arguments."""
        return await self.run(self.session.generate(check_arguments(seeds, **arguments)))

    async def outputs(self, seeds: Any = None, **arguments: Any) -> dict[str, np.ndarray]:
        """Returns all outputs by name as `Client.outputs` does, with the same arguments."""
        return await self.run(self.session.outputs(check_arguments(seeds, **arguments)))

    async def files(
        self,
        seeds: Any = None,
        *,
        format: str | None = None,
        metadata: bool = True,
        **arguments: Any,
    ) -> list[bytes]:
        """Returns files as `Client.files` does, with the same arguments."""
        request = check_arguments(seeds, **arguments)
        return await self.run(self.session.files(request, format, metadata))

    async def pictures(
        self, seeds: Any = None, *, metadata: bool = True, **arguments: Any
    ) -> list[bytes]:
        """Returns PNG files as `Client.pictures` does, with the same arguments."""
        return await self.files(seeds, format="png", metadata=metadata, **arguments)

    async def animation(
        self,
        seeds: Any = None,
        *,
        frame_rate: float = 30.0,
        format: str = "webp",
        metadata: bool = True,
        **arguments: Any,
    ) -> bytes:
        """Returns one file as `Client.animation` does, with the same arguments."""
        request = check_arguments(seeds, **arguments)
        return await self.run(self.session.animation(request, frame_rate, format, metadata))

    async def translate(self, picture: Any, to: Any = None, **options: Any) -> Any:
        """Returns a picture as `Client.translate` does, with the same arguments."""
        return await self.run(self.session.translate(check_upload(picture, to, **options)))

    async def classify(self, picture: Any, **options: Any) -> Classification:
        """Returns a classification as `Client.classify` does, with the same arguments."""
        return await self.run(self.session.classify(check_classified(picture, **options)))

    async def vocode(self, sound: Any, to: Any = None, **options: Any) -> Any:
        """Returns a sound as `Client.vocode` does, with the same arguments."""
        sent = check_sound(sound, to, **options)
        return sent.restore(await self.run(self.session.vocode(sent)))

    async def vocode_chunks(
        self, sound: Any, chunk: int | None = None, **options: Any
    ) -> AsyncSoundStream:
        """Returns a stream as `Client.vocode_chunks` does, for `async for` and `async with`."""
        response = await self.run(self.session.vocode(check_stream(sound, chunk, **options)))
        return await AsyncSoundStream.start(response.pieces, self.retries)

    async def frames(
        self, seed: int = 0, frames: int | None = None, **options: Any
    ) -> AsyncFilmStream:
        """Returns an asynchronous iterator of what `Client.frames` returns."""
        wanted = films.check_film(seed, frames, **options)
        response = await self.run(films.ask(self.session, wanted))
        return await AsyncFilmStream.start(response.pieces, self.retries)

    async def act(self, observation: Any, **options: Any) -> Any:
        """Returns an action as `Client.act` does, with the same arguments."""
        return await self.run(act(self.session, check_acted(observation, **options)))

    async def texts(self, seeds: Any, **fields: Any) -> list[dict[str, Any]]:
        """Returns texts as `Client.texts` does, with the same arguments."""
        return read_texts(await self.run(texts.ask(self.session, seeds, False, **fields)))

    async def stream_text(self, seed: int = 0, **fields: Any) -> AsyncTextStream:
        """Returns a stream as `Client.stream_text` does, for `async for` and `async with`."""
        response = await self.run(texts.ask(self.session, seed, True, **fields))
        return AsyncTextStream(response.pieces, self.retries)

    async def models(self) -> list[dict[str, Any]]:
        """Returns name, version, shape and more of each model; `None` for what is unknown."""
        return await self.run(self.session.models())

    async def close(self) -> None:
        """Closes the open connections."""
        idle, self._idle = self._idle, []
        for _, writer in idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def run(self, exchange: Exchange[T]) -> T:
        """Carries out a call of the session."""
        with contextlib.closing(exchange):
            response: Any = None
            while True:
                try:
                    request = exchange.send(response)
                except StopIteration as done:
                    return done.value
                response = await self._send(request)

    async def _send(self, request: Request) -> Response:
        """Sends a request, and repeats it while the server is busy or unreachable."""
        deadline = time.monotonic() + self.timeout
        for attempt in itertools.count():
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.001)):
                    response = await self._send_once(request)
            except (ConnectionError, http.client.HTTPException, EOFError) as error:
                response, failure = None, self.retries.unreachable(error)
            except OSError as error:
                raise self.retries.unreachable(error) from error
            else:
                if response.status not in BUSY:
                    return accept(request, response)
                failure = ServerError(response.error_line(), response.status)
            wait = self.retries.next_wait(attempt, deadline, response)
            if wait is None:
                raise failure
            await asyncio.sleep(wait)
        raise RuntimeError("unreachable: itertools.count does not end")

    async def _send_once(self, request: Request) -> Response:
        """Sends a request on an idle connection, else or if that was closed on a new one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # connections belong to the loop that opened them
            self._idle, self._loop = [], loop
        for fresh in (False, True):
            stream = None if fresh or not self._idle else self._idle.pop()
            reused = stream is not None
            reader, writer = stream or await asyncio.open_connection(
                self.endpoint.host, self.endpoint.port, ssl=self.endpoint.tls
            )
            stream = reader, writer
            busy = False  # whether the caller reads on
            kept = False
            try:
                writer.write(_encode(request, self.endpoint.headers))
                await writer.drain()
                response = await _read_head(reader)
                if busy := request.is_streamed and response.status == 200:
                    return dataclasses.replace(response, pieces=self._pieces(stream, response))
                body = b"".join([piece async for piece in _read_body(reader, response)])
                kept = _is_kept(response)
                return dataclasses.replace(response, body=body)
            except (ValueError, asyncio.LimitOverrunError) as error:
                raise http.client.HTTPException(f"no answer of HTTP: {error}") from error
            except (ConnectionError, EOFError, http.client.HTTPException):
                if not reused:
                    raise
                for _, other in self._idle:
                    other.close()
                self._idle = []
            finally:
                if not busy:
                    self._release(stream, kept)
        raise ConnectionError("no connection")

    async def _pieces(
        self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], response: Response
    ) -> AsyncGenerator[bytes, None]:
        """Yields the body of a response as it arrives, each piece within the timeout."""
        body, kept = _read_body(stream[0], response), False
        try:
            while True:
                async with asyncio.timeout(self.timeout):
                    piece = await anext(body, None)
                if piece is None:
                    break
                yield piece
            kept = _is_kept(response)
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise http.client.HTTPException(f"no answer of HTTP: {error}") from error
        finally:
            self._release(stream, kept)

    def _release(
        self, stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], kept: bool
    ) -> None:
        """Keeps a connection for other requests, or closes it."""
        if kept and len(self._idle) < IDLE_CONNECTIONS:
            self._idle.append(stream)
        else:
            stream[1].close()


def _encode(request: Request, headers: dict[str, str]) -> bytes:
    """Encodes a request of HTTP/1.1."""
    headers = headers | request.headers
    if request.body:
        headers["Content-Length"] = str(len(request.body))
    lines = [f"{request.method} {request.path or '/'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + request.body


async def _read_head(reader: asyncio.StreamReader) -> Response:
    """Reads the head of a response of HTTP/1.1, that of HTTP/1.0 as one that closes."""
    status = 100
    headers: dict[str, str] = {}
    while 100 <= status < 200:
        head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        version, _, tail = first.decode("latin-1").partition(" ")
        if not version.startswith("HTTP/1.") or not tail[:3].isdecimal():
            raise http.client.BadStatusLine(first.decode("latin-1")[:80])
        status = int(tail[:3])
        parsed = http.client.parse_headers(io.BytesIO(rest))
        headers = {name.lower(): value for name, value in parsed.items()}
        if version != "HTTP/1.1":
            headers["connection"] = "close"
    return Response(status, headers, b"")


async def _read_body(
    reader: asyncio.StreamReader, response: Response
) -> AsyncGenerator[bytes, None]:
    """Yields the body of a response as it arrives."""
    length = response.headers.get("content-length")
    if _is_chunked(response):
        while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailers
    elif length is not None:
        if int(length):
            yield await reader.readexactly(int(length))
    elif response.status not in (204, 304):
        while piece := await reader.read(_PIECE):
            yield piece


def _is_chunked(response: Response) -> bool:
    return "chunked" in response.headers.get("transfer-encoding", "").lower()


def _is_kept(response: Response) -> bool:
    """Returns whether a connection can be used again behind a response that was read."""
    ends = _is_chunked(response) or "content-length" in response.headers
    ends = ends or response.status in (204, 304)
    return ends and response.headers.get("connection", "").lower() != "close"

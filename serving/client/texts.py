"""Texts from `keras-gan serve`: whole ones, and streams of their tokens."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import AsyncGenerator, Generator, Iterator
from typing import Any

import numpy as np

from serving.client.endpoint import Retries
from serving.client.http_types import Exchange, Request, Response, ServerError, to_json
from serving.client.session import Session
from serving.errors import UsageError

_FAILURES = (OSError, EOFError, http.client.HTTPException)
_CONTROLS = ("temperature", "prefix", "pattern", "vocabulary", "length", "labels", "version")


def ask(session: Session, seeds: Any, is_streamed: bool, **fields: Any) -> Exchange[Response]:
    """Asks for texts; the answer has lines of JSON, or is a stream of events.

    Args:
        session: the session with the server.
        seeds: those of the texts.
        is_streamed: ask for a stream.
        fields: `model`, and fields of `/v1/generate` that texts have; `None` for the default.

    Raises:
        UsageError: an unknown field, or another server than `keras-gan serve`.
    """
    model = fields.pop("model", None)
    for name in fields:
        if name not in _CONTROLS:
            raise UsageError(
                f"The arguments are seeds, model, {', '.join(_CONTROLS)}. Received: {name!r:.80}"
            )
    server = yield from session.connect(model)
    if server.protocol != "keras_gan":
        raise UsageError(
            "Texts token by token need keras-gan serve. "
            f"Received: a server with the protocol {server.protocol}"
        )
    content = {"model": model or server.name, **fields, "seeds": np.atleast_1d(seeds).tolist()}
    content |= {"stream": True} if is_streamed else {"format": "jsonl"}
    body = to_json({name: value for name, value in content.items() if value is not None})
    headers = {"Content-Type": "application/json"}
    path = f"{server.path}/v1/generate"
    return (yield Request("POST", path, body, headers, is_streamed=is_streamed))


def read_texts(response: Response) -> list[dict[str, Any]]:
    """Reads the lines of an answer."""
    try:
        return [json.loads(line) for line in response.body.split(b"\n") if line]
    except ValueError as error:
        raise ServerError(f"An answer must be lines of JSON. Received: {error}", 200) from error


class _Events:
    """Decoder of server-sent events that arrive by pieces.

    Args:
        retries: describes failures.

    Attributes:
        result: content of the last event: `text`, `seed` and `log_probability`.
    """

    def __init__(self, retries: Retries):
        self.result: dict[str, Any] | None = None
        self._retries = retries
        self._rest = b""
        self._count = 0

    def decode(self, piece: bytes) -> Iterator[str]:
        """Yields the tokens that a piece completes.

        Raises:
            ServerError: an event of an error, or no event.
        """
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        for event in events:
            lines = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
            try:
                content = json.loads(lines[b"data"])
            except (KeyError, ValueError) as error:
                raise ServerError(f"An answer must be events. Received: {error!r}", 200) from error
            if lines.get(b"event") == b"error":
                raise ServerError(str(content.get("error")), 200)
            if lines.get(b"event") == b"end":
                self.result = content
                continue
            self._count += 1
            yield str(content["token"])

    def finish(self) -> None:
        """Checks that the stream has ended after its last event.

        Raises:
            ServerError: it ended before.
        """
        if self.result is None:
            raise self.interrupted(EOFError())

    def interrupted(self, error: BaseException) -> ServerError:
        """Describes a stream that has failed."""
        return self._retries.interrupted(error, f"{self._count} tokens")


class TextStream:
    """A text from a server: an iterator of its tokens, which together are the text.

    The connection is closed at the end of a `with` block, by `close`, or as the stream is deleted,
    and the server then stops sampling.

    Args:
        pieces: those of the answer.
        retries: describes failures.

    Raises:
        ServerError: the stream fails.
    """

    def __init__(self, pieces: Generator[bytes, None, None], retries: Retries):
        self._events = _Events(retries)
        self._tokens = _read(pieces, self._events)

    @property
    def result(self) -> dict[str, Any] | None:
        """`text`, `seed` and `log_probability`; `None` before the last token was read."""
        return self._events.result

    def __iter__(self) -> TextStream:
        return self

    def __next__(self) -> str:
        return next(self._tokens)

    def close(self) -> None:
        """Ends the stream."""
        self._tokens.close()

    def __enter__(self) -> TextStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(pieces: Generator[bytes, None, None], events: _Events) -> Generator[str, None, None]:
    with contextlib.closing(pieces):
        try:
            for piece in pieces:
                yield from events.decode(piece)
        except _FAILURES as error:
            raise events.interrupted(error) from error
        events.finish()


class AsyncTextStream:
    """`TextStream` for asyncio: an asynchronous iterator, closed by `async with` or `aclose`."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], retries: Retries):
        self._events = _Events(retries)
        self._tokens = _read_later(pieces, self._events)

    @property
    def result(self) -> dict[str, Any] | None:
        """`text`, `seed` and `log_probability`; `None` before the last token was read."""
        return self._events.result

    def __aiter__(self) -> AsyncTextStream:
        return self

    async def __anext__(self) -> str:
        return await anext(self._tokens)

    async def aclose(self) -> None:
        """Ends the stream."""
        await self._tokens.aclose()

    async def __aenter__(self) -> AsyncTextStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


async def _read_later(
    pieces: AsyncGenerator[bytes, None], events: _Events
) -> AsyncGenerator[str, None]:
    async with contextlib.aclosing(pieces):
        try:
            async for piece in pieces:
                for token in events.decode(piece):
                    yield token
        except _FAILURES as error:
            raise events.interrupted(error) from error
        events.finish()

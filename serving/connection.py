"""An HTTP/1.1 connection: reads requests, calls the application, writes responses.

httptools, the parser of Node.js, parses the bytes. A complete request goes to the application
directly, and most responses to the socket directly, without tasks or messages in between. Every
wait has a timeout: for headers, for a body, for a client that does not read its response.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from serving.engine import SampleJob
from serving.http_types import Request, Response, error_response

if TYPE_CHECKING:
    from serving.server import Server

_MAX_HEAD = 32 * 1024  # bytes of the request line and the headers
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_OK = _STATUS[200]
_MAX_QUEUE = 1024  # pipelined requests that wait for earlier responses
_IDLE, _HEAD, _BODY = range(3)
# Two of these headers could be read in two ways: as by a proxy and as by this server.
_UNIQUE = (b"host", b"authorization", b"content-type", b"origin")


class Connection(asyncio.Protocol):
    """A connection, which handles one request at a time.

    Args:
        server: the server that accepted it.
    """

    def __init__(self, server: Server):
        self.server = server
        self.app = server.app
        self._now = server.loop.time  # cached by the loop, once per iteration
        self.state = _IDLE  # of the parser
        self.since = self._now()  # start of the state
        self.closing = False  # closes after the current response
        self.transport: Any = None
        self.peer = ""
        self.paused_since = 0.0  # since when the client does not read
        self._unread = 0  # bytes in the write buffer, at the last check
        self._parser: Any = httptools.HttpRequestParser(self)
        self._request: Request | None = None  # the one being handled
        self._work: Any = None  # its job or task
        self._queue: deque[tuple[Request, bool]] = deque()  # pipelined requests behind it
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: Any = b""
        self._size = 0  # bytes received since the head began, or since the last piece of a body
        self._trailer = 0  # bytes of the trailer fields
        self._is_pipelined = False  # the head began in the same piece of data as an earlier request

    # ------------------------------------------------------------------ the transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        server = self.server
        server.connections.add(self)
        if len(server.connections) > self.app.settings.max_connections:
            self.app.metrics.refuse("connections")
            limit = self.app.settings.max_connections
            self._refuse(
                error_response(
                    503,
                    f"The server holds at most {limit} connections. "
                    f"Received: {len(server.connections)} connections",
                    b"retry-after: 1\r\n",
                )
            )

    def connection_lost(self, error: Exception | None) -> None:
        self.server.connections.discard(self)
        if self.server.last is self:
            self.server.last = None
        self.closing = True
        self._parser = None
        self._queue.clear()
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        if self._request is not None and self._work is not None:
            # Nobody reads the response: free the job's place.
            work, self._work = self._work, None
            if isinstance(work, SampleJob):
                work.cancel()
                self._over(499)
            else:
                work.cancel()  # _later counts the request

    def eof_received(self) -> None:
        """Closes the connection: a half-closed socket looks like one that the client has closed."""

    def pause_writing(self) -> None:
        self.paused_since = self._now()
        self._unread = self.transport.get_write_buffer_size()
        self._writable = self.server.loop.create_future()

    def resume_writing(self) -> None:
        self.paused_since = 0.0
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        if self._queue and self._request is None:
            self.server.loop.call_soon(self._take)

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # upgrades are ignored: the request was handled, and the connection closes
        except httptools.HttpParserError as error:
            if self._request is None:
                cause = f"{error.__context__ or error}"[:80]
                self._refuse(error_response(400, f"A request must be HTTP/1.1. Received: {cause}"))
            self.closing = True  # after the requests received before
            return
        if self._size > _MAX_HEAD:
            self._refuse_head(self._size)
        elif self.state == _IDLE and self._size and self._request is None:
            self._enter(_HEAD)  # the request line has begun

    # ------------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = b""
        self._trailer = 0
        self._is_pipelined = not self._size
        self._enter(_HEAD)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == _BODY:
            # Trailer fields are ignored: access was decided by the headers.
            self._trailer += len(name) + len(value)
            if self._trailer > _MAX_HEAD:
                self._refuse_head(self._trailer)
            return
        name = name.lower()
        if name in self._headers:
            if name in _UNIQUE:
                raise ValueError(f"the header {name.decode('latin-1')} twice")
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self.closing:
            return
        headers = self._headers
        length = headers.get(b"content-length")
        size = self._size  # at least that of the head, unless it began within a piece of data
        if self._is_pipelined or size > _MAX_HEAD:
            size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        self._size = 0
        self._enter(_BODY)
        if size > _MAX_HEAD:
            self._refuse_head(size)
        elif length is not None and int(length) > self.app.settings.max_body:
            self._refuse(error_response(413, self.app.too_large(int(length))))
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self.closing:
            return
        self._size = 0
        size = len(self._body) + len(body)
        if size > self.app.settings.max_body:
            self._refuse(error_response(413, self.app.too_large(size)))
            return
        if not self._body:
            self._body = body
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += body

    def on_message_complete(self) -> None:
        if self.closing:
            return
        self.state = _IDLE
        self._size = 0
        url, query = self._url, b""
        if b"?" in url:
            url, _, query = url.partition(b"?")
        path = url.decode("ascii")
        if not path.startswith("/"):
            # The absolute form that proxies send: http://host/path.
            path = "/" + path.partition("//")[2].partition("/")[2]
        if "%" in path:
            path = unquote(path, errors="replace")
        parser = self._parser
        request = Request(
            parser.get_method().decode("ascii"),
            path,
            query.partition(b"#")[0],
            self._headers,
            bytes(self._body),
            self.peer,
        )
        request.accepts_chunks = parser.get_http_version() != "1.0"
        last = (
            not parser.should_keep_alive() or parser.should_upgrade() or not request.accepts_chunks
        )
        if self._request is None and not self._queue and self._writable is None:
            self._begin(request, last)
            return
        # Pipelined requests run one at a time, in order, and wait until responses are read.
        self._queue.append((request, last))
        self.transport.pause_reading()
        if len(self._queue) >= _MAX_QUEUE:
            self._queue[-1] = (request, True)
            self.closing = True

    def _begin(self, request: Request, last: bool) -> None:
        if last:
            self.closing = True
        self._request = request
        outcome = self.app.run(request)
        if type(outcome) is SampleJob:
            self._work = outcome
            server = self.server
            outcome.is_alone = server.last is self and self.app.active == 1
            server.last = self
            response = self.app.submit(request, outcome, self._done)
            if response is not None:
                self._respond(response)
        elif type(outcome) is Response:
            self._respond(outcome)
        else:
            self._work = self.server.loop.create_task(self._later(request, outcome))
            self.server.tasks.add(self._work)
            self._work.add_done_callback(self.server.tasks.discard)

    # ------------------------------------------------------------------ responses

    def _done(self, job: SampleJob) -> None:
        if self._request is not None:
            self._respond(self.app.settle(self._request, job))

    async def _later(self, request: Request, coroutine: Any) -> None:
        response = None
        try:
            response = await self.app.settle_later(request, coroutine)
            if response.stream is None:
                self._work = None
                self._respond(response)
            else:
                await self._stream(request, response)
        except asyncio.CancelledError:
            self._over(499)
        finally:
            if response is not None and response.stream is not None:
                await response.stream.aclose()  # type: ignore[attr-defined]

    def _respond(self, response: Response) -> None:
        """Writes a complete response, and goes on to the next request."""
        request = self._request
        self._work = None
        if request is None:
            return
        if self.transport.is_closing():
            self._over(499)
            return
        body = response.body
        status = response.status
        close = b"connection: close\r\n" if self.closing else b""
        headers = self.app.headers_of(request, response)
        start = _OK if status == 200 else _STATUS[status]
        if status in (204, 304):
            self.transport.write(b"".join((start, self.server.date, headers, close, b"\r\n")))
        else:
            length = b"content-length: %d\r\n\r\n" % len(body)
            if request.method == "HEAD":
                body = b""
            self.transport.write(b"".join((start, self.server.date, headers, close, length, body)))
        self._over(status, response)
        self._next()

    async def _stream(self, request: Request, response: Response) -> None:
        """Writes a response piece by piece, as fast as the client reads it."""
        is_chunked = response.length is None and request.accepts_chunks
        # Without a length and without chunks, closing the connection ends the response.
        length = b"transfer-encoding: chunked\r\n" if is_chunked else b""
        if response.length is not None:
            length = b"content-length: %d\r\n" % response.length
        close = b"connection: close\r\n" if self.closing else b""
        headers = self.app.headers_of(request, response)
        start = _STATUS[response.status]
        self.transport.write(b"".join((start, self.server.date, headers, close, length, b"\r\n")))
        try:
            if request.method != "HEAD":
                await self._write_pieces(response.stream, is_chunked)
        except Exception as error:  # the missing end shows the client that the response failed
            self.app.error(request, error)
            self.transport.abort()
            self._over(500)
            return
        self._work = None
        self._over(response.status)
        self._next()

    async def _write_pieces(self, pieces: Any, is_chunked: bool) -> None:
        transport = self.transport
        async for piece in pieces:
            if is_chunked:
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            transport.write(piece)
            while self._writable is not None and not transport.is_closing():
                await asyncio.shield(self._writable)
            if transport.is_closing():
                raise asyncio.CancelledError
        if is_chunked:
            transport.write(b"0\r\n\r\n")

    def _over(self, status: int, response: Response | None = None) -> None:
        """Counts and logs the current request as finished."""
        request, self._request = self._request, None
        if request is None:
            return
        error = ""
        if response is not None and status >= 400 and response.body.startswith(b'{"error":"'):
            error = response.body[10:-2].decode("utf-8", "replace")[:300]
        self.app.leave(request, status, error)

    def _next(self) -> None:
        """Starts the next pipelined request, or waits for one."""
        if self._queue and not self.server.ending:
            # Not called directly, which would recurse once per pipelined request.
            self.server.loop.call_soon(self._take)
        elif self.closing or self.server.ending:
            self.closing = True
            self._queue.clear()
            self.transport.close()
        else:
            self.since = self._now()

    def _take(self) -> None:
        if not self._queue or self._request is not None or self._writable is not None:
            return
        request, last = self._queue.popleft()
        if not self._queue and not self.closing:
            self.transport.resume_reading()
        request.start = time.monotonic()
        self._begin(request, last)

    def _refuse_head(self, size: int) -> None:
        message = (
            f"The request line and headers must be at most {_MAX_HEAD} bytes. "
            f"Received: {size} bytes"
        )
        self._refuse(error_response(431, message))

    def _refuse(self, response: Response) -> None:
        """Answers data that is not an acceptable request, and closes the connection."""
        busy = self._request is not None or self._queue
        if self.closing or busy or self.transport.is_closing():
            self.closing = True  # after the requests received before
            return
        self.closing = True
        request = Request("-", "-", b"", self._headers, b"", self.peer)
        self.app.begin(request)
        request.route = "refused"
        self._request = request
        self._respond(response)

    def _enter(self, state: int) -> None:
        self.state = state
        self.since = self._now()

    # ------------------------------------------------------------------ timeouts

    def check_timeouts(self, now: float) -> None:
        """Closes the connection if its client has exceeded a timeout."""
        settings = self.app.settings
        waited = now - self.since
        if self.paused_since:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread:  # the client reads slowly
                self.paused_since = now
            self._unread = unread
        if self.paused_since and now - self.paused_since > settings.body_seconds:
            self.transport.abort()
        elif self._request is not None or self._queue:
            return
        elif self.state == _HEAD and waited > settings.header_seconds:
            self._time_out(f"The headers must arrive within {settings.header_seconds:g} s")
        elif self.state == _BODY and waited > settings.body_seconds:
            self._time_out(f"The body must arrive within {settings.body_seconds:g} s")
        elif self.state == _IDLE and waited > settings.idle_seconds:
            self.transport.close()

    def _time_out(self, rule: str) -> None:
        self._refuse(error_response(408, f"{rule}. Received: an incomplete request"))

    def close_after_response(self) -> None:
        """Closes the connection after the current response."""
        self.closing = True
        if self._request is None:
            self.transport.close()

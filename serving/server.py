"""The server of `keras-gan serve`: HTTP/1.1 on asyncio, for the one application.

httptools, the parser of Node, reads what comes; here is what to do with it. A request that is
whole goes straight to the application, and most answers straight to the socket: no task, no
messages between layers. Every wait has an end: for headers, for a body, for a client that does not
read its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httptools

from serving.app import App
from serving.engine import Job
from serving.errors import UsageError
from serving.http_types import Answer, Request, error_answer

_MAX_HEAD = 32 * 1024  # bytes of a request's line and headers
_STATUS = {s.value: f"HTTP/1.1 {s.value} {s.phrase}\r\n".encode() for s in HTTPStatus}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_OK = _STATUS[200]
_MAX_QUEUE = 1024  # requests in a row, before their answers: one read holds no more that are real
_IDLE, _HEAD, _BODY = range(3)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(seconds: float) -> str:
    """A time as HTTP writes it, in any locale; email.utils would take 10 ms to load."""
    at = time.gmtime(seconds)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {clock} GMT"


class Protocol(asyncio.Protocol):
    """A connection: one request after the other.

    Args:
        server: whose connection it is.
    """

    def __init__(self, server: Server):
        self.server = server
        self.app = server.app
        self._now = server.loop.time  # which the loop reads once a turn
        self.state = _IDLE  # of what is read
        self.since = self._now()  # when the state began
        self.closing = False  # after the answer that is under way
        self.transport: Any = None
        self.peer = ""
        self.paused_since = 0.0  # since when the other end takes nothing
        self._unread = 0  # bytes that it has not taken
        self._parser: Any = httptools.HttpRequestParser(self)
        self._request: Request | None = None  # that is being answered
        self._work: Any = None  # its job or task
        self._queue: deque[tuple[Request, bool]] = deque()  # those that came behind it
        self._writable: asyncio.Future[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: Any = b""
        self._size = 0  # bytes of what is read, as far as it is; of a body, since the last of it
        self._trailer = 0  # bytes of fields behind the body
        self._behind = False  # whether its head began behind another request, in the same piece

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
                error_answer(
                    503,
                    f"At most {limit} connections are held. Received: one more",
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
            # Nobody waits for the answer any more: its place is free.
            work, self._work = self._work, None
            if isinstance(work, Job):
                work.cancel()
                self._over(499)
            else:
                work.cancel()  # tells of itself

    def eof_received(self) -> None:
        """The other end has gone: a socket that is closed cannot be told from half a one."""

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
            return  # is not taken: the request was answered as it is, and the connection ends
        except httptools.HttpParserError as error:
            if self._request is None:
                cause = f"{error.__context__ or error}"[:80]
                self._refuse(error_answer(400, f"A request must be HTTP/1.1. Received: {cause}"))
            self.closing = True  # what came before is still answered
            return
        if self._size > _MAX_HEAD:
            self._refuse_head()
        elif self.state == _IDLE and self._size and self._request is None:
            self._enter(_HEAD)  # of a line that has begun

    # ------------------------------------------------------------------ the parser

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = b""
        self._trailer = 0
        self._behind = not self._size
        self._enter(_HEAD)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state == _BODY:
            # A trailer, behind a body in chunks: whether it may ask was settled by the head.
            self._trailer += len(name) + len(value)
            if self._trailer > _MAX_HEAD:
                self._refuse_head()
            return
        name = name.lower()
        if name in self._headers:
            # Two of these are an attempt to be understood in two ways.
            if name in (b"host", b"authorization", b"content-type", b"origin"):
                raise ValueError(f"the header {name.decode('latin-1')} twice")
            value = self._headers[name] + b", " + value
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        if self.closing:
            return
        headers = self._headers
        length = headers.get(b"content-length")
        size = self._size  # no less than the head, unless that began in the middle of a piece
        if self._behind or size > _MAX_HEAD:
            size = len(self._url) + sum(map(len, headers)) + sum(map(len, headers.values()))
        self._size = 0
        self._enter(_BODY)
        if size > _MAX_HEAD:
            self._refuse_head()
        elif length is not None and int(length) > self.app.settings.max_body:
            self._refuse(error_answer(413, self.app.too_long()))
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self.closing:
            return
        self._size = 0
        if len(self._body) + len(body) > self.app.settings.max_body:
            self._refuse(error_answer(413, self.app.too_long()))
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
            # Of a proxy's request: http://host/path.
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
        request.chunks = parser.get_http_version() != "1.0"
        last = not parser.should_keep_alive() or parser.should_upgrade() or not request.chunks
        if self._request is None and not self._queue and self._writable is None:
            self._begin(request, last)
            return
        # One at a time, in order, and none while the answers before it are not read.
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
        if type(outcome) is Job:
            self._work = outcome
            server = self.server
            outcome.alone = server.last is self and self.app.active == 1
            server.last = self
            answer = self.app.submit(request, outcome, self._done)
            if answer is not None:
                self._answer(answer)
        elif type(outcome) is Answer:
            self._answer(outcome)
        else:
            self._work = self.server.loop.create_task(self._later(request, outcome))
            self.server.tasks.add(self._work)
            self._work.add_done_callback(self.server.tasks.discard)

    # ------------------------------------------------------------------ answers

    def _done(self, job: Job) -> None:
        if self._request is not None:
            self._answer(self.app.settle(self._request, job))

    async def _later(self, request: Request, coroutine: Any) -> None:
        answer = None
        try:
            answer = await self.app.settle_later(request, coroutine)
            if answer.stream is None:
                self._work = None
                self._answer(answer)
            else:
                await self._stream(request, answer)
        except asyncio.CancelledError:
            self._over(499)
        finally:
            if answer is not None and answer.stream is not None:
                await answer.stream.aclose()  # type: ignore[attr-defined]

    def _answer(self, answer: Answer) -> None:
        """Writes an answer that is whole, and goes on to the next request."""
        request = self._request
        self._work = None
        if request is None:
            return
        if self.transport.is_closing():
            self._over(499)
            return
        body = answer.body
        status = answer.status
        close = b"connection: close\r\n" if self.closing else b""
        head = self.app.head_of(request, answer)
        start = _OK if status == 200 else _STATUS[status]
        if status in (204, 304):
            self.transport.write(b"".join((start, self.server.date, head, close, b"\r\n")))
        else:
            length = b"content-length: %d\r\n\r\n" % len(body)
            if request.method == "HEAD":
                body = b""
            self.transport.write(b"".join((start, self.server.date, head, close, length, body)))
        self._over(status, answer)
        self._next()

    async def _stream(self, request: Request, answer: Answer) -> None:
        """Writes an answer piece by piece, as fast as the other end takes them."""
        head = self.app.head_of(request, answer)
        chunked = answer.length is None and request.chunks
        length = b"transfer-encoding: chunked\r\n" if chunked else b""  # or the end says it
        if answer.length is not None:
            length = b"content-length: %d\r\n" % answer.length
        close = b"connection: close\r\n" if self.closing else b""
        transport = self.transport
        transport.write(
            b"".join((_STATUS[answer.status], self.server.date, head, close, length, b"\r\n"))
        )
        stream: Any = answer.stream
        try:
            if request.method != "HEAD":
                async for piece in stream:
                    if chunked:
                        piece = b"%x\r\n%b\r\n" % (len(piece), piece)
                    transport.write(piece)
                    while self._writable is not None and not transport.is_closing():
                        await asyncio.shield(self._writable)
                    if transport.is_closing():
                        raise asyncio.CancelledError
                if chunked:
                    transport.write(b"0\r\n\r\n")
        except Exception as error:  # midway: the end that is missing says so
            self.app.error(request, error)
            transport.abort()
            self._over(500)
            return
        self._work = None
        self._over(answer.status)
        self._next()

    def _over(self, status: int, answer: Answer | None = None) -> None:
        request, self._request = self._request, None
        if request is None:
            return
        error = ""
        if answer is not None and status >= 400 and answer.body.startswith(b'{"error":"'):
            error = answer.body[10:-2].decode("utf-8", "replace")[:300]
        self.app.leave(request, status, error)

    def _next(self) -> None:
        """Waits for the next request, or takes it if it is there."""
        if self._queue and not self.server.ending:
            # Not from within this answer: a thousand requests in a row are no recursion.
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

    def _refuse_head(self) -> None:
        self._refuse(error_answer(431, f"A head holds at most {_MAX_HEAD} bytes. Received: more"))

    def _refuse(self, answer: Answer) -> None:
        """Answers what is no request, or not to be read, and ends the connection."""
        busy = self._request is not None or self._queue
        if self.closing or busy or self.transport.is_closing():
            self.closing = True  # after what came before
            return
        self.closing = True
        request = Request("-", "-", b"", self._headers, b"", self.peer)
        app = self.app
        app.active += 1
        request.id = app._id(self._headers.get(b"x-request-id"))
        request.route = "refused"
        request.start = time.monotonic()
        self._request = request
        self._answer(answer)

    def _enter(self, state: int) -> None:
        self.state = state
        self.since = self._now()

    # ------------------------------------------------------------------ time

    def look(self, now: float) -> None:
        """Ends a connection that has waited too long for its other end."""
        settings = self.app.settings
        waited = now - self.since
        if self.paused_since:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread:  # slow, but it moves
                self.paused_since = now
            self._unread = unread
        if self.paused_since and now - self.paused_since > settings.body_seconds:
            self.transport.abort()
        elif self._request is not None or self._queue:
            return
        elif self.state == _HEAD and waited > settings.header_seconds:
            self._late(f"A head must be there within {settings.header_seconds:g} s")
        elif self.state == _BODY and waited > settings.body_seconds:
            self._late(f"A body must be there within {settings.body_seconds:g} s")
        elif self.state == _IDLE and waited > settings.idle_seconds:
            self.transport.close()

    def _late(self, rule: str) -> None:
        self._refuse(error_answer(408, f"{rule}. Received: a part of it"))

    def shut(self) -> None:
        """Ends the connection after the answer that is under way."""
        self.closing = True
        if self._request is None:
            self.transport.close()


class Server:
    """Listens, and ends in order.

    Args:
        app: what answers.
    """

    def __init__(self, app: App):
        self.app = app
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.connections: set[Protocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.last: Protocol | None = None  # that asked for samples
        self.ending = False
        self.port = app.settings.port
        self.date = b""
        self._stop: asyncio.Event = None  # type: ignore[assignment]
        self._sweep = min(1.0, app.settings.header_seconds / 4, app.settings.body_seconds / 4)

    async def run(self, tell: Any = None) -> None:
        """Serves until a signal says otherwise; `tell` is called once all is loaded.

        Raises:
            UsageError: a bundle that cannot be served, or a port that is taken.
        """
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        settings = self.app.settings
        self._tick()
        try:
            listener = await self.loop.create_server(
                lambda: Protocol(self), settings.host, settings.port, backlog=2048
            )
        except (OSError, UnicodeError) as error:
            raise UsageError(
                f"The server must be able to listen. Received: --host {settings.host} "
                f"--port {settings.port} ({error})"
            ) from error
        self.port = listener.sockets[0].getsockname()[1]
        self._listen_to_signals()

        def loaded() -> None:
            if self.app.repository.error is not None:
                self._stop.set()
            elif tell is not None:
                tell(self)

        self.app.when_loaded = loaded
        self.app.start(self.loop)
        try:
            await self._stop.wait()
        finally:
            listener.close()
            await self._drain()
            self.app.close()
        error = self.app.repository.error
        if error is not None:
            raise error

    def stop(self) -> None:
        """Starts to end: what is under way is finished, nothing new is taken."""
        if self.ending:  # asked for twice: at once
            for connection in list(self.connections):
                connection.transport.abort()
        self.ending = self.app.draining = True
        self._stop.set()

    async def _drain(self) -> None:
        self.ending = self.app.draining = True
        if self.app.active:
            self.app.log.say(f"Ending, after {self.app.active} requests that are under way")
        for connection in list(self.connections):
            connection.shut()
        last = self.loop.time() + self.app.settings.drain_seconds
        while self.connections and self.loop.time() < last:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.transport.abort()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.sleep(0)

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            if sys.platform == "win32":
                handler = lambda *_: self.loop.call_soon_threadsafe(self.stop)  # noqa: E731
                signal.signal(number, handler)
            else:
                self.loop.add_signal_handler(number, self.stop)

    def _tick(self) -> None:
        """Sets the date of answers, and ends connections that wait too long."""
        self.date = f"date: {http_date(time.time())}\r\n".encode()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.look(now)
        self.loop.call_later(self._sweep, self._tick)


def run(app: App, tell: Any = None) -> None:
    """Serves until SIGTERM or SIGINT, on uvloop where there is one."""
    factory = None
    if sys.platform != "win32":
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:
            pass
    # A batch's worker wants the interpreter for a moment; five milliseconds are many samples.
    sys.setswitchinterval(0.001)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(Server(app).run(tell))
    if not app.repository.ended:
        # A worker that is still at a batch: the interpreter cannot end in order around it.
        app.log.flush()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)

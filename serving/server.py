"""Server of `keras-gan serve`: listens, shuts down in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from typing import Any

from serving.app import App
from serving.connection import Connection
from serving.errors import UsageError

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(seconds: float) -> str:
    """Formats a time as HTTP does, in any locale; importing email.utils would take 10 ms."""
    at = time.gmtime(seconds)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    clock = f"{at.tm_hour:02}:{at.tm_min:02}:{at.tm_sec:02}"
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {clock} GMT"


class Server:
    """A server of one application.

    Args:
        app: the application.
    """

    def __init__(self, app: App):
        self.app = app
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.last: Connection | None = None  # the one that last requested samples
        self.ending = False
        self.port = app.settings.port
        self.date = b""
        self._stop: asyncio.Event = None  # type: ignore[assignment]
        self._sweep = min(1.0, app.settings.header_seconds / 4, app.settings.body_seconds / 4)

    async def run(self, when_ready: Any = None) -> None:
        """Serves until a signal arrives.

        Args:
            when_ready: called with the server once all bundles are loaded.

        Raises:
            UsageError: a bundle that cannot be served, or a port that is in use.
        """
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        settings = self.app.settings
        self._tick()
        try:
            listener = await self.loop.create_server(
                lambda: Connection(self), settings.host, settings.port, backlog=2048
            )
        except (OSError, UnicodeError) as error:
            raise UsageError(
                "The server must be able to listen on its address. "
                f"Received: --host {settings.host} --port {settings.port} ({error})"
            ) from error
        self.port = listener.sockets[0].getsockname()[1]
        self._listen_to_signals()

        def loaded() -> None:
            if self.app.repository.error is not None:
                self._stop.set()
            elif when_ready is not None:
                when_ready(self)

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
        """Starts to shut down: running requests finish, new ones are refused.

        The second call closes all connections.
        """
        if self.ending:
            for connection in list(self.connections):
                connection.transport.abort()
        self.ending = self.app.draining = True
        self._stop.set()

    async def _drain(self) -> None:
        self.ending = self.app.draining = True
        if self.app.active:
            self.app.log.say(f"Shutting down after {self.app.active} running requests")
        for connection in list(self.connections):
            connection.close_after_response()
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
        """Updates the date header, and checks the timeouts of all connections."""
        self.date = f"date: {http_date(time.time())}\r\n".encode()
        now = self.loop.time()
        for connection in list(self.connections):
            connection.check_timeouts(now)
        self.loop.call_later(self._sweep, self._tick)


def run(app: App, when_ready: Any = None) -> None:
    """Serves until SIGTERM or SIGINT, on uvloop if it is installed.

    Args:
        app: the application.
        when_ready: called with the server once all bundles are loaded.

    Raises:
        UsageError: a bundle that cannot be served, or a port that is in use.
    """
    factory = None
    if sys.platform != "win32":
        try:
            import uvloop

            factory = uvloop.new_event_loop
        except ImportError:
            pass
    # Workers need the interpreter lock briefly; the default of 5 ms is the time of many samples.
    sys.setswitchinterval(0.001)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(Server(app).run(when_ready))
    if not app.repository.ended:
        # A worker still runs a batch: a regular exit of the interpreter would abort the process.
        app.log.flush()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)

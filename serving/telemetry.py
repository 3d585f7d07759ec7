"""Telemetry: metrics in Prometheus's text format, and the log of events and requests."""

from __future__ import annotations

import asyncio
import datetime
import os
import queue
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, TextIO

import orjson

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MAX_PENDING = 2**20  # bytes of the log that wait to be written
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_Family = tuple[str, str, str, list[str]]  # name, type, help text, lines


class Histogram:
    """A histogram: counts of values by upper limit.

    Args:
        limits: upper limits of the buckets, in ascending order.
    """

    __slots__ = ("counts", "limits", "total")

    def __init__(self, limits: tuple[float, ...]):
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Returns its lines in Prometheus's text format."""
        found, below = [], 0
        comma = "," if labels else ""
        for limit, count in zip((*self.limits, "+Inf"), self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{{labels}{comma}le="{limit}"}} {below}')
        return [*found, f"{name}_sum{{{labels}}} {self.total}", f"{name}_count{{{labels}}} {below}"]


class ModelCounts:
    """Metrics of one version of a model."""

    def __init__(self, name: str, version: int):
        self.labels = f'model="{name}",version="{version}"'
        self.samples = 0
        self.batches = Histogram(_SIZES)
        self.batch_seconds = Histogram(_SECONDS)
        self.requests: dict[tuple[str, int], int] = {}
        self.seconds: dict[str, Histogram] = {}

    def batch(self, count: int, seconds: float) -> None:
        """Counts a batch."""
        self.samples += count
        self.batches.add(count)
        self.batch_seconds.add(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts an answered request."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        histogram = self.seconds.get(route)
        if histogram is None:
            histogram = self.seconds[route] = Histogram(_SECONDS)
        histogram.add(seconds)


class Metrics:
    """Metrics of a server, for `/metrics`."""

    def __init__(self):
        self.started = time.time()
        self.refused: dict[str, int] = {}
        self.without_model = ModelCounts("", 0)
        self.without_model.labels = 'model="",version=""'
        self._models: dict[tuple[str, int], ModelCounts] = {}

    def of(self, name: str, version: int) -> ModelCounts:
        """Returns the metrics of a version; they continue if it is served again."""
        key = (name, version)
        if key not in self._models:
            self._models[key] = ModelCounts(name, version)
        return self._models[key]

    def refuse(self, reason: str) -> None:
        """Counts a request that was refused because a limit was reached."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def text(self, app: Any) -> str:
        """Returns all metrics in Prometheus's text format."""
        families = [*self._requests(), *self._batches(), *_queues(app), *self._process(app)]
        lines: list[str] = []
        for name, kind, about, values in families:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *values]
        return "\n".join(lines) + "\n"

    def _requests(self) -> Iterator[_Family]:
        models = [*self._models.values(), self.without_model]
        name = "keras_gan_requests_total"
        lines = [
            f'{name}{{{m.labels},route="{route}",status="{status}"}} {count}'
            for m in models
            for (route, status), count in sorted(m.requests.items())
        ]
        yield name, "counter", "Answered requests.", lines
        name = "keras_gan_request_seconds"
        lines = [
            line
            for m in models
            for route, histogram in sorted(m.seconds.items())
            for line in histogram.lines(name, f'{m.labels},route="{route}"')
        ]
        yield name, "histogram", "Seconds from the start of a request to its response.", lines

    def _batches(self) -> Iterator[_Family]:
        models = list(self._models.values())
        name = "keras_gan_samples_total"
        lines = [f"{name}{{{m.labels}}} {m.samples}" for m in models]
        yield name, "counter", "Generated samples.", lines
        for name, about, field in (
            ("keras_gan_batch_samples", "Samples in a batch.", "batches"),
            ("keras_gan_batch_seconds", "Seconds per batch.", "batch_seconds"),
        ):
            lines = [line for m in models for line in getattr(m, field).lines(name, m.labels)]
            yield name, "histogram", about, lines

    def _process(self, app: Any) -> Iterator[_Family]:
        name = "keras_gan_refused_total"
        lines = [f'{name}{{reason="{reason}"}} {n}' for reason, n in sorted(self.refused.items())]
        yield name, "counter", "Requests refused because a limit was reached.", lines
        for name, kind, about, value in (
            ("keras_gan_active_requests", "gauge", "Running requests.", app.active),
            ("keras_gan_ready", "gauge", "1 if the server is ready.", int(app.ready)),
            ("process_start_time_seconds", "gauge", "Start of the process.", self.started),
            ("process_cpu_seconds_total", "counter", "CPU time.", time.process_time()),
            ("process_resident_memory_bytes", "gauge", "Memory.", _memory()),
            ("process_open_fds", "gauge", "Open files and connections.", _descriptors()),
        ):
            if value is not None:
                yield name, kind, about, [f"{name} {value}"]


def _queues(app: Any) -> Iterator[_Family]:
    served = list(app.repository)
    for name, about, value in (
        ("keras_gan_queue_samples", "Samples that wait.", lambda s: s.engine.waiting),
        ("keras_gan_pending_requests", "Jobs without a result.", lambda s: s.engine.pending),
        ("keras_gan_model_loaded", "1 for each version that is served.", lambda s: 1),
    ):
        yield name, "gauge", about, [f"{name}{{{s.counts.labels}}} {value(s)}" for s in served]
    name = "keras_gan_sound_streams"
    yield name, "gauge", "Running streams of sound, video and text.", [f"{name} {app.streams}"]


def _memory() -> int | None:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return None


def _descriptors() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


class Log:
    """A log with one line per event, as text or as JSON; requests are written every 0.1 s.

    Args:
        log_format: `"text"` or `"json"`.
        access: log successful requests too.
        output: stream to write to; by default standard error.
    """

    def __init__(self, log_format: str = "text", access: bool = True, output: TextIO | None = None):
        self._json = log_format == "json"
        self._access = access
        self._output = output or sys.stderr
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = 0  # bytes handed to the writer thread and not written
        self._dropped = 0
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to collect the lines of this loop, and the thread that writes them."""
        self._loop = loop
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Writes the remaining lines, unless the output blocks."""
        self.flush()
        self._queue.put(None)
        if self._writer is not None:
            self._writer.join(2.0)
        self._loop = self._writer = None

    def say(self, line: str, failed: bool = False) -> None:
        """Logs an event of the server immediately; may be called from any thread."""
        if self._json:
            level = "error" if failed else "info"
            line = line.encode("utf-8", "backslashreplace").decode()  # file names may be any bytes
            self._write([orjson.dumps({"time": _now(), "level": level, "message": line}) + b"\n"])
        else:
            start = "keras-gan: warning: " if failed else "keras-gan: "
            self._write([f"{start}{line}\n".encode("utf-8", "backslashreplace")])

    def request(self, request: Any, status: int, seconds: float, error: str = "") -> None:
        """Logs an answered request; must be called in the event loop."""
        if not self._access and status < 500:
            return
        if not self._lines and self._loop is not None:
            self._loop.call_later(0.1, self.flush)
        # Formatted by hand, as this runs for every request. Text from clients is quoted.
        if self._json:
            about = {
                "time": _now(),
                "level": "error" if status >= 500 and status != 503 else "info",
                "id": request.id.decode("ascii"),
                "client": request.client,
                "method": request.method,
                "path": request.path[:200],
                "status": status,
                "seconds": round(seconds, 6),
            }
            if request.served is not None:
                about["model"] = request.served.bundle.name
                about["version"] = request.served.version
            if error:
                about["error"] = error
            line = orjson.dumps(about) + b"\n"
        else:
            path = request.path[:200] if request.path.isascii() else ascii(request.path[:200])
            path = path if path.isprintable() else ascii(path)
            line = (
                f"{_clock()} {request.client} {request.method} {path} {status} "
                f"{seconds * 1000:.1f} ms {request.id.decode('ascii')}"
                f"{' ' + ascii(error)[1:-1] if error else ''}\n"
            ).encode("ascii", "backslashreplace")
        self._lines.append(line)
        if self._loop is None or len(self._lines) > 1000:
            self.flush()

    def flush(self) -> None:
        """Hands the collected lines to the writer."""
        lines, self._lines = self._lines, []
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        content = b"".join(lines)
        if not content:
            return
        if self._writer is None:
            self._put(content)
        elif self._pending + len(content) > _MAX_PENDING:
            self._dropped += len(lines)  # a log that nobody reads must not block requests
        else:
            self._pending += len(content)
            self._queue.put(content)

    def _write_all(self) -> None:
        while (content := self._queue.get()) is not None:
            self._put(content)
            self._pending -= len(content)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._put(b"keras-gan: warning: %d lines of the log were dropped\n" % dropped)

    def _put(self, content: bytes) -> None:
        try:
            stream = getattr(self._output, "buffer", None)
            if stream is None:
                self._output.write(content.decode())
            else:
                stream.write(content)
            self._output.flush()
        except (OSError, ValueError):  # the reader of the log is gone; serving continues
            pass


_second, _text = 0, ""


def _clock() -> str:
    """Returns the local time, formatted once per second."""
    global _second, _text
    now = int(time.time())
    if now != _second:
        _second, _text = now, time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
    return _text


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

"""What a server tells of itself: metrics in Prometheus's text format, and a log of its requests."""

from __future__ import annotations

import asyncio
import datetime
import os
import queue
import sys
import threading
import time
from bisect import bisect_left
from typing import Any, TextIO

import orjson

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_MAX_PENDING = 2**20  # bytes of the log
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Histogram:
    """Counts values by the limits that they do not exceed.

    Args:
        limits: rising.
    """

    __slots__ = ("counts", "limits", "total")

    def __init__(self, limits: tuple[float, ...]):
        self.limits = limits
        self.counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self.limits, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Its lines in Prometheus's text format."""
        found, below = [], 0
        comma = "," if labels else ""
        for limit, count in zip((*self.limits, "+Inf"), self.counts, strict=True):
            below += count
            found.append(f'{name}_bucket{{{labels}{comma}le="{limit}"}} {below}')
        return [*found, f"{name}_sum{{{labels}}} {self.total}", f"{name}_count{{{labels}}} {below}"]


class ModelCounts:
    """The figures of one version of a model."""

    def __init__(self, name: str, version: int):
        self.labels = f'model="{name}",version="{version}"'
        self.samples = 0
        self.batches = Histogram(_SIZES)
        self.batch_seconds = Histogram(_SECONDS)
        self.requests: dict[tuple[str, int], int] = {}
        self.seconds: dict[str, Histogram] = {}

    def batch(self, count: int, seconds: float) -> None:
        """Counts a batch that was run."""
        self.samples += count
        self.batches.add(count)
        self.batch_seconds.add(seconds)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        histogram = self.seconds.get(route)
        if histogram is None:
            histogram = self.seconds[route] = Histogram(_SECONDS)
        histogram.add(seconds)


class Metrics:
    """The figures of a server; `text` is what `/metrics` answers."""

    def __init__(self):
        self.started = time.time()
        self.refused: dict[str, int] = {}
        self.none = ModelCounts("", 0)  # requests that reach no model
        self.none.labels = 'model="",version=""'
        self._models: dict[tuple[str, int], ModelCounts] = {}

    def of(self, name: str, version: int) -> ModelCounts:
        """The figures of a version, from the first time on that it was served."""
        key = (name, version)
        if key not in self._models:
            self._models[key] = ModelCounts(name, version)
        return self._models[key]

    def refuse(self, reason: str) -> None:
        """Counts a request that was refused for want of room or time."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def text(self, app: Any) -> str:
        """Everything, in Prometheus's text format."""
        models = [*self._models.values(), self.none]
        out: list[str] = []

        def family(name: str, kind: str, about: str, lines: list[str]) -> None:
            out.extend([f"# HELP {name} {about}", f"# TYPE {name} {kind}", *lines])

        name = "keras_gan_requests_total"
        lines = [
            f'{name}{{{m.labels},route="{route}",status="{status}"}} {count}'
            for m in models
            for (route, status), count in sorted(m.requests.items())
        ]
        family(name, "counter", "Requests answered.", lines)
        name = "keras_gan_request_seconds"
        lines = [
            line
            for m in models
            for route, histogram in sorted(m.seconds.items())
            for line in histogram.lines(name, f'{m.labels},route="{route}"')
        ]
        family(name, "histogram", "Seconds from a request's start to its answer.", lines)
        real = models[:-1]
        name = "keras_gan_samples_total"
        lines = [f"{name}{{{m.labels}}} {m.samples}" for m in real]
        family(name, "counter", "Samples made.", lines)
        for name, about, field in (
            ("keras_gan_batch_samples", "Samples of a batch.", "batches"),
            ("keras_gan_batch_seconds", "Seconds that a batch takes.", "batch_seconds"),
        ):
            lines = [line for m in real for line in getattr(m, field).lines(name, m.labels)]
            family(name, "histogram", about, lines)
        served = list(app.repository)
        for name, about, value in (
            ("keras_gan_queue_samples", "Samples that wait.", lambda s: s.engine.waiting),
            ("keras_gan_pending_requests", "Batches' worth asked for.", lambda s: s.engine.pending),
            ("keras_gan_model_loaded", "1 for each version that is served.", lambda s: 1),
        ):
            lines = [f"{name}{{{s.counts.labels}}} {value(s)}" for s in served]
            family(name, "gauge", about, lines)
        name = "keras_gan_refused_total"
        lines = [f'{name}{{reason="{reason}"}} {n}' for reason, n in sorted(self.refused.items())]
        family(name, "counter", "Requests refused for want of room or time.", lines)
        for name, kind, about, value in (
            ("keras_gan_active_requests", "gauge", "Requests under way.", app.active),
            ("keras_gan_ready", "gauge", "1 when /readyz says so.", int(app.ready)),
            ("process_start_time_seconds", "gauge", "When it started.", self.started),
            ("process_cpu_seconds_total", "counter", "CPU time.", time.process_time()),
            ("process_resident_memory_bytes", "gauge", "Memory.", _memory()),
            ("process_open_fds", "gauge", "Open files and connections.", _descriptors()),
        ):
            if value is not None:
                family(name, kind, about, [f"{name} {value}"])
        return "\n".join(out) + "\n"


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
    """Writes a line for each event, as text or as JSON; requests by the tenth of a second.

    Args:
        form: `"text"` or `"json"`.
        access: whether requests that went well are told of.
        to: where to; standard error by default.
    """

    def __init__(self, form: str = "text", access: bool = True, to: TextIO | None = None):
        self._json = form == "json"
        self._access = access
        self._to = to or sys.stderr
        self._lines: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = 0  # bytes that the writer has not written
        self._dropped = 0
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gathers the lines of this loop from here on, and writes them in a thread."""
        self._loop = loop
        self._writer = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._writer.start()

    def close(self) -> None:
        """Writes what there is, unless nobody takes it."""
        self.flush()
        self._queue.put(None)
        if self._writer is not None:
            self._writer.join(2.0)
        self._loop = self._writer = None

    def say(self, line: str, failed: bool = False) -> None:
        """Tells of an event of the server, from any thread, at once."""
        if self._json:
            level = "error" if failed else "info"
            self._write([orjson.dumps({"time": _now(), "level": level, "message": line}) + b"\n"])
        else:
            start = "keras-gan: warning: " if failed else "keras-gan: "
            self._write([f"{start}{line}\n".encode("utf-8", "backslashreplace")])

    def request(self, request: Any, status: int, seconds: float, error: str = "") -> None:
        """Tells of a request that was answered, in the event loop."""
        if not self._access and status < 500:
            return
        if not self._lines and self._loop is not None:
            self._loop.call_later(0.1, self.flush)
        # By hand: for every request, in the loop. What clients send is quoted.
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
        """Hands over what was gathered."""
        lines, self._lines = self._lines, []
        self._write(lines)

    def _write(self, lines: list[bytes]) -> None:
        content = b"".join(lines)
        if not content:
            return
        if self._writer is None:
            self._put(content)
        elif self._pending + len(content) > _MAX_PENDING:
            self._dropped += len(lines)  # whoever reads the log does not: that stops no request
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
            stream = getattr(self._to, "buffer", None)
            if stream is None:
                self._to.write(content.decode())
            else:
                stream.write(content)
            self._to.flush()
        except (OSError, ValueError):  # whoever read the log has gone; serving goes on
            pass


_second, _text = 0, ""


def _clock() -> str:
    """The time to the second, made once in each."""
    global _second, _text
    now = int(time.time())
    if now != _second:
        _second, _text = now, time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now))
    return _text


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")

"""ASGI application: routing, access control, error responses.

`create_app` returns an application for any ASGI server and for Ray Serve. `keras-gan serve` runs
the same application on `serving.server`, without ASGI's messages and tasks.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from serving import asgi
from serving.access import AccessControl
from serving.compression import decompress
from serving.engine import Closed, Expired, Failed, Full, SampleJob
from serving.errors import NotFiniteError, TooLargeError, UsageError, short_repr
from serving.http_types import NOT_FINITE, HTTPError, Request, Response, error_response
from serving.limits import Settings
from serving.loading import Served
from serving.repository import Repository
from serving.routes import OPTIONS, Router, create_routes
from serving.telemetry import Log, Metrics

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SECURITY = (
    b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n"
    b"x-frame-options: DENY\r\ncross-origin-resource-policy: same-origin\r\n"
)
_POLICY = b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
# Answered whatever the load, since monitoring needs them then most of all.
_UNLIMITED = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
_NO_STORE = b"cache-control: no-store\r\n"
_RETRY = b"retry-after: 1\r\n"
_EXPOSED = (
    b"access-control-expose-headers: etag, retry-after, x-clipped, x-model, x-model-version, "
    b"x-model-sha256, x-not-finite, x-notes, x-peak, x-request-id, x-seed, "
    b"inference-header-content-length\r\n"
)
_TICK_SECONDS = 0.05
_MAX_PICTURES = 16  # that are decoded, translated or encoded at a time; others wait as they came


class App:
    """The application, for any server.

    Args:
        settings: settings of the server.
        log: log of events and requests; by default on standard error.

    Raises:
        UsageError: a path without a bundle, or a file of tokens without a token.
    """

    def __init__(self, settings: Settings, log: Log | None = None):
        self.settings = settings
        self.log = log or Log(settings.log_format, settings.access_log)
        self.metrics = Metrics()
        self.access = AccessControl(
            settings.tokens, settings.is_local, settings.hosts, settings.cors
        )
        self.tokens = self.access.tokens
        self.repository = Repository(settings, self.log.say, self._observe)
        self.routes = create_routes()
        self.pictures = asyncio.Semaphore(_MAX_PICTURES)
        self.streams = 0  # of sound and video, that are running
        self.active = 0
        self.draining = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.when_loaded: Callable[[], None] = lambda: None
        self._router = Router(self.routes)
        self._prefix = os.urandom(4).hex().encode("ascii")
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._next_poll = 0.0

    @functools.cached_property
    def version(self) -> str:
        """Version of the package; "0" if the server's files were copied without it."""
        from importlib import metadata  # slow to import

        try:
            return metadata.version("keras-gan")
        except metadata.PackageNotFoundError:
            return "0"

    # ------------------------------------------------------------------ life cycle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to load the bundles; `ready` becomes true once they are loaded."""
        self.loop = loop
        self.log.start(loop)
        self.repository.start(loop, self._loaded)
        self._tick()

    def close(self) -> None:
        """Stops the engines, the polling and the log."""
        self.draining = True
        if self._timer is not None:
            self._timer.cancel()
        self.repository.close()
        self.log.close()

    @property
    def ready(self) -> bool:
        """True if all initial versions are loaded and there is a model to serve."""
        return self.repository.loaded and bool(self.repository.newest) and not self.draining

    def _loaded(self) -> None:
        error = self.repository.error
        if error is not None:
            self.log.say(str(error) if isinstance(error, UsageError) else repr(error), True)
        self.when_loaded()

    def _observe(self, served: Served) -> Callable[[int, float], None]:
        served.counts = self.metrics.of(served.bundle.name, served.version)
        return served.counts.batch

    def _tick(self) -> None:
        """Fails expired jobs, and reads the tokens again if their file has changed."""
        now = time.monotonic()
        for served in (*self.repository, *self.repository.ending):
            if served.engine.pending:
                served.engine.expire(now)
        if self.tokens is not None and now > self._next_poll:
            self._next_poll = now + self.settings.poll_seconds
            try:
                self.tokens.refresh()
            except UsageError as error:
                self.log.say(f"The previous tokens stay in use: {error}", True)
        if self.loop is not None:
            self._timer = self.loop.call_later(_TICK_SECONDS, self._tick)

    # ------------------------------------------------------------------ one request

    def now(self) -> float:
        """Returns the time on the clock of deadlines."""
        return time.monotonic()

    def begin(self, request: Request) -> None:
        """Counts a request as active and sets its id: the client's own, or a new one."""
        self.active += 1
        given = request.headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            request.id = given
        else:
            self._number += 1
            request.id = b"%b-%x" % (self._prefix, self._number)

    def run(self, request: Request) -> Any:
        """Handles a request; never raises.

        Returns:
            A response, a job that results in one, or a coroutine that returns one.
        """
        self.begin(request)
        try:
            if self.active > self.settings.max_requests and request.path not in _UNLIMITED:
                self.metrics.refuse("requests")
                raise HTTPError(
                    503,
                    f"The server handles at most {self.settings.max_requests} requests at a time. "
                    f"Received: {self.active} requests",
                    _RETRY,
                )
            route, named = self._router.find(request, self.repository.newest)
            request.route = route.name
            self.access.check_host(request.headers)
            if route is not OPTIONS:
                self.access.check_origin(request.headers, request.method)
                if not route.open:
                    self.access.check_token(request.headers)
                encoding = request.headers.get(b"content-encoding")
                if encoding is not None and request.body:
                    request.body = decompress(request.body, encoding, self.settings.max_body)
            return route.handle(self, request, **named) if named else route.handle(self, request)
        except Exception as error:
            return self.error(request, error)

    def submit(
        self, request: Request, job: SampleJob, done: Callable[[SampleJob], None]
    ) -> Response | None:
        """Queues a job; returns an error response if the engine refuses it."""
        try:
            job.engine.submit(job, done)  # type: ignore[union-attr]
        except Exception as error:
            return self.error(request, error)
        return None

    def settle(self, request: Request, job: SampleJob) -> Response:
        """Returns the response of a completed job."""
        return job.result if job.error is None else self.error(request, job.error)

    async def settle_later(self, request: Request, coroutine: Awaitable[Response]) -> Response:
        """Returns the response of a coroutine; raises only if it is cancelled."""
        try:
            return await coroutine
        except Exception as error:
            return self.error(request, error)

    def leave(self, request: Request, status: int, error: str = "") -> None:
        """Counts and logs a finished request; status 499 means that the client disconnected."""
        self.active -= 1
        seconds = time.monotonic() - request.start
        served = request.served
        counts = self.metrics.without_model if served is None else served.counts
        counts.request(request.route, status, seconds)
        self.log.request(request, status, seconds, error)

    def error(self, request: Request, error: BaseException) -> Response:
        """Returns the response to a failed request."""
        status, message, headers = self.explain(error, request)
        return error_response(status, message, headers)

    def explain(
        self, error: BaseException, request: Request | None = None
    ) -> tuple[int, str, bytes]:
        """Returns the status, the message and the headers for an error.

        Errors of the server itself are logged with their stack trace.
        """
        if isinstance(error, HTTPError):
            return error.status, str(error), error.headers
        if isinstance(error, TooLargeError):
            return 413, str(error), b""
        if isinstance(error, UsageError):
            return 422 if isinstance(error, NotFiniteError) else 400, str(error), b""
        if isinstance(error, Full):
            self.metrics.refuse("queue")
            engine = error.engine
            return (
                503,
                f"The queue holds at most {engine.queue} samples. "
                f"Received: a request while {engine.waiting} samples wait",
                b"retry-after: %d\r\n" % engine.retry_after(),
            )
        if isinstance(error, Closed):
            return 503, "The server is shutting down. Received: a new request", _RETRY
        if isinstance(error, Expired):
            self.metrics.refuse("deadline")
            return 504, f"A response must be ready by the deadline. {_elapsed(request)}", b""
        id = request.id.decode("ascii") if request is not None else "-"
        trace = "".join(traceback.format_exception(error))
        self.log.say(f"request {id} failed: {trace}", True)
        what = "The model" if isinstance(error, Failed) else "The server"
        return 500, f"{what} failed; the server's log has the reason. Received: request {id}", b""

    def find(self, name: Any, version: Any = None) -> Served:
        """Returns the version of a model that a request names.

        Args:
            name: name of the model; may be `None` if there is one model only.
            version: number of the version, `None` for the newest.

        Raises:
            HTTPError: 400 for values that are no names or numbers, 404 for an unknown model or
                version, 503 while models are being loaded.
        """
        repository = self.repository
        if name is None:
            if len(repository.newest) == 1:
                served = next(iter(repository.newest.values()))
                if version is None or served.version == version:
                    return served
                name = served.bundle.name
            elif repository.newest:
                valid = ", ".join(sorted(repository.newest))
                raise HTTPError(400, f"`model` must be one of {valid}. Received: model=None")
        elif type(name) is not str:
            raise HTTPError(400, f"`model` must be a name. Received: model={short_repr(name)}")
        if version is not None and type(version) is not int:
            raise HTTPError(
                400, f"`version` must be an integer. Received: version={short_repr(version)}"
            )
        served = repository.find(name, version) if name is not None else None
        if served is None:
            raise self._not_found(name, version)
        return served

    def _not_found(self, name: str | None, version: int | None) -> HTTPError:
        repository = self.repository
        if not repository.loaded:
            message = f"The models are still being loaded. Received: model={short_repr(name)}"
            return HTTPError(503, message, _RETRY)
        if name in repository.models:
            valid = ", ".join(map(str, sorted(repository.models[name])))
            return HTTPError(
                404,
                f"`version` of {name!r} must be one of {valid}. "
                f"Received: version={short_repr(version)}",
            )
        valid = ", ".join(sorted(repository.newest)) or "none"
        return HTTPError(404, f"The models are {valid}. Received: model={short_repr(name)}")

    def headers_of(self, request: Request, response: Response) -> bytes:
        """Returns the header lines of a response, except for those of connection and length."""
        headers = response.headers
        if NOT_FINITE in headers:
            self._warn_not_finite(request)
        if b"content-security-policy:" not in headers:
            headers += _POLICY
        if b"cache-control:" not in headers:
            headers += _NO_STORE
        origin, security = request.headers.get(b"origin"), _SECURITY
        if origin is not None and self.settings.cors and self.access.allows_origin(origin):
            headers += b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin + _EXPOSED
            security = security.replace(b"same-origin", b"cross-origin")
        return b"content-type: %b\r\n%b%bx-request-id: %b\r\n" % (
            response.content_type,
            headers,
            security,
            request.id,
        )

    def _warn_not_finite(self, request: Request) -> None:
        served = request.served
        if served is not None and not served.has_warned:
            served.has_warned = True
            self.log.say(
                "Samples should be finite numbers; further responses are not logged. Received: "
                f"NaN or infinity in request {request.id.decode('ascii')} for "
                f"{served.bundle.name} version {served.version}",
                True,
            )

    def too_large(self, size: int) -> str:
        """Returns the error for a body of more than `max_body` bytes."""
        return (
            f"A request body must be at most {self.settings.max_body} bytes. Received: {size} bytes"
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Runs the application in an ASGI server."""
        await asgi.run(self, scope, receive, send)


def _elapsed(request: Request | None) -> str:
    if request is None:  # within a stream
        return "Received: no samples in time"
    return f"Received: {time.monotonic() - request.start:.3g} s without a result"


def create_app(settings: Settings | None = None) -> App:
    """Returns the application for an ASGI server.

    Args:
        settings: by default, the environment variable `KERAS_GAN_BUNDLES` names the bundles,
            separated as the system separates paths, and `KERAS_GAN_TOKENS` the file of tokens.

    Raises:
        UsageError: a path without a bundle, or a file of tokens without a token.
    """
    if settings is None:
        paths = os.environ.get("KERAS_GAN_BUNDLES", "")
        if not paths:
            raise UsageError(
                "KERAS_GAN_BUNDLES must name the bundles to serve. Received: KERAS_GAN_BUNDLES=''"
            )
        tokens = os.environ.get("KERAS_GAN_TOKENS")
        if tokens == "":  # an unset variable in a template must not open the server to everybody
            raise UsageError(
                "KERAS_GAN_TOKENS must name a file, or be unset. Received: KERAS_GAN_TOKENS=''"
            )
        settings = Settings(paths=tuple(paths.split(os.pathsep)), tokens=tokens)
    return App(settings)

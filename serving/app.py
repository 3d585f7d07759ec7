"""The application: which request is whose, who may ask, and what becomes of mistakes.

`create_app` gives an ASGI application for any server, and for Ray Serve. `keras-gan serve` runs the
same application on `serving.server`, which spares requests ASGI's messages and tasks.
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

from serving import files, generate, openapi, protocol_tf_serving, protocol_v2
from serving.engine import Closed, Expired, Failed, Full, Job
from serving.errors import UsageError, short_repr
from serving.http_types import Answer, HTTPError, Request, error_answer, json_answer
from serving.limits import Settings, Tokens, is_loopback, split_host
from serving.repository import Repository, Served
from serving.telemetry import Log, Metrics

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"
NUMBER = r"[0-9]{1,18}"
_PLAIN = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SECURITY = (
    b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\n"
    b"x-frame-options: DENY\r\ncross-origin-resource-policy: same-origin\r\n"
)
_POLICY = b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
_ALWAYS = ("/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready")
_NO_STORE = b"cache-control: no-store\r\n"
_EXPOSED = (
    b"access-control-expose-headers: etag, retry-after, x-model, x-model-version, "
    b"x-model-sha256, x-request-id, x-seed, inference-header-content-length\r\n"
)


class Route:
    """A path, and what answers it.

    Args:
        name: in the metrics.
        methods: that it takes.
        path: as in OpenAPI, with `{name}` and `{version}`.
        handle: gives an answer, a job, or a coroutine that gives an answer.
        open: whether it needs no token.
    """

    def __init__(self, name: str, methods: str, path: str, handle: Callable, open: bool = False):
        self.name = name
        self.methods = frozenset(methods.split())
        self.path = path
        self.handle = handle
        self.open = open
        pattern = re.escape(path).replace(r"\{name\}", f"(?P<name>{NAME})")
        pattern = pattern.replace(r"\{version\}", f"(?P<version>{NUMBER})")
        pattern = pattern.replace(r"\{file\}", "(?P<file>.{1,200})")
        self.pattern = re.compile(pattern)


def _routes() -> list[Route]:
    tf, v2 = protocol_tf_serving, protocol_v2
    found = [
        Route("generate", "GET POST", "/v1/generate", generate.start),
        Route("models", "GET", "/v1/models", models),
        Route("healthz", "GET", "/healthz", healthz, open=True),
        Route("readyz", "GET", "/readyz", readyz, open=True),
        Route("metrics", "GET", "/metrics", metrics),
        Route("openapi", "GET", "/openapi.json", openapi.document_answer, open=True),
        Route("docs", "GET", "/docs", openapi.page_answer, open=True),
        Route("page", "GET", "/", files.index, open=True),
        Route("page", "GET", "/page/{file}", files.file, open=True),
        Route("v2", "GET", "/v2", v2.server),
        Route("v2", "GET", "/v2/health/live", v2.live, open=True),
        Route("v2", "GET", "/v2/health/ready", v2.ready, open=True),
        Route("v2", "POST", "/v2/repository/index", v2.index),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route("v2", "GET", path, v2.model),
            Route("v2", "GET", path + "/ready", v2.model_ready),
            Route("v2", "GET", path + "/config", v2.model_config),
            Route("infer", "POST", path + "/infer", v2.infer),
        ]
    for path in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
        found += [
            Route("tf_serving", "GET", path, tf.status),
            Route("tf_serving", "GET", path + "/metadata", tf.metadata),
            Route("predict", "POST", path + ":predict", tf.predict),
        ]
    return found


class App:
    """The application, in any server.

    Args:
        settings: what it serves, to whom, and how much.
        log: where it tells what happens.

    Raises:
        UsageError: a path without a bundle, or a file of tokens that holds none.
    """

    def __init__(self, settings: Settings, log: Log | None = None):
        self.settings = settings
        self.log = log or Log(settings.log_format, settings.access_log)
        self.metrics = Metrics()
        self.tokens = Tokens(settings.tokens) if settings.tokens else None
        self.repository = Repository(settings, self.log.say, self._count)
        self.routes = _routes()
        self.active = 0
        self._is_local = settings.is_local
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        self._known_hosts: set[bytes] = set()  # values of Host that name this machine
        self.draining = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.when_loaded: Callable[[], None] = lambda: None
        self._exact = {r.path: r for r in self.routes if "{" not in r.path}
        self._patterns = [r for r in self.routes if "{" in r.path]
        self._known: dict[str, tuple[Route, dict[str, Any]]] = {}
        self._prefix = os.urandom(4).hex().encode("ascii")
        self._number = 0
        self._ticker: asyncio.TimerHandle | None = None
        self._next_look = 0.0

    @functools.cached_property
    def version(self) -> str:
        """The package's version; the server's files alone have none."""
        from importlib import metadata  # which takes a while to load

        try:
            return metadata.version("keras-gan")
        except metadata.PackageNotFoundError:
            return "0"

    # ------------------------------------------------------------------ its life

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to load the bundles; `ready` when they are there."""
        self.loop = loop
        self.log.start(loop)
        self.repository.start(loop, self._loaded)
        self._tick()

    def close(self) -> None:
        """Ends the engines and what watches."""
        self.draining = True
        if self._ticker is not None:
            self._ticker.cancel()
        self.repository.close()
        self.log.close()

    @property
    def ready(self) -> bool:
        """Whether all that was there at the start is loaded, and there is something to serve."""
        return self.repository.loaded and bool(self.repository.newest) and not self.draining

    def _loaded(self) -> None:
        error = self.repository.error
        if error is not None:
            self.log.say(str(error) if isinstance(error, UsageError) else repr(error), True)
        self.when_loaded()

    def _count(self, served: Served) -> Callable[[int, float], None]:
        served.counts = self.metrics.of(served.bundle.name, served.version)
        return served.counts.batch

    def _tick(self) -> None:
        """Ends what is late, and looks whether the tokens have changed."""
        now = time.monotonic()
        for served in (*self.repository, *self.repository.ending):
            if served.engine.pending:
                served.engine.expire(now)
        if self.tokens is not None and now > self._next_look:
            self._next_look = now + self.settings.poll_seconds
            try:
                self.tokens.refresh()
            except UsageError as error:
                self.log.say(f"The tokens of before stay: {error}", True)
        if self.loop is not None:
            self._ticker = self.loop.call_later(0.05, self._tick)

    # ------------------------------------------------------------------ one request

    def now(self) -> float:
        """The clock of deadlines."""
        return time.monotonic()

    def run(self, request: Request) -> Any:
        """Gives the answer to a request, or the job or coroutine that becomes it; never raises."""
        self.active += 1
        try:
            request.id = self._id(request.headers.get(b"x-request-id"))
            # Who looks after the server must see it under load most of all.
            if self.active > self.settings.max_requests and request.path not in _ALWAYS:
                self.metrics.refuse("requests")
                raise HTTPError(
                    503,
                    f"At most {self.settings.max_requests} requests are taken at a time. "
                    "Received: one more",
                    b"retry-after: 1\r\n",
                )
            route, named = self._find_route(request)
            request.route = route.name
            self._check(request, route)
            return route.handle(self, request, **named) if named else route.handle(self, request)
        except Exception as error:
            return self.error(request, error)

    def submit(self, request: Request, job: Job, done: Callable[[Job], None]) -> Answer | None:
        """Queues a job; gives an answer if it is refused."""
        try:
            job.engine.submit(job, done)  # type: ignore[union-attr]
        except Exception as error:
            return self.error(request, error)
        return None

    def settle(self, request: Request, job: Job) -> Answer:
        """The answer of a job that is done."""
        return job.result if job.error is None else self.error(request, job.error)

    async def settle_later(self, request: Request, coroutine: Awaitable[Answer]) -> Answer:
        """The answer of a coroutine; never raises but when it is cancelled."""
        try:
            return await coroutine
        except Exception as error:
            return self.error(request, error)

    def leave(self, request: Request, status: int, error: str = "") -> None:
        """Counts and logs a request that is over; 499 is a client that has gone."""
        self.active -= 1
        seconds = time.monotonic() - request.start
        served = request.served
        counts = self.metrics.none if served is None else served.counts
        counts.request(request.route, status, seconds)
        self.log.request(request, status, seconds, error)

    def error(self, request: Request, error: BaseException) -> Answer:
        """The answer to a request that failed."""
        status, message, head = self.explain(error, request)
        return error_answer(status, message, head)

    def explain(
        self, error: BaseException, request: Request | None = None
    ) -> tuple[int, str, bytes]:
        """The status, the line and the headers that tell of an error."""
        if isinstance(error, HTTPError):
            return error.status, str(error), error.head
        if isinstance(error, UsageError):
            return 400, str(error), b""
        if isinstance(error, Full):
            self.metrics.refuse("queue")
            after = error.engine.retry_after()
            return (
                503,
                f"At most {error.engine.queue} samples wait for a place. "
                f"Received: more, while {error.engine.waiting} wait",
                b"retry-after: %d\r\n" % after,
            )
        if isinstance(error, Closed):
            return 503, "The server is ending. Received: one more request", b"retry-after: 1\r\n"
        if isinstance(error, Expired):
            self.metrics.refuse("deadline")
            return 504, "An answer must be there by its deadline. Received: too little time", b""
        known = request.id.decode("ascii") if request is not None else "-"
        trace = "".join(traceback.format_exception(error))
        self.log.say(f"request {known} failed: {trace}", True)
        what = "The model" if isinstance(error, Failed) else "The server"
        return 500, f"{what} failed; its log says why. Received: request {known}", b""

    def find(self, name: Any, version: Any = None) -> Served:
        """The version of a model that a request names.

        Raises:
            HTTPError: there is none.
        """
        repository = self.repository
        if name is None:
            if len(repository.newest) == 1:
                served = next(iter(repository.newest.values()))
                if version is None or served.version == version:
                    return served
                name = served.bundle.name
            elif repository.newest:
                raise HTTPError(
                    400,
                    f"model must name one of {', '.join(sorted(repository.newest))}. "
                    "Received: no model",
                )
        elif type(name) is not str:
            raise HTTPError(400, f"model must be a name. Received: model={short_repr(name)}")
        if version is not None and type(version) is not int:
            raise HTTPError(
                400, f"version must be an integer. Received: version={short_repr(version)}"
            )
        served = repository.find(name, version) if name is not None else None
        if served is not None:
            return served
        if not repository.loaded:
            raise HTTPError(
                503, "The models are being loaded. Received: too early", b"retry-after: 1\r\n"
            )
        if name in repository.models:
            valid = ", ".join(map(str, sorted(repository.models[name])))
            raise HTTPError(
                404, f"Versions of {name!r} are {valid}. Received: version={short_repr(version)}"
            )
        valid = ", ".join(sorted(repository.newest)) or "none"
        raise HTTPError(404, f"The models are {valid}. Received: model={short_repr(name)}")

    def head_of(self, request: Request, answer: Answer) -> bytes:
        """The header lines of an answer, but for those of the connection and the length."""
        head = answer.head
        if b"content-security-policy:" not in head:
            head += _POLICY
        if b"cache-control:" not in head:
            head += _NO_STORE
        origin, security = request.headers.get(b"origin"), _SECURITY
        if origin is not None and self.settings.cors and self._allows(origin):
            head += b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin + _EXPOSED
            security = security.replace(b"same-origin", b"cross-origin")
        return b"content-type: %b\r\n%b%bx-request-id: %b\r\n" % (
            answer.kind,
            head,
            security,
            request.id,
        )

    # ------------------------------------------------------------------ checks

    def _id(self, given: bytes | None) -> bytes:
        if given is not None and _PLAIN.fullmatch(given):
            return given
        self._number += 1
        return b"%b-%x" % (self._prefix, self._number)

    def _find_route(self, request: Request) -> tuple[Route, dict[str, Any]]:
        path, method = request.path, request.method
        route, named = self._exact.get(path), {}
        if route is None:
            known = self._known.get(path + method)
            if known is not None:
                return known
            matching = [(r, m) for r in self._patterns if (m := r.pattern.fullmatch(path))]
            if not matching:
                raise HTTPError(404, f"There is no such path; see /docs. Received: {path!r:.200}")
            route, match = matching[0]
            named = match.groupdict()
            if "version" in named:
                named["version"] = int(named["version"])
            if method in route.methods and named.get("name") in self.repository.newest:
                if len(self._known) > 1000:
                    self._known.clear()
                self._known[path + method] = (route, named)
        if method in route.methods or (method == "HEAD" and "GET" in route.methods):
            return route, named
        allowed = ", ".join(sorted({*route.methods, "OPTIONS"}))
        head = f"allow: {allowed}\r\n".encode()
        if method == "OPTIONS":
            request.route = "options"
            return _OPTIONS, {"allowed": head}
        raise HTTPError(405, f"{path} takes {allowed}. Received: {method!r:.20}", head)

    def _check(self, request: Request, route: Route) -> None:
        """Refuses who may not ask."""
        headers = request.headers
        if self._is_local:
            # A name that a stranger's page has led here is not ours: DNS rebinding.
            given = headers.get(b"host", b"localhost")
            if given not in self._known_hosts and not self._is_own(given):
                raise HTTPError(
                    403,
                    "The host must be this machine, or one that --trusted-host names. "
                    f"Received: host={short_repr(split_host(given.decode('latin-1').lower()))}",
                )
        origin = headers.get(b"origin")
        if origin is not None and route is not _OPTIONS:
            here = headers.get(b"host", b"").lower()
            own = origin.rpartition(b"//")[2].lower() == here
            if not own and not self._allows(origin):
                raise HTTPError(
                    403,
                    "Pages of other origins may not ask; see --cors. "
                    f"Received: origin={short_repr(origin.decode('latin-1'))}",
                )
        if self.tokens is None or route.open or route is _OPTIONS:
            return
        if not self.tokens.allow(headers.get(b"authorization")):
            given = "no token" if b"authorization" not in headers else "another token"
            raise HTTPError(
                401,
                f"The header Authorization: Bearer TOKEN must hold a token. Received: {given}",
                b"www-authenticate: Bearer\r\n",
            )

    def _is_own(self, host: bytes) -> bool:
        name = split_host(host.decode("latin-1").lower())
        own = name in self._hosts or is_loopback(name)
        if own and len(self._known_hosts) < 100:  # the few that come again and again
            self._known_hosts.add(host)
        return own

    def _allows(self, origin: bytes) -> bool:
        cors = self.settings.cors
        return "*" in cors or origin.decode("latin-1") in cors

    # ------------------------------------------------------------------ ASGI

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers a request, or starts and ends with the server, by ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            if self.loop is None:  # a server without lifespan, as some mounts are
                self.start(asyncio.get_running_loop())
            await self._http(scope, receive, send)
        else:
            raise RuntimeError(f"unknown kind of connection: {scope['type']}")

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start(asyncio.get_running_loop())
                await send({"type": "lifespan.startup.complete"})
            else:
                self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        client = scope.get("client")
        request = Request(
            scope["method"],
            scope["path"].removeprefix(scope.get("root_path") or "") or "/",
            scope.get("query_string", b""),
            dict(scope["headers"]),
            b"",
            client[0] if client else "",
        )
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > self.settings.max_body:
                self.active += 1
                request.id = self._id(request.headers.get(b"x-request-id"))
                answer = error_answer(413, self.too_long())
                await self._send(request, answer, send)
                return
            if not message.get("more_body"):
                break
        request.body = bytes(body)
        outcome = self.run(request)
        if not isinstance(outcome, Answer):
            work = asyncio.ensure_future(self._await(request, outcome))
            gone = asyncio.ensure_future(receive())
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
                self.leave(request, 499)
                return
            outcome = work.result()
        await self._send(request, outcome, send)

    async def _await(self, request: Request, outcome: Any) -> Answer:
        if isinstance(outcome, Job):
            return await self.settle_later(request, outcome.engine.run(outcome))  # type: ignore
        return await self.settle_later(request, outcome)

    async def _send(self, request: Request, answer: Answer, send: Any) -> None:
        status = answer.status
        try:
            lines = self.head_of(request, answer).split(b"\r\n")[:-1]
            headers = [(name, value) for name, _, value in (x.partition(b": ") for x in lines)]
            length = len(answer.body) if answer.stream is None else answer.length
            if length is not None and status not in (204, 304):
                headers.append((b"content-length", b"%d" % length))
            await send({"type": "http.response.start", "status": status, "headers": headers})
            silent = request.method == "HEAD" or status in (204, 304)
            if answer.stream is not None and not silent:
                async for piece in answer.stream:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            body = b"" if silent else answer.body
            await send({"type": "http.response.body", "body": body})
        except BaseException:
            status = 499
            raise
        finally:
            if answer.stream is not None:
                await answer.stream.aclose()  # type: ignore[attr-defined]
            self.leave(request, status)

    def too_long(self) -> str:
        """What a body above the limit is told."""
        return f"A body holds at most {self.settings.max_body} bytes. Received: more"


# ---------------------------------------------------------------------------- small answers


def models(app: App, request: Request) -> Answer:
    """Handles `/v1/models`."""
    found = []
    for name, served in sorted(app.repository.newest.items()):
        found.append(served.describe() | {"versions": sorted(app.repository.models[name])})
    return json_answer({"models": found})


def healthz(app: App, request: Request) -> Answer:
    """Handles `/healthz`: the process answers."""
    return Answer(200, b'{"status":"ok"}')


def readyz(app: App, request: Request) -> Answer:
    """Handles `/readyz`: everything is loaded, verified and warm, and nothing is ending."""
    if app.ready:
        return Answer(200, b'{"status":"ready"}')
    state = "ending" if app.draining else "loading"
    error = {"error": f"The server must be ready. Received: it is {state}", "status": state}
    return json_answer(error, 503, b"retry-after: 1\r\n")


def metrics(app: App, request: Request) -> Answer:
    """Handles `/metrics`."""
    text = app.metrics.text(app).encode("utf-8")
    return Answer(200, text, b"text/plain; version=0.0.4; charset=utf-8")


def options(app: App, request: Request, allowed: bytes) -> Answer:
    """Handles OPTIONS: what a path takes, and from whom."""
    head = allowed
    origin = request.headers.get(b"origin")
    if origin is not None and app._allows(origin):
        head += (
            b"access-control-allow-methods: GET, POST\r\n"
            b"access-control-allow-headers: authorization, content-type, x-request-id, "
            b"inference-header-content-length\r\naccess-control-max-age: 600\r\n"
        )
    return Answer(204, b"", head=head)


_OPTIONS = Route("options", "OPTIONS", "*", options, open=True)


def create_app(settings: Settings | None = None) -> App:
    """Gives the application to a server of ASGI.

    Args:
        settings: by default the bundles of the environment variable `KERAS_GAN_BUNDLES`,
            separated as the system separates paths, and the file of tokens of
            `KERAS_GAN_TOKENS`.

    Raises:
        UsageError: a path without a bundle, or a file of tokens that holds none.
    """
    if settings is None:
        paths = os.environ.get("KERAS_GAN_BUNDLES", "")
        if not paths:
            raise UsageError("KERAS_GAN_BUNDLES must name the bundles to serve. Received: nothing")
        tokens = os.environ.get("KERAS_GAN_TOKENS")
        if tokens == "":  # of a variable that was not filled in: not a server for everybody
            raise UsageError("KERAS_GAN_TOKENS must name a file, or not be set. Received: ''")
        settings = Settings(paths=tuple(paths.split(os.pathsep)), tokens=tokens)
    return App(settings)

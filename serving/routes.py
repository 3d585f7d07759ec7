"""Routes: the paths of the application, and the handlers of their requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from typing import Any

from serving import act, classify, endpoints, files, generate, openapi, protocols, translate, vocode
from serving.http_types import HTTPError, Request

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"
VERSION = r"[0-9]{1,18}"
NUMBER = r"[0-9]{1,4}"
_MAX_KNOWN = 1000
_MODEL = "/v1/models/{name}"
_NUMBERED = _MODEL + "/versions/{version}"
_EXAMPLE = "/examples/{number}.png"


class Route:
    """A path and its handler.

    Args:
        name: name in the metrics.
        methods: HTTP methods, separated by spaces.
        path: path as in OpenAPI, with `{name}`, `{version}`, `{number}` and `{file}`.
        handle: returns a response, a job, or a coroutine that returns a response.
        open: needs no token.
    """

    def __init__(self, name: str, methods: str, path: str, handle: Callable, open: bool = False):
        self.name = name
        self.methods = frozenset(methods.split())
        self.path = path
        self.handle = handle
        self.open = open
        pattern = re.escape(path).replace(r"\{name\}", f"(?P<name>{NAME})")
        pattern = pattern.replace(r"\{version\}", f"(?P<version>{VERSION})")
        pattern = pattern.replace(r"\{number\}", f"(?P<number>{NUMBER})")
        pattern = pattern.replace(r"\{file\}", "(?P<file>.{1,200})")
        self.pattern = re.compile(pattern)


def create_routes() -> list[Route]:
    """Returns all routes: those of this server, then those of other servers' protocols."""
    found = [
        Route("generate", "GET POST", "/v1/generate", generate.start),
        Route("translate", "POST", "/v1/translate", translate.start),
        Route("classify", "POST", "/v1/classify", classify.start),
        Route("vocode", "POST", "/v1/vocode", vocode.start),
        Route("act", "POST", "/v1/act", act.start),
        Route("models", "GET", "/v1/models", endpoints.models),
        Route("examples", "GET", _MODEL + _EXAMPLE, endpoints.example),
        Route("examples", "GET", _NUMBERED + _EXAMPLE, endpoints.example),
        Route("healthz", "GET", "/healthz", endpoints.healthz, open=True),
        Route("readyz", "GET", "/readyz", endpoints.readyz, open=True),
        Route("metrics", "GET", "/metrics", endpoints.metrics),
        Route("openapi", "GET", "/openapi.json", openapi.document_response, open=True),
        Route("docs", "GET", "/docs", openapi.page_response, open=True),
        Route("page", "GET", "/", files.index, open=True),
        Route("page", "GET", "/page/{file}", files.file, open=True),
    ]
    for module in protocols.modules():
        found += [Route(*entry) for entry in module.ROUTES]
    return found


OPTIONS = Route("options", "OPTIONS", "*", endpoints.options, open=True)


class Router:
    """Table that finds the route of a request.

    Args:
        routes: all routes.
    """

    def __init__(self, routes: list[Route]):
        self._exact = {route.path: route for route in routes if "{" not in route.path}
        self._patterns = [route for route in routes if "{" in route.path]
        self._known: dict[str, tuple[Route, dict[str, Any]]] = {}  # by path and method

    def find(self, request: Request, models: Container[str]) -> tuple[Route, dict[str, Any]]:
        """Returns the route of a request, and the arguments that its path names.

        Args:
            request: the request.
            models: names of the models; the routes of their paths are cached.

        Raises:
            HTTPError: 404 for an unknown path, 405 for another method.
        """
        path, method = request.path, request.method
        route, named = self._exact.get(path), {}
        if route is None:
            known = self._known.get(path + method)
            if known is not None:
                return known
            route, named = self._match(path)
            if method in route.methods and named.get("name", "") in models:
                if len(self._known) > _MAX_KNOWN:
                    self._known.clear()
                self._known[path + method] = (route, named)
        if method in route.methods or (method == "HEAD" and "GET" in route.methods):
            return route, named
        allowed = ", ".join(sorted({*route.methods, "OPTIONS"}))
        headers = f"allow: {allowed}\r\n".encode()
        if method == "OPTIONS":
            request.route = OPTIONS.name
            return OPTIONS, {"allowed": headers}
        raise HTTPError(405, f"{path} takes {allowed}. Received: method={method!r:.20}", headers)

    def _match(self, path: str) -> tuple[Route, dict[str, Any]]:
        for route in self._patterns:
            if match := route.pattern.fullmatch(path):
                named = match.groupdict()
                for key in ("version", "number"):
                    if key in named:
                        named[key] = int(named[key])
                return route, named
        raise HTTPError(
            404, f"The path must be one of those in /docs. Received: path={path!r:.200}"
        )
